//! From a method and its parameters to what answers it: a rendered page, a task for the executor, or a stream.
//!
//! Must not know how the answer travels.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::Guard;
use serde::Deserialize;
use serde_json::Value;

use super::call::Mirrors;
use crate::actors::House;
use crate::actors::executor::messages::{Reference, Task};
use crate::catalog::{Listing, Page, Snapshot, ToolEntry, ViewName};
use crate::error::{ErrorCode, Fault};
use crate::protocol::capabilities::Offers;
use crate::protocol::modern::{Member, Params};
use crate::protocol::{Method, Raw, headers};

/// Letters of an unknown name that are repeated to whoever gave it.
const NAME_SHOWN: usize = 64;

/// What answers a request.
pub enum Routed {
    /// A page that lies ready.
    Page(Arc<Page>),
    /// A call.
    Perform(Task),
    /// A listen stream.
    Listen(Wanted),
}

/// What a listen stream shall tell of.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Wanted {
    /// Changes of the list of tools.
    pub tools_list_changed: bool,
    /// Changes of the list of prompts.
    pub prompts_list_changed: bool,
    /// Changes of the lists of resources and templates.
    pub resources_list_changed: bool,
    /// Changes of these resources.
    pub resource_subscriptions: Vec<Arc<str>>,
}

impl Wanted {
    /// What of it is served.
    fn within(mut self, offers: Offers) -> Self {
        self.tools_list_changed &= offers.tools;
        self.prompts_list_changed &= offers.prompts;
        self.resources_list_changed &= offers.resources;
        self
    }
}

/// The current snapshot of `view`.
///
/// # Errors
/// 503 when it is the front of a plugin that was never ready; 404 when there is no such bundle: it does not say which
/// there are.
pub fn view(house: &House, view: &ViewName) -> Result<Guard<Arc<Snapshot>>, Fault> {
    house.shelf.view(view).ok_or_else(|| {
        let name = view.name().unwrap_or_default();
        // Who does not see a plugin must not learn that it is away.
        let may_know = view.shows(&format!("{name}__"));
        let away = may_know.then(|| house.plugins.away_from_front(name)).flatten();
        away.unwrap_or_else(|| no_bundle(name))
    })
}

/// What is said of a bundle that is not there, or not for this caller.
pub fn no_bundle(name: &str) -> Fault {
    let name: String = name.chars().take(NAME_SHOWN).collect();
    Fault::new(
        ErrorCode::NotFound,
        format!("there is no bundle {name:?}"),
        "use /mcp for everything; the operator finds the bundles that there are under /bundles",
    )
}

/// Finds what answers `method` in `view`. `mirrors` are the headers that repeat the body, in revisions that have such.
///
/// # Errors
/// -32602 for parameters that lead nowhere, -32020 for parameter headers that contradict the arguments.
pub fn find(
    house: &House,
    view: &ViewName,
    method: Method,
    params: &Params,
    mirrors: Option<&Mirrors<'_>>,
) -> Result<Routed, Fault> {
    let catalog = self::view(house, view)?;
    Ok(match method {
        Method::Discover => Routed::Page(
            catalog.discover.clone().ok_or_else(|| Fault::internal("no discovery was rendered"))?,
        ),
        Method::ToolsList => page(&catalog.tools_list, params)?,
        Method::PromptsList => page(&catalog.prompts_list, params)?,
        Method::ResourcesList => page(&catalog.resources_list, params)?,
        Method::TemplatesList => page(&catalog.templates_list, params)?,
        Method::ToolsCall => Routed::Perform(tool(house, view, &catalog, params, mirrors)?),
        Method::PromptsGet => Routed::Perform(prompt(&catalog, params)?),
        Method::ResourcesRead => Routed::Perform(read(house, &catalog, params)?),
        Method::Complete => Routed::Perform(complete(&catalog, params)?),
        Method::Listen => Routed::Listen(wanted(params)?.within(catalog.offers)),
    })
}

fn page(list: &Listing, params: &Params) -> Result<Routed, Fault> {
    let refuse = || {
        Fault::invalid_params(
            "`cursor` is not one that this list gave",
            "list again from the start, without a cursor",
        )
    };
    let cursor: Option<String> =
        params.cursor().map(|cursor| cursor.read().map_err(|_| refuse())).transpose()?;
    let page = list.page(cursor.as_deref()).map_err(|_| refuse())?;
    Ok(Routed::Page(Arc::clone(page)))
}

fn tool(
    house: &House,
    view: &ViewName,
    catalog: &Snapshot,
    params: &Params,
    mirrors: Option<&Mirrors<'_>>,
) -> Result<Task, Fault> {
    let name = text(params.name(), "name")?;
    let entry = tool_named(house, view, catalog, &name)?;
    let arguments = params.arguments()?;
    let value: Value = arguments.read().map_err(|error| {
        Fault::invalid_params(format!("`arguments` cannot be read: {error}"), "send an object")
    })?;
    for mirror in entry.mirrors.iter() {
        if let Some(mirrors) = mirrors {
            headers::check_param(mirrors, &mirror.header, mirror.find(&arguments))?;
        }
    }
    Ok(Task::Tool { entry, arguments, value })
}

/// The tool that is called so in `view`, whose state `catalog` is.
///
/// # Errors
/// -32602 when there is none, or none for who looks; 503 while its plugin is away.
pub fn tool_named(
    house: &House,
    view: &ViewName,
    catalog: &Snapshot,
    name: &str,
) -> Result<Arc<ToolEntry>, Fault> {
    let unknown = || {
        // What a plugin offers that never came up is not known: a client that remembers its tools hears that it is away.
        let may_know = view.name().is_none() && view.shows(name);
        let away = may_know.then(|| house.plugins.away(name)).flatten();
        away.unwrap_or_else(|| {
            Fault::invalid_params(
                format!("there is no tool {name:?}"),
                "list the tools and use a name from there",
            )
        })
    };
    catalog.tool(name).map(Arc::clone).ok_or_else(unknown)
}

fn prompt(catalog: &Snapshot, params: &Params) -> Result<Task, Fault> {
    let name = text(params.name(), "name")?;
    let unknown = || {
        Fault::invalid_params(
            format!("there is no prompt {name:?}"),
            "list the prompts and use a name from there",
        )
    };
    let entry = Arc::clone(catalog.prompt(&name).ok_or_else(unknown)?);
    Ok(Task::Prompt { entry, arguments: params.arguments()? })
}

fn read(house: &House, catalog: &Snapshot, params: &Params) -> Result<Task, Fault> {
    let uri = text(params.uri(), "uri")?;
    let unknown = || {
        Fault::invalid_params(
            format!("there is no resource {uri:?}"),
            "list the resources and their templates",
        )
        .with("uri", &*uri)
    };
    let entry = house.shelf.owner(catalog, &uri).ok_or_else(unknown)?;
    Ok(Task::Read { entry, uri: uri.into_owned() })
}

#[derive(Deserialize)]
struct WireReference {
    #[serde(rename = "type")]
    kind: String,
    name: Option<String>,
    uri: Option<String>,
}

#[derive(Deserialize)]
struct WireArgument {
    name: String,
    value: String,
}

#[derive(Deserialize, Default)]
struct WireContext {
    arguments: Option<BTreeMap<String, String>>,
}

fn complete(catalog: &Snapshot, params: &Params) -> Result<Task, Fault> {
    if !catalog.offers.completes {
        return Err(Fault::new(
            ErrorCode::MethodNotFound,
            "nothing here completes arguments",
            "see what `server/discover` or `initialize` says is served",
        ));
    }
    let reference: WireReference = member(params.reference(), "ref")?;
    let argument: WireArgument = member(params.argument(), "argument")?;
    let context: WireContext =
        params.context().map_or(Ok(WireContext::default()), |context| member(Some(context), "context"))?;
    let unknown = |what: &str| {
        Fault::invalid_params(
            format!("`ref` names nothing here: {what:?}"),
            "use a listed prompt or resource template",
        )
    };
    let (seat, of) = match (reference.kind.as_str(), reference.name, reference.uri) {
        ("ref/prompt", Some(name), _) => {
            let entry = catalog.prompt(&name).ok_or_else(|| unknown(&name))?;
            (&entry.seat, Reference::Prompt(entry.local.to_string()))
        }
        ("ref/resource", _, Some(uri)) => {
            let entry = catalog.template(&uri).ok_or_else(|| unknown(&uri))?;
            (&entry.seat, Reference::Resource(uri))
        }
        (kind, _, _) => return Err(unknown(kind)),
    };
    if !catalog.offer(seat).is_some_and(|offer| offer.completes) {
        return Err(Fault::invalid_params(
            format!("plugin {:?} does not complete arguments", seat.name),
            "let the user write the argument in full",
        ));
    }
    let chosen = Raw::of(&context.arguments.unwrap_or_default())
        .map_err(|error| Fault::internal(error.to_string()))?;
    Ok(Task::Complete { seat: Arc::clone(seat), of, argument: argument.name, typed: argument.value, chosen })
}

fn wanted(params: &Params) -> Result<Wanted, Fault> {
    member(params.notifications(), "notifications")
}

fn text<'a>(member: Option<Member<'a>>, key: &str) -> Result<Cow<'a, str>, Fault> {
    let refuse = || {
        Fault::invalid_params(
            format!("`{key}` is missing or not a string"),
            format!("send `{key}` as a string"),
        )
    };
    member.and_then(Member::text).ok_or_else(refuse)
}

fn member<T: serde::de::DeserializeOwned>(member: Option<Member<'_>>, key: &str) -> Result<T, Fault> {
    let member = member.ok_or_else(|| {
        Fault::new(
            ErrorCode::InvalidParams,
            format!("`{key}` is missing"),
            format!("send `{key}` as the schema of this method says"),
        )
    })?;
    member.read().map_err(|error| {
        Fault::invalid_params(
            format!("`{key}` is malformed: {error}"),
            "send it as the schema of this method says",
        )
    })
}
