//! How a plugin comes to its server: links are opened by whoever knows transports. Must not know them itself.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::handshake::Handshake;
use super::ids::Ids;
use super::link::{Link, LinkError};

/// The right to open the next way to a server that may be there only once. Dropped without being used, it is given back.
pub trait Claim: Send + Sync {}

/// Why there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unclaimed {
    /// The server is there already, as another life or another process began it, and did not end in time.
    Held(String),
    /// It cannot be told whether it is there.
    Failed(String),
}

/// Is told what is waited for.
pub type Waits<'a> = &'a (dyn Fn(String) + Send + Sync);

/// Opens ways to one server.
pub trait Ways: Send + Sync + 'static {
    /// One more link: one more process, or one more connection over HTTP.
    fn open(&self) -> BoxFuture<'static, Result<Arc<dyn Link>, LinkError>>;

    /// The right to open the next way, waited for, where another process may have it; `waits` hears of that.
    fn claim<'a>(&'a self, _waits: Waits<'a>) -> BoxFuture<'a, Result<Option<Box<dyn Claim>>, Unclaimed>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    /// A life begins: what was read of files and variables is read anew.
    fn renew(&self) {}

    /// What an operator sees of all that was ever opened; null where links say it all themselves. No secrets.
    fn report(&self) -> serde_json::Value {
        serde_json::Value::Null
    }

    /// The way to a server that answers the newer ones with 404 or 405, where there may be one: from now on it is the way.
    fn fall_back(&self) -> Option<BoxFuture<'static, Result<Arc<dyn Link>, LinkError>>> {
        None
    }
}

/// A link to a server that has sessions, after its handshake.
pub struct Opened {
    /// The way.
    pub link: Arc<dyn Link>,
    /// What was settled.
    pub handshake: Handshake,
    /// Numbers of the link, as far as they are used up.
    pub ids: Ids,
}
