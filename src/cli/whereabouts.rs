//! Where a client of this server goes: to the one that runs on the data folder, whatever address the configuration names, else to that
//! address. Must not know what is asked there.

use std::time::Duration;

use serde_json::Value;

use super::remote::{ClientError, origin_of, reachable, url_of};
use super::running::Running;
use crate::config::Config;

/// What a server shows of itself is at hand.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Where the server is.
#[derive(Debug, PartialEq, Eq)]
pub enum Whereabouts {
    /// It runs on the data folder, and listens there; none where it has no address that this machine reaches.
    Here(Option<String>),
    /// None runs on the data folder, as far as this user may see; the configuration names this address, if any.
    Perhaps(Option<String>),
}

impl Whereabouts {
    /// Looks for it.
    ///
    /// # Errors
    /// When one owns the data folder and does not answer.
    pub fn of(config: &Config) -> Result<Self, ClientError> {
        match Running::of(config).within(ANSWER_WITHIN).get("/diagnostics/connection") {
            Ok(Some(shown)) => Ok(Self::Here(listening(&shown))),
            // The folder is another user's: that server is reached as any other, by its address.
            Ok(None) | Err(ClientError::Refused { status: 403, .. }) => Ok(Self::configured(config)),
            Err(error) => Err(error),
        }
    }

    /// Where the configuration says that it is to be. A port that the kernel chooses is not known before.
    pub fn configured(config: &Config) -> Self {
        Self::Perhaps((config.server.port != 0).then(|| url_of(config)))
    }

    /// The URL of its endpoint, where there is one.
    pub fn url(&self) -> Option<&str> {
        let (Self::Here(url) | Self::Perhaps(url)) = self;
        url.as_deref()
    }
}

/// The endpoint that the server itself says it listens at, as seen from this machine.
fn listening(shown: &Value) -> Option<String> {
    let listeners = shown.get("listeners").and_then(Value::as_array).into_iter().flatten();
    let (scheme, host, port) = listeners.filter_map(Value::as_str).find_map(origin_of)?;
    Some(format!("{scheme}://{}:{port}/mcp", reachable(&host)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_listens_everywhere_is_reached_at_this_machine() {
        for (listeners, wanted) in [
            (json!(["http://127.0.0.1:8000", "unix:/data/waygate.sock"]), Some("http://127.0.0.1:8000/mcp")),
            (json!(["unix:/data/waygate.sock", "https://0.0.0.0:8443"]), Some("https://127.0.0.1:8443/mcp")),
            (json!(["http://[::]:9"]), Some("http://[::1]:9/mcp")),
            (json!(["http://10.0.0.7:9"]), Some("http://10.0.0.7:9/mcp")),
            (json!(["unix:/data/waygate.sock"]), None),
        ] {
            assert_eq!(listening(&json!({"listeners": listeners})).as_deref(), wanted, "{listeners}");
        }
        assert_eq!(listening(&json!({})), None);
    }
}
