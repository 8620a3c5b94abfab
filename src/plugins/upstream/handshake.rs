//! The handshake with a server that has sessions: `initialize`, what it answers, `notifications/initialized`.
//!
//! MCP 2025-11-25, basic/lifecycle. Must not know when it is tried, nor what is made of what it settles.

use tokio::time::Instant;

use super::compose::{self, CLIENT_INFO, Era, Wishes};
use super::exchange::{self, ProbeError};
use super::ids::Ids;
use super::link::{Link, Outgoing};
use crate::protocol::{Object, Raw, Revision};

/// What a handshake settled.
#[derive(Debug, Clone)]
pub struct Handshake {
    /// The revision that both speak from now on.
    pub revision: Revision,
    /// What the server can do, an object.
    pub capabilities: Raw,
    /// What the server calls itself, an object.
    pub server_info: Raw,
    /// What a model should know to use it.
    pub instructions: Option<String>,
}

impl Handshake {
    /// What the header `MCP-Protocol-Version` says from now on; revisions before 2025-06-18 do not know it.
    pub fn header(&self) -> Option<&'static str> {
        header_of(self.revision)
    }
}

fn header_of(revision: Revision) -> Option<&'static str> {
    revision.has_version_header().then(|| revision.name())
}

/// Shakes hands over `link` as a client with these `capabilities`, an object.
///
/// # Errors
/// When the link does not carry, and when the server refuses, answers nonsense, wants a revision that Waygate does not
/// know, or does not answer until `deadline`.
pub async fn initialize(
    link: &dyn Link,
    capabilities: &Raw,
    ids: &Ids,
    deadline: Instant,
) -> Result<Handshake, ProbeError> {
    let (id, method) = (ids.next(), "initialize");
    let version = compose::text(Revision::NEWEST_LEGACY.name());
    let members = [
        ("protocolVersion", &*version),
        ("capabilities", capabilities.as_str()),
        ("clientInfo", CLIENT_INFO),
    ];
    let body = compose::request(id, method, Era::Legacy, &Wishes::default(), &members);
    // No revision is agreed on yet, so no header names one.
    let asked = Outgoing { id, body, method, name: None, params: Vec::new(), version: None };
    let result = exchange::ask(link, asked, deadline).await?;
    let handshake = read(&result)?;
    let told = link.tell(compose::notification("notifications/initialized", "{}"), handshake.header());
    exchange::within(deadline, method, told).await??;
    Ok(handshake)
}

fn read(result: &Raw) -> Result<Handshake, ProbeError> {
    let nonsense = |why: &str| ProbeError::Nonsense(format!("its answer to initialize {why}"));
    let result = Object::open(result).map_err(|_| nonsense("is no object"))?;
    let version = result.text("protocolVersion").ok_or_else(|| nonsense("names no protocolVersion"))?;
    let revision = Revision::parse(&version).filter(|revision| revision.has_sessions()).ok_or_else(|| {
        let known = Revision::with_sessions().collect::<Vec<_>>().join(", ");
        nonsense(&format!(
            "names revision {version:?}; Waygate speaks {known} with servers that have sessions"
        ))
    })?;
    let object = |key: &str| result.get(key).filter(|raw| raw.is_object()).map(Raw::detached);
    Ok(Handshake {
        revision,
        capabilities: object("capabilities").unwrap_or_else(Raw::empty_object),
        server_info: object("serverInfo").unwrap_or_else(Raw::empty_object),
        instructions: result.text("instructions").filter(|text| !text.trim().is_empty()),
    })
}
