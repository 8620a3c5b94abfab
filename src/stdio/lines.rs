//! From bytes to lines: what a client writes, one message a line. Must not know what a message is.

use std::io::{self, Read};

use bytes::Bytes;
use tokio::sync::mpsc;

/// Lines that may wait to be looked at.
const LINES_MAX: usize = 16;
/// Read at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// One line without its end.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// As it was written.
    Whole(Bytes),
    /// It was longer than may be; what it said was not kept.
    TooLong,
}

/// Puts lines together.
struct Splitter {
    most: usize,
    line: Vec<u8>,
    too_long: bool,
}

impl Splitter {
    fn new(most: usize) -> Self {
        Self { most, line: Vec::new(), too_long: false }
    }

    /// Takes in what was read, and gives the lines that it completes.
    fn push(&mut self, mut chunk: &[u8], lines: &mut Vec<Line>) {
        while let Some(end) = chunk.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = chunk.split_at(end);
            self.add(line);
            lines.extend(self.end());
            chunk = rest.get(1..).unwrap_or_default();
        }
        self.add(chunk);
    }

    fn add(&mut self, part: &[u8]) {
        if self.line.len() + part.len() > self.most {
            self.too_long = true;
            self.line = Vec::new();
        }
        if !self.too_long {
            self.line.extend_from_slice(part);
        }
    }

    /// The line so far, if it says anything.
    fn end(&mut self) -> Option<Line> {
        let line = std::mem::take(&mut self.line);
        if std::mem::take(&mut self.too_long) {
            return Some(Line::TooLong);
        }
        (!line.trim_ascii().is_empty()).then(|| Line::Whole(line.into()))
    }
}

/// Reads lines of at most `most` bytes on a thread of its own, no faster than they are taken. The channel closes with
/// the input.
///
/// # Errors
/// When no thread can be started.
pub fn read(mut input: impl Read + Send + 'static, most: usize) -> io::Result<mpsc::Receiver<Line>> {
    let (sender, receiver) = mpsc::channel(LINES_MAX);
    let work = move || {
        let mut splitter = Splitter::new(most);
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut lines = Vec::new();
        loop {
            let ended = match input.read(&mut chunk) {
                Ok(0) => true,
                Ok(count) => {
                    splitter.push(chunk.get(..count).unwrap_or_default(), &mut lines);
                    false
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => false,
                Err(error) => {
                    log::warn!("stdin cannot be read any more: {error}");
                    true
                }
            };
            if ended {
                // The last line counts even without its end.
                lines.extend(splitter.end());
            }
            for line in lines.drain(..) {
                if sender.blocking_send(line).is_err() {
                    return;
                }
            }
            if ended {
                return;
            }
        }
    };
    std::thread::Builder::new().name("stdin".to_owned()).spawn(work)?;
    Ok(receiver)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(pieces: &[&str]) -> Vec<Line> {
        let mut splitter = Splitter::new(5);
        let mut lines = Vec::new();
        for piece in pieces {
            splitter.push(piece.as_bytes(), &mut lines);
        }
        lines.extend(splitter.end());
        lines
    }

    /// A client that never stops writing.
    struct Endless(std::sync::Arc<std::sync::atomic::AtomicUsize>);

    impl Read for Endless {
        fn read(&mut self, chunk: &mut [u8]) -> io::Result<usize> {
            self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            let line = b"12345\n";
            chunk[..line.len()].copy_from_slice(line);
            Ok(line.len())
        }
    }

    #[test]
    fn no_more_is_read_than_is_taken() {
        let reads = std::sync::Arc::default();
        let mut lines = read(Endless(std::sync::Arc::clone(&reads)), 5).unwrap();
        for _ in 0..100 {
            assert_eq!(lines.blocking_recv(), Some(whole("12345")));
        }
        // One line may be in the reader's hand, and one is read behind the last that was taken.
        assert!(reads.load(std::sync::atomic::Ordering::SeqCst) <= 100 + LINES_MAX + 2);
    }

    fn whole(text: &'static str) -> Line {
        Line::Whole(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn lines_end_where_they_end_and_empty_ones_are_none() {
        assert_eq!(split(&["ab", "c\n\r\n  \nde\nf"]), [whole("abc"), whole("de"), whole("f")]);
        assert_eq!(split(&["12345\n"]), [whole("12345")]);
        assert_eq!(split(&["\n\n"]), []);
    }

    #[test]
    fn a_line_too_long_is_skipped_and_the_next_one_is_read() {
        assert_eq!(split(&["123456\nab\n"]), [Line::TooLong, whole("ab")]);
        assert_eq!(split(&["1234", "56", "7890123\nab"]), [Line::TooLong, whole("ab")]);
        assert_eq!(split(&["1234567"]), [Line::TooLong]);
    }
}
