//! Scripted servers for the tests of links: they say exactly what they are told, byte for byte.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::{Flow, LinkError, Outgoing};
use crate::config::plugin::{HttpReach, HttpTransport, Tls};
use crate::protocol::Incoming;

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Heard {
    /// Method and target.
    pub line: String,
    /// Names in small letters.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: String,
}

impl Heard {
    /// A header's value, or nothing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// What a server does next.
pub enum Act {
    /// Sends these bytes.
    Send(String),
    /// Sends them one by one.
    Dribble(String),
    /// Waits until the other side closes.
    Hang,
    /// Closes.
    Close,
}

/// What a server heard and saw.
#[derive(Default)]
pub struct Log {
    heard: Mutex<Vec<Heard>>,
    /// Connections that were accepted.
    pub accepted: AtomicUsize,
    /// Connections that the other side closed while the server hung.
    pub deserted: AtomicUsize,
}

impl Log {
    /// All requests so far.
    pub fn heard(&self) -> Vec<Heard> {
        self.heard.lock().unwrap().clone()
    }

    /// Connections so far.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

pub type Script = Arc<dyn Fn(usize, &Heard) -> Vec<Act> + Send + Sync>;

/// Starts a server; `script` gets the number of the request, from 0, and the request.
pub async fn serve(script: impl Fn(usize, &Heard) -> Vec<Act> + Send + Sync + 'static) -> (String, Arc<Log>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let log = Arc::<Log>::default();
    let (script, seen): (Script, _) = (Arc::new(script), Arc::clone(&log));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            seen.accepted.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(converse(stream, Arc::clone(&script), Arc::clone(&seen)));
        }
    });
    (format!("http://{address}"), log)
}

/// Speaks on one connection as the script says.
pub async fn converse<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, script: Script, log: Arc<Log>) {
    let mut rest = Vec::new();
    while let Some(heard) = request(&mut stream, &mut rest).await {
        let number = {
            let mut all = log.heard.lock().unwrap();
            all.push(heard.clone());
            all.len() - 1
        };
        for act in script(number, &heard) {
            match act {
                Act::Send(text) => {
                    if stream.write_all(text.as_bytes()).await.is_err() {
                        return;
                    }
                }
                Act::Dribble(text) => {
                    for byte in text.as_bytes() {
                        if stream.write_all(&[*byte]).await.is_err() || stream.flush().await.is_err() {
                            return;
                        }
                        tokio::task::yield_now().await;
                    }
                }
                Act::Hang => {
                    let mut one = [0; 1];
                    while !matches!(stream.read(&mut one).await, Ok(0) | Err(_)) {}
                    log.deserted.fetch_add(1, Ordering::SeqCst);
                    return;
                }
                Act::Close => {
                    let _ = stream.shutdown().await;
                    return;
                }
            }
            let _ = stream.flush().await;
        }
    }
}

async fn request<S: AsyncRead + Unpin>(stream: &mut S, rest: &mut Vec<u8>) -> Option<Heard> {
    let head_end = loop {
        if let Some(at) = rest.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
        if stream.read_buf(rest).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(rest[..head_end].to_vec()).unwrap();
    let mut lines = head.split("\r\n");
    let line = lines.next().unwrap().trim_end_matches(" HTTP/1.1").to_owned();
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    rest.drain(..head_end + 4);
    while rest.len() < length {
        if stream.read_buf(rest).await.ok()? == 0 {
            return None;
        }
    }
    let body = String::from_utf8(rest.drain(..length).collect()).unwrap();
    Some(Heard { line, headers, body })
}

/// An answer with a body of known length.
pub fn answer(status: u16, kind: &str, more: &str, body: &str) -> Act {
    let length = body.len();
    Act::Send(format!(
        "HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n{more}\r\n{body}"
    ))
}

/// An answer in JSON.
pub fn json(body: &str) -> Act {
    answer(200, "application/json", "", body)
}

/// The head of an event stream that lasts until the connection closes.
pub fn events(text: &str) -> Act {
    Act::Send(format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n{text}"))
}

/// The head of an event stream in chunks.
pub fn chunked_events() -> Act {
    Act::Send(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n".into(),
    )
}

/// One chunk.
pub fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

/// A plugin's file that says no more than this URL.
pub fn reach(url: &str) -> HttpReach {
    HttpReach {
        url: url.to_owned(),
        transport: HttpTransport::Http,
        headers: BTreeMap::new(),
        tls: Tls::default(),
        proxy: false,
        allow_ranges: Vec::new(),
    }
}

/// A request with this number.
pub fn outgoing(id: u64, method: &'static str, version: Option<&'static str>) -> Outgoing {
    let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}"}}"#).into();
    Outgoing { id, body, method, name: None, params: Vec::new(), version }
}

/// What a future gives, which is soon.
pub async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("it takes too long")
}

/// Polls until it is so.
pub async fn until(what: &str, so: impl Fn() -> bool) {
    let end = tokio::time::Instant::now() + Duration::from_secs(20);
    while !so() {
        assert!(tokio::time::Instant::now() < end, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// All that a flow brings, in words.
pub async fn all(flow: Result<Flow, LinkError>) -> Vec<String> {
    let mut flow = match flow {
        Ok(flow) => flow,
        Err(error) => return vec![in_words(&Err(error))],
    };
    let mut said = Vec::new();
    while let Some(item) = soon(flow.next()).await {
        said.push(in_words(&item));
    }
    said
}

/// A message in words.
pub fn in_words(item: &Result<Incoming, LinkError>) -> String {
    match item {
        Ok(Incoming::Response { outcome: Ok(result), .. }) => format!("result {}", result.as_str()),
        Ok(Incoming::Response { outcome: Err(error), .. }) => format!("error {}", error.code),
        Ok(Incoming::Notification { method, .. }) => format!("notice {method}"),
        Ok(Incoming::Request { method, .. }) => format!("request {method}"),
        Err(LinkError::Unreachable(why)) => format!("unreachable: {why}"),
        Err(LinkError::Broken(why)) => format!("broken: {why}"),
        Err(LinkError::Garbage(why)) => format!("garbage: {why}"),
        Err(error) => error.to_string(),
    }
}
