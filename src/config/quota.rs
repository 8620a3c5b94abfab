//! What may be used up: requests a minute, how many of them at once, and calls that run at once. Must not know by whom.

/// The greatest number that one of them may be.
pub const QUOTA_MAX: u32 = 1_000_000;

/// What may be used up. None means no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Quota {
    /// Requests a minute, steadily.
    pub requests_per_minute: Option<u32>,
    /// Requests at once; without one, as many as a minute gives.
    pub burst: Option<u32>,
    /// Calls that run at once.
    pub concurrent: Option<u32>,
}

impl Quota {
    /// Checks what somebody wrote.
    ///
    /// # Errors
    /// A sentence that says what is wrong and what to write instead.
    pub fn check(self) -> Result<Self, String> {
        let all = [
            ("requests a minute", self.requests_per_minute),
            ("a burst", self.burst),
            ("calls at once", self.concurrent),
        ];
        for (what, limit) in all {
            if limit.is_some_and(|limit| !(1..=QUOTA_MAX).contains(&limit)) {
                return Err(format!("a limit of {what} is 1 to {QUOTA_MAX}; leave it out for none"));
            }
        }
        if self.burst.is_some() && self.requests_per_minute.is_none() {
            return Err("a burst is so many requests of a minute at once, and these have no limit; set one"
                .to_owned());
        }
        Ok(self)
    }

    /// Whether nothing is limited.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }
}
