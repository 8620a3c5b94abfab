//! Where the load goes: a URL taken apart, its addresses, and whether they are this machine's own. Must not know what is sent.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::Uri;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::LoadError;
use super::wire::Wire;

/// How long a name is looked up.
const LOOKUP_WITHIN: Duration = Duration::from_secs(5);

/// A server's URL, ready to be connected to.
#[derive(Clone)]
pub struct Target {
    url: String,
    /// `host` or `host:port`, as the header `Host` wants it.
    authority: String,
    path: String,
    addresses: Vec<SocketAddr>,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Target {
    /// Takes the URL apart and looks its name up. Another machine is not loaded unless that is wanted: by then each address has
    /// been looked at, and no other one is connected to later.
    ///
    /// # Errors
    /// When it is no URL, has no address, or leads elsewhere.
    pub async fn find(url: &str, allow_remote: bool) -> Result<Self, LoadError> {
        let wrong = |why: &str| LoadError::Usage(format!("{url} is no URL to load: {why}"));
        let uri: Uri = url.parse().map_err(|error| wrong(&format!("{error}")))?;
        let secure = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(wrong("it begins with http:// or https://")),
        };
        let authority = uri.authority().ok_or_else(|| wrong("it names no host"))?;
        if authority.as_str().contains('@') {
            return Err(wrong("a user and a password have no place in it; name a file with --key-file"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let found = timeout(LOOKUP_WITHIN, lookup_host((host.as_str(), port))).await;
        let unknown = |why: String| LoadError::Unreachable { url: url.to_owned(), why };
        let found = found.map_err(|_elapsed| unknown("its name was not looked up in time".to_owned()))?;
        let addresses: Vec<SocketAddr> = found.map_err(|error| unknown(error.to_string()))?.collect();
        if let Some(far) = addresses.iter().find(|address| !is_loopback(address))
            && !allow_remote
        {
            return Err(LoadError::Usage(format!(
                "{url} leads to {}, which is not this machine; if that server is yours to load, say --allow-remote",
                far.ip()
            )));
        }
        let tls = match secure {
            true => Some((connector(url)?, name_of(url, &host)?)),
            false => None,
        };
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(Self { url: url.to_owned(), authority: authority.as_str().to_owned(), path, addresses, tls })
    }

    /// As it was given.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What `Host` says.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Where requests go at it.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What its name stood for when it was looked at.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Whether it is on this machine.
    pub fn is_near(&self) -> bool {
        self.addresses.iter().all(is_loopback)
    }

    /// Opens a connection. Whoever calls sets a deadline.
    ///
    /// # Errors
    /// What the network says of the last address.
    pub async fn connect(&self) -> std::io::Result<Wire> {
        let mut last = std::io::Error::from(std::io::ErrorKind::AddrNotAvailable);
        for address in &self.addresses {
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    // Without it each request would wait for what was sent before to be acknowledged.
                    stream.set_nodelay(true)?;
                    return match &self.tls {
                        None => Ok(Wire::new(stream)),
                        Some((tls, name)) => Ok(Wire::new(tls.connect(name.clone(), stream).await?)),
                    };
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// The same with the address first that answers, so that later connections need not try others.
    ///
    /// # Errors
    /// What the network says of the last address.
    pub async fn settled(mut self) -> std::io::Result<Self> {
        let mut last = None;
        for (at, address) in self.addresses.iter().enumerate() {
            match TcpStream::connect(address).await {
                Ok(_answers) => {
                    self.addresses.swap(0, at);
                    self.addresses.truncate(1);
                    return Ok(self);
                }
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| std::io::ErrorKind::AddrNotAvailable.into()))
    }
}

fn is_loopback(address: &SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

fn connector(url: &str) -> Result<TlsConnector, LoadError> {
    let mut roots = RootCertStore::empty();
    // With `SSL_CERT_FILE` it is another file: that of a private authority.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config =
        config.map_err(|error| LoadError::Usage(format!("TLS cannot be spoken with {url}: {error}")))?;
    Ok(TlsConnector::from(Arc::new(config.with_root_certificates(roots).with_no_client_auth())))
}

fn name_of(url: &str, host: &str) -> Result<ServerName<'static>, LoadError> {
    let name = ServerName::try_from(host.to_owned());
    name.map_err(|_| LoadError::Usage(format!("{url} names a host that no certificate could hold for")))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn why(url: &str) -> String {
        Target::find(url, false).await.err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[tokio::test]
    async fn a_url_is_taken_apart_and_another_machine_is_left_alone_unless_it_is_wanted() {
        let target = Target::find("http://127.0.0.1:8000/mcp/files?x=1", false).await.unwrap();
        assert_eq!((target.authority(), target.path()), ("127.0.0.1:8000", "/mcp/files?x=1"));
        assert!(target.is_near());
        assert!(Target::find("http://[::1]:1/", false).await.unwrap().is_near());
        assert!(why("http://192.0.2.1/mcp").await.contains("--allow-remote"));
        // An address of IPv4 within IPv6 is what it is within.
        assert!(why("http://[::ffff:192.0.2.1]/mcp").await.contains("--allow-remote"));
        let remote = Target::find("http://192.0.2.1/mcp", true).await.unwrap();
        assert!(!remote.is_near() && remote.addresses == ["192.0.2.1:80".parse().unwrap()]);
        for (url, says) in [
            ("127.0.0.1:8000", "http://"),
            ("ftp://127.0.0.1/", "http://"),
            ("http://ada:secret@127.0.0.1/", "--key-file"),
        ] {
            assert!(why(url).await.contains(says), "{url}: {}", why(url).await);
        }
    }
}
