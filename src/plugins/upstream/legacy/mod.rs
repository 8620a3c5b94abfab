//! Servers that have sessions: MCP 2024-11-05 to 2025-11-25, spoken for a house that knows none.
//!
//! What such a server asks in the middle of a call is gathered, the call is parked, and the request that brings the
//! answers goes on with it. Nothing that may have had an effect is ever done twice by itself.
//!
//! Reading order: `words`, what is said; `session`, with `strays`, one session; `errand`, one call; `parking`, calls that
//! wait for their client; `pool`, sessions of one client each; `main_session`, the one of the plugin's life; here, what
//! becomes of a request. Must not know transports, nor how a plugin is restarted.

mod changes;
mod errand;
mod main_session;
mod parking;
mod pool;
mod session;
mod strays;
#[cfg(test)]
mod tests;
mod users;
mod words;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::compose;
use super::failures;
use super::handshake::initialize;
use super::ids::Ids;
use super::inventory::{Amiss, Kinds};
use super::link::LinkError;
use super::speaker::Speaker;
use super::ways::{Opened, Ways};
use crate::config::plugin::Isolation;
use crate::plugins::{Change, Context, Inventory, Outcome, PluginError, Request};
use crate::protocol::content::ToolResult;
use crate::protocol::legacy::asks::{URL_REQUIRED, is_accepted};
use crate::protocol::{Answers, ClientCapabilities, Raw, RpcError};
use changes::Changes;
use errand::{Errand, Step};
use main_session::MainSession;
use parking::{Gone, Parking};
use pool::{Key, Lease, Make, NoSession, Pool};
use session::{Parts, Session, Tally};
use users::Users;
use words::Call;

/// How long a call that was told to have URLs opened waits for the server's word that they were, before it is tried again.
const DONE_WITHIN: Duration = Duration::from_secs(5);
/// When a caller for whom there is no room is told to come back.
const COME_BACK: Duration = Duration::from_secs(5);

/// How sessions are to be kept, out of the plugin's file.
#[derive(Debug, Clone)]
pub struct Manner {
    /// The plugin, for the log.
    pub plugin: Arc<str>,
    /// Whom a session serves.
    pub isolation: Isolation,
    /// Whether the operator said so.
    pub isolation_spoken: bool,
    /// Sessions of single clients.
    pub sessions_max: usize,
    /// How long such a session may be idle.
    pub session_idle: Duration,
    /// How long a connection and its handshake may take.
    pub start_timeout: Duration,
    /// How long a client may take to answer.
    pub input_timeout: Duration,
}

/// What speaks to a server with sessions.
pub struct Legacy {
    manner: Manner,
    main: Arc<MainSession>,
    /// None when all clients share the main session.
    pool: Option<Arc<Pool>>,
    parking: Arc<Parking>,
    tally: Arc<Tally>,
    users: Users,
}

/// What a client carries from one round to the next, sealed.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Ticket {
    /// The call waits under this name.
    Parked(String),
    /// The call failed with -32042 and is made again: what was to be opened, each with the server's name for it.
    Again(Vec<(String, Option<String>)>),
}

impl Legacy {
    /// Speaks over a link whose handshake declared no capabilities; `ways` opens more of them.
    pub fn new(manner: Manner, opened: Opened, ways: Arc<dyn Ways>) -> Arc<Self> {
        let tally = Arc::new(Tally::default());
        let make = maker(&manner, ways);
        let is_shared = manner.isolation == Isolation::Shared;
        let main = MainSession::new(opened, is_shared, Arc::clone(&tally), Arc::clone(&make));
        let pool = (!is_shared).then(|| {
            Pool::new(pool_maker(&make, &tally, main.changes()), manner.sessions_max, manner.session_idle)
        });
        Arc::new(Self {
            main,
            pool,
            parking: Parking::new(manner.input_timeout),
            tally,
            users: Users::default(),
            manner,
        })
    }

    async fn carry_out(&self, request: Request, context: Context) -> Result<Outcome, PluginError> {
        if let Request::Subscribe { .. } = &request {
            return self.main.subscribe(&self.manner.plugin, &request, context.deadline()).await;
        }
        let answers = words::answers_of(&request).cloned().unwrap_or_default();
        match (answers.state::<Ticket>(), answers.state::<Value>()) {
            (Some(Ticket::Parked(ticket)), _) => self.resume(&ticket, &answers, &request, context).await,
            (Some(Ticket::Again(urls)), _) => self.again(&urls, &answers, &request, context).await,
            (None, Some(_)) => Err(gone(Gone::Unknown, self.parking.wait())),
            (None, None) => self.begin(&request, context, &[]).await,
        }
    }

    /// Makes the call. It is made a second time only when the server certainly did nothing the first time.
    async fn begin(
        &self,
        request: &Request,
        context: Context,
        opened: &[String],
    ) -> Result<Outcome, PluginError> {
        let mut again = true;
        loop {
            let (session, lease) = self.session_of(&context).await?;
            if !opened.is_empty() {
                let until = context.deadline().min(Instant::now() + DONE_WITHIN);
                session.all_done(opened, until).await;
            }
            session.hear_from(context.log_level(), context.deadline()).await;
            let call = Call::new(request, session.handshake().revision)
                .ok_or_else(|| PluginError::Failed("that is not a call".to_owned()))?;
            let mut errand = Errand::begin(Arc::clone(&session), lease, &call, &context);
            let step = errand.drive(Some(&context)).await;
            match &step {
                Step::Failed(error) => self.main.learn(error),
                Step::Done(Err(error)) if is_of_another_era(error) => self.main.doubt(),
                Step::Done(_) | Step::Asks => {}
            }
            let nothing_done = match &step {
                Step::Failed(LinkError::SessionLost) => true,
                Step::Failed(LinkError::Unreachable(_)) => self.pool.is_some() && session.is_over(),
                _ => false,
            };
            if nothing_done && !errand.was_heard() && std::mem::replace(&mut again, false) {
                continue;
            }
            return self.settle(errand, step, request, &context);
        }
    }

    /// Goes on with a parked call.
    async fn resume(
        &self,
        ticket: &str,
        answers: &Answers,
        request: &Request,
        context: Context,
    ) -> Result<Outcome, PluginError> {
        let claimed = self.parking.claim(ticket, &context).await;
        let mut errand = claimed.map_err(|why| gone(why, self.parking.wait()))?;
        errand.attach(&context);
        if !errand.has_come_to() {
            errand.answer(answers).await.map_err(|error| {
                // What the link says of it is for the operator, and may be the last word of a program that died.
                let plugin = &self.manner.plugin;
                log::warn!("plugin {plugin}: the server could not be told the answers to what it asked: {error}");
                PluginError::Upstream(format!(
                    "the server behind plugin {plugin} could not be told the answers. Whether the call had an effect is \
                     not known: see what it did, then call again without `requestState`"
                ))
            })?;
        }
        let step = errand.drive(Some(&context)).await;
        self.settle(errand, step, request, &context)
    }

    /// Makes a call again that had failed until URLs were opened.
    async fn again(
        &self,
        urls: &[(String, Option<String>)],
        answers: &Answers,
        request: &Request,
        context: Context,
    ) -> Result<Outcome, PluginError> {
        let mut given = urls.iter().filter_map(|(key, _)| answers.responses().get(key));
        if !answers.refusals().is_empty() || given.any(|answer| !is_accepted(answer)) {
            let says = "The page that this needs was not opened: the user declined. Nothing was done.";
            return match request {
                Request::Call { .. } => Ok(Outcome::Complete(ToolResult::failed(says).into_raw())),
                _ => Err(PluginError::InvalidParams(says.to_owned())),
            };
        }
        let opened: Vec<String> = urls.iter().filter_map(|(_, name)| name.clone()).collect();
        self.begin(request, context, &opened).await
    }

    /// What becomes of a call that came to something.
    fn settle(
        &self,
        errand: Errand,
        step: Step,
        request: &Request,
        context: &Context,
    ) -> Result<Outcome, PluginError> {
        let hint = |error: PluginError| if errand.was_refused() { with_hint(error) } else { error };
        match step {
            Step::Done(Ok(result)) => Ok(Outcome::Complete(words::result_of(result))),
            Step::Done(Err(error)) => match urls(&error, context) {
                Some(outcome) => outcome,
                None => Err(hint(failures::refused(&self.manner.plugin, request, &error))),
            },
            Step::Failed(error) => Err(hint(self.failed(&error))),
            Step::Asks => {
                let requests = errand.open_asks();
                let ticket = self.parking.park(errand, context).map_err(|why| PluginError::Full {
                    why: format!("{why}: answer those first, or wait until they are given up"),
                    returns: COME_BACK,
                })?;
                let state = serde_json::to_value(Ticket::Parked(ticket)).ok();
                Ok(Outcome::InputRequired { requests, state })
            }
        }
    }

    async fn session_of(&self, context: &Context) -> Result<(Arc<Session>, Option<Lease>), PluginError> {
        let key = Key::of(context);
        if let Some(pool) = &self.pool {
            let lease = pool.lease(&key, context.deadline()).await.map_err(|why| match why {
                NoSession::Link(error) => {
                    self.main.doubt();
                    self.failed(&error)
                }
                NoSession::Full(most) => PluginError::Full {
                    why: format!(
                        "all {most} sessions with the server behind plugin {} are in use: call again later, or have the \
                         operator raise sessions_max",
                        self.manner.plugin
                    ),
                    returns: COME_BACK,
                },
            })?;
            return Ok((Arc::clone(lease.session()), Some(lease)));
        }
        if self.users.note(context) && !self.manner.isolation_spoken {
            log::warn!(
                "plugin {} serves several clients over one session, since `isolation` is not set: {}",
                self.manner.plugin,
                users::ADVICE
            );
        }
        Ok((self.main.well().await.map_err(|error| self.failed(&error))?, None))
    }

    fn failed(&self, error: &LinkError) -> PluginError {
        failures::not_carried(&self.manner.plugin, error)
    }

    fn hints(&self) -> Vec<&'static str> {
        let mut hints = Vec::new();
        if self.tally.refused_shared.load(Ordering::Relaxed) > 0 {
            hints.push(HINT);
        }
        if self.users.are_several() && !self.manner.isolation_spoken {
            hints.push(users::ADVICE);
        }
        hints
    }
}

impl Speaker for Legacy {
    fn perform(
        self: Arc<Self>,
        request: Request,
        context: Context,
    ) -> BoxFuture<'static, Result<Outcome, PluginError>> {
        async move { self.carry_out(request, context).await }.boxed()
    }

    fn hears_refusals(&self) -> bool {
        true
    }

    fn list(
        self: Arc<Self>,
        kinds: Kinds,
        before: Inventory,
    ) -> BoxFuture<'static, Result<Inventory, LinkError>> {
        async move {
            let Manner { plugin, start_timeout, .. } = &self.manner;
            self.main.list(plugin, kinds, before, *start_timeout).await
        }
        .boxed()
    }

    fn amiss(&self) -> Option<Amiss> {
        self.main.lister().amiss()
    }

    fn attend(self: Arc<Self>, changes: mpsc::Sender<Change>) -> BoxFuture<'static, Result<(), LinkError>> {
        async move { self.main.attend(&changes).await }.boxed()
    }

    fn close(self: Arc<Self>) -> BoxFuture<'static, ()> {
        async move {
            self.parking.close().await;
            let pool = async {
                if let Some(pool) = &self.pool {
                    pool.close().await;
                }
            };
            futures_util::future::join(pool, self.main.close()).await;
        }
        .boxed()
    }

    fn revision(&self) -> &'static str {
        self.main.now().handshake().revision.name()
    }

    fn waiting(&self) -> usize {
        self.parking.count()
    }

    fn report(&self) -> Value {
        let main = self.main.now();
        json!({
            "isolation": match self.manner.isolation {
                Isolation::PerClient => "per_client",
                Isolation::Shared => "shared",
            },
            "main": main.report(0),
            "link": main.link().report(),
            "lists": self.main.lister().report(),
            "sessions": self.pool.as_ref().map(|pool| pool.report()),
            "parked": self.parking.count(),
            "refusedAsks": self.tally.refused.load(Ordering::Relaxed),
            "ignoredMessages": self.tally.ignored.load(Ordering::Relaxed),
            "hints": self.hints(),
        })
    }
}

/// What an operator can do about a server that asks on a session of several clients.
const HINT: &str = "the server asked for a client's input, but its session serves several clients: set \
                    `isolation = \"per_client\"` in the plugin's file";

/// What makes further sessions: for these capabilities; under the plugin's main name, or under one of their own.
type Maker = Arc<dyn Fn(ClientCapabilities) -> BoxFuture<'static, Result<Opened, LinkError>> + Send + Sync>;

fn maker(manner: &Manner, ways: Arc<dyn Ways>) -> Maker {
    let limit = manner.start_timeout;
    Arc::new(move |client| {
        let ways = Arc::clone(&ways);
        Box::pin(async move {
            let deadline = Instant::now() + limit;
            let late = |_elapsed| LinkError::Unreachable("it was not reached in time".to_owned());
            let link = tokio::time::timeout_at(deadline, ways.open()).await.map_err(late)??;
            let ids = Ids::default();
            let capabilities = Raw::trusted(compose::capabilities_of(&client).into_owned());
            match initialize(&*link, &capabilities, &ids, deadline).await {
                Ok(handshake) => Ok(Opened { link, handshake, ids }),
                Err(error) => {
                    link.close().await;
                    Err(LinkError::Unreachable(format!("no session could be begun with it: {error}")))
                }
            }
        })
    })
}

/// Sessions of one client each, numbered.
fn pool_maker(make: &Maker, tally: &Arc<Tally>, changes: &Arc<Changes>) -> Make {
    let (make, numbers) = (Arc::clone(make), Arc::new(AtomicU64::new(1)));
    let (tally, changes) = (Arc::clone(tally), Arc::clone(changes));
    Arc::new(move |client| {
        let (making, numbers) = (make(client), Arc::clone(&numbers));
        let (tally, changes) = (Arc::clone(&tally), Arc::clone(&changes));
        Box::pin(async move {
            let Opened { link, handshake, ids } = making.await?;
            let name = format!("session-{}", numbers.fetch_add(1, Ordering::Relaxed)).into();
            let parts = Parts { name, link, handshake, ids, shared: false, is_main: false, changes, tally };
            Ok(Session::begin(parts))
        })
    })
}

/// Whether an error is one that only servers of 2026-07-28 know.
fn is_of_another_era(error: &RpcError) -> bool {
    matches!(
        error.code,
        failures::UNSUPPORTED_VERSION | failures::HEADER_MISMATCH | failures::MISSING_CAPABILITY
    )
}

/// The asks of a call that failed until URLs are opened; none when it failed for another reason.
fn urls(error: &RpcError, context: &Context) -> Option<Result<Outcome, PluginError>> {
    let wanted = if error.code == i64::from(URL_REQUIRED) { words::urls_of(&error.data) } else { Vec::new() };
    let missing = wanted.iter().find_map(|(request, _)| context.client().missing_for(request));
    if let Some(missing) = missing {
        return Some(Err(PluginError::MissingCapability(missing)));
    }
    let keys = (1..).map(|number| format!("url-{number}"));
    let (requests, names): (Vec<_>, Vec<_>) =
        keys.zip(wanted).map(|(key, (request, name))| ((key.clone(), request), (key, name))).unzip();
    let state = serde_json::to_value(Ticket::Again(names)).ok();
    (!requests.is_empty()).then_some(Ok(Outcome::InputRequired { requests, state }))
}

/// Why a parked call cannot go on, and what to do.
fn gone(why: Gone, waited: Duration) -> PluginError {
    let says = match why {
        Gone::Answered => "this call was already answered: each `requestState` can be used once".to_owned(),
        Gone::Expired => format!(
            "the call did not wait longer than {} s for this answer, and was given up",
            waited.as_secs()
        ),
        Gone::Unknown => {
            "the call that asked for this is not there any more: the server behind was restarted, or \
                          the call was another client's"
                .to_owned()
        }
    };
    PluginError::InvalidParams(format!(
        "{says}. It was not run again, since it may have had an effect: see what it did, then call again without \
         `requestState` and `inputResponses`"
    ))
}

fn with_hint(error: PluginError) -> PluginError {
    match error {
        PluginError::InvalidParams(says) => PluginError::InvalidParams(format!("{says} ({HINT})")),
        PluginError::Away { why, returns } => PluginError::Away { why: format!("{why} ({HINT})"), returns },
        PluginError::Upstream(says) => PluginError::Upstream(format!("{says} ({HINT})")),
        other => other,
    }
}
