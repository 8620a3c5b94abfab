//! Which era a server is of: it is asked in the words of 2026-07-28 first, and else shaken hands with.
//!
//! MCP 2026-07-28, basic/versioning and server/discover. Must not know what is done with a server afterwards.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::Value;
use tokio::time::Instant;

use super::compose::{self, Era, Wishes};
use super::exchange::{self, ProbeError};
use super::failures::{HEADER_MISMATCH, MISSING_CAPABILITY, UNSUPPORTED_VERSION};
use super::handshake::initialize;
use super::ids::Ids;
use super::link::{Link, LinkError, Outgoing};
use super::ways::{Opened, Ways};
use crate::protocol::{MODERN, Object, Raw, RpcError};

/// A server of before 2026-07-28 may never answer a question that it does not know.
const DISCOVER_WITHIN: Duration = Duration::from_secs(5);
/// The question.
const DISCOVER: &str = "server/discover";

/// What a server of 2026-07-28 says of itself.
#[derive(Debug, Clone)]
pub struct Discovered {
    /// What it can do, an object.
    pub capabilities: Raw,
    /// What it calls itself, an object.
    pub server_info: Raw,
    /// What a model should know to use it.
    pub instructions: Option<String>,
}

/// What a probe found.
pub enum Found {
    /// A server of 2026-07-28.
    Modern {
        /// The way to it.
        link: Arc<dyn Link>,
        /// The link's numbers, as far as they are used up.
        ids: Ids,
        /// What it says.
        discovered: Discovered,
    },
    /// A server with sessions.
    Legacy(Opened),
    /// A server with sessions that said nothing to the question for its era: it may only have been slow.
    Silent(Opened),
}

/// The two eras.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Stateless.
    Modern,
    /// With sessions.
    Legacy,
}

impl Kind {
    /// Its word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Modern => "modern",
            Self::Legacy => "legacy",
        }
    }
}

/// A question on its way.
type Asking = BoxFuture<'static, Result<Raw, ProbeError>>;

/// What a question for the era came to.
enum Verdict {
    Modern(Discovered),
    /// It said nothing yet, which one of before 2026-07-28 may never do, and one that still starts does later.
    Silent(Asking),
    /// It should be shaken hands with; over a fresh link, when this one is gone.
    Legacy {
        fresh: bool,
        why: ProbeError,
    },
}

/// Opens a way and finds out what the server speaks. What it spoke the last time is tried first.
///
/// # Errors
/// When it cannot be reached, or speaks nothing that Waygate speaks, or says nothing until `deadline`.
pub async fn probe(ways: &dyn Ways, known: Option<Kind>, deadline: Instant) -> Result<Found, ProbeError> {
    let mut link = open(ways, deadline).await?;
    let mut ids = Ids::default();
    if known == Some(Kind::Legacy) {
        match initialize(&*link, &Raw::empty_object(), &ids, deadline).await {
            Ok(handshake) => return Ok(Found::Legacy(Opened { link, handshake, ids })),
            Err(error) => log::debug!("a server does not speak what it spoke before: {error}"),
        }
        close(&link, deadline).await;
        (link, ids) = (open(ways, deadline).await?, Ids::default());
    }
    let verdict = match discover(&link, &ids, deadline).await {
        Ok(verdict) => verdict,
        Err(error) => {
            close(&link, deadline).await;
            return Err(error);
        }
    };
    match verdict {
        Verdict::Modern(discovered) => Ok(Found::Modern { link, ids, discovered }),
        Verdict::Silent(asking) => hear_out(ways, link, ids, asking, deadline).await,
        Verdict::Legacy { fresh, why } => {
            let shaken = shake(ways, link, ids, fresh, deadline).await;
            shaken.map(Found::Legacy).map_err(|error| speaks_nothing(&why, error))
        }
    }
}

/// Both refusals matter to whoever must find out what is amiss.
fn speaks_nothing(why: &ProbeError, error: ProbeError) -> ProbeError {
    match error {
        error @ ProbeError::Link(LinkError::Unreachable(_) | LinkError::Misconfigured(_)) => error,
        error => ProbeError::Nonsense(format!(
            "it speaks no revision that Waygate speaks (to server/discover: {why}; to initialize: {error})"
        )),
    }
}

/// Shakes hands with a server that said nothing yet, and takes its answer to the first question, should that come first.
async fn hear_out(
    ways: &dyn Ways,
    link: Arc<dyn Link>,
    ids: Ids,
    mut asking: Asking,
    deadline: Instant,
) -> Result<Found, ProbeError> {
    let (by_hand, mut open) = (Arc::clone(&link), true);
    let shaken = {
        let empty = Raw::empty_object();
        let mut shaking = std::pin::pin!(initialize(&*by_hand, &empty, &ids, deadline));
        loop {
            tokio::select! {
                biased;
                answer = &mut asking, if open => match answer.and_then(|result| read(&result)) {
                    Ok(discovered) => break Ok(Err(discovered)),
                    Err(_) => open = false,
                },
                shaken = &mut shaking => break shaken.map(Ok),
            }
        }
    };
    let error = match shaken {
        Ok(Ok(handshake)) => return Ok(Found::Silent(Opened { link, handshake, ids })),
        Ok(Err(discovered)) => return Ok(Found::Modern { link, ids, discovered }),
        Err(error) => error,
    };
    // It is awake and knows no handshake, so that the answer to the first question is on its way, or was never to come.
    if open && matches!(error, ProbeError::Refused(_)) {
        let until = deadline.min(Instant::now() + DISCOVER_WITHIN);
        let answer = exchange::within(until, DISCOVER, asking).await.and_then(|answer| answer);
        if let Ok(discovered) = answer.and_then(|result| read(&result)) {
            return Ok(Found::Modern { link, ids, discovered });
        }
    }
    let shaken = settle(ways, link, error, deadline).await;
    shaken.map(Found::Silent).map_err(|error| speaks_nothing(&ProbeError::Late(DISCOVER), error))
}

async fn open(ways: &dyn Ways, deadline: Instant) -> Result<Arc<dyn Link>, ProbeError> {
    Ok(exchange::within(deadline, "the connection", ways.open()).await??)
}

async fn close(link: &Arc<dyn Link>, deadline: Instant) {
    drop(exchange::within(deadline, "the end", link.close()).await);
}

/// Shakes hands; once more over a fresh link, when the question before killed the server.
async fn shake(
    ways: &dyn Ways,
    link: Arc<dyn Link>,
    ids: Ids,
    fresh: bool,
    deadline: Instant,
) -> Result<Opened, ProbeError> {
    if fresh {
        close(&link, deadline).await;
        return shake_over(open(ways, deadline).await?, deadline).await;
    }
    match initialize(&*link, &Raw::empty_object(), &ids, deadline).await {
        Ok(handshake) => Ok(Opened { link, handshake, ids }),
        Err(error) => settle(ways, link, error, deadline).await,
    }
}

/// What there is to try after a handshake that failed with `error`: a fresh link, or an older way.
async fn settle(
    ways: &dyn Ways,
    link: Arc<dyn Link>,
    error: ProbeError,
    deadline: Instant,
) -> Result<Opened, ProbeError> {
    close(&link, deadline).await;
    let is_gone = matches!(
        error,
        ProbeError::Link(
            LinkError::Broken(_) | LinkError::Unreachable(_) | LinkError::SessionLost | LinkError::Garbage(_)
        )
    );
    if is_gone {
        return shake_over(open(ways, deadline).await?, deadline).await;
    }
    // Asked for only when it is wanted, since from then on it is the way.
    match is_elsewhere(&error).then(|| ways.fall_back()).flatten() {
        Some(older) => {
            shake_over(exchange::within(deadline, "the connection", older).await??, deadline).await
        }
        None => Err(error),
    }
}

/// Whether an error says that nobody listens to POST there: what HTTP+SSE servers answer.
fn is_elsewhere(error: &ProbeError) -> bool {
    matches!(error, ProbeError::Link(LinkError::Status { status: 400 | 404 | 405 | 501, .. }))
}

/// Shakes hands over a link on which nothing was said yet.
async fn shake_over(link: Arc<dyn Link>, deadline: Instant) -> Result<Opened, ProbeError> {
    let ids = Ids::default();
    match initialize(&*link, &Raw::empty_object(), &ids, deadline).await {
        Ok(handshake) => Ok(Opened { link, handshake, ids }),
        Err(error) => {
            close(&link, deadline).await;
            Err(error)
        }
    }
}

/// Asks a server that was found to be of 2026-07-28 whether it still is. Silence and trouble are no answer.
pub async fn is_still_modern(link: &Arc<dyn Link>, ids: &Ids, deadline: Instant) -> bool {
    let Ok(Verdict::Legacy { why, .. }) = discover(link, ids, deadline).await else { return true };
    !matches!(
        why,
        ProbeError::Refused(_)
            | ProbeError::Nonsense(_)
            | ProbeError::Link(LinkError::SessionLost | LinkError::Status { status: 400..=499, .. })
    )
}

/// Asks in the words of 2026-07-28; once more, should the server refuse the revision and name it in one breath.
async fn discover(link: &Arc<dyn Link>, ids: &Ids, deadline: Instant) -> Result<Verdict, ProbeError> {
    match ask(link, ids, deadline).await? {
        Verdict::Legacy { why: ProbeError::Refused(error), .. } if speaks_modern(&error) => {
            ask(link, ids, deadline).await
        }
        verdict => Ok(verdict),
    }
}

/// Whether a refusal of the revision names 2026-07-28 among those that the server speaks.
pub fn speaks_modern(error: &RpcError) -> bool {
    let supported = error.data.get("supported").and_then(Value::as_array);
    error.code == UNSUPPORTED_VERSION && supported.is_some_and(|all| all.iter().any(|one| one == MODERN))
}

async fn ask(link: &Arc<dyn Link>, ids: &Ids, deadline: Instant) -> Result<Verdict, ProbeError> {
    let (id, method) = (ids.next(), DISCOVER);
    let body = compose::request(id, method, Era::Modern("{}"), &Wishes::default(), &[]);
    let asked = Outgoing { id, body, method, name: None, params: Vec::new(), version: Some(MODERN) };
    let until = deadline.min(Instant::now() + DISCOVER_WITHIN);
    let legacy = |fresh: bool, why: ProbeError| Ok(Verdict::Legacy { fresh, why });
    let over = Arc::clone(link);
    let mut asking: Asking = Box::pin(async move { exchange::ask(&*over, asked, deadline).await });
    let Ok(answered) = exchange::within(until, method, &mut asking).await else {
        return Ok(Verdict::Silent(asking));
    };
    match answered {
        // Its whole time is over: there is nothing left to be heard.
        Err(error @ ProbeError::Late(_)) => Err(error),
        Ok(result) => match read(&result) {
            Ok(discovered) => Ok(Verdict::Modern(discovered)),
            Err(why) => legacy(false, why),
        },
        // A server that knows these codes is of 2026-07-28; there is nothing that the question could say better.
        Err(ProbeError::Refused(error)) if matches!(error.code, HEADER_MISMATCH | MISSING_CAPABILITY) => {
            Err(ProbeError::Refused(error))
        }
        Err(error @ ProbeError::Link(LinkError::Unreachable(_) | LinkError::TooLarge(_))) => Err(error),
        // Waygate's credentials are not taken, or there is no room: the other question would be answered the same.
        Err(error @ ProbeError::Link(LinkError::Status { status: 401 | 403 | 429 | 503, .. })) => Err(error),
        Err(error @ ProbeError::Link(LinkError::Broken(_) | LinkError::Garbage(_))) => legacy(true, error),
        Err(error) => legacy(false, error),
    }
}

fn read(result: &Raw) -> Result<Discovered, ProbeError> {
    let nonsense = |why: &str| ProbeError::Nonsense(format!("its answer to server/discover {why}"));
    let result = Object::open(result).map_err(|_| nonsense("is no object"))?;
    let versions: Option<Vec<String>> = result.get("supportedVersions").and_then(|list| list.read().ok());
    let versions = versions.ok_or_else(|| nonsense("has no list supportedVersions"))?;
    if !versions.iter().any(|version| version == MODERN) {
        let some: Vec<&str> = versions.iter().take(8).map(String::as_str).collect();
        return Err(nonsense(&format!("names other revisions: {}", exchange::shortened(&some.join(", ")))));
    }
    let object =
        |raw: Option<&Raw>| raw.filter(|raw| raw.is_object()).map_or_else(Raw::empty_object, Raw::detached);
    let meta = result.get("_meta").and_then(|meta| Object::open(meta).ok()).unwrap_or_default();
    Ok(Discovered {
        capabilities: object(result.get("capabilities")),
        server_info: object(meta.get("io.modelcontextprotocol/serverInfo")),
        instructions: result.text("instructions").filter(|text| !text.trim().is_empty()),
    })
}
