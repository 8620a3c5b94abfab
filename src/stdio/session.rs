//! The session of a client of a revision with sessions: what its requests are sent with, and how it is begun anew when
//! the server behind went away.
//!
//! MCP 2025-11-25, basic/lifecycle. Must not know how answers come back.

use std::cell::RefCell;

use bytes::Bytes;
use hyper::Method;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use tokio_util::task::AbortOnDropHandle;

use super::wire::{Reply, Wire};
use crate::error::{ErrorCode, Fault};
use crate::protocol::legacy::asks::Answer;
use crate::protocol::modern::Params;
use crate::protocol::{Message, Object, Raw};

const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
/// Settings of a session that are said again to the next one.
const SETTINGS_MAX: usize = 1024;

/// What a request in the session is sent with.
#[derive(Debug, Clone)]
pub struct Ticket {
    /// Which session of this client it is: the first, or one begun anew.
    pub number: u64,
    id: HeaderValue,
    version: HeaderValue,
}

impl Ticket {
    /// The headers.
    pub fn headers(&self) -> HeaderMap {
        HeaderMap::from_iter([(SESSION_ID, self.id.clone()), (PROTOCOL_VERSION, self.version.clone())])
    }
}

/// The one session that a client on stdio may have.
#[derive(Default)]
pub struct Session {
    ticket: RefCell<Option<Ticket>>,
    /// The client's own words, by which the session can be begun anew.
    said: RefCell<Said>,
    /// The stream for what belongs to no request.
    standing: RefCell<Option<AbortOnDropHandle<()>>>,
    renewal: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Said {
    hello: Bytes,
    initialized: Option<Bytes>,
    /// The log level, and what is subscribed to, by what they set.
    settings: Vec<(String, Bytes)>,
}

impl Session {
    /// What requests are sent with; none before the handshake.
    pub fn ticket(&self) -> Option<Ticket> {
        self.ticket.borrow().clone()
    }

    /// Reads the answer to the `initialize` that `hello` is: its JSON, and whether a session was begun by it.
    ///
    /// # Errors
    /// When the answer does not arrive.
    pub async fn begin(&self, hello: &Bytes, reply: Reply) -> Result<Bytes, Fault> {
        let (ticket, answer) = read(reply, 1).await?;
        if ticket.is_some() {
            *self.said.borrow_mut() = Said { hello: hello.clone(), ..Said::default() };
            *self.ticket.borrow_mut() = ticket;
        }
        Ok(answer)
    }

    /// Notes that the client has ended the handshake.
    pub fn initialized(&self, line: &Bytes) {
        self.said.borrow_mut().initialized = Some(line.clone());
    }

    /// Keeps the stream for what belongs to no request, in place of an older one.
    pub fn stand(&self, stream: AbortOnDropHandle<()>) {
        *self.standing.borrow_mut() = Some(stream);
    }

    /// Notes what the next session must be told, too, should this one be lost.
    pub fn note(&self, method: &str, params: &Params, line: &Bytes) {
        let uri = || params.uri().map_or_else(String::new, |uri| uri.as_str().to_owned());
        let (key, sets) = match method {
            "logging/setLevel" => (String::new(), true),
            "resources/subscribe" => (uri(), true),
            "resources/unsubscribe" => (uri(), false),
            _ => return,
        };
        let settings = &mut self.said.borrow_mut().settings;
        settings.retain(|(known, _)| *known != key);
        if sets && settings.len() < SETTINGS_MAX {
            settings.push((key, line.clone()));
        }
    }

    /// Begins the session anew, in the client's own words, unless that was done since the session of this number: what
    /// to send requests with from now on, and whether it is new and its handshake had ended.
    ///
    /// # Errors
    /// When no server takes the session up again as it was.
    pub async fn renew(&self, wire: &Wire, number: u64) -> Result<(Ticket, bool), Fault> {
        let _one_at_a_time = self.renewal.lock().await;
        let old = self.ticket().ok_or_else(not_renewed)?;
        if old.number != number {
            return Ok((old, false));
        }
        let (hello, initialized, settings) = {
            let said = self.said.borrow();
            (said.hello.clone(), said.initialized.clone(), said.settings.clone())
        };
        let reply = wire.send(Method::POST, HeaderMap::new(), hello).await?;
        let (ticket, _) = read(reply, number + 1).await?;
        let ticket = ticket.filter(|ticket| ticket.version == old.version).ok_or_else(not_renewed)?;
        say(wire, &ticket, initialized.iter().chain(settings.iter().map(|(_, line)| line))).await?;
        *self.ticket.borrow_mut() = Some(ticket.clone());
        log::info!("the session was begun anew, since the server that had it is gone");
        Ok((ticket, initialized.is_some()))
    }

    /// Says the settings again to a server that took the session over: the last of them may not have come to it.
    ///
    /// # Errors
    /// When the server is gone as well.
    pub async fn say_settings(&self, wire: &Wire, ticket: &Ticket) -> Result<(), Fault> {
        let settings = self.said.borrow().settings.clone();
        say(wire, ticket, settings.iter().map(|(_, line)| line)).await
    }

    /// Forgets it: how the server is told, if there was one.
    pub fn end(&self) -> Option<HeaderMap> {
        self.standing.borrow_mut().take();
        self.ticket.borrow_mut().take().map(|ticket| ticket.headers())
    }
}

async fn say(wire: &Wire, ticket: &Ticket, lines: impl Iterator<Item = &Bytes>) -> Result<(), Fault> {
    for line in lines {
        // One that is refused was refused before, or its object is gone: the client learns it when it asks.
        drop(wire.send(Method::POST, ticket.headers(), line.clone()).await?.whole().await?);
    }
    Ok(())
}

/// What an answer to `initialize` begins, and its JSON.
async fn read(reply: Reply, number: u64) -> Result<(Option<Ticket>, Bytes), Fault> {
    let id = reply.headers.get(&SESSION_ID).cloned();
    let answer = reply.whole().await?;
    let version = match Message::parse(answer.clone()) {
        Ok(Message::Response { answer: Answer::Result(result), .. }) => version_in(&result),
        _ => None,
    };
    Ok((id.zip(version).map(|(id, version)| Ticket { number, id, version }), answer))
}

fn version_in(result: &Raw) -> Option<HeaderValue> {
    let version = Object::open(result).ok()?.text("protocolVersion")?;
    HeaderValue::from_str(&version).ok()
}

fn not_renewed() -> Fault {
    Fault::new(
        ErrorCode::Unavailable,
        "the session was lost with its server, and could not be begun anew",
        "start this process again",
    )
}
