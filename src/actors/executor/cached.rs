//! Calls whose answers may be kept: one is found, or waited for together with all who ask the same, or made and kept.
//!
//! Errors, rounds of questions and answers, and what was said before a result are nobody's but the caller's, and are never
//! kept. Must not know where answers lie.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::ledger::{self, Way};
use super::messages::{Done, Listener, Notice, Perform, Task};
use super::rounds::{self, Round};
use super::{Bench, cancelled, fresh, linked, too_late};
use crate::cache::{Answer, Boarding, Cache, CallOff, Kept, Lead, Looked, Miss, Question};
use crate::catalog::Caching;
use crate::config::plugin::CacheScope;
use crate::error::Fault;

/// What the record of an answer says that was there.
const FOUND: &str = "answered from the cache";
/// … that came with another's call.
const JOINED: &str = "answered together with another call that asked the same at the same time";

/// Whether the answer may be there, or be kept: seldom, and known without looking.
pub(super) fn may_be_kept(perform: &Perform, round: &Round) -> bool {
    perform.task.caching().is_some_and(Caching::is_looked_for)
        // The answers of a client, and what only the server understands, are no part of what is looked for.
        && round.number == 0
        && round.answers.is_first()
        && perform.foreign.as_ref().is_none_or(|foreign| foreign.members().next().is_none())
}

/// One such call, to its record.
pub(super) async fn run(
    bench: &Bench,
    cache: &Cache,
    perform: Box<Perform>,
    round: &Round,
    began: Instant,
) -> Result<Done, Fault> {
    // Whoever waits may come to need the plugin.
    let seat = Arc::clone(perform.task.seat());
    let _called = seat.begin_call();
    let miss = match look(cache, &perform).await {
        Looked::Hit(kept) => return give(bench, &perform, round, began, &kept, FOUND).await,
        Looked::Miss(miss) => miss,
    };
    let wait = match cache.board(&miss) {
        Boarding::Waits(wait) => wait,
        Boarding::Leads(lead) => {
            return match cache.look_again(&miss) {
                Some(kept) => {
                    lead.land(Arc::clone(&kept));
                    give(bench, &perform, round, began, &kept, FOUND).await
                }
                None => self::lead(Asking { bench, cache, round, began, miss }, perform, lead).await,
            };
        }
    };
    let deadline = began + Duration::from_secs(perform.task.timeout_seconds());
    let landed = tokio::select! {
        biased;
        landed = wait.landed() => Ok(landed),
        () = tokio::time::sleep_until(deadline) => Err(too_late(&perform.task)),
        () = perform.cancel.cancelled() => Err(cancelled()),
    };
    match landed {
        Ok(Some(kept)) => {
            cache.note_joined(&seat.name);
            give(bench, &perform, round, began, &kept, JOINED).await
        }
        Ok(None) => alone(Asking { bench, cache, round, began, miss }, perform).await,
        Err(fault) => {
            let ended = Err(fault);
            ledger::conclude(bench, &perform, round, &ended, began.elapsed(), Way::Ran(None)).await?;
            ended
        }
    }
}

/// What one call asks, and with what.
struct Asking<'a> {
    bench: &'a Bench,
    cache: &'a Cache,
    round: &'a Round,
    began: Instant,
    miss: Miss,
}

async fn look(cache: &Cache, perform: &Perform) -> Looked {
    let (seat, request) = (perform.task.seat(), rounds::request_of(perform));
    let (digest, uri) = match &perform.task {
        Task::Tool { entry, .. } => (&*entry.digest, None),
        Task::Read { uri, .. } => ("", Some(uri.as_str())),
        Task::Prompt { .. } | Task::Complete { .. } => ("", None),
    };
    let question = Question {
        plugin: &seat.name,
        definition: &seat.definition,
        seat: seat.number,
        request: &[request.as_str(), digest],
        principal: &perform.caller.principal,
        uri,
        scope: perform.task.caching().and_then(Caching::scope),
    };
    cache.look(&question).await
}

/// Makes the call for all who ask the same. It goes on as long as one of them waits for it.
async fn lead(asking: Asking<'_>, mut perform: Box<Perform>, mut lead: Lead) -> Result<Done, Fault> {
    let own = std::mem::replace(&mut perform.cancel, lead.cancel());
    let said = overhear(&mut perform, Some(lead.calls_off()));
    let done = {
        let mut call = Box::pin(fresh(asking.bench, &perform, asking.round, asking.began));
        tokio::select! {
            biased;
            done = &mut call => done,
            () = own.cancelled() => {
                lead.leave();
                call.await
            }
        }
    };
    if let Some(kept) = keep(&asking, &perform, &done, &said) {
        lead.land(kept);
    }
    match done {
        // It was for others, and is recorded as what it was.
        Ok(_) if own.is_cancelled() => Err(cancelled()),
        done => done,
    }
}

/// Makes the call for this one alone, since another's brought nothing that it could have.
async fn alone(asking: Asking<'_>, mut perform: Box<Perform>) -> Result<Done, Fault> {
    let said = overhear(&mut perform, None);
    let done = fresh(asking.bench, &perform, asking.round, asking.began).await;
    let _kept = keep(&asking, &perform, &done, &said);
    done
}

/// Keeps what a call brought, if it is anything that others may have.
fn keep(
    asking: &Asking<'_>,
    perform: &Perform,
    done: &Result<Done, Fault>,
    said: &AtomicBool,
) -> Option<Arc<Kept>> {
    let done = done.as_ref().ok().filter(|done| done.outcome == "ok" && !said.load(Ordering::Acquire))?;
    let caching = perform.task.caching()?;
    let says = done.hints.map(|hints| hints.lasts);
    let public = match caching.scope() {
        Some(scope) => scope == CacheScope::Public,
        None => done.hints.is_some_and(|hints| hints.public),
    };
    let answer = Answer { result: &done.result, lasts: caching.lasts(says)?, says, public };
    asking.cache.keep(&asking.miss, &answer)
}

/// Gives an answer that was kept.
async fn give(
    bench: &Bench,
    perform: &Perform,
    round: &Round,
    began: Instant,
    kept: &Kept,
    how: &'static str,
) -> Result<Done, Fault> {
    let done = Done { result: kept.now(), outcome: "ok", asks: None, hints: None };
    // Another server may have kept it.
    linked::note(&bench.links, &perform.task, done.result.json());
    let done = Ok(done);
    ledger::conclude(bench, perform, round, &done, began.elapsed(), Way::Kept(how)).await?;
    done
}

/// Hears what the caller hears before the result.
struct Overheard {
    caller: Arc<dyn Listener>,
    said: Arc<AtomicBool>,
    /// Those who wait would miss it.
    flight: Option<CallOff>,
}

impl Listener for Overheard {
    fn hear(&self, notice: Notice) {
        if !matches!(notice, Notice::Quiet(_)) && !self.said.swap(true, Ordering::AcqRel) {
            self.flight.iter().for_each(CallOff::now);
        }
        self.caller.hear(notice);
    }
}

/// Has it known whether anything is said before the result.
fn overhear(perform: &mut Perform, flight: Option<CallOff>) -> Arc<AtomicBool> {
    let said = Arc::<AtomicBool>::default();
    if let Some(caller) = perform.notices.take() {
        perform.notices = Some(Arc::new(Overheard { caller, said: Arc::clone(&said), flight }));
    }
    said
}
