//! What all links of one plugin share: its URL, its headers, its connections, one pool for each thread.
//!
//! A connection is driven by the thread that opened it and used by no other, so that a call never waits for another
//! thread to wake up. Must not know JSON-RPC, sessions or eras.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Uri};
use smallvec::SmallVec;

use super::connector::Connector;
use super::exchange::printable;
use super::place::{self, Origin};
use super::pool::{Body, Pool, SendError};
use crate::config::Network;
use crate::config::plugin::HttpReach;
use crate::plugins::upstream::link::LinkError;
use crate::protocol::MODERN;
use crate::telemetry::redaction::MASK;

/// A secret that is shorter would mask half of what is said.
const SECRET_MIN_BYTES: usize = 6;
/// Redirects that one request follows.
const REDIRECTS_MAX: usize = 5;
/// Headers that a link sets itself, or that would break the framing.
const OWN_HEADERS: &[&str] = &[
    "accept",
    "connection",
    "content-length",
    "content-type",
    "expect",
    "keep-alive",
    "last-event-id",
    "mcp-method",
    "mcp-name",
    "mcp-protocol-version",
    "mcp-session-id",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Headers of one request beside those of every request.
pub type Extras = SmallVec<[(HeaderName, HeaderValue); 3]>;

/// Headers of every POST of 2026-07-28.
static OF_POSTS: [(HeaderName, HeaderValue); 3] = [
    (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
    (header::ACCEPT, HeaderValue::from_static("application/json, text/event-stream")),
    (PROTOCOL_VERSION, HeaderValue::from_static(MODERN)),
];

thread_local! {
    /// This thread's pools, by the number of whose they are.
    static POOLS: RefCell<BTreeMap<u64, (Weak<Core>, Pool)>> = const { RefCell::new(BTreeMap::new()) };
}

static NUMBERS: AtomicU64 = AtomicU64::new(0);

/// What all links of one plugin share. A clone is the same.
#[derive(Clone)]
pub struct HttpCore(Arc<Core>);

struct Core {
    number: u64,
    connector: Connector,
    uri: Uri,
    /// Headers of each request to the operator's origin.
    home: HeaderMap,
    /// The same, and those of a POST of 2026-07-28: nearly every request is one.
    home_posts: HeaderMap,
    /// Headers of a request to anybody else.
    elsewhere: HeaderMap,
    has_credentials: bool,
    /// What of the plugin's file a server may repeat and nobody may read: the longest first.
    secrets: Vec<String>,
    response_max_bytes: usize,
    requests: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
}

/// One request.
pub struct Call {
    /// `POST`, `GET` or `DELETE`.
    pub method: Method,
    /// Where to; of the operator's origin.
    pub uri: Uri,
    /// What, if it has a body.
    pub body: Bytes,
    /// Whether it is a POST of 2026-07-28, and thus has the headers that all of those have.
    pub modern: bool,
    /// Further headers that are sent wherever it leads.
    pub extras: Extras,
    /// A header for the operator's origin alone.
    pub session: Option<HeaderValue>,
}

/// Where an answer came from, if a redirect was followed: an extension of the response.
#[derive(Debug, Clone)]
pub struct Landed(pub Uri);

impl HttpCore {
    /// Prepares all that connections need; connects nowhere. Reads certificates, so that it may block for a moment.
    ///
    /// # Errors
    /// What of the plugin's file cannot be used.
    pub fn open(reach: &HttpReach, headers: HeaderMap, response_max_bytes: usize) -> Result<Self, LinkError> {
        let uri = home_of(reach)?;
        let connector = Connector::new(&uri, allowed(reach)?, reach.proxy, &reach.tls);
        let connector = connector.map_err(LinkError::Misconfigured)?;
        Self::with_connector(uri, connector, headers, response_max_bytes)
    }

    /// The same over connections that are made another way.
    ///
    /// # Errors
    /// A header that a plugin's file must not set.
    pub fn with_connector(
        uri: Uri,
        connector: Connector,
        headers: HeaderMap,
        response_max_bytes: usize,
    ) -> Result<Self, LinkError> {
        if let Some(own) = headers.keys().find(|name| is_own(name)) {
            return Err(LinkError::Misconfigured(format!(
                "headers.{own} of the plugin's file is set by Waygate itself: leave it out"
            )));
        }
        let agent = HeaderValue::from_static(concat!("waygate-mcp/", env!("CARGO_PKG_VERSION")));
        let mut elsewhere = HeaderMap::with_capacity(8);
        elsewhere.insert(header::USER_AGENT, agent);
        let mut home = HeaderMap::with_capacity(16);
        home.extend(elsewhere.clone());
        // Written once here, it need not be written for each request.
        if let Some(host) = host_header(connector.home()) {
            home.insert(header::HOST, host);
        }
        if let Some(authorization) = connector.proxy_authorization() {
            home.insert(header::PROXY_AUTHORIZATION, authorization);
        }
        let has_credentials = !headers.is_empty();
        let secrets = secrets_of(&uri, &headers);
        for name in headers.keys() {
            home.remove(name);
        }
        home.extend(headers);
        let mut home_posts = home.clone();
        home_posts.extend(OF_POSTS.iter().cloned());
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let (requests, bytes_in, bytes_out) = Default::default();
        Ok(Self(Arc::new(Core {
            number,
            connector,
            uri,
            home,
            home_posts,
            elsewhere,
            has_credentials,
            secrets,
            response_max_bytes,
            requests,
            bytes_in,
            bytes_out,
        })))
    }

    /// The URL that the operator wrote.
    pub fn uri(&self) -> &Uri {
        &self.0.uri
    }

    /// Its origin.
    pub fn home(&self) -> &Origin {
        self.0.connector.home()
    }

    /// Whether the plugin's file has `headers`.
    pub fn has_credentials(&self) -> bool {
        self.0.has_credentials
    }

    /// A server's text without what it repeats of the plugin's file: a page that says what it was asked with.
    pub fn veiled(&self, text: &str) -> String {
        self.0.secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), MASK))
    }

    /// The largest answer.
    pub fn response_max_bytes(&self) -> usize {
        self.0.response_max_bytes
    }

    /// Counts what was read.
    pub fn note_read(&self, bytes: usize) {
        self.0.bytes_in.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Requests, bytes of bodies in and out; of all links together.
    pub fn counts(&self) -> (u64, u64, u64) {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (of(&self.0.requests), of(&self.0.bytes_in), of(&self.0.bytes_out))
    }

    /// The URL without what may be secret in it.
    pub fn shown(&self) -> String {
        format!("{}{}", self.home(), self.0.uri.path())
    }

    /// Sends a request and returns the answer's head, following redirects.
    ///
    /// # Errors
    /// No connection, or one that broke.
    pub async fn exchange(&self, call: &Call) -> Result<Response<Body>, LinkError> {
        let answer = self.send(call, &call.uri, true).await?;
        // Its future is large and seldom wanted.
        if answer.status().is_redirection() { Box::pin(self.follow(call, answer)).await } else { Ok(answer) }
    }

    async fn follow(&self, call: &Call, mut answer: Response<Body>) -> Result<Response<Body>, LinkError> {
        let mut at = call.uri.clone();
        for _ in 0..REDIRECTS_MAX {
            let status = answer.status();
            if !is_followed(status, &call.method) {
                return Ok(answer);
            }
            let refused = |why: String| LinkError::Status {
                status: status.as_u16(),
                retry_after_seconds: None,
                says: Some(why),
            };
            let location = answer.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
            let Some(location) = location else {
                return Err(refused("a redirect that leads nowhere".into()));
            };
            let target = place::join(&at, location)
                .map_err(|why| refused(format!("a redirect to a bad URL: {why}")))?;
            let origin = Origin::of(&target);
            let is_secure = |uri: &Uri| uri.scheme_str() == Some("https");
            if is_secure(&at) && !is_secure(&target) {
                return Err(refused("a redirect from https to http, which is not followed".into()));
            }
            let is_home = origin.as_ref() == Some(self.home());
            answer = self.send(call, &target, is_home).await.map_err(|error| match error {
                LinkError::Unreachable(why) => refused(why),
                error => error,
            })?;
            answer.extensions_mut().insert(Landed(target.clone()));
            at = target;
        }
        if !answer.status().is_redirection() {
            return Ok(answer);
        }
        Err(LinkError::Status {
            status: answer.status().as_u16(),
            retry_after_seconds: None,
            says: Some(format!("more than {REDIRECTS_MAX} redirects, one after the other")),
        })
    }

    async fn send(&self, call: &Call, uri: &Uri, is_home: bool) -> Result<Response<Body>, LinkError> {
        let elsewhere = if is_home { None } else { Origin::of(uri) };
        let pool = self.pool();
        let sent = pool.send(self.request(call, is_home, elsewhere.as_ref()), uri, elsewhere);
        sent.await.map_err(|error| explain(&error, uri))
    }

    /// The request of a call, whose own URL does not count.
    fn request(&self, call: &Call, is_home: bool, elsewhere: Option<&Origin>) -> Request<Full<Bytes>> {
        let mut headers = match (is_home, call.modern) {
            (true, true) => self.0.home_posts.clone(),
            (true, false) => self.0.home.clone(),
            (false, _) => self.0.elsewhere.clone(),
        };
        if call.modern && !is_home {
            headers.extend(OF_POSTS.iter().cloned());
        }
        if let Some(host) = elsewhere.and_then(host_header) {
            headers.insert(header::HOST, host);
        }
        for (name, value) in &call.extras {
            headers.insert(name, value.clone());
        }
        if let Some(session) = call.session.as_ref().filter(|_| is_home) {
            headers.insert(SESSION, session.clone());
        }
        let mut request = Request::new(Full::new(call.body.clone()));
        *request.method_mut() = call.method.clone();
        *request.headers_mut() = headers;
        self.0.requests.fetch_add(1, Ordering::Relaxed);
        let length = u64::try_from(call.body.len()).unwrap_or(u64::MAX);
        self.0.bytes_out.fetch_add(length, Ordering::Relaxed);
        request
    }

    /// This thread's pool, made when it is first used.
    fn pool(&self) -> Pool {
        POOLS.with_borrow_mut(|pools| {
            if let Some((_, pool)) = pools.get(&self.0.number) {
                return pool.clone();
            }
            // Those of plugins that are gone, whose connections close with them.
            pools.retain(|_, (core, _)| core.strong_count() > 0);
            let pool = Pool::new(self.0.connector.clone());
            pools.insert(self.0.number, (Arc::downgrade(&self.0), pool.clone()));
            pool
        })
    }
}

/// `MCP-Protocol-Version`.
pub const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
/// `Mcp-Session-Id`.
pub const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");

/// Values of headers, whole and without their scheme, and what stands in the query of the URL.
fn secrets_of(uri: &Uri, headers: &HeaderMap) -> Vec<String> {
    let headers = headers.values().filter_map(|value| value.to_str().ok());
    let headers = headers.flat_map(|value| [Some(value), value.rsplit(' ').next()]);
    let query =
        uri.query().unwrap_or_default().split('&').map(|pair| pair.split_once('=').map(|(_, value)| value));
    let all = headers.chain(query).flatten().filter(|secret| secret.len() >= SECRET_MIN_BYTES);
    let mut all: Vec<String> = all.map(str::to_owned).collect();
    all.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    all.dedup();
    all
}

/// The URL of a plugin's file.
///
/// # Errors
/// What is wrong with it.
pub fn home_of(reach: &HttpReach) -> Result<Uri, LinkError> {
    let wrong = |why| LinkError::Misconfigured(format!("the url in the plugin's file cannot be used: {why}"));
    place::absolute(&reach.url).map_err(wrong)
}

/// The networks that a plugin's file allows.
///
/// # Errors
/// One that is none.
pub fn allowed(reach: &HttpReach) -> Result<Vec<Network>, LinkError> {
    let parse = |text: &String| {
        Network::parse(text).ok_or_else(|| {
            LinkError::Misconfigured(format!(
                "{text:?} in allow_ranges is no network: write it as 169.254.0.0/16"
            ))
        })
    };
    reach.allow_ranges.iter().map(parse).collect()
}

fn is_own(name: &HeaderName) -> bool {
    OWN_HEADERS.contains(&name.as_str()) || name.as_str().starts_with("mcp-param-")
}

fn host_header(home: &Origin) -> Option<HeaderValue> {
    let usual = if home.secure { 443 } else { 80 };
    let text = if home.port == usual { home.host.clone() } else { format!("{}:{}", home.host, home.port) };
    HeaderValue::from_str(&text).ok()
}

fn is_followed(status: StatusCode, method: &Method) -> bool {
    match status.as_u16() {
        307 | 308 => true,
        // A client may make a GET of anything else that is answered so: the message would be lost.
        301..=303 => method == Method::GET,
        _ => false,
    }
}

/// What went wrong, and whether the request had left by then.
fn explain(error: &SendError, uri: &Uri) -> LinkError {
    let origin = Origin::of(uri).map(|origin| origin.to_string()).unwrap_or_default();
    let mut texts: Vec<String> = Vec::new();
    let (mut source, mut unsent): (Option<&(dyn std::error::Error + 'static)>, _) = match error {
        SendError::Unconnected(why) => (Some(&**why), true),
        SendError::Broken(why) => (Some(why), false),
    };
    let mut garbled = false;
    while let Some(cause) = source {
        let text = cause.to_string();
        if texts.last().is_none_or(|last| !last.ends_with(&text)) {
            texts.push(text);
        }
        if let Some(cause) = cause.downcast_ref::<hyper::Error>() {
            unsent |= cause.is_canceled();
            garbled |= cause.is_parse();
        }
        source = cause.source();
    }
    let why = printable(&texts.join(": "));
    if unsent {
        let hint = if why.contains("UnknownIssuer") {
            "; if it is yours, name its certificate authority as tls.ca in the plugin's file"
        } else {
            ""
        };
        LinkError::Unreachable(format!("{origin} cannot be reached: {why}{hint}"))
    } else if garbled {
        LinkError::Garbage(format!("{origin} does not answer in HTTP: {why}"))
    } else {
        LinkError::Broken(format!("the connection to {origin} broke before the answer came: {why}"))
    }
}
