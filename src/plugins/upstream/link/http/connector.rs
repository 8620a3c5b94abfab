//! Connections: to an address that the guard lets pass, or through the operator's proxy, with TLS where the URL says so.
//!
//! What is guarded: without a proxy, every address that a name resolves to, just before it is connected to. Through a
//! proxy, the name is the proxy's to resolve: an address in the operator's URL is still judged, a redirect to another
//! origin is not followed at all, and the proxy itself is trusted, being the operator's. Must not know what is sent.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tower_service::Service;

use super::guarded::{self, NamedBy};
use super::place::Origin;
use super::tls;
use crate::config::Network;
use crate::config::plugin::Tls;

/// How long a connection may take, with name, proxy and TLS.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// After so long a silence the system asks whether the other side is still there: a stream may be silent for hours.
const KEEP_ALIVE_AFTER: Duration = Duration::from_secs(60);
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(15);
const KEEP_ALIVE_TRIES: u32 = 4;

/// Whatever went wrong.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Connecting<T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send>>;

/// Why no connection is made, in words for the operator.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

/// Makes the connections of one plugin.
#[derive(Clone)]
pub struct Connector(Arc<Means>);

struct Means {
    /// Whom the operator named.
    home: Origin,
    allowed: Vec<Network>,
    proxy: Option<Intercept>,
    tls: Tls,
    /// Made when the first `https` is spoken.
    config: OnceLock<Result<Arc<ClientConfig>, String>>,
}

impl Connector {
    /// For connections to `home`, and to where it leads. Reads the certificates of an `https` home.
    ///
    /// # Errors
    /// What of the settings cannot be used.
    pub fn new(home: &Uri, allowed: Vec<Network>, proxy: bool, tls: &Tls) -> Result<Self, String> {
        let matcher = proxy.then(Matcher::from_env);
        Self::with_matcher(home, allowed, matcher.as_ref(), tls)
    }

    /// The same with proxies that a test names.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_matcher(
        home: &Uri,
        allowed: Vec<Network>,
        matcher: Option<&Matcher>,
        tls: &Tls,
    ) -> Result<Self, String> {
        let origin = Origin::of(home).ok_or("the URL must begin with http:// or https:// and name a host")?;
        let proxy = matcher.filter(|_| !origin.is_loopback()).and_then(|matcher| matcher.intercept(home));
        if let Some(proxy) = proxy.as_ref().filter(|proxy| proxy.uri().scheme_str() != Some("http")) {
            let scheme = proxy.uri().scheme_str().unwrap_or_default();
            return Err(format!(
                "the proxy for {origin} is one of the kind {scheme}, but only http:// proxies are used: change \
                 HTTP_PROXY or HTTPS_PROXY, or set proxy = false"
            ));
        }
        let means = Means { home: origin, allowed, proxy, tls: tls.clone(), config: OnceLock::new() };
        if means.home.secure {
            means.config()?;
        }
        Ok(Self(Arc::new(means)))
    }

    /// The proxy's credential, which a request carries itself where it is not sent through a tunnel.
    pub fn proxy_authorization(&self) -> Option<hyper::header::HeaderValue> {
        let proxy = self.0.proxy.as_ref().filter(|_| !self.0.home.secure)?;
        proxy.basic_auth().cloned()
    }

    /// Connects to where `uri` leads.
    ///
    /// # Errors
    /// Why there is no connection, or none in time.
    pub async fn connect(&self, uri: Uri) -> Result<MaybeHttpsStream<Wire>, BoxError> {
        let connecting = connect(Arc::clone(&self.0), uri);
        timeout(CONNECT_WITHIN, connecting)
            .await
            .map_err(|_| Refused(format!("no connection within {} seconds", CONNECT_WITHIN.as_secs())))?
    }

    /// The origin that the operator named.
    pub fn home(&self) -> &Origin {
        &self.0.home
    }
}

impl Means {
    fn config(&self) -> Result<Arc<ClientConfig>, String> {
        self.config.get_or_init(|| tls::configure(&self.tls)).clone()
    }
}

async fn connect(means: Arc<Means>, uri: Uri) -> Result<MaybeHttpsStream<Wire>, BoxError> {
    let origin = Origin::of(&uri).ok_or_else(|| Refused("the URL is neither http nor https".into()))?;
    let is_home = origin == means.home;
    if means.proxy.is_some() && !is_home {
        return Err(Refused(
            "what a redirect leads to cannot be judged through a proxy: write its address as the url".into(),
        )
        .into());
    }
    let dial = Dial { means: Arc::clone(&means), is_home };
    if !origin.secure {
        let mut dial = dial;
        return Ok(MaybeHttpsStream::Http(dial.call(uri).await?));
    }
    let config = means.config().map_err(Refused)?;
    let Some(proxy) = means.proxy.as_ref() else {
        return HttpsConnector::from((dial, config)).call(uri).await;
    };
    let mut tunnel = Tunnel::new(proxy.uri().clone(), dial);
    if let Some(authorization) = proxy.basic_auth() {
        tunnel = tunnel.with_auth(authorization.clone());
    }
    HttpsConnector::from((tunnel, config)).call(uri).await
}

/// Connects by TCP: to the proxy, or to the host itself.
#[derive(Clone)]
struct Dial {
    means: Arc<Means>,
    is_home: bool,
}

impl Service<Uri> for Dial {
    type Response = Wire;
    type Error = BoxError;
    type Future = Connecting<Wire>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let Some(proxy) = &this.means.proxy else {
                let origin = Origin::of(&uri).ok_or_else(|| Refused("the URL names no host".into()))?;
                let named_by = if this.is_home { NamedBy::Operator } else { NamedBy::Server };
                let addresses = this.judged(&origin, named_by).await?;
                return Ok(Wire { io: TokioIo::new(first(&addresses).await?), proxied: false });
            };
            // The proxy resolves names; an address in the URL can be judged here.
            let home = &this.means.home;
            if let Ok(address) = home.bare_host().parse() {
                judge(address, NamedBy::Operator, &this.means.allowed)?;
            }
            let origin =
                Origin::of(proxy.uri()).ok_or_else(|| Refused("the proxy's URL names no host".into()))?;
            let io = match first(&resolved(&origin).await?).await {
                Ok(stream) => TokioIo::new(stream),
                Err(error) => {
                    return Err(Refused(format!("the proxy {origin} cannot be reached: {error}")).into());
                }
            };
            Ok(Wire { io, proxied: !home.secure })
        })
    }
}

impl Dial {
    /// The addresses of a host that may be connected to.
    async fn judged(&self, origin: &Origin, named_by: NamedBy) -> Result<Vec<SocketAddr>, BoxError> {
        let all = resolved(origin).await?;
        let mut refused = None;
        let mut passed = Vec::with_capacity(all.len());
        for address in all {
            match judge(address.ip(), named_by, &self.means.allowed) {
                Ok(()) => passed.push(address),
                Err(error) => refused = Some(error),
            }
        }
        // One inside address among others is enough: a name that points both ways is made to slip through.
        match refused {
            Some(error) if passed.is_empty() || named_by == NamedBy::Server => Err(error.into()),
            _ => Ok(passed),
        }
    }
}

fn judge(address: IpAddr, named_by: NamedBy, allowed: &[Network]) -> Result<(), Refused> {
    guarded::check(address, named_by, allowed).map_err(|kind| {
        Refused(match named_by {
            NamedBy::Operator => {
                format!("{address} is {kind}: if you mean it, name it in allow_ranges of the plugin's file")
            }
            NamedBy::Server => format!(
                "a redirect leads to {address}, which is {kind}: it is not followed; if you mean it, write it as the url"
            ),
        })
    })
}

async fn resolved(origin: &Origin) -> Result<Vec<SocketAddr>, BoxError> {
    let host = origin.bare_host();
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, origin.port)]);
    }
    let found = tokio::net::lookup_host((host, origin.port)).await;
    let found: Vec<_> =
        found.map_err(|error| Refused(format!("the name {host} cannot be resolved: {error}")))?.collect();
    if found.is_empty() {
        return Err(Refused(format!("the name {host} has no address")).into());
    }
    Ok(found)
}

/// The first of `addresses` that answers. Each gets its share of the time, so that a dead one does not eat all of it.
async fn first(addresses: &[SocketAddr]) -> Result<TcpStream, BoxError> {
    let end = Instant::now() + CONNECT_WITHIN;
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for (n, address) in addresses.iter().enumerate() {
        let left = u32::try_from(addresses.len() - n).unwrap_or(u32::MAX);
        let share = Instant::now() + end.saturating_duration_since(Instant::now()) / left;
        match timeout_at(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                prepare(&stream)?;
                return Ok(stream);
            }
            Ok(Err(error)) => last = error,
            Err(_) => last = io::Error::from(io::ErrorKind::TimedOut),
        }
    }
    Err(last.into())
}

fn prepare(stream: &TcpStream) -> Result<(), BoxError> {
    use rustix::net::sockopt;

    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true).map_err(io::Error::from)?;
    sockopt::set_tcp_keepidle(stream, KEEP_ALIVE_AFTER).map_err(io::Error::from)?;
    sockopt::set_tcp_keepintvl(stream, KEEP_ALIVE_EVERY).map_err(io::Error::from)?;
    sockopt::set_tcp_keepcnt(stream, KEEP_ALIVE_TRIES).map_err(io::Error::from)?;
    Ok(())
}

/// A TCP connection that knows whether requests on it are for a proxy, which wants the whole URL in them.
pub struct Wire {
    io: TokioIo<TcpStream>,
    proxied: bool,
}

impl Connection for Wire {
    fn connected(&self) -> Connected {
        Connected::new().proxy(self.proxied)
    }
}

impl Read for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl Write for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }
}
