//! How far long work is, for a person at a terminal and nobody else. Must not know what the work is.

use std::cell::RefCell;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use super::output;
use crate::backup::Progress;

/// Between two looks of a person.
const SAY_EVERY: Duration = Duration::from_millis(100);

/// One line on stderr, written over and over.
pub struct Line {
    is_shown: bool,
    state: RefCell<State>,
}

struct State {
    doing: &'static str,
    said_at: Option<Instant>,
}

impl Line {
    /// Empty.
    pub fn new() -> Self {
        let state = RefCell::new(State { doing: "", said_at: None });
        Self { is_shown: io::stderr().is_terminal(), state }
    }

    /// Says something that stays, in the line's place.
    pub fn say(&self, text: &str) {
        self.clear();
        output::say(text);
    }

    fn clear(&self) {
        if self.is_shown && self.state.borrow().said_at.is_some() {
            drop(write!(io::stderr(), "\r\x1b[K"));
        }
    }

    /// Shows how far it is.
    pub fn tell(&self, progress: Progress) {
        if !self.is_shown {
            return;
        }
        let mut state = self.state.borrow_mut();
        let text = match progress {
            Progress::Doing(what) => {
                (state.doing, state.said_at) = (what, None);
                what.to_owned()
            }
            Progress::Rows(rows) => format!("{}: {rows} rows", state.doing),
            Progress::Bytes(done, all) => {
                format!("{}: {} %", state.doing, done.saturating_mul(100).checked_div(all).unwrap_or(100))
            }
        };
        Self::write(&mut state, &text);
    }

    /// Shows this.
    pub fn show(&self, text: &str) {
        if self.is_shown {
            Self::write(&mut self.state.borrow_mut(), text);
        }
    }

    fn write(state: &mut State, text: &str) {
        if state.said_at.is_none_or(|at| at.elapsed() >= SAY_EVERY) {
            state.said_at = Some(Instant::now());
            // Nobody can be told when that fails.
            drop(write!(io::stderr(), "\r\x1b[K{text}"));
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.clear();
    }
}
