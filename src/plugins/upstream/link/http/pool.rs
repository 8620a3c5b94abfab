//! Connections of one thread: made when a request needs one, kept a while for the next, the one used last taken first.
//!
//! hyper drives each connection in a task of the thread that made it: so a thread sends in one go what several calls have to
//! say, and wakes the server once for them. Moved by the call itself, each call cost more. A connection comes back when its
//! answer was read to the end; one whose answer is dropped before is closed. Must not know headers, redirects, nor what is
//! asked.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response, Uri};
use hyper_util::client::legacy::connect::Connection as _;

use super::connector::{BoxError, Connector};
use super::place::Origin;

/// Connections that are kept.
const KEPT_MAX: usize = 256;
/// How often those are looked through, and how often one may be found unused: it is kept for half a minute.
const SWEPT_EVERY: Duration = Duration::from_secs(5);
const SWEEPS_MAX: u8 = 6;

/// Why there is no answer.
#[derive(Debug)]
pub enum SendError {
    /// No connection was made; nothing was sent.
    Unconnected(BoxError),
    /// The connection broke, or what came is no HTTP.
    Broken(hyper::Error),
}

/// The connections of one thread. A clone is the same.
#[derive(Clone)]
pub struct Pool(Arc<Shared>);

struct Shared {
    connector: Connector,
    kept: Mutex<Vec<Kept>>,
    /// Whether somebody looks through them.
    swept: AtomicBool,
}

struct Kept {
    connection: Connection,
    /// How often it was found unused.
    sweeps: u8,
}

struct Connection {
    sender: SendRequest<Full<Bytes>>,
    /// Where it leads, when that is not home.
    elsewhere: Option<Origin>,
    /// Whether it leads to a proxy, which wants the whole URL in a request.
    proxied: bool,
}

impl Pool {
    /// An empty one.
    pub fn new(connector: Connector) -> Self {
        Self(Arc::new(Shared { connector, kept: Mutex::default(), swept: AtomicBool::new(false) }))
    }

    /// Sends a request, whose own URL does not count, to `uri`; `elsewhere` is the origin of that, when it is not home.
    ///
    /// # Errors
    /// No connection, or one that broke before the answer's head was there.
    #[expect(
        clippy::manual_async_fn,
        reason = "an async fn would keep the request twice in each call: as it came, and as it is changed"
    )]
    pub fn send(
        &self,
        mut request: Request<Full<Bytes>>,
        uri: &Uri,
        elsewhere: Option<Origin>,
    ) -> impl Future<Output = Result<Response<Body>, SendError>> {
        async move {
            loop {
                let (mut connection, was_kept) = match self.take(elsewhere.as_ref()) {
                    Some(kept) => (kept, true),
                    // It is seldom made, and large: in a box it is no part of the future of each call.
                    None => (Box::pin(self.connect(uri, elsewhere.clone())).await?, false),
                };
                *request.uri_mut() = match uri.path_and_query() {
                    Some(path) if !connection.proxied => Uri::from(path.clone()),
                    _ => uri.clone(),
                };
                match connection.sender.try_send_request(request).await {
                    Ok(answer) => return Ok(answer.map(|body| Body::new(body, connection, self.clone()))),
                    Err(mut failed) => match failed.take_message() {
                        // The server closed it while it was kept, and the request never left: another one will do.
                        Some(unsent) if was_kept => request = unsent,
                        _ => return Err(SendError::Broken(failed.into_error())),
                    },
                }
            }
        }
    }

    async fn connect(&self, uri: &Uri, elsewhere: Option<Origin>) -> Result<Connection, SendError> {
        let stream = self.0.connector.connect(uri.clone()).await.map_err(SendError::Unconnected)?;
        let proxied = stream.connected().is_proxied();
        // Head and body in one piece: most bodies are small, and the kernel takes one piece faster than two.
        let handshake = http1::Builder::new().writev(false).handshake(stream).await;
        let (sender, driven) = handshake.map_err(SendError::Broken)?;
        tokio::spawn(async move {
            // Why it ends is told to whoever has sent something on it.
            let _told = driven.await;
        });
        Ok(Connection { sender, elsewhere, proxied })
    }

    fn take(&self, elsewhere: Option<&Origin>) -> Option<Connection> {
        let mut kept = self.0.kept();
        let serves =
            |one: &Kept| one.connection.elsewhere.as_ref() == elsewhere && one.connection.sender.is_ready();
        let at = kept.iter().rposition(serves)?;
        Some(kept.remove(at).connection)
    }

    fn keep(&self, connection: Connection) {
        let mut kept = self.0.kept();
        if kept.len() >= KEPT_MAX {
            kept.retain(|one| !one.connection.sender.is_closed());
        }
        if kept.len() < KEPT_MAX {
            kept.push(Kept { connection, sweeps: 0 });
        }
        if !self.0.swept.swap(true, Ordering::Relaxed) {
            tokio::spawn(sweep(Arc::downgrade(&self.0)));
        }
    }
}

impl Shared {
    fn kept(&self) -> MutexGuard<'_, Vec<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes what nobody uses, as long as there is anything.
async fn sweep(pool: Weak<Shared>) {
    loop {
        tokio::time::sleep(SWEPT_EVERY).await;
        let Some(pool) = pool.upgrade() else { return };
        let mut kept = pool.kept();
        kept.retain_mut(|one| {
            one.sweeps += 1;
            one.sweeps < SWEEPS_MAX && !one.connection.sender.is_closed()
        });
        if kept.is_empty() {
            pool.swept.store(false, Ordering::Relaxed);
            return;
        }
    }
}

/// The body of an answer, which has its connection until it was read to the end.
pub struct Body {
    inner: Incoming,
    on: Option<(Connection, Pool)>,
}

impl Body {
    fn new(inner: Incoming, connection: Connection, pool: Pool) -> Self {
        let mut body = Self { inner, on: Some((connection, pool)) };
        body.give_back_at_end();
        body
    }

    fn give_back_at_end(&mut self) {
        if self.inner.is_end_stream()
            && let Some((connection, pool)) = self.on.take()
        {
            pool.keep(connection);
        }
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        match &polled {
            Poll::Pending => {}
            // Nothing more can be sent on it.
            Poll::Ready(Some(Err(_))) => self.on = None,
            Poll::Ready(Some(Ok(_))) => self.give_back_at_end(),
            Poll::Ready(None) => {
                if let Some((connection, pool)) = self.on.take() {
                    pool.keep(connection);
                }
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
