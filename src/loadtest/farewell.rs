//! The sessions that a thread opened: those whose connections do not end them themselves are ended when the load is over. Must not
//! know what they were for.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;

use super::Plan;
use super::link::end_session;

/// So many are ended at once, by all threads together.
const AT_ONCE: usize = 64;
/// They would end by themselves, too.
const WITHIN: Duration = Duration::from_secs(2);

/// Those that are open, and the place of each one's client.
#[derive(Default)]
pub struct Sessions(RefCell<BTreeSet<(String, usize)>>);

impl Sessions {
    /// Another one, where there is any.
    pub fn opened(&self, session: Option<&str>, place: usize) {
        self.0.borrow_mut().extend(session.map(|session| (session.to_owned(), place)));
    }

    /// One less.
    pub fn ended(&self, session: Option<&str>, place: usize) {
        if let Some(session) = session {
            self.0.borrow_mut().remove(&(session.to_owned(), place));
        }
    }

    /// Ends all that are left, as far as the server lets that be done in time.
    pub async fn end(&self, plan: &Plan) {
        let lines = (AT_ONCE / plan.threads.max(1)).max(1).min(self.0.borrow().len());
        drop(timeout(WITHIN, join_all((0..lines).map(|_| self.end_in_turn(plan)))).await);
    }

    async fn end_in_turn(&self, plan: &Plan) {
        let mut wire = None;
        while let Some((session, place)) = self.next() {
            match end_session(plan, wire.take(), &session, place).await {
                Ok(open) => wire = open,
                Err(_gone) => return,
            }
        }
    }

    fn next(&self) -> Option<(String, usize)> {
        self.0.borrow_mut().pop_first()
    }
}
