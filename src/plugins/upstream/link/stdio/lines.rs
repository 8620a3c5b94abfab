//! Lines of any length out of a stream, held up to a limit. Must not know what they say.

use std::io;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Read at once, and held in between: so much of a stream that says little, as nearly all do nearly always, …
const READ_MIN_BYTES: usize = 4 * 1024;
/// … and twice what it filled, up to this, of one that says more.
const READ_MAX_BYTES: usize = 64 * 1024;
/// The beginning of a line that is too long, as far as it is shown.
const HEAD_BYTES: usize = 4096;
/// Its end.
const TAIL_BYTES: usize = 128;
/// A line so many times longer than may be held is not waited for.
const SKIPPED_MAX: usize = 64;

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// A line without its line feed.
    Line(Bytes),
    /// The beginning of a line that is longer than may be held. The rest is passed over.
    Cut(Bytes),
    /// The end of that line.
    Rest(Bytes),
    /// That line has come to no end for too long: what follows is taken for the next one.
    Endless,
}

/// Cuts a stream into lines.
#[derive(Debug)]
pub(super) struct Lines<R> {
    source: R,
    buffer: BytesMut,
    /// How much of the buffer is known to hold no line feed.
    searched: usize,
    /// How much is read next, at least.
    read_bytes: usize,
    line_max_bytes: usize,
    skipped: Option<Skipped>,
}

#[derive(Debug, Default)]
struct Skipped {
    bytes: usize,
    tail: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    pub(super) fn new(source: R, line_max_bytes: usize) -> Self {
        let buffer = BytesMut::new();
        Self { source, buffer, searched: 0, read_bytes: READ_MIN_BYTES, line_max_bytes, skipped: None }
    }

    /// Whether the next piece may be there already.
    pub(super) fn has_more(&self) -> bool {
        self.buffer.len() > self.searched
    }

    /// The next piece; none at the end of the stream. `read` is told how many bytes came. May be dropped and called again.
    ///
    /// # Errors
    /// What reading gives.
    pub(super) async fn next(&mut self, read: impl Fn(usize)) -> io::Result<Option<Piece>> {
        loop {
            if let Some(piece) = self.piece() {
                return Ok(Some(piece));
            }
            self.buffer.reserve(self.read_bytes);
            let count = self.source.read_buf(&mut self.buffer).await?;
            read(count);
            let filled = count >= self.read_bytes;
            self.read_bytes = if filled { READ_MAX_BYTES.min(count * 2) } else { READ_MIN_BYTES };
            if count == 0 {
                let rest = self.buffer.split().freeze();
                self.searched = 0;
                return Ok(match self.skipped.take() {
                    Some(skipped) => Some(Piece::Rest(skipped.tail.into())),
                    None if rest.is_empty() => None,
                    // Without its line feed, but it was said.
                    None => Some(Piece::Line(rest)),
                });
            }
        }
    }

    /// What can be told from the bytes that are there.
    fn piece(&mut self) -> Option<Piece> {
        let unsearched = self.buffer.get(self.searched..).unwrap_or_default();
        let end = unsearched.iter().position(|&byte| byte == b'\n').map(|at| self.searched + at);
        if let Some(skipped) = &mut self.skipped {
            let passed = end.unwrap_or(self.buffer.len());
            skipped.pass(self.buffer.get(..passed).unwrap_or_default());
            let endless = skipped.bytes / SKIPPED_MAX > self.line_max_bytes;
            self.buffer.advance(end.map_or(passed, |end| end + 1));
            self.searched = 0;
            if endless && end.is_none() {
                self.skipped = None;
                return Some(Piece::Endless);
            }
            return end.and_then(|_| self.skipped.take()).map(|skipped| Piece::Rest(skipped.tail.into()));
        }
        let length = end.unwrap_or(self.buffer.len());
        if length > self.line_max_bytes {
            self.searched = 0;
            self.skipped = Some(Skipped::default());
            let head = self.buffer.get(..HEAD_BYTES.min(length)).unwrap_or_default();
            return Some(Piece::Cut(Bytes::copy_from_slice(head)));
        }
        let Some(end) = end else {
            self.searched = self.buffer.len();
            return None;
        };
        let line = self.buffer.split_to(end).freeze();
        self.buffer.advance(1);
        self.searched = 0;
        Some(Piece::Line(line))
    }
}

impl Skipped {
    fn pass(&mut self, bytes: &[u8]) {
        self.bytes = self.bytes.saturating_add(bytes.len());
        let newest = bytes.len().saturating_sub(TAIL_BYTES);
        self.tail.extend_from_slice(bytes.get(newest..).unwrap_or_default());
        self.tail.drain(..self.tail.len().saturating_sub(TAIL_BYTES));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn pieces(text: &[u8], line_max_bytes: usize) -> Vec<Piece> {
        let mut lines = Lines::new(text, line_max_bytes);
        let mut pieces = Vec::new();
        while let Some(piece) = lines.next(|_| {}).await.unwrap() {
            pieces.push(piece);
        }
        pieces
    }

    fn line(text: &'static str) -> Piece {
        Piece::Line(Bytes::from_static(text.as_bytes()))
    }

    #[tokio::test]
    async fn lines_come_one_by_one_also_the_last_without_its_line_feed() {
        assert_eq!(pieces(b"a\n\nbc\nd", 10).await, [line("a"), line(""), line("bc"), line("d")]);
        assert_eq!(pieces(b"", 10).await, []);
    }

    #[tokio::test]
    async fn of_a_line_that_is_too_long_only_the_beginning_and_the_end_are_held() {
        let long = [vec![b'x'; 300_000], b"end\nnext\n".to_vec()].concat();
        let seen = pieces(&long, 100_000).await;
        let [Piece::Cut(head), Piece::Rest(tail), next] = seen.as_slice() else { panic!("{seen:?}") };
        assert_eq!((head.len(), tail.len()), (HEAD_BYTES, TAIL_BYTES));
        assert!(tail.ends_with(b"xend"));
        assert_eq!(next, &line("next"));
        assert_eq!(pieces(b"12345\n123456\n", 5).await.len(), 3);
    }

    #[tokio::test]
    async fn a_line_without_end_is_not_waited_for() {
        let long = vec![b'x'; 65 * 11];
        assert!(matches!(pieces(&long, 10).await.as_slice(), [Piece::Cut(_), Piece::Endless]));
    }
}
