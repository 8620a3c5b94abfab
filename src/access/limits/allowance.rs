//! A budget that has an owner: a key, a tool, a bundle, an address, or the server itself; and what is said when it is spent.
//!
//! Must not know requests.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use super::budget::{Budget, Limit, Pace, Running, Spent};
use super::clock::Steady;
use crate::config::Quota;
use crate::error::{ErrorCode, Fault};

/// The member of an error's `data` that says which limit was reached.
pub const LIMIT: &str = "limit";
/// The member that says what kind of owner it has.
pub const OF: &str = "of";
/// The member that says who that is.
pub const WHOSE: &str = "whose";
/// The member that says how much it is.
pub const QUOTA: &str = "quota";

/// What kind of owner a budget has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// All who call.
    Server,
    /// Whoever comes from one address without a key.
    Address,
    /// One key.
    Key,
    /// All who use one bundle.
    Bundle,
    /// All who call one tool.
    Tool,
}

impl Of {
    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Address => "address",
            Self::Key => "key",
            Self::Bundle => "bundle",
            Self::Tool => "tool",
        }
    }
}

/// What one owner may use up, and has left.
#[derive(Debug)]
pub struct Allowance {
    of: Of,
    name: Arc<str>,
    budget: Budget,
}

impl Allowance {
    /// Of this quota; none where nothing is limited. `before`, which it takes the place of, is kept if it is the same, and
    /// calls that run within it keep their places.
    pub fn new(of: Of, name: &str, quota: Quota, before: Option<&Arc<Self>>) -> Option<Arc<Self>> {
        if quota.is_empty() {
            return None;
        }
        if let Some(before) = before.filter(|before| before.budget.quota() == quota && *before.name == *name)
        {
            return Some(Arc::clone(before));
        }
        let budget = Budget::new(quota, before.map(|before| &before.budget), Steady);
        Some(Arc::new(Self { of, name: name.into(), budget }))
    }

    /// Takes one request.
    ///
    /// # Errors
    /// None is left.
    pub fn spend(&self) -> Result<(), Excess> {
        self.budget.spend().map_err(|spent| self.excess(spent))
    }

    /// Takes a place for a call.
    ///
    /// # Errors
    /// None is free.
    pub fn begin(&self) -> Result<Option<Running>, Excess> {
        self.budget.begin().map_err(|spent| self.excess(spent))
    }

    /// Looks whether a place is free, and takes none.
    ///
    /// # Errors
    /// None is.
    pub fn look(&self) -> Result<(), Excess> {
        self.budget.look().map_err(|spent| self.excess(spent))
    }

    /// Looks whether a request is left, and takes none.
    ///
    /// # Errors
    /// None is.
    pub fn could_spend(&self) -> Result<(), Excess> {
        self.budget.could_spend().map_err(|spent| self.excess(spent))
    }

    /// What kind of owner it has.
    pub fn of(&self) -> Of {
        self.of
    }

    /// Who that is.
    pub fn whose(&self) -> &str {
        &self.name
    }

    /// All that the owner may use up.
    pub fn quota(&self) -> Quota {
        self.budget.quota()
    }

    /// How fast requests come back, where they have a limit.
    pub fn pace(&self) -> Option<Pace> {
        self.budget.pace()
    }

    /// Requests that were taken since this was asked last: whoever asks tells the other servers.
    pub fn untold(&self) -> u32 {
        self.budget.untold()
    }

    /// How long it takes until all that was taken is there again.
    pub fn ahead(&self) -> Duration {
        self.budget.ahead()
    }

    /// Takes what other servers took, too: all together have it there again after this time.
    pub fn reach(&self, ahead: Duration) {
        self.budget.reach(ahead);
    }

    fn excess(&self, spent: Spent) -> Excess {
        Excess::new(self.of, Arc::clone(&self.name), self.budget.quota(), spent)
    }
}

/// Callers are told apart by what is said of them; whose budget is whose, by itself.
impl PartialEq for Allowance {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for Allowance {}

/// A limit that was reached, and whose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excess {
    /// Which.
    pub limit: Limit,
    /// What kind of owner it has.
    pub of: Of,
    /// Who that is.
    pub whose: Arc<str>,
    /// All that the owner may use up.
    pub quota: Quota,
    /// When it is worth coming back.
    pub wait: Duration,
}

impl Excess {
    pub(super) fn new(of: Of, whose: Arc<str>, quota: Quota, (limit, wait): Spent) -> Self {
        Self { limit, of, whose, quota, wait }
    }

    /// Whether the server itself has too much to do, whoever asks.
    pub fn is_overload(&self) -> bool {
        (self.of, self.limit) == (Of::Server, Limit::Concurrent)
    }

    /// What history says of it.
    pub fn detail(&self) -> String {
        format!("limit {} of {} {:?}", self.limit.name(), self.of.name(), self.whose)
    }

    fn message(&self) -> String {
        let Quota { requests_per_minute, burst, concurrent } = self.quota;
        let many = |number: Option<u32>| number.unwrap_or_default();
        let what = match self.limit {
            Limit::Requests => {
                let at_once = burst.map(|burst| format!(", and {burst} at once")).unwrap_or_default();
                format!("{} requests a minute are let through{at_once}", many(requests_per_minute))
            }
            Limit::Concurrent => {
                format!("{} calls may run at once, and they do", many(concurrent))
            }
        };
        match self.of {
            Of::Server => format!("the server has its limit of all callers together: {what}"),
            Of::Address => format!("callers without a key have a limit for each address: {what}"),
            Of::Key | Of::Bundle | Of::Tool => {
                format!("the {} {:?} has a limit: {what}", self.of.name(), self.whose)
            }
        }
    }

    fn advice(&self) -> &'static str {
        match (self.of, self.limit) {
            (Of::Server, Limit::Concurrent) => {
                "retry after a moment; if it lasts, the operator finds what takes so long under /plugins"
            }
            (_, Limit::Requests) => "wait as long as Retry-After says, or have the operator raise the limit",
            (_, Limit::Concurrent) => {
                "wait until one of the calls has ended, or have the operator raise the limit"
            }
        }
    }
}

impl From<Excess> for Fault {
    fn from(excess: Excess) -> Self {
        let code = if excess.is_overload() { ErrorCode::Unavailable } else { ErrorCode::RateLimited };
        let Quota { requests_per_minute, burst, concurrent } = excess.quota;
        let members =
            [("requestsPerMinute", requests_per_minute), ("burst", burst), ("concurrent", concurrent)];
        let members = members.into_iter().filter_map(|(name, limit)| Some((name.to_owned(), limit?.into())));
        Self::new(code, excess.message(), excess.advice())
            .with(LIMIT, excess.limit.name())
            .with(OF, excess.of.name())
            .with(WHOSE, &*excess.whose)
            .with(QUOTA, members.collect::<Map<String, Value>>())
            .retry_after(excess.wait)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn quota(requests_per_minute: u32, concurrent: Option<u32>) -> Quota {
        Quota { requests_per_minute: Some(requests_per_minute), burst: Some(1), concurrent }
    }

    #[test]
    fn what_is_spent_says_which_limit_whose_and_when_to_come_back() {
        let allowance = Allowance::new(Of::Key, "ci", quota(6, None), None).unwrap();
        allowance.spend().unwrap();
        let fault = Fault::from(allowance.spend().unwrap_err());
        assert_eq!(fault.code, ErrorCode::RateLimited);
        assert_eq!(
            fault.message,
            "the key \"ci\" has a limit: 6 requests a minute are let through, and 1 at once"
        );
        let detail = |name| fault.detail(name).cloned().unwrap();
        assert_eq!(
            (detail(LIMIT), detail(OF), detail(WHOSE)),
            ("requestsPerMinute".into(), "key".into(), "ci".into())
        );
        assert_eq!(detail(QUOTA), json!({"requestsPerMinute": 6, "burst": 1}));
        assert_eq!(detail(crate::error::RETRY_AFTER), 10);
    }

    #[test]
    fn a_server_with_too_much_to_do_is_unavailable_and_limits_nobody() {
        let quota = Quota { concurrent: Some(1), ..Quota::default() };
        let server = Allowance::new(Of::Server, "all callers", quota, None).unwrap();
        let _running = server.begin().unwrap();
        let excess = server.look().unwrap_err();
        assert!(excess.is_overload());
        assert_eq!(Fault::from(excess).code, ErrorCode::Unavailable);
        let tool = Allowance::new(Of::Tool, "a__b", quota, None).unwrap();
        let _running = tool.begin().unwrap();
        assert_eq!(Fault::from(tool.begin().unwrap_err()).code, ErrorCode::RateLimited);
    }

    #[test]
    fn an_allowance_that_did_not_change_is_kept_with_what_is_left_of_it() {
        assert!(Allowance::new(Of::Key, "a", Quota::default(), None).is_none());
        let first = Allowance::new(Of::Key, "a", quota(6, Some(1)), None).unwrap();
        first.spend().unwrap();
        let running = first.begin().unwrap();
        let same = Allowance::new(Of::Key, "a", quota(6, Some(1)), Some(&first)).unwrap();
        assert!(Arc::ptr_eq(&first, &same) && same.spend().is_err());
        let other = Allowance::new(Of::Key, "a", quota(60, Some(1)), Some(&first)).unwrap();
        assert!(other.spend().is_ok() && other.begin().is_err());
        drop(running);
        assert!(other.begin().is_ok());
    }
}
