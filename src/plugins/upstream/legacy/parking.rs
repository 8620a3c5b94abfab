//! Calls whose server waits for its client: kept until the client comes back with the answers, or for too long.
//!
//! A parked call is found again once only, by its own caller, in its own conversation. Must not know what was asked.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::errand::{Errand, Step};
use crate::plugins::{CallerKey, Context, ConversationKey};

/// Parked calls of one plugin.
const PARKED_MAX: usize = 1024;
/// Parked calls of one caller, who shall not take the places of all others.
const PARKED_OF_CALLER_MAX: usize = 64;
/// Calls that are not parked any more, of which it is remembered why.
const SPENT_MAX: usize = 4096;
/// How long parked calls may take to be given up at the end.
const CLOSE_WITHIN: Duration = Duration::from_secs(3);

/// Why a parked call is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gone {
    /// It was found by an earlier retry.
    Answered,
    /// Nobody came in time, or will come.
    Expired,
    /// It is of an earlier life of the plugin, or of somebody else.
    Unknown,
}

/// The table of parked calls.
pub struct Parking {
    /// Tells tickets of this life from those of others.
    life: String,
    wait: Duration,
    closing: CancellationToken,
    keepers: TaskTracker,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    last: u64,
    parked: HashMap<u64, Parked>,
    spent: VecDeque<(u64, Gone)>,
}

struct Parked {
    caller: CallerKey,
    conversation: Option<ConversationKey>,
    /// Where whoever comes for it says where it shall go.
    claim: oneshot::Sender<oneshot::Sender<Errand>>,
}

impl Parking {
    /// A place where calls wait for so long.
    pub fn new(wait: Duration) -> Arc<Self> {
        Arc::new(Self {
            life: uuid::Uuid::now_v7().simple().to_string(),
            wait,
            closing: CancellationToken::new(),
            keepers: TaskTracker::new(),
            table: Mutex::default(),
        })
    }

    /// How long a call waits.
    pub fn wait(&self) -> Duration {
        self.wait
    }

    /// How many wait.
    pub fn count(&self) -> usize {
        self.lock().parked.len()
    }

    /// Parks a call: the ticket under which it is found again.
    ///
    /// # Errors
    /// Of what there are too many; the call is given up then.
    pub fn park(self: &Arc<Self>, mut errand: Errand, context: &Context) -> Result<String, String> {
        let (claim, claimed) = oneshot::channel();
        let number = {
            let mut table = self.lock();
            let of_caller = table.parked.values().filter(|parked| parked.caller == context.caller()).count();
            if of_caller >= PARKED_OF_CALLER_MAX {
                return Err(format!("{of_caller} calls of yours wait for answers, which is the most"));
            }
            if table.parked.len() >= PARKED_MAX {
                return Err(format!("{PARKED_MAX} calls wait for their clients' answers, which is the most"));
            }
            if self.closing.is_cancelled() {
                return Err("the gateway ends its sessions with this server".to_owned());
            }
            table.last = table.last.saturating_add(1);
            let number = table.last;
            let (caller, conversation) = (context.caller(), context.conversation());
            table.parked.insert(number, Parked { caller, conversation, claim });
            number
        };
        errand.detach();
        // Whoever calls in a session is one wait from the first round to the last; all others hang up between two rounds.
        let left = context.conversation().map(|_| context.cancel().clone()).unwrap_or_default();
        let runtime = errand.session().runtime().clone();
        self.keepers.spawn_on(keep(Arc::clone(self), number, errand, claimed, left), &runtime);
        Ok(format!("{}-{number}", self.life))
    }

    /// Finds a parked call again.
    ///
    /// # Errors
    /// Why it is not there.
    pub async fn claim(&self, ticket: &str, context: &Context) -> Result<Errand, Gone> {
        let (life, number) = ticket.split_once('-').ok_or(Gone::Unknown)?;
        let number: u64 = number.parse().ok().filter(|_| life == self.life).ok_or(Gone::Unknown)?;
        let parked = {
            let mut table = self.lock();
            let Some(parked) = table.parked.get(&number) else {
                let spent = table.spent.iter().find(|(spent, _)| *spent == number);
                return Err(spent.map_or(Gone::Unknown, |(_, why)| *why));
            };
            if parked.caller != context.caller() || parked.conversation != context.conversation() {
                return Err(Gone::Unknown);
            }
            table.spend(number, Gone::Answered)
        };
        let (give, given) = oneshot::channel();
        parked.and_then(|parked| parked.claim.send(give).ok()).ok_or(Gone::Unknown)?;
        given.await.map_err(|_keeper_ended| Gone::Unknown)
    }

    /// Gives up all that wait.
    pub async fn close(&self) {
        self.closing.cancel();
        self.keepers.close();
        if timeout(CLOSE_WITHIN, self.keepers.wait()).await.is_err() {
            log::warn!("{} parked calls were not given up in time", self.keepers.len());
        }
    }

    fn spend(&self, number: u64, why: Gone) -> Option<Parked> {
        self.lock().spend(number, why)
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn spend(&mut self, number: u64, why: Gone) -> Option<Parked> {
        let parked = self.parked.remove(&number)?;
        if self.spent.len() >= SPENT_MAX {
            self.spent.pop_front();
        }
        self.spent.push_back((number, why));
        Some(parked)
    }
}

/// Goes on reading a parked call, so that its session is not held up, until somebody comes for it or time is up.
async fn keep(
    parking: Arc<Parking>,
    number: u64,
    mut errand: Errand,
    mut claimed: oneshot::Receiver<oneshot::Sender<Errand>>,
    left: CancellationToken,
) {
    let expiry = Instant::now() + parking.wait;
    let why = loop {
        tokio::select! {
            biased;
            claim = &mut claimed => {
                if let Ok(give) = claim {
                    // Whoever came may have left again: then the call is dropped here, and thereby given up.
                    drop(give.send(errand));
                }
                return;
            }
            () = parking.closing.cancelled() => break "the gateway ends its session with this server",
            () = left.cancelled() => break "the client does not wait for the answer any more",
            () = sleep_until(expiry) => break "the client did not answer in time",
            step = errand.drive(None), if !errand.has_come_to() => match step {
                // Further asks wait for the next round.
                Step::Asks => {}
                step => errand.keep(step),
            },
        }
    };
    if parking.spend(number, Gone::Expired).is_some() {
        errand.give_up(why).await;
    } else if let Ok(give) = claimed.await {
        drop(give.send(errand));
    }
}
