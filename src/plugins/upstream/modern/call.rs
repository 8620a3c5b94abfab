//! One request of a client, carried to a server of 2026-07-28 and back.
//!
//! MCP 2026-07-28, basic/patterns. Dropping it cancels it there, too. Must not know the client's era.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use smallvec::{SmallVec, smallvec};
use tokio::time::Instant;

use super::Modern;
use crate::plugins::upstream::compose::{self, Era, Wishes};
use crate::plugins::upstream::exchange::{METHOD_NOT_FOUND, is_mine, veiled};
use crate::plugins::upstream::failures::{
    self, HEADER_MISMATCH, UNSUPPORTED_VERSION, nonsense, not_carried, refused,
};
use crate::plugins::upstream::link::{Link, LinkError, Outgoing};
use crate::plugins::upstream::probe::speaks_modern;
use crate::plugins::upstream::spans;
use crate::plugins::{Context, Hop, Outcome, PluginError, Reference, Request};
use crate::protocol::modern::Foreign;
use crate::protocol::{Answers, Incoming, InputRequest, LogLevel, MODERN, Object, Raw, RpcError};
use crate::telemetry::traces::Span;

/// Requests that one result may hold.
const ASKS_MAX: usize = 100;
/// Under this key the server's own state travels in ours.
const STATE: &str = "requestState";
/// So many answers in a row that such a server does not give are a reason to ask what it speaks now.
const DOUBTS_MAX: u32 = 3;
/// A message that comes after so many for one call is not looked at.
const NOTICES_MAX: usize = 100_000;

/// What one request came to.
enum Reply {
    Result(Raw),
    Error(RpcError),
}

/// Counts one call as long as it goes on.
struct InFlight<'a>(&'a Modern);

impl<'a> InFlight<'a> {
    fn begin(modern: &'a Modern) -> Self {
        modern.in_flight.fetch_add(1, Ordering::Relaxed);
        Self(modern)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Says on a pipe that an answer is not wanted any more, when whoever waits for it leaves before it comes.
pub(super) struct Cancel {
    /// None once the answer is there.
    link: Option<Arc<dyn Link>>,
    id: u64,
}

impl Cancel {
    pub(super) fn new(link: &Arc<dyn Link>, id: u64) -> Self {
        Self { link: (!link.cancels_by_closing()).then(|| Arc::clone(link)), id }
    }

    pub(super) fn not_needed(&mut self) {
        self.link = None;
    }
}

impl Drop for Cancel {
    fn drop(&mut self) {
        let (Some(link), Ok(runtime)) = (self.link.take(), tokio::runtime::Handle::try_current()) else {
            return;
        };
        let told =
            link.tell(compose::cancelled(self.id, "nobody waits for the answer any more"), Some(MODERN));
        runtime.spawn(tokio::time::timeout(Duration::from_secs(5), told));
    }
}

/// What was sent and received for one call, noted when it ends, however it ends.
struct Meter<'a> {
    context: &'a Context,
    began: Instant,
    hop: Hop,
    span: Span,
}

impl Drop for Meter<'_> {
    fn drop(&mut self) {
        self.hop.upstream = self.began.elapsed();
        self.context.hopped(std::mem::take(&mut self.hop));
    }
}

impl Modern {
    /// Carries one request out; once more when the server says that the headers are not those of its tool.
    pub(super) async fn carry_out(
        &self,
        request: &Request,
        context: &Context,
    ) -> Result<Outcome, PluginError> {
        let _counted = InFlight::begin(self);
        // Whoever calls in a session speaks an older revision, which was translated at the door.
        let bridged = context.conversation().is_some().then_some("legacy-modern");
        let hop = Hop { instance: Some(Arc::clone(&self.instance)), bridged, ..Hop::default() };
        let (method, name) = spans::named(request);
        let span = spans::begin(method, name, context);
        spans::goes_to(&span, &self.instance, MODERN, &*self.link);
        let mut meter = Meter { context, began: Instant::now(), hop, span };
        let (mut listed_anew, mut said_anew) = (false, false);
        loop {
            let composed = Instant::now();
            let reply = self.exchange(request, &mut meter).await;
            let reply = reply.inspect_err(|error| spans::broke(&meter.span, error));
            let error = match reply.map_err(|error| self.broke(&error))? {
                Reply::Result(result) => {
                    spans::answered(&meter.span, &result);
                    self.doubts.store(0, Ordering::Relaxed);
                    return self.outcome(result);
                }
                Reply::Error(error) => error,
            };
            if error.code == HEADER_MISMATCH && !std::mem::replace(&mut listed_anew, true) {
                // The tool's schema changed, and with it what headers repeat. Nothing was carried out.
                Box::pin(self.list_anew(composed))
                    .await
                    .map_err(|error| not_carried(&self.plugin, &error))?;
                continue;
            }
            if speaks_modern(&error) && !std::mem::replace(&mut said_anew, true) {
                continue;
            }
            match error.code {
                UNSUPPORTED_VERSION => self.doubt.notify_one(),
                METHOD_NOT_FOUND => self.doubt_it(),
                _ => self.doubts.store(0, Ordering::Relaxed),
            }
            meter.span.refused(error.code, "refused");
            return Err(refused(&self.plugin, request, &error));
        }
    }

    async fn exchange(&self, request: &Request, meter: &mut Meter<'_>) -> Result<Reply, LinkError> {
        let Meter { context, hop, span, .. } = meter;
        let asked = self.compose(request, context, span);
        let own = asked.id;
        hop.bytes_out += length(asked.body.len());
        let mut cancel = Cancel::new(&self.link, own);
        let mut flow = self.link.ask(asked).await.inspect_err(|_| cancel.not_needed())?;
        let mut notices = 0;
        while let Some(message) = flow.next().await {
            match message.inspect_err(|_| cancel.not_needed())? {
                Incoming::Response { id, outcome } if is_mine(id.as_ref(), own, &outcome) => {
                    cancel.not_needed();
                    return Ok(match outcome {
                        Ok(result) => {
                            hop.bytes_in += length(result.bytes().len());
                            Reply::Result(result)
                        }
                        Err(error) => {
                            hop.bytes_in += length(error.size());
                            Reply::Error(veiled(&*self.link, error))
                        }
                    });
                }
                Incoming::Notification { method, params: Some(params) } if notices < NOTICES_MAX => {
                    notices += 1;
                    hop.bytes_in += length(params.bytes().len());
                    tell(context, &method, &params);
                }
                // Others' answers, and requests, which a server of this revision may not make.
                Incoming::Response { .. } | Incoming::Notification { .. } | Incoming::Request { .. } => {}
            }
        }
        cancel.not_needed();
        Err(LinkError::Broken("the server ended its answer before the result".to_owned()))
    }

    /// The request in the server's words, with the headers that its own body and the tool's schema want.
    fn compose(&self, request: &Request, context: &Context, span: &Span) -> Outgoing {
        let id = self.ids.next();
        let capabilities = compose::capabilities_of(context.client());
        let foreign = context.foreign();
        let trace = spans::onward(span, context);
        let wishes = Wishes {
            progress: context.wants_progress(),
            level: context.log_level(),
            trace: Some(&trace),
            foreign,
        };
        let said = Said::of(request);
        let mut answers = (None, None);
        if let Some(given) = answers_of(request) {
            answers.0 = (!given.responses().is_empty()).then(|| given.responses().to_raw());
            answers.1 = given.state::<State>().map(|state| compose::text(&state.request_state));
        }
        let mut members: SmallVec<[(&str, &str); 4]> =
            said.members.iter().map(|(key, json)| (*key, json.as_str())).collect();
        members.extend(answers.0.iter().map(|responses| ("inputResponses", responses.as_str())));
        members.extend(answers.1.iter().map(|state| (STATE, state.as_str())));
        members.extend(foreign.into_iter().flat_map(Foreign::members));
        let body = compose::request(id, said.method, Era::Modern(&capabilities), &wishes, &members);
        let params = self.headers(request);
        Outgoing { id, body, method: said.method, name: said.name, params, version: Some(MODERN) }
    }

    /// The arguments that headers repeat.
    fn headers(&self, request: &Request) -> Vec<(Arc<str>, String)> {
        let Request::Call { tool, arguments, .. } = request else { return Vec::new() };
        let mirrors = self.mirrors.load();
        let Some(mirrors) = mirrors.get(tool) else { return Vec::new() };
        let header = |mirror: &crate::protocol::Mirror| {
            let argument = mirror.find(arguments)?;
            let said = match serde_json::from_str(argument.get()).ok()? {
                Value::String(text) => text,
                Value::Bool(_) | Value::Number(_) => argument.get().to_owned(),
                Value::Null | Value::Array(_) | Value::Object(_) => return None,
            };
            Some((Arc::from(mirror.header.as_str()), said))
        };
        mirrors.iter().filter_map(header).collect()
    }

    /// What a result is.
    fn outcome(&self, result: Raw) -> Result<Outcome, PluginError> {
        match kind_of(&result).as_deref() {
            Some("complete") | None => Ok(Outcome::Complete(failures::plain(result))),
            Some("input_required") => self.asked(&result),
            Some(other) => {
                let what = format!("a result of the type {:?}, which was not agreed on", short(other));
                Err(nonsense(&self.plugin, &what))
            }
        }
    }

    fn asked(&self, result: &Raw) -> Result<Outcome, PluginError> {
        let wrong = |what: &str| nonsense(&self.plugin, what);
        let result = Object::open(result).map_err(|_| wrong("a result that is no object"))?;
        let asked = result.get("inputRequests").filter(|raw| !raw.is_null()).map(Object::open).transpose();
        let asked = asked.map_err(|_| wrong("`inputRequests` that are no object"))?.unwrap_or_default();
        let mut requests = Vec::new();
        for (key, asked) in asked.members().take(ASKS_MAX) {
            let asked = Object::open(asked).map_err(|_| wrong("an input request that is no object"))?;
            let method = asked.text("method").unwrap_or_default();
            let request = InputRequest::from_parts(&method, asked.get("params"));
            let request =
                request.ok_or_else(|| wrong(&format!("it asks the client for {:?}", short(&method))))?;
            requests.push((key.to_owned(), request));
        }
        let state = result.text(STATE).map(|state| json!({STATE: state}));
        if requests.is_empty() && state.is_none() {
            return Err(wrong("it asks for input, and for none"));
        }
        Ok(Outcome::InputRequired { requests, state })
    }

    /// What a link that did not carry means to the caller; and whether the server may be another than before.
    fn broke(&self, error: &LinkError) -> PluginError {
        self.learn(error);
        log::info!("a call to the server behind plugin {} broke: {error}", self.plugin);
        not_carried(&self.plugin, error)
    }

    /// Draws conclusions from what a request ran into.
    pub(super) fn learn(&self, error: &LinkError) {
        match error {
            LinkError::SessionLost | LinkError::Status { status: 400 | 404 | 405, .. } => self.doubt_it(),
            LinkError::Unreachable(_) => self.doubt.notify_one(),
            _ => {}
        }
    }

    fn doubt_it(&self) {
        if self.doubts.fetch_add(1, Ordering::Relaxed) + 1 >= DOUBTS_MAX {
            self.doubts.store(0, Ordering::Relaxed);
            self.doubt.notify_one();
        }
    }
}

/// What a request says, beside `_meta` and answers.
struct Said {
    method: &'static str,
    name: Option<Arc<str>>,
    members: SmallVec<[(&'static str, Json); 3]>,
}

/// JSON that is ours, or shared with the request.
enum Json {
    Own(String),
    Shared(Raw),
}

impl Json {
    fn as_str(&self) -> &str {
        match self {
            Self::Own(text) => text,
            Self::Shared(raw) => raw.as_str(),
        }
    }
}

impl Said {
    fn of(request: &Request) -> Self {
        let text = |text: &str| Json::Own(compose::text(text));
        let (method, name, members) = match request {
            Request::Call { tool, arguments, .. } => {
                let members = smallvec![("name", text(tool)), ("arguments", Json::Shared(arguments.clone()))];
                ("tools/call", Some(Arc::clone(tool)), members)
            }
            Request::Prompt { name, arguments, .. } => {
                let members = smallvec![("name", text(name)), ("arguments", Json::Shared(arguments.clone()))];
                ("prompts/get", Some(Arc::clone(name)), members)
            }
            Request::Read { uri, .. } => {
                ("resources/read", Some(Arc::from(uri.as_str())), smallvec![("uri", text(uri))])
            }
            Request::Complete { of, argument, typed, chosen } => {
                let reference = match of {
                    Reference::Prompt(name) => json!({"type": "ref/prompt", "name": name}),
                    Reference::Resource(uri) => json!({"type": "ref/resource", "uri": uri}),
                };
                let mut members = smallvec![
                    ("ref", Json::Own(reference.to_string())),
                    ("argument", Json::Own(json!({"name": argument, "value": typed}).to_string())),
                ];
                if chosen.as_str() != "{}" {
                    members.push(("context", Json::Own(format!(r#"{{"arguments":{}}}"#, chosen.as_str()))));
                }
                ("completion/complete", None, members)
            }
            // Not a request of this revision: it is a wish, which `listen` carries.
            Request::Subscribe { .. } => ("subscriptions/listen", None, SmallVec::new()),
        };
        Self { method, name, members }
    }
}

fn answers_of(request: &Request) -> Option<&Answers> {
    match request {
        Request::Call { answers, .. } | Request::Prompt { answers, .. } | Request::Read { answers, .. } => {
            (!answers.is_first()).then_some(answers)
        }
        Request::Complete { .. } | Request::Subscribe { .. } => None,
    }
}

/// The server's own state, as it stands in ours.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct State {
    request_state: String,
}

/// The member `resultType`; none, as servers of before leave it out, is complete.
fn kind_of(result: &Raw) -> Option<String> {
    const COMPLETE: &str = r#"{"resultType":"complete""#;
    if result.as_str().starts_with(COMPLETE) {
        return Some("complete".to_owned());
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Typed<'a> {
        #[serde(borrow)]
        result_type: Option<&'a RawValue>,
    }
    let typed: Typed<'_> = result.read().ok()?;
    let kind = typed.result_type?;
    Some(serde_json::from_str(kind.get()).unwrap_or_else(|_| kind.get().to_owned()))
}

/// Passes on what the server says before the result.
fn tell(context: &Context, method: &str, params: &Raw) {
    #[derive(Deserialize)]
    struct Progress {
        progress: f64,
    }
    #[derive(Deserialize)]
    struct Log {
        level: LogLevel,
    }
    match method {
        "notifications/progress" => {
            if let Ok(said) = params.read::<Progress>() {
                context.relay_progress(said.progress, params.clone());
            }
        }
        "notifications/message" => {
            if let Ok(said) = params.read::<Log>() {
                context.relay_log(said.level, params.clone());
            }
        }
        _ => {}
    }
}

fn short(text: &str) -> String {
    text.chars().take(60).collect()
}

fn length(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}
