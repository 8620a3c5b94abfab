//! HTTP/1.1 on one kept-alive connection, as little of it as a server's answers need: bytes go out as they were rendered, and an
//! answer comes back whole. Written by hand, so that the generator costs less than what it measures.
//!
//! Must not know what is asked or answered. Whoever calls sets deadlines.

use std::io;

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Larger than this is no head of an answer.
const HEAD_MAX_BYTES: usize = 64 << 10;
/// Nor is this an answer to a call.
const BODY_MAX_BYTES: usize = 256 << 20;
/// So much is read at once at first; one that holds streams open by the thousand must be small.
const READ_BYTES: usize = 4 << 10;

/// What a connection runs over.
pub trait Duplex: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Duplex for T {}

/// One connection.
pub struct Wire {
    stream: Box<dyn Duplex>,
    /// Read and not looked at yet.
    read: BytesMut,
    /// The body of the last answer.
    body: Vec<u8>,
    /// How many bytes came in.
    received: u64,
}

/// The head of an answer, as far as it matters here.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Head {
    /// 200 and its like.
    pub status: u16,
    /// `text/event-stream`?
    pub is_stream: bool,
    /// `Mcp-Session-Id`.
    pub session: Option<String>,
    /// Whether the connection ends with it.
    pub closes: bool,
    length: Length,
}

impl Head {
    fn has_no_body(&self) -> bool {
        matches!(self.status, 204 | 304)
    }
}

/// Where a body ends.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Length {
    /// With the connection.
    #[default]
    Unsaid,
    Bytes(usize),
    Chunked,
}

impl Wire {
    /// Over this stream.
    pub fn new(stream: impl Duplex + 'static) -> Self {
        Self { stream: Box::new(stream), read: BytesMut::new(), body: Vec::new(), received: 0 }
    }

    /// Sends these bytes.
    ///
    /// # Errors
    /// What the network says.
    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Has everything on its way.
    ///
    /// # Errors
    /// What the network says.
    pub async fn flush(&mut self) -> io::Result<()> {
        self.stream.flush().await
    }

    /// Reads a whole answer; its body is what [`Wire::body`] gives.
    ///
    /// # Errors
    /// When the connection ends before it, or it is no HTTP.
    pub async fn answer(&mut self) -> io::Result<Head> {
        let head = self.head().await?;
        self.rest(&head).await?;
        Ok(head)
    }

    /// Reads what follows a head.
    ///
    /// # Errors
    /// As [`Wire::answer`].
    pub async fn rest(&mut self, head: &Head) -> io::Result<()> {
        self.body.clear();
        match head.length {
            _ if head.has_no_body() => {}
            Length::Bytes(count) => self.take(count).await?,
            Length::Chunked => while self.chunk().await? {},
            Length::Unsaid => loop {
                let count = self.read.len();
                self.take(count).await?;
                if self.fill().await? == 0 {
                    break;
                }
            },
        }
        Ok(())
    }

    /// Reads the head of an answer, and passes over those that only say that one will come.
    ///
    /// # Errors
    /// As [`Wire::answer`].
    pub async fn head(&mut self) -> io::Result<Head> {
        loop {
            let end = loop {
                if let Some(end) = self.read.windows(4).position(|window| window == b"\r\n\r\n") {
                    break end;
                }
                if self.read.len() > HEAD_MAX_BYTES {
                    return Err(strange("the head of its answer has no end"));
                }
                self.more().await?;
            };
            let bytes = self.read.split_to(end + 4);
            let head = parse(&bytes).ok_or_else(|| strange("its answer is not HTTP/1.1"))?;
            if head.status >= 200 {
                return Ok(head);
            }
        }
    }

    /// The body of the last answer.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// How many bytes came in so far.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Reads and forgets until the server ends the connection.
    ///
    /// # Errors
    /// What the network says.
    pub async fn drain(&mut self) -> io::Result<()> {
        loop {
            self.read.clear();
            if self.fill().await? == 0 {
                return Ok(());
            }
        }
    }

    /// Reads a chunk; false when it was the last.
    async fn chunk(&mut self) -> io::Result<bool> {
        let line = self.line().await?;
        let size = line.as_ref().split(|byte: &u8| *byte == b';').next().unwrap_or_default();
        let size =
            std::str::from_utf8(size).ok().and_then(|text| usize::from_str_radix(text.trim(), 16).ok());
        match size.ok_or_else(|| strange("a chunk of its answer has no size"))? {
            0 => {
                while !self.line().await?.is_empty() {}
                Ok(false)
            }
            size => {
                self.take(size).await?;
                self.line().await?;
                Ok(true)
            }
        }
    }

    /// The next line, without its end.
    async fn line(&mut self) -> io::Result<BytesMut> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let mut line = self.read.split_to(end + 1);
                while line.last().is_some_and(|byte| matches!(byte, b'\r' | b'\n')) {
                    line.truncate(line.len() - 1);
                }
                return Ok(line);
            }
            if self.read.len() > HEAD_MAX_BYTES {
                return Err(strange("a line of its answer has no end"));
            }
            self.more().await?;
        }
    }

    /// Moves so many bytes into the body.
    async fn take(&mut self, mut count: usize) -> io::Result<()> {
        if self.body.len().saturating_add(count) > BODY_MAX_BYTES {
            return Err(strange("its answer is larger than any is expected to be"));
        }
        loop {
            let here = count.min(self.read.len());
            self.body.extend_from_slice(self.read.get(..here).unwrap_or_default());
            self.read.advance(here);
            count -= here;
            if count == 0 {
                return Ok(());
            }
            self.more().await?;
        }
    }

    /// Reads some, or fails at the end.
    async fn more(&mut self) -> io::Result<()> {
        match self.fill().await? {
            0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection")),
            _ => Ok(()),
        }
    }

    async fn fill(&mut self) -> io::Result<usize> {
        self.read.reserve(READ_BYTES);
        let count = self.stream.read_buf(&mut self.read).await?;
        self.received += count as u64;
        Ok(count)
    }
}

fn strange(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

fn parse(bytes: &[u8]) -> Option<Head> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mut lines = text.split("\r\n");
    let status = lines.next()?;
    let (version, status) = status.split_once(' ')?;
    let status = status.get(..3)?.parse().ok()?;
    let mut head = Head { status, closes: version == "HTTP/1.0", ..Head::default() };
    if !version.starts_with("HTTP/1.") {
        return None;
    }
    for line in lines.take_while(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':')?;
        let value = value.trim();
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        if is("content-length") {
            head.length = Length::Bytes(value.parse().ok()?);
        } else if is("transfer-encoding") {
            head.length = Length::Chunked;
        } else if is("content-type") {
            head.is_stream = value.starts_with("text/event-stream");
        } else if is("connection") {
            head.closes = value.eq_ignore_ascii_case("close");
        } else if is("mcp-session-id") {
            head.session = Some(value.to_owned());
        }
    }
    head.closes |= head.length == Length::Unsaid && !head.has_no_body();
    Some(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(bytes: &'static str) -> (io::Result<Head>, String) {
        let (near, mut far) = tokio::io::duplex(7);
        tokio::spawn(async move { drop(far.write_all(bytes.as_bytes()).await) });
        let mut wire = Wire::new(near);
        let head = wire.answer().await;
        (head, String::from_utf8_lossy(wire.body()).into_owned())
    }

    #[tokio::test]
    async fn an_answer_ends_where_it_says_that_it_does() {
        let (head, body) =
            read("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nMcp-Session-Id: a\r\n\r\nhello more").await;
        assert_eq!((head.unwrap().session.as_deref(), body.as_str()), (Some("a"), "hello"));
        let (head, body) = read(
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
             Transfer-Encoding: chunked\r\n\r\n6;x=1\r\nhello \r\n5\r\nworld\r\n0\r\nX: y\r\n\r\n",
        )
        .await;
        assert!(head.unwrap().is_stream);
        assert_eq!(body, "hello world");
        let (head, body) = read("HTTP/1.0 503 Later\r\n\r\nuntil the end").await;
        let head = head.unwrap();
        assert_eq!((head.status, head.closes, body.as_str()), (503, true, "until the end"));
        assert_eq!(read("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").await.1, "");
    }

    #[tokio::test]
    async fn a_connection_ends_with_a_body_whose_length_nobody_said() {
        for (head, closes) in [
            ("HTTP/1.1 200 OK\r\n\r\nuntil the end", true),
            ("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\nuntil the end", true),
            ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", false),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", false),
            ("HTTP/1.1 204 No Content\r\n\r\n", false),
        ] {
            assert_eq!(read(head).await.0.unwrap().closes, closes, "{head}");
        }
    }

    #[tokio::test]
    async fn what_is_cut_off_or_no_http_is_an_error() {
        for bytes in [
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel",
            "HTTP/1.1 200 OK\r\n",
            "SSH-2.0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        ] {
            assert!(read(bytes).await.0.is_err(), "{bytes}");
        }
    }
}
