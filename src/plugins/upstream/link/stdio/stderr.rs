//! What a program says on stderr: into the log, and the newest of it kept for the operator to see.
//!
//! Must not know what runs.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::AsyncRead;
use tokio::time::Instant;

use super::lines::{Lines, Piece};
use super::veil::Veil;

/// Lines kept.
const KEPT: usize = 200;
/// No line is longer.
const LINE_MAX_BYTES: usize = 2048;
/// Lines logged a second; a program that says more floods nothing but its own memory of it.
const LOGGED_MAX: u32 = 50;
const LOGGED_EVERY: Duration = Duration::from_secs(1);
/// Between two reads of what is not logged any more.
const FLOOD_REST: Duration = Duration::from_millis(1);
/// A line with one of these, in small letters, is logged as a warning.
const GRAVE: [&str; 7] = ["error", "warn", "fatal", "panic", "exception", "traceback", "fail"];

/// What all programs of one plugin said, through all their lives: it is wanted most when none of them runs any more.
#[derive(Debug)]
pub struct Heard {
    plugin: Arc<str>,
    lines: Mutex<VecDeque<String>>,
    last_exit: Mutex<Option<String>>,
}

impl Heard {
    /// Nothing yet, of this plugin.
    pub fn of(plugin: &str) -> Arc<Self> {
        Arc::new(Self { plugin: plugin.into(), lines: Mutex::default(), last_exit: Mutex::default() })
    }

    /// Whose it is.
    pub(super) fn plugin(&self) -> &Arc<str> {
        &self.plugin
    }

    /// The newest lines, the oldest of them first.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// How the one ended that ended last.
    pub fn last_exit(&self) -> Option<String> {
        self.last_exit.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn note_exit(&self, exit: &str) {
        *self.last_exit.lock().unwrap_or_else(PoisonError::into_inner) = Some(exit.to_owned());
    }

    fn keep(&self, line: String) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() >= KEPT {
            lines.pop_front();
        }
        lines.push_back(line);
    }
}

/// What one program said.
#[derive(Debug)]
pub(super) struct Said {
    heard: Arc<Heard>,
    veil: Arc<Veil>,
    /// The newest line that is not blank.
    last: Mutex<Option<String>>,
}

impl Said {
    pub(super) fn new(heard: Arc<Heard>, veil: Arc<Veil>) -> Self {
        Self { heard, veil, last: Mutex::default() }
    }

    /// What all programs of the plugin said, this one among them.
    pub(super) fn heard(&self) -> &Heard {
        &self.heard
    }

    /// The newest line that is not blank.
    pub(super) fn last(&self) -> Option<String> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads to the end.
    pub(super) async fn hear(&self, stream: impl AsyncRead + Unpin) {
        let mut lines = Lines::new(stream, LINE_MAX_BYTES);
        let (mut since, mut logged, mut unlogged) = (Instant::now(), 0, 0_u64);
        loop {
            let piece = {
                let mut next = pin!(lines.next(|_| {}));
                let turn = since + LOGGED_EVERY;
                tokio::select! {
                    biased;
                    piece = &mut next => piece,
                    // It fell silent: what was left out is told now, not with its next line.
                    () = tokio::time::sleep_until(turn), if unlogged > 0 => {
                        self.tell_unlogged(std::mem::take(&mut unlogged));
                        next.await
                    }
                }
            };
            let Ok(Some(piece)) = piece else { break };
            let (Piece::Line(bytes) | Piece::Cut(bytes)) = piece else { continue };
            let line = self.keep(&bytes);
            if since.elapsed() >= LOGGED_EVERY {
                self.tell_unlogged(std::mem::take(&mut unlogged));
                (since, logged) = (Instant::now(), 0);
            }
            if logged < LOGGED_MAX {
                logged += 1;
                self.log(&line);
                continue;
            }
            unlogged += 1;
            if !lines.has_more() {
                tokio::time::sleep(FLOOD_REST).await;
            }
        }
        self.tell_unlogged(unlogged);
    }

    fn keep(&self, bytes: &[u8]) -> String {
        let line = self.veil.shown(bytes.trim_ascii_end(), LINE_MAX_BYTES);
        self.heard.keep(line.clone());
        if !line.trim().is_empty() {
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(line.clone());
        }
        line
    }

    fn log(&self, line: &str) {
        let small = line.to_ascii_lowercase();
        let grave = GRAVE.iter().any(|word| small.contains(word));
        let level = if grave { log::Level::Warn } else { log::Level::Info };
        log::log!(target: "waygate_mcp::plugin", level, plugin = &**self.heard.plugin(); "{line}");
    }

    fn tell_unlogged(&self, count: u64) {
        if count > 0 {
            log::warn!(plugin = &**self.heard.plugin(); "the plugin wrote {count} lines more to stderr than are logged");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::redaction::MASK;

    #[tokio::test]
    async fn the_newest_lines_are_kept_and_nothing_of_them_can_do_harm() {
        let said = Said::new(Heard::of("files"), Arc::new(Veil::new(vec!["hunter22".to_owned()])));
        let many: String = (0..300).map(|n| format!("line {n}\n")).collect();
        let long = "x".repeat(5000);
        let text = format!("{many}\u{1b}[31mred\nthe password is hunter22, ok\n{long}\n\n");
        said.hear(text.as_bytes()).await;
        let lines = said.heard().lines();
        assert_eq!(lines.len(), KEPT);
        assert!(lines.contains(&"\\u{1b}[31mred".to_owned()), "{lines:?}");
        assert!(lines.contains(&format!("the password is {MASK}, ok")), "{lines:?}");
        assert_eq!(said.last(), Some(format!("{}…", "x".repeat(LINE_MAX_BYTES))));
        assert!(!lines.contains(&"line 100".to_owned()) && lines.contains(&"line 299".to_owned()));
    }
}
