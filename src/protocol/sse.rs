//! Event streams, read: bytes in, events out. `render` writes them.
//!
//! WHATWG HTML, "server-sent events". Must not know where the bytes come from, nor what the events mean.

use bytes::{Buf as _, BytesMut};

/// One event, or what stood between two empty lines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Event {
    /// By which the stream can be taken up again behind it.
    pub id: Option<String>,
    /// How long to wait before that.
    pub retry_ms: Option<u64>,
    /// Its name, where it has one: nothing in Streamable HTTP, `endpoint` or `message` before that.
    pub kind: Option<String>,
    /// What it says; none for an event that only carries an id or a pause.
    pub data: Option<Vec<u8>>,
}

/// An event had more bytes than may be held.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("an event has more than {0} bytes")]
pub struct TooLarge(usize);

/// Puts events together.
#[derive(Debug)]
pub struct Events {
    most: usize,
    /// What came and is not yet a whole line.
    rest: BytesMut,
    /// How much of it was searched for a line's end.
    searched: usize,
    event: Event,
}

impl Events {
    /// Whether an event began that has not come whole.
    pub fn is_halfway(&self) -> bool {
        !self.rest.is_empty() || self.event.data.is_some()
    }

    /// For events of at most so many bytes.
    pub fn new(most: usize) -> Self {
        Self { most, rest: BytesMut::new(), searched: 0, event: Event::default() }
    }

    /// Takes in what came.
    pub fn push(&mut self, bytes: &[u8]) {
        self.rest.extend_from_slice(bytes);
    }

    /// The next event, if it came whole.
    ///
    /// # Errors
    /// When it is too large; the stream is of no use then.
    pub fn take(&mut self) -> Result<Option<Event>, TooLarge> {
        while let Some(line) = self.line() {
            if !line.is_empty() {
                self.note(&line);
            } else if self.event != Event::default() {
                return Ok(Some(std::mem::take(&mut self.event)));
            }
            self.check()?;
        }
        self.check()?;
        Ok(None)
    }

    fn check(&self) -> Result<(), TooLarge> {
        let data = self.event.data.as_ref().map_or(0, Vec::len);
        if self.searched + data > self.most { Err(TooLarge(self.most)) } else { Ok(()) }
    }

    /// The next line without its end, which is LF, CR, or both.
    fn line(&mut self) -> Option<BytesMut> {
        let unsearched = self.rest.get(self.searched..).unwrap_or_default();
        let Some(at) = unsearched.iter().position(|byte| matches!(byte, b'\n' | b'\r')) else {
            self.searched = self.rest.len();
            return None;
        };
        let end = self.searched + at;
        let returns = self.rest.get(end) == Some(&b'\r');
        if returns && self.rest.len() == end + 1 {
            // Whether it is one end or half of one shows with the next byte.
            self.searched = end;
            return None;
        }
        let line = self.rest.split_to(end);
        let both = returns && self.rest.get(1) == Some(&b'\n');
        self.rest.advance(if both { 2 } else { 1 });
        self.searched = 0;
        Some(line)
    }

    fn note(&mut self, line: &[u8]) {
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let (field, value) = line.split_at(colon);
        let value = value.strip_prefix(b":").unwrap_or(value);
        let value = value.strip_prefix(b" ").unwrap_or(value);
        let text = || std::str::from_utf8(value).ok();
        match field {
            b"data" => match &mut self.event.data {
                Some(data) => {
                    data.push(b'\n');
                    data.extend_from_slice(value);
                }
                None => self.event.data = Some(value.to_vec()),
            },
            b"id" => self.event.id = text().filter(|id| !id.contains('\0')).map(str::to_owned),
            b"retry" => {
                self.event.retry_ms = text().and_then(|text| text.parse().ok());
            }
            b"event" => self.event.kind = text().map(str::to_owned),
            // A line that begins with a colon is a sign of life.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(pieces: &[&str]) -> Vec<Event> {
        let mut events = Events::new(100);
        let mut all = Vec::new();
        for piece in pieces {
            events.push(piece.as_bytes());
            while let Some(event) = events.take().unwrap() {
                all.push(event);
            }
        }
        all
    }

    fn said(data: &str) -> Event {
        Event { data: Some(data.as_bytes().to_vec()), ..Event::default() }
    }

    #[test]
    fn events_are_the_same_however_they_are_cut() {
        let text = ":\n\nid: 1-0\ndata: \n\nid: 1-1\ndata: {\"a\":1}\r\n\r\nretry: 10\n\nevent: x\rdata:y\rdata: z\r\rdata: cut";
        let primed = Event { id: Some("1-0".into()), ..said("") };
        let first = Event { id: Some("1-1".into()), ..said("{\"a\":1}") };
        let pause = Event { retry_ms: Some(10), ..Event::default() };
        let named = Event { kind: Some("x".into()), ..said("y\nz") };
        let wanted = [primed, first, pause, named];
        assert_eq!(all(&[text]), wanted);
        let bytes: Vec<String> = text.chars().map(String::from).collect();
        assert_eq!(all(&bytes.iter().map(String::as_str).collect::<Vec<_>>()), wanted);
    }

    #[test]
    fn an_event_without_end_is_not_held_for_ever() {
        for endless in ["data: xxxxxxxxx\n", "xxxxxxxxxxxxxxxx"] {
            let mut events = Events::new(100);
            let refused = (0..20).any(|_| {
                events.push(endless.as_bytes());
                events.take().is_err()
            });
            assert!(refused, "{endless}");
        }
    }
}
