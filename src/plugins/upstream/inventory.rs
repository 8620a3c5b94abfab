//! All that a server offers, asked for page by page; what it says is kept as it is, what is no offer is left out and told.
//!
//! MCP 2026-07-28 and 2025-11-25, server/{tools,prompts,resources} and server/utilities/pagination. Must not know names
//! under which it is published, nor who looks at it.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::compose::{self, Era, Wishes};
use super::exchange::{self, METHOD_NOT_FOUND, ProbeError};
use super::ids::Ids;
use super::link::{Link, LinkError, Outgoing};
use crate::plugins::{Change, Inventory};
use crate::protocol::{Definition, MODERN, Object, Raw};

/// Pages of one list; a cursor without end is cut here.
const PAGES_MAX: usize = 100;
/// Entries of one list.
const ENTRIES_MAX: usize = 20_000;
/// … and their bytes.
const BYTES_MAX: usize = 16 * 1024 * 1024;
/// How many things that were left out are told by name.
const TOLD_MAX: usize = 50;
/// How much of a server's instructions is kept.
const INSTRUCTIONS_BYTES_MAX: usize = 16 * 1024;

/// Of which server the lists are, and how it is asked.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    /// Which plugin, for the log.
    pub plugin: &'a str,
    /// The way.
    pub link: &'a dyn Link,
    /// The link's numbers.
    pub ids: &'a Ids,
    /// None for a server of 2026-07-28, else what the version header says.
    pub legacy: Option<Option<&'static str>>,
    /// What it declared, an object.
    pub capabilities: &'a Raw,
    /// What it says of itself.
    pub instructions: Option<&'a str>,
}

/// Which lists: all resources together, as servers tell of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Kinds {
    tools: bool,
    prompts: bool,
    resources: bool,
}

impl Kinds {
    /// All of them.
    pub const ALL: Self = Self { tools: true, prompts: true, resources: true };
    /// Tools alone.
    pub const TOOLS: Self = Self { tools: true, prompts: false, resources: false };

    /// These and those that `change` is of.
    pub fn and(self, change: &Change) -> Self {
        match change {
            Change::Tools => Self { tools: true, ..self },
            Change::Prompts => Self { prompts: true, ..self },
            Change::Resources => Self { resources: true, ..self },
            Change::Updated(_) => self,
        }
    }

    /// These and those.
    pub fn or(self, other: Self) -> Self {
        Self {
            tools: self.tools || other.tools,
            prompts: self.prompts || other.prompts,
            resources: self.resources || other.resources,
        }
    }

    fn has(self, kind: Kind) -> bool {
        match kind.capability {
            "tools" => self.tools,
            "prompts" => self.prompts,
            _ => self.resources,
        }
    }
}

/// Lists that could not be had, and stay what they were.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Amiss {
    /// Which.
    pub kinds: Kinds,
    /// Why.
    pub why: String,
}

/// Asks for the lists of one server, time and again, and knows what was amiss the last time.
#[derive(Debug, Default)]
pub struct Lister {
    last: Mutex<Last>,
}

#[derive(Debug, Default)]
struct Last {
    inventory: Inventory,
    /// Of each kind, in the order of [`KINDS`].
    notes: [Notes; KINDS.len()],
}

/// What an operator should know of the listing of one kind.
#[derive(Debug, Default)]
struct Notes {
    /// Why there is no list.
    failed: Option<String>,
    troubles: Vec<String>,
    dropped: usize,
    dropped_first: Vec<String>,
}

impl Notes {
    /// There is no list.
    fn fail(&mut self, why: String) {
        self.troubles.push(why.clone());
        self.failed = Some(why);
    }

    fn drop_entry(&mut self, what: String) {
        self.dropped += 1;
        if self.dropped_first.len() < TOLD_MAX {
            self.dropped_first.push(what);
        }
    }
}

/// One kind of list.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Kind {
    method: &'static str,
    member: &'static str,
    capability: &'static str,
    key: &'static str,
}

impl Kind {
    /// What it is one of.
    fn kinds(self) -> Kinds {
        match self.capability {
            "tools" => Kinds::TOOLS,
            "prompts" => Kinds::default().and(&Change::Prompts),
            _ => Kinds::default().and(&Change::Resources),
        }
    }
}

const TOOLS: Kind = Kind { method: "tools/list", member: "tools", capability: "tools", key: "name" };
const PROMPTS: Kind = Kind { method: "prompts/list", member: "prompts", capability: "prompts", key: "name" };
const RESOURCES: Kind =
    Kind { method: "resources/list", member: "resources", capability: "resources", key: "uri" };
const TEMPLATES: Kind = Kind {
    method: "resources/templates/list",
    member: "resourceTemplates",
    capability: "resources",
    key: "uriTemplate",
};

/// All kinds, in the order in which they are asked for.
const KINDS: [Kind; 4] = [TOOLS, PROMPTS, RESOURCES, TEMPLATES];

impl Lister {
    /// Asks for the lists of `kinds`. What is not asked for, or fails, stays what it was `before`; what fails is told in the
    /// report and by [`Self::amiss`], and the others are not affected.
    ///
    /// # Errors
    /// When the link does not carry at all.
    pub async fn list(
        &self,
        source: Source<'_>,
        kinds: Kinds,
        before: Inventory,
        deadline: Instant,
    ) -> Result<Inventory, LinkError> {
        let capabilities = Object::open(source.capabilities).unwrap_or_default();
        let has = |capability: &str| capabilities.get(capability).is_some_and(Raw::is_object);
        let mut noted = Vec::with_capacity(KINDS.len());
        let mut lists = Vec::with_capacity(KINDS.len());
        let kept = [before.tools, before.prompts, before.resources, before.templates];
        for (kind, kept) in KINDS.into_iter().zip(kept) {
            if !kinds.has(kind) {
                lists.push(kept);
                noted.push(None);
                continue;
            }
            let mut notes = Notes::default();
            let list = if has(kind.capability) {
                pages(source, kind, deadline, &mut notes).await?
            } else {
                Some(Vec::new())
            };
            lists.push(list.unwrap_or(kept));
            noted.push(Some(notes));
        }
        let subscribes = capabilities.get("resources").and_then(|raw| Object::open(raw).ok());
        let subscribes =
            subscribes.is_some_and(|all| all.get("subscribe").is_some_and(|is| is.as_str() == "true"));
        let mut lists = lists.into_iter();
        let mut next = || lists.next().unwrap_or_default();
        let inventory = Inventory {
            tools: next(),
            prompts: next(),
            resources: next(),
            templates: next(),
            instructions: source.instructions.map(|text| cut(text, INSTRUCTIONS_BYTES_MAX).to_owned()),
            completes: has("completions"),
            subscribes,
        };
        for trouble in noted.iter().flatten().flat_map(|notes| &notes.troubles) {
            log::warn!("a list of the server behind plugin {} is not whole: {trouble}", source.plugin);
        }
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.inventory = inventory.clone();
        for (old, new) in last.notes.iter_mut().zip(noted) {
            if let Some(new) = new {
                *old = new;
            }
        }
        Ok(inventory)
    }

    /// Which lists could not be had the last time that they were asked for; none when all could.
    pub fn amiss(&self) -> Option<Amiss> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let mut amiss = Amiss { kinds: Kinds::default(), why: String::new() };
        for (kind, notes) in KINDS.iter().zip(&last.notes) {
            let Some(why) = &notes.failed else { continue };
            amiss.kinds = amiss.kinds.or(kind.kinds());
            amiss.why.push_str(if amiss.why.is_empty() { "" } else { "; " });
            amiss.why.push_str(why);
        }
        (!amiss.why.is_empty()).then_some(amiss)
    }

    /// What was listed last.
    pub fn inventory(&self) -> Inventory {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).inventory.clone()
    }

    /// What an operator sees of the last listing.
    pub fn report(&self) -> Value {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let inventory = &last.inventory;
        let all = |of: fn(&Notes) -> &Vec<String>| last.notes.iter().flat_map(of).collect::<Vec<_>>();
        let mut first = all(|notes| &notes.dropped_first);
        first.truncate(TOLD_MAX);
        json!({
            "tools": inventory.tools.len(),
            "prompts": inventory.prompts.len(),
            "resources": inventory.resources.len(),
            "templates": inventory.templates.len(),
            "instructionsBytes": inventory.instructions.as_ref().map_or(0, String::len),
            "dropped": last.notes.iter().map(|notes| notes.dropped).sum::<usize>(),
            "droppedFirst": first,
            "troubles": all(|notes| &notes.troubles),
        })
    }
}

/// All pages of one list; none when it failed, which is noted.
async fn pages(
    source: Source<'_>,
    kind: Kind,
    deadline: Instant,
    notes: &mut Notes,
) -> Result<Option<Vec<Definition>>, LinkError> {
    let mut found = Vec::new();
    let mut keys = HashSet::new();
    let mut cursors = HashSet::new();
    let mut cursor: Option<String> = None;
    let mut bytes = 0_usize;
    for _page in 0..PAGES_MAX {
        let result = match page(source, kind, cursor.as_deref(), deadline).await {
            Ok(result) => result,
            // Many servers have resources and know no templates, or say that they have prompts and have none.
            Err(ProbeError::Refused(error)) if kind != TOOLS && error.code == METHOD_NOT_FOUND => {
                if kind != TEMPLATES {
                    notes.troubles.push(format!("{}: {}", kind.method, ProbeError::Refused(error)));
                }
                return Ok(Some(found));
            }
            Err(ProbeError::Link(
                error @ (LinkError::Unreachable(_)
                | LinkError::Misconfigured(_)
                | LinkError::SessionLost
                | LinkError::Broken(_)),
            )) => return Err(error),
            Err(error) => {
                notes.fail(format!("{}: {error}", kind.method));
                return Ok(None);
            }
        };
        let Some((entries, next)) = read(&result, kind) else {
            notes.fail(format!("{}: its answer has no list `{}`", kind.method, kind.member));
            return Ok(None);
        };
        for entry in entries {
            match accepted(&entry, kind, source.legacy.is_some()) {
                Ok((key, definition)) if keys.insert(key.clone()) => {
                    bytes = bytes.saturating_add(entry.bytes().len());
                    if found.len() >= ENTRIES_MAX || bytes > BYTES_MAX {
                        notes.troubles.push(format!(
                            "{}: it has more than {ENTRIES_MAX} entries, or {BYTES_MAX} bytes; what came first is used",
                            kind.method
                        ));
                        return Ok(Some(found));
                    }
                    found.push(definition);
                }
                Ok((key, _)) => notes.drop_entry(format!("{} {key:?}: it is listed twice", kind.member)),
                Err(why) => notes.drop_entry(format!("{}: {why}", kind.member)),
            }
        }
        let Some(next) = next else { return Ok(Some(found)) };
        if !cursors.insert(next.clone()) {
            break;
        }
        cursor = Some(next);
    }
    let much = format!("{}: it goes on without end; what came first is used", kind.method);
    notes.troubles.push(much);
    Ok(Some(found))
}

async fn page(
    source: Source<'_>,
    kind: Kind,
    cursor: Option<&str>,
    deadline: Instant,
) -> Result<Raw, ProbeError> {
    let id = source.ids.next();
    let cursor = cursor.map(compose::text);
    let members: Vec<(&str, &str)> = cursor.iter().map(|cursor| ("cursor", cursor.as_str())).collect();
    let era = if source.legacy.is_some() { Era::Legacy } else { Era::Modern("{}") };
    let asked = Outgoing {
        id,
        body: compose::request(id, kind.method, era, &Wishes::default(), &members),
        method: kind.method,
        name: None,
        params: Vec::new(),
        version: source.legacy.unwrap_or(Some(MODERN)),
    };
    exchange::ask(source.link, asked, deadline).await
}

/// The entries of a page, and the cursor of the next one.
fn read(result: &Raw, kind: Kind) -> Option<(Vec<Raw>, Option<String>)> {
    let object = Object::open(result).ok()?;
    let list = object.get(kind.member)?;
    let entries: Vec<&RawValue> = list.read().ok()?;
    Some((entries.into_iter().map(|entry| list.part(entry)).collect(), object.text("nextCursor")))
}

/// What of an entry is published, under its key.
fn accepted(entry: &Raw, kind: Kind, legacy: bool) -> Result<(String, Definition), String> {
    // In bytes of its own: it outlives its page, of which much may have been left out.
    let mut object = Object::open(&entry.detached()).map_err(|_| "an entry is no object".to_owned())?;
    let key = object.text(kind.key).filter(|key| !key.is_empty());
    let key = key.ok_or_else(|| format!("an entry has no `{}`", kind.key))?;
    if kind == TOOLS {
        let schema = object.get("inputSchema").filter(|schema| schema.is_object());
        let schema = schema.and_then(|schema| Object::open(schema).ok());
        let Some(mut schema) = schema else { return Err(format!("{key:?} has no inputSchema")) };
        match schema.text("type").as_deref() {
            Some("object") => {}
            // Older servers leave it out where there are no arguments, or `properties` says enough.
            None if schema.get("type").is_none() => {
                schema.put("type", "object");
                object.set("inputSchema", schema.to_raw());
            }
            _ => return Err(format!("the inputSchema of {key:?} is not that of an object")),
        }
        if needs_task(&object) {
            return Err(format!("{key:?} can only be called as a task of 2025-11-25, which is not relayed"));
        }
        if legacy {
            object.remove("execution");
        }
    }
    let definition = Definition::open(&object.to_raw()).map_err(|error| error.to_string())?;
    Ok((key, definition))
}

fn needs_task(tool: &Object) -> bool {
    let execution = tool.get("execution").and_then(|raw| Object::open(raw).ok());
    execution.is_some_and(|execution| execution.text("taskSupport").as_deref() == Some("required"))
}

/// The beginning of a text, in whole characters.
fn cut(text: &str, bytes_max: usize) -> &str {
    let mut end = bytes_max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or(text)
}
