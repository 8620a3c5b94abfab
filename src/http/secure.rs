//! Connections of the network that speak TLS: the handshake, within its time, and what is said to who speaks plain HTTP there.
//!
//! Must not know requests, nor where the certificate comes from.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::rt::net::TcpStream;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::door::Connection;
use crate::actors::certificate::Certificate;
use crate::telemetry::metrics::METRICS;

/// What TLS begins with, and no request does.
const HANDSHAKE: u8 = 0x16;
/// How much is read of a plain request.
const PLAIN_MAX_BYTES: usize = 64 * 1024;
/// What is answered to it; closing the connection alone would leave people guessing.
const PLAIN_BODY: &str = r#"{"error":{"code":"invalid_request","message":"plain http was spoken to a port of https","advice":"put https:// before the address"}}"#;

/// A connection that speaks TLS.
pub struct Line {
    stream: TlsStream<TcpStream>,
    /// Counted since it was accepted, so that who shakes hands is waited for at a restart; until the requests have it.
    connection: Cell<Option<Connection>>,
}

impl Line {
    /// What is known of the connection, for the first who asks.
    pub fn connection(&self) -> Option<Connection> {
        self.connection.take()
    }
}

/// Shakes hands.
///
/// # Errors
/// When the client speaks something else, is not let in, or takes longer than `within`; it was told.
pub async fn accept(
    stream: TcpStream,
    certificate: Arc<Certificate>,
    within: Duration,
    connection: Connection,
) -> io::Result<(Line, Option<SocketAddr>)> {
    let peer = stream.peer_addr().ok();
    let shaken = tokio::time::timeout(within, shake(stream, &certificate)).await;
    let shaken = shaken.unwrap_or_else(|_elapsed| {
        Err(io::Error::new(io::ErrorKind::TimedOut, "the handshake did not come to its end in time"))
    });
    let stream = shaken.inspect_err(|error| {
        let reason = if error.kind() == io::ErrorKind::Unsupported { "plain_http" } else { "tls_handshake" };
        METRICS.refused.with_label_values(&[reason]).inc();
        let client = peer.map(|peer| peer.ip().to_canonical().to_string()).unwrap_or_default();
        log::debug!(client = client.as_str(); "a connection was not let in: {error}");
    })?;
    Ok((Line { stream, connection: Cell::new(Some(connection)) }, peer))
}

async fn shake(stream: TcpStream, certificate: &Certificate) -> io::Result<TlsStream<TcpStream>> {
    // Without it each streamed answer waits for the client's delayed acknowledgement, 44 ms.
    stream.set_nodelay(true)?;
    let mut first = [0];
    let is_there = stream.peek(&mut first).await? > 0;
    if is_there && first != [HANDSHAKE] && first.is_ascii() {
        refuse_plain(stream).await?;
        return Err(io::Error::new(io::ErrorKind::Unsupported, "it speaks plain HTTP"));
    }
    TlsAcceptor::from(certificate.config()).accept(stream).await
}

/// Answers a request that came without TLS. It is heard out, since closing a connection with something unread would cut off
/// the answer.
async fn refuse_plain(mut stream: TcpStream) -> io::Result<()> {
    let (mut heard, mut looked_at) = (Vec::new(), 0);
    let ends = |part: &[u8]| part.windows(4).any(|end| end == b"\r\n\r\n");
    while heard.len() < PLAIN_MAX_BYTES && !heard.get(looked_at..).is_some_and(ends) {
        looked_at = heard.len().saturating_sub(3);
        if stream.read_buf(&mut heard).await? == 0 {
            break;
        }
    }
    let length = PLAIN_BODY.len();
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nCache-Control: no-store\r\n\
         X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n{PLAIN_BODY}"
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    // Until it hangs up, or its time is over.
    while stream.read_buf(&mut heard).await? > 0 && heard.len() < PLAIN_MAX_BYTES {}
    Ok(())
}

impl AsyncRead for Line {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(context, into)
    }
}

impl AsyncWrite for Line {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
