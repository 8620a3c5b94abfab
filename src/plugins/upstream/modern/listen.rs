//! What a server of 2026-07-28 tells of its own accord: one `subscriptions/listen` for all that is watched.
//!
//! Where it breaks it is taken up again, and what may have been missed is told as if everything had changed. A server
//! that does not serve it tells nothing, and is fine. Must not know who watches.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use serde_json::{Value, json};
use tokio::sync::mpsc::Sender;
use tokio::time::{Instant, sleep_until};

use super::call::Cancel;
use super::{Modern, Noted};
use crate::plugins::Change;
use crate::plugins::upstream::compose::{self, Era, Wishes};
use crate::plugins::upstream::exchange::{METHOD_NOT_FOUND, ProbeError, is_mine, within};
use crate::plugins::upstream::link::{Flow, LinkError, Outgoing};
use crate::plugins::upstream::probe;
use crate::protocol::{Incoming, MODERN, Object, Raw};

const METHOD: &str = "subscriptions/listen";
/// How long a server may take to acknowledge.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(10);
/// The first pause before it is tried again; each further one is twice as long.
const PAUSE_LEAST: Duration = Duration::from_millis(250);
/// The longest pause.
const PAUSE_MOST: Duration = Duration::from_secs(30);
/// Between two questions whether a server still speaks what it spoke.
const DOUBT_PAUSE: Duration = Duration::from_secs(5);
/// How long such a question may take.
const DOUBT_WITHIN: Duration = Duration::from_secs(15);

/// The lists that a server tells of.
#[derive(Debug, Clone, Copy, Default)]
struct Lists {
    tools: bool,
    prompts: bool,
    resources: bool,
    subscribe: bool,
}

impl Lists {
    fn of(capabilities: &Raw) -> Self {
        let all = Object::open(capabilities).unwrap_or_default();
        let says = |capability: &str, member: &str| {
            let inner = all.get(capability).and_then(|raw| Object::open(raw).ok());
            inner.is_some_and(|inner| inner.get(member).is_some_and(|raw| raw.as_str() == "true"))
        };
        Self {
            tools: says("tools", "listChanged"),
            prompts: says("prompts", "listChanged"),
            resources: says("resources", "listChanged"),
            subscribe: says("resources", "subscribe"),
        }
    }

    fn filter(self, watched: &BTreeSet<String>) -> Option<String> {
        let mut filter = serde_json::Map::new();
        let kinds = [
            ("toolsListChanged", self.tools),
            ("promptsListChanged", self.prompts),
            ("resourcesListChanged", self.resources),
        ];
        kinds
            .iter()
            .filter(|(_, has)| *has)
            .for_each(|(key, _)| drop(filter.insert((*key).to_owned(), true.into())));
        if self.subscribe && !watched.is_empty() {
            filter.insert("resourceSubscriptions".to_owned(), json!(watched));
        }
        (!filter.is_empty()).then(|| Value::Object(filter).to_string())
    }
}

/// One listen that was acknowledged.
struct Ear {
    id: u64,
    flow: Flow,
    uris: BTreeSet<String>,
    /// Which of them the server took note of.
    taken: BTreeSet<String>,
    _cancel: Cancel,
}

/// Why there is no ear.
enum Deaf {
    /// The server does not serve this.
    ForGood(String),
    /// It may, later.
    ForNow(String),
}

/// Listens until the link ends.
pub(super) async fn attend(modern: Arc<Modern>, changes: Sender<Change>) -> Result<(), LinkError> {
    let mut hearing = Hearing {
        lists: Lists::of(&modern.discovered.capabilities),
        ear: None,
        since: Instant::now(),
        pause: PAUSE_LEAST,
        retry: Some(Instant::now()),
        gap: false,
        modern: &modern,
        changes: &changes,
    };
    let mut watched = modern.watched.subscribe();
    let mut strays = modern.link.strays();
    let mut strays_end = false;
    let mut asked = Instant::now();
    loop {
        let due = hearing.due();
        tokio::select! {
            stray = strays.next(), if !strays_end => match stray {
                Some(Ok(message)) => hearing.hear(message).await,
                Some(Err(error)) => return Err(error),
                // A pipe ends with its process; over HTTP there is nothing that could end.
                None if modern.link.cancels_by_closing() => strays_end = true,
                None => return Ok(()),
            },
            message = hearing.next() => hearing.heard(message).await,
            () = due => hearing.open().await,
            changed = watched.changed() => {
                if changed.is_ok() {
                    watched.mark_unchanged();
                    hearing.retry = Some(Instant::now());
                }
            }
            // What a call found out is published, too.
            () = modern.tools_differ.notified() => drop(changes.send(Change::Tools).await),
            // A doubt that comes too soon after the last is not gone into: if there is reason for it, more will come.
            () = modern.doubt.notified() => if Instant::now() >= asked {
                asked = Instant::now() + DOUBT_PAUSE;
                if !probe::is_still_modern(&modern.link, &modern.ids, Instant::now() + DOUBT_WITHIN).await {
                    return Err(LinkError::Broken(
                        "the server does not speak 2026-07-28 any more; it is asked anew what it speaks".to_owned(),
                    ));
                }
            }
        }
    }
}

/// The state of listening.
struct Hearing<'a> {
    lists: Lists,
    ear: Option<Ear>,
    /// Since when there is an ear without a break.
    since: Instant,
    pause: Duration,
    /// When a new listen is due, if one is.
    retry: Option<Instant>,
    /// Whether something may have been missed.
    gap: bool,
    modern: &'a Modern,
    changes: &'a Sender<Change>,
}

impl Hearing<'_> {
    /// The next message of the ear; never, when there is none.
    async fn next(&mut self) -> Option<Result<Incoming, LinkError>> {
        match &mut self.ear {
            Some(ear) => ear.flow.next().await,
            None => std::future::pending().await,
        }
    }

    /// When a new listen is due; never, when none is.
    fn due(&self) -> impl Future<Output = ()> + use<> {
        let at = self.retry;
        async move {
            match at {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        }
    }

    /// Takes in what the ear brought: a message, or its end.
    async fn heard(&mut self, message: Option<Result<Incoming, LinkError>>) {
        match message {
            Some(Ok(Incoming::Response { id, outcome })) => {
                let own = self.ear.as_ref().map_or(0, |ear| ear.id);
                if is_mine(id.as_ref(), own, &outcome) {
                    self.lost();
                }
            }
            Some(Ok(message)) => self.hear(message).await,
            Some(Err(_)) | None => self.lost(),
        }
    }

    /// The ear is gone: a new one is tried after a pause.
    fn lost(&mut self) {
        if self.ear.take().is_some() && self.since.elapsed() > PAUSE_MOST {
            // Only one that lasted shows that the server serves this well.
            self.pause = PAUSE_LEAST;
        }
        self.gap = true;
        self.later();
    }

    fn later(&mut self) {
        self.retry = Some(Instant::now() + jittered(self.pause));
        self.pause = (self.pause * 2).min(PAUSE_MOST);
    }

    /// Opens a listen for all that is watched now, and closes the one before once it is acknowledged.
    async fn open(&mut self) {
        self.retry = None;
        let wished = self.modern.watched.borrow().clone();
        let Some(filter) = self.lists.filter(&wished) else {
            self.ear = None;
            self.note(wished, BTreeSet::new());
            return;
        };
        if self.ear.as_ref().is_some_and(|ear| ear.uris == wished) {
            return;
        }
        match self.listen(&filter, wished.clone()).await {
            Ok(ear) => {
                let taken = ear.taken.clone();
                match self.ear.replace(ear) {
                    // What it said before its end is not lost.
                    Some(mut old) => {
                        while let Some(Some(Ok(message))) = old.flow.next().now_or_never() {
                            self.hear(message).await;
                        }
                    }
                    None => self.since = Instant::now(),
                }
                self.note(wished, taken);
                if std::mem::take(&mut self.gap) {
                    self.tell_all().await;
                }
            }
            Err(Deaf::ForGood(why)) => {
                log::info!("the server behind plugin {} tells of no changes: {why}", self.modern.plugin);
                self.note(wished, BTreeSet::new());
            }
            Err(Deaf::ForNow(why)) => {
                log::debug!("listening to the server behind plugin {} failed: {why}", self.modern.plugin);
                self.gap = true;
                self.later();
            }
        }
    }

    /// Tells whoever waits for it what the server was asked to note, and what of it it took note of.
    fn note(&self, asked: BTreeSet<String>, taken: BTreeSet<String>) {
        self.modern.noted.send_replace(Some(Noted { asked, taken }));
    }

    async fn listen(&mut self, filter: &str, uris: BTreeSet<String>) -> Result<Ear, Deaf> {
        let modern = self.modern;
        let id = modern.ids.next();
        let body =
            compose::request(id, METHOD, Era::Modern("{}"), &Wishes::default(), &[("notifications", filter)]);
        let asked =
            Outgoing { id, body, method: METHOD, name: None, params: Vec::new(), version: Some(MODERN) };
        let cancel = Cancel::new(&modern.link, id);
        let until = Instant::now() + ACKNOWLEDGED_WITHIN;
        let opened = async {
            let mut flow = modern.link.ask(asked).await?;
            let taken = acknowledged(&mut flow, id, &uris).await?;
            Ok::<_, ProbeError>((flow, taken))
        };
        match within(until, METHOD, opened).await.and_then(|opened| opened) {
            Ok((flow, taken)) => Ok(Ear { id, flow, uris, taken, _cancel: cancel }),
            Err(ProbeError::Refused(error)) if error.code == METHOD_NOT_FOUND => {
                Err(Deaf::ForGood(ProbeError::Refused(error).to_string()))
            }
            Err(error @ ProbeError::Link(LinkError::Status { status: 404 | 405, .. })) => {
                // It may be another server by now, or one that simply has no such method.
                modern.doubt.notify_one();
                Err(Deaf::ForGood(error.to_string()))
            }
            Err(error) => Err(Deaf::ForNow(error.to_string())),
        }
    }

    /// Passes a notification on.
    async fn hear(&mut self, message: Incoming) {
        let Incoming::Notification { method, params } = message else { return };
        let change = match method.as_str() {
            "notifications/tools/list_changed" => Change::Tools,
            "notifications/prompts/list_changed" => Change::Prompts,
            "notifications/resources/list_changed" => Change::Resources,
            "notifications/resources/updated" => {
                let uri = params.and_then(|params| Object::open(&params).ok()?.text("uri"));
                let Some(uri) = uri else { return };
                Change::Updated(uri)
            }
            _ => return,
        };
        // Closed only when the life is over.
        drop(self.changes.send(change).await);
    }

    /// Tells everything as changed, since something may have been missed.
    async fn tell_all(&mut self) {
        let watched = self.modern.watched.borrow().clone();
        let updated = watched.into_iter().map(Change::Updated);
        for change in [Change::Tools, Change::Prompts, Change::Resources].into_iter().chain(updated) {
            drop(self.changes.send(change).await);
        }
    }
}

/// Waits for the acknowledgement, before which nothing may come. Which of `uris` the server took note of.
async fn acknowledged(
    flow: &mut Flow,
    own: u64,
    uris: &BTreeSet<String>,
) -> Result<BTreeSet<String>, ProbeError> {
    while let Some(message) = flow.next().await {
        match message? {
            Incoming::Notification { method, params }
                if method == "notifications/subscriptions/acknowledged" =>
            {
                return Ok(taken(params.as_ref(), uris));
            }
            Incoming::Response { id, outcome } if is_mine(id.as_ref(), own, &outcome) => {
                outcome.map_err(ProbeError::Refused)?;
                return Err(ProbeError::Nonsense("it ended the subscription at once".to_owned()));
            }
            _ => {}
        }
    }
    Err(LinkError::Broken("it ended the subscription before it acknowledged it".to_owned()).into())
}

/// Which of `uris` an acknowledgement names; all of them, where it does not say what it is of.
fn taken(params: Option<&Raw>, uris: &BTreeSet<String>) -> BTreeSet<String> {
    let filter = params.and_then(|params| Object::open(params).ok());
    let filter = filter.as_ref().and_then(|params| params.get("notifications"));
    let Some(filter) = filter.and_then(|filter| Object::open(filter).ok()) else { return uris.clone() };
    let named: Option<BTreeSet<String>> =
        filter.get("resourceSubscriptions").and_then(|list| list.read().ok());
    named.unwrap_or_default().intersection(uris).cloned().collect()
}

/// Between half a pause and all of it, so that many who lost one server do not come back at once.
fn jittered(pause: Duration) -> Duration {
    let mut byte = [0_u8];
    let part =
        if getrandom::fill(&mut byte).is_ok() { u32::from(byte.first().copied().unwrap_or(0)) } else { 0 };
    pause / 2 + pause / 2 * part / 256
}
