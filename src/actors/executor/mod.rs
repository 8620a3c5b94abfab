//! CommandExecutor: one per HTTP worker. It runs calls, each in a future of its own, under a deadline.
//!
//! A call that panics, hangs or floods costs itself only. Must not know HTTP, streams or the database's rows.

mod cached;
mod checking;
mod ledger;
pub mod limited;
mod linked;
pub mod messages;
mod outcome;
mod rounds;

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Context, Handler, MessageResult, Supervised};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::db::{Behind, Recorder};
use super::plugin::{Member, Roll};
use super::supervision::{Crash, Ping, Terms, message_of};
use crate::access::Sealer;
use crate::cache::Cache;
use crate::catalog::{Links, Place, Seat, Verdict};
use crate::error::{ErrorCode, Fault};
use crate::plugins::{
    CallerKey, Context as CallContext, ContextParts, ConversationKey, Outcome, PluginError, Request,
};
use crate::protocol::content::ToolResult;
use crate::protocol::render::{self, ServerInfo};
use crate::telemetry::metrics::METRICS;
use ledger::Way;
use messages::{Asks, Begun, Done, Perform, Running, Task};
use rounds::Round;

/// An executor never ends while its worker lives.
pub const TERMS: Terms = Terms { mailbox: 4096, may_end: false, vital: true };

/// What all calls need, shared by the executors.
pub struct Bench {
    /// Remembers whose the resources are that results link to.
    pub links: Arc<Links>,
    /// Those that serve, and those that only finish what they began.
    pub plugins: Arc<Roll>,
    /// Seals state between rounds.
    pub sealer: Sealer,
    /// Answers that are kept; none where none are.
    pub cache: Option<Arc<Cache>>,
    /// Writes the history.
    pub recorder: Recorder,
    /// What the server is called.
    pub info: ServerInfo,
    /// How long a client may take to answer an input request.
    pub input_timeout_seconds: u64,
    /// Whether a call is recorded before it runs and before it is answered.
    pub strict: bool,
}

/// Runs the calls of one worker.
pub struct CommandExecutor {
    bench: Arc<Bench>,
}

impl CommandExecutor {
    /// An executor at `bench`.
    pub fn new(bench: Arc<Bench>) -> Self {
        Self { bench }
    }
}

impl Actor for CommandExecutor {
    type Context = Context<Self>;
}

impl Supervised for CommandExecutor {}

// === handlers, in the order of messages.rs ===

impl Handler<Box<Perform>> for CommandExecutor {
    type Result = MessageResult<Box<Perform>>;
    fn handle(&mut self, perform: Box<Perform>, _: &mut Self::Context) -> Self::Result {
        let trace_id: Option<Box<str>> = perform.trace.id().map(Box::from);
        let traced = |done: Result<Done, Fault>| done.map_err(move |fault| fault.traced(trace_id.as_deref()));
        let mut run: BoxFuture<'static, _> = Box::pin(run(Arc::clone(&self.bench), perform).map(traced));
        MessageResult(match run.as_mut().now_or_never() {
            Some(done) => Begun::Ended(done),
            None => Begun::Running(Running::new(run)),
        })
    }
}

impl Handler<Ping> for CommandExecutor {
    type Result = ();
    fn handle(&mut self, _: Ping, _: &mut Self::Context) {}
}

impl Handler<Crash> for CommandExecutor {
    type Result = ();
    fn handle(&mut self, crash: Crash, _: &mut Self::Context) {
        crash.now();
    }
}

/// One call, from its seal to its record. What is seldom awaited here and below stands in a box: the futures of all calls that
/// wait for their plugins shall stay in the processor's cache.
async fn run(bench: Arc<Bench>, mut perform: Box<Perform>) -> Result<Done, Fault> {
    let began = Instant::now();
    let round = rounds::open(&mut perform, &bench.sealer)?;
    if let Some(first) = round.seat.and_then(|number| replaced(&bench.plugins, perform.task.seat(), number)) {
        perform.task = perform.task.on(&first.seat);
    }
    match &bench.cache {
        Some(cache) if cached::may_be_kept(&perform, &round) => {
            Box::pin(cached::run(&bench, cache, perform, &round, began)).await
        }
        _ => fresh(&bench, &perform, &round, began).await,
    }
}

/// One call that goes to its plugin, to its record.
async fn fresh(bench: &Bench, perform: &Perform, round: &Round, began: Instant) -> Result<Done, Fault> {
    let called = Arc::clone(perform.task.seat());
    let _called = called.begin_call();
    let _place = match limited::begin(perform, round) {
        Ok(place) => place,
        Err(excess) => {
            let refused = Err(limited::refuse(excess));
            ledger::conclude(bench, perform, round, &refused, began.elapsed(), Way::Ran(None)).await?;
            return refused;
        }
    };
    if bench.strict {
        Box::pin(ledger::intend(&bench.recorder, perform, round)).await?;
    }
    let mut path = Path::default();
    let done = attempt(bench, perform, round, began, &mut path).await;
    let took = began.elapsed();
    let seat = perform.task.seat();
    seat.meter.ended(done.as_ref().map_or_else(|fault| fault.code.name(), |done| done.outcome), took);
    let hop = path.context.as_ref().and_then(CallContext::hop);
    if let Some(hop) = hop {
        seat.meter.carried(hop.bytes_out, hop.bytes_in);
    }
    if let Task::Tool { entry, .. } = &perform.task {
        entry.took(took);
    }
    if let Some(caching) = perform.task.caching()
        && done.as_ref().is_ok_and(|done| done.hints.is_some_and(|hints| !hints.lasts.is_zero()))
    {
        caching.heard();
    }
    ledger::conclude(bench, perform, round, &done, took, Way::Ran(path.behind())).await?;
    done
}

/// The plugin that asked in an earlier round, if it is no more the one that has its name, and still serves who comes back.
fn replaced(plugins: &Roll, now: &Seat, number: u64) -> Option<Arc<Member>> {
    let first = (now.number != number).then(|| plugins.retiring(&now.name, number)).flatten();
    first.filter(|first| first.seat.refusal().is_none())
}

/// Takes a place in the plugin, runs the call there, and makes its outcome a result.
async fn attempt(
    bench: &Bench,
    perform: &Perform,
    round: &Round,
    began: Instant,
    path: &mut Path,
) -> Result<Done, Fault> {
    let deadline = began + Duration::from_secs(perform.task.timeout_seconds());
    if let Some(refused) = check_arguments(perform, bench, deadline).await? {
        return Ok(refused);
    }
    let seat = perform.task.seat();
    check_answers(seat, round)?;
    // Whoever leaves while waiting gives its place in the queue to another, and its call never begins.
    let mut place = tokio::select! {
        biased;
        place = seat.enter(deadline) => place?,
        () = perform.cancel.cancelled() => return Err(cancelled()),
    };
    path.queued = place.queued();
    if perform.cancel.is_cancelled() {
        return Err(cancelled());
    }
    let request = request_of(&perform.task, round);
    let context = context_of(perform, deadline);
    path.context = Some(context.clone());
    let plugin = Arc::clone(&seat.plugin);
    let call = AssertUnwindSafe(async move { plugin.handle(request, context).await }).catch_unwind();
    // Most calls end at once: the timer, and the ear for a client that leaves, are made for those that do not. A call that
    // never rests must not keep them from being polled.
    let given_up = tokio::task::unconstrained(async {
        tokio::select! {
            biased;
            () = tokio::time::sleep_until(deadline) => too_late(&perform.task),
            () = perform.cancel.cancelled() => cancelled(),
        }
    });
    let outcome = tokio::select! {
        biased;
        outcome = call => outcome,
        fault = given_up => {
            let verdict = verdict_of_end(&fault, path.queued, deadline - began);
            seat.judge(&mut place, verdict, || fault.message.to_string());
            return Err(fault);
        }
    };
    judge(seat, &mut place, &outcome);
    match outcome {
        Err(panic) => Err(panicked(&perform.task, &message_of(panic.as_ref()))),
        Ok(Err(error)) => Err(outcome::fault_of(&perform.task, error)),
        Ok(Ok(Outcome::Complete(result))) => {
            if let Some(why) = checking::result(perform, &result, deadline).await? {
                return Err(outcome::breaks_schema(&perform.task, &why));
            }
            let done = outcome::complete(&perform.task, &result, &bench.info)?;
            linked::note(&bench.links, &perform.task, &result);
            Ok(done)
        }
        Ok(Ok(Outcome::InputRequired { requests, state })) => {
            outcome::check_asks(&perform.task, &requests, state.is_some(), &perform.client)?;
            let sealed = rounds::seal(perform, round, state, &bench.sealer, bench.input_timeout_seconds)?;
            let shown: Vec<_> =
                requests.iter().map(|(key, request)| (key.clone(), request.to_value())).collect();
            let result = render::input_required(&shown, Some(&sealed), &bench.info);
            Ok(Done::asking(result, Asks { requests, state: sealed }))
        }
    }
}

/// A client that refuses to answer ends the call, unless its plugin can be told.
fn check_answers(seat: &Seat, round: &Round) -> Result<(), Fault> {
    match round.answers.refusals().first() {
        Some((_, error)) if !seat.plugin.hears_refusals() => {
            let advice = "answer with the result that the schema describes";
            Err(Fault::new(ErrorCode::InvalidRequest, error.message.clone(), advice))
        }
        _ => Ok(()),
    }
}

/// What a call went through, for its record.
#[derive(Default)]
struct Path {
    /// What the plugin was given; it notes there what it did.
    context: Option<CallContext>,
    /// How long it waited for a place.
    queued: Option<Duration>,
}

impl Path {
    /// What its record says of it; most calls wait for nothing and go no further than their plugin.
    fn behind(&self) -> Option<Box<Behind>> {
        let hop = self.context.as_ref().and_then(CallContext::hop);
        let queue_us = self.queued.map(|queued| u64::try_from(queued.as_micros()).unwrap_or(u64::MAX));
        (hop.is_some() || queue_us.is_some()).then(|| Box::new(Behind { queue_us, hop }))
    }
}

/// What a plugin's call came to, panics among it.
type Came = std::thread::Result<Result<Outcome, PluginError>>;

/// Tells the plugin's breaker whether the plugin answered, be it with a refusal.
fn judge(seat: &Seat, place: &mut Place, outcome: &Came) {
    let (verdict, why) = verdict_of(outcome);
    seat.judge(place, verdict, || why.map_or_else(|| "it panicked".to_owned(), ToString::to_string));
}

fn verdict_of(outcome: &Came) -> (Verdict, Option<&PluginError>) {
    match outcome {
        Ok(
            Ok(_)
            | Err(PluginError::Unknown(_) | PluginError::InvalidParams(_) | PluginError::Answered { .. }),
        ) => (Verdict::Answered, None),
        // Perhaps it was not even asked.
        Ok(Err(PluginError::MissingCapability(_) | PluginError::Full { .. })) => (Verdict::Nothing, None),
        Ok(Err(
            error @ (PluginError::Unavailable(_)
            | PluginError::Away { .. }
            | PluginError::Upstream(_)
            | PluginError::Failed(_)),
        )) => (Verdict::Failed, Some(error)),
        Err(_) => (Verdict::Failed, None),
    }
}

/// What a call says of its plugin that was given up: nothing, when most of its time had passed before it had a place.
fn verdict_of_end(fault: &Fault, queued: Option<Duration>, limit: Duration) -> Verdict {
    let had_its_time = queued.is_none_or(|queued| queued * 2 <= limit);
    if fault.code == ErrorCode::DeadlineExceeded && had_its_time { Verdict::Failed } else { Verdict::Nothing }
}

/// What becomes of a call whose client went away.
fn cancelled() -> Fault {
    METRICS.cancelled.inc();
    Fault::new(ErrorCode::Unavailable, CANCELLED, "nobody waits for this answer")
}

/// The message of a call whose client went away.
pub(crate) const CANCELLED: &str = "the client cancelled the call, or went away before its answer";

/// Checks arguments against the tool's schema, or required arguments of a prompt. What a model can mend is a result
/// that says so, not a protocol error.
async fn check_arguments(perform: &Perform, bench: &Bench, deadline: Instant) -> Result<Option<Done>, Fault> {
    match &perform.task {
        Task::Tool { entry, arguments, value } => {
            let lacks = checking::arguments(perform, entry, (arguments, value), deadline).await?;
            let Some(why) = lacks else { return Ok(None) };
            let says = format!(
                "The arguments do not fit the input schema of {}: {why}. Mend them and call again.",
                entry.name
            );
            if !perform.revision.tells_models_of_bad_arguments() {
                return Err(Fault::invalid_params(says, "list the tools to see the schema"));
            }
            outcome::complete(&perform.task, &ToolResult::failed(says).into_raw(), &bench.info).map(Some)
        }
        Task::Prompt { entry, arguments } => {
            let refuse = |why: String| {
                Fault::invalid_params(why, "list the prompts to see which arguments this one takes")
            };
            let given: std::collections::BTreeMap<String, String> =
                arguments.read().map_err(|_| refuse("`arguments` of a prompt are strings".to_owned()))?;
            match entry.required.iter().find(|name| !given.contains_key(*name)) {
                Some(name) => Err(refuse(format!("argument {name:?} is required"))),
                None => Ok(None),
            }
        }
        Task::Read { .. } | Task::Complete { .. } => Ok(None),
    }
}

fn request_of(task: &Task, round: &Round) -> Request {
    let answers = round.answers.clone();
    match task {
        Task::Tool { entry, arguments, .. } => {
            Request::Call { tool: Arc::clone(&entry.local), arguments: arguments.clone(), answers }
        }
        Task::Prompt { entry, arguments } => {
            Request::Prompt { name: Arc::clone(&entry.local), arguments: arguments.clone(), answers }
        }
        Task::Read { uri, .. } => Request::Read { uri: uri.clone(), answers },
        Task::Complete { of, argument, typed, chosen, .. } => Request::Complete {
            of: of.clone(),
            argument: argument.clone(),
            typed: typed.clone(),
            chosen: chosen.clone(),
        },
    }
}

fn context_of(perform: &Perform, deadline: Instant) -> CallContext {
    CallContext::new(ContextParts {
        deadline,
        cancel: perform.cancel.clone(),
        notices: perform.notices.clone(),
        wants_progress: perform.wants_progress,
        log_level: perform.log_level,
        client: perform.client.clone(),
        caller: CallerKey(perform.caller.key),
        conversation: perform.session.as_deref().map(conversation_of),
        operator: perform.caller.operator,
        sees_all: perform.caller.tools.is_none() && perform.caller.bundles.is_none(),
        trace: perform.trace.clone(),
        foreign: perform.foreign.clone(),
        blocking: Arc::clone(&perform.task.seat().blocking),
    })
}

/// A session as plugins may know it, out of what logs call it.
fn conversation_of(session: &str) -> ConversationKey {
    let mut hasher = DefaultHasher::new();
    session.hash(&mut hasher);
    ConversationKey(hasher.finish())
}

fn too_late(task: &Task) -> Fault {
    let seat = task.seat();
    Fault::new(
        ErrorCode::DeadlineExceeded,
        format!("{} did not end within {} s", task.target(), task.timeout_seconds()),
        "ask for less at once; whether the work had an effect is not known",
    )
    .because(format!("plugin {} passed the deadline of a call", seat.name))
}

fn panicked(task: &Task, message: &str) -> Fault {
    let seat = task.seat();
    METRICS.plugin_panics.with_label_values(&[&*seat.name]).inc();
    Fault::internal(format!("plugin {} panicked in {}: {message}", seat.name, task.target()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_of_our_own_says_nothing_of_the_plugin() {
        let full = PluginError::Full { why: "full".to_owned(), returns: Duration::from_secs(5) };
        assert_eq!(verdict_of(&Ok(Err(full))).0, Verdict::Nothing);
        assert_eq!(verdict_of(&Ok(Err(PluginError::away("gone".to_owned())))).0, Verdict::Failed);
    }

    #[test]
    fn a_call_that_came_to_its_place_late_says_nothing_of_the_plugin() {
        let late = Fault::new(ErrorCode::DeadlineExceeded, "late", "less");
        let limit = Duration::from_secs(30);
        assert_eq!(verdict_of_end(&late, None, limit), Verdict::Failed);
        assert_eq!(verdict_of_end(&late, Some(Duration::from_secs(2)), limit), Verdict::Failed);
        assert_eq!(verdict_of_end(&late, Some(Duration::from_secs(29)), limit), Verdict::Nothing);
        assert_eq!(verdict_of_end(&cancelled(), None, limit), Verdict::Nothing);
    }
}
