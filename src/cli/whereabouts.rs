//! Where a client of this server goes: to the address that is typed, else to the one that runs on the data folder, whatever address the
//! configuration names, else to that address. Must not know what is asked there.

use std::path::Path;

use serde_json::Value;

use super::remote::{ClientError, origin_of, reachable, url_of};
use super::running::Running;
use crate::config::{Config, Layer};

/// Where the server is.
#[derive(Debug, PartialEq, Eq)]
pub enum Whereabouts {
    /// At this address, whoever runs on the data folder: it is typed, or the server that owns the folder cannot be asked there.
    Named(String),
    /// It runs on the data folder, and listens where the configuration says.
    Here(String),
    /// It runs on the data folder, and listens elsewhere; none where it has no address that this machine reaches. That is its word
    /// alone: where machines or containers share the folder, somebody else may listen at that address of this one.
    Elsewhere(Option<String>),
    /// None runs on the data folder, as far as this user may see; the configuration names this address, if any.
    Perhaps(Option<String>),
}

impl Whereabouts {
    /// Looks for it.
    ///
    /// # Errors
    /// When one owns the data folder and does not answer.
    pub fn of(config: &Config) -> Result<Self, ClientError> {
        let has_port = config.server.port != 0;
        if has_port && is_typed(config) {
            return Ok(Self::Named(url_of(config)));
        }
        match Running::of(config).at_hand().get("/diagnostics/connection") {
            Ok(Some(shown)) => Ok(Self::running(config, &shown)),
            // The folder is another user's: that server is reached as any other, by its address.
            Ok(None) | Err(ClientError::Refused { status: 403, .. }) => Ok(Self::configured(config)),
            // It has no socket where the file system knows none.
            Err(ClientError::Strange { .. }) if has_port => Ok(Self::Named(url_of(config))),
            Err(error) => Err(error),
        }
    }

    /// Where the configuration says that it is to be. A port that the kernel chooses is not known before.
    pub fn configured(config: &Config) -> Self {
        Self::Perhaps((config.server.port != 0).then(|| url_of(config)))
    }

    /// Where the one is that shows this. At the configured port it goes by the configured name: that one it answers to, and its
    /// certificate holds for that.
    fn running(config: &Config, shown: &Value) -> Self {
        let is_configured = |(scheme, _, port): &(String, String, u16)| {
            scheme == config.scheme() && *port == config.server.port
        };
        if listeners(shown).any(|listener| is_configured(&listener)) {
            return Self::Here(url_of(config));
        }
        let listener = listeners(shown).next();
        Self::Elsewhere(
            listener.map(|(scheme, host, port)| format!("{scheme}://{}:{port}/mcp", reachable(&host))),
        )
    }

    /// The URL of its endpoint, where there is one.
    pub fn url(&self) -> Option<&str> {
        match self {
            Self::Named(url) | Self::Here(url) => Some(url),
            Self::Elsewhere(url) | Self::Perhaps(url) => url.as_deref(),
        }
    }

    /// Why there is no URL.
    pub fn why_no_url(&self, root: &Path) -> String {
        let root = root.display();
        match self {
            Self::Elsewhere(_) => format!(
                "what runs on {root} listens at the socket there, and at no address; name the URL of another server"
            ),
            _ => format!(
                "no server runs on {root}, and server.port is 0, so that its port is not known; start one, or name its \
                 URL (`loadtest URL`, `client --url URL`)"
            ),
        }
    }

    /// Why no key goes to that URL, where none does.
    pub fn why_no_key(&self, root: &Path) -> Option<String> {
        let Self::Elsewhere(Some(url)) = self else { return None };
        Some(format!(
            "the server on {} says that it listens at {url}, which is not the configured address, and the key goes nowhere on that \
             word alone; name that URL, or set server.host and server.port as that server has them",
            root.display()
        ))
    }
}

/// Whether the address was typed on this command line.
fn is_typed(config: &Config) -> bool {
    config.shown.iter().any(|shown| {
        matches!(shown.setting.flag, Some("--host" | "--port"))
            && shown.origin.as_ref().is_some_and(|origin| origin.layer == Layer::Flag)
    })
}

/// The addresses that the server itself says it listens at; its socket is none.
fn listeners(shown: &Value) -> impl Iterator<Item = (String, String, u16)> {
    let listeners = shown.get("listeners").and_then(Value::as_array).into_iter().flatten();
    listeners.filter_map(Value::as_str).filter_map(origin_of)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::{Sources, load};

    #[test]
    fn at_the_configured_port_it_goes_by_the_configured_name_and_else_by_its_own_word() {
        let folder = std::path::PathBuf::from("/nowhere");
        let key = "0123456789abcdef0123456789abcdef";
        let environment = [("WAYGATE_HOST", "mcp.internal"), ("WAYGATE_API_KEY", key)];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let (home, working_folder, system_folder) = (Some(folder.clone()), folder.clone(), folder);
        let sources = Sources { environment, home, working_folder, system_folder, ..Default::default() };
        let config = load(&sources).unwrap().config;
        let here = Whereabouts::Here("http://mcp.internal:8000/mcp".to_owned());
        let elsewhere = |url: &str| Whereabouts::Elsewhere(Some(url.to_owned()));
        for (listeners, wanted) in [
            (json!(["http://10.0.0.7:8000", "unix:/data/waygate.sock"]), here),
            (json!(["http://127.0.0.1:9"]), elsewhere("http://127.0.0.1:9/mcp")),
            (
                json!(["unix:/data/waygate.sock", "https://0.0.0.0:8000"]),
                elsewhere("https://127.0.0.1:8000/mcp"),
            ),
            (json!(["http://[::]:9"]), elsewhere("http://[::1]:9/mcp")),
            (json!(["http://10.0.0.7:9"]), elsewhere("http://10.0.0.7:9/mcp")),
            (json!(["unix:/data/waygate.sock"]), Whereabouts::Elsewhere(None)),
            (json!(null), Whereabouts::Elsewhere(None)),
        ] {
            assert_eq!(
                Whereabouts::running(&config, &json!({"listeners": listeners})),
                wanted,
                "{listeners}"
            );
        }
    }
}
