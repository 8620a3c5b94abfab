//! Progress of a running program: how much it has written, and its newest line, not too often. Must not know pipes.

use std::time::Duration;

use tokio::time::Instant;

use crate::plugins::Context;

/// Between two notices.
const EVERY: Duration = Duration::from_millis(250);
/// Of a line, in characters.
const LINE_MAX_CHARS: usize = 200;
/// What is remembered of the output to find the newest line in.
const RECENT_MAX_BYTES: usize = 4 * LINE_MAX_CHARS;

/// What is known and what was told.
#[derive(Debug)]
pub(super) struct Progress {
    recent: Vec<u8>,
    bytes: u64,
    told: u64,
    next: Instant,
}

impl Progress {
    /// Nothing was written yet.
    pub(super) fn new() -> Self {
        Self { recent: Vec::new(), bytes: 0, told: 0, next: Instant::now() }
    }

    /// Takes note of output.
    pub(super) fn note(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        let (_, newest) = bytes.split_at(bytes.len().saturating_sub(RECENT_MAX_BYTES));
        let surplus = (self.recent.len() + newest.len()).saturating_sub(RECENT_MAX_BYTES);
        self.recent.drain(..surplus);
        self.recent.extend_from_slice(newest);
    }

    /// When there is something to tell; never, when all is told.
    pub(super) async fn due(&self) {
        if self.bytes == self.told {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep_until(self.next).await;
    }

    /// Tells it.
    pub(super) fn tell(&mut self, context: &Context) {
        // Bytes only ever grow, and so does the progress.
        context.progress(self.bytes as f64, None, newest_line(&self.recent).as_deref());
        self.told = self.bytes;
        self.next = Instant::now() + EVERY;
    }
}

/// The last line that says something, whole or not, without control characters.
fn newest_line(recent: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(recent);
    // Programs that draw a progress bar write a line again and again, each after a carriage return.
    let lines = text.rsplit(['\n', '\r']).map(plain);
    let line = lines.map(|line| line.trim().to_owned()).find(|line| !line.is_empty())?;
    let cut = line.char_indices().nth(LINE_MAX_CHARS).map(|(end, _)| end);
    Some(cut.and_then(|end| line.get(..end)).map_or(line.clone(), |beginning| format!("{beginning}…")))
}

/// A line without what colours it or moves the cursor.
fn plain(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        if character == '\u{1b}' && characters.next_if_eq(&'[').is_some() {
            // A control sequence ends with its first letter, or another sign of that range.
            characters.by_ref().find(|sign| ('@'..='~').contains(sign));
        } else if !character.is_control() || character == '\t' {
            plain.push(character);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(recent: &str) -> String {
        newest_line(recent.as_bytes()).unwrap_or_default()
    }

    #[test]
    fn the_newest_line_that_says_something_is_told() {
        assert_eq!(line("one\ntwo\n\n  \n"), "two");
        assert_eq!(line("one\ntwo\nthr"), "thr");
        assert_eq!(line("10 %\r20 %\r"), "20 %");
        assert_eq!(line("\u{1b}[1;32mgreen\u{1b}[0m \u{7}bell"), "green bell");
        assert_eq!(newest_line(b"\n\n"), None);
    }

    #[test]
    fn a_long_line_is_told_by_its_beginning() {
        assert_eq!(line(&"ä".repeat(300)).chars().count(), LINE_MAX_CHARS + 1);
    }

    #[test]
    fn no_more_is_remembered_than_a_line_needs() {
        let mut progress = Progress::new();
        progress.note(&[b'x'; 5000]);
        progress.note(b"\nend");
        assert_eq!(progress.recent.len(), RECENT_MAX_BYTES);
        assert_eq!((progress.bytes, newest_line(&progress.recent).as_deref()), (5004, Some("end")));
    }
}
