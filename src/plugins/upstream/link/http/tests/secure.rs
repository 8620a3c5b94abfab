//! TLS with certificates made for the test, and proxies.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use hyper::header::HeaderMap;
use hyper_util::client::proxy::matcher::Matcher;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::config::plugin::Tls;
use crate::plugins::upstream::link::http::connector::Connector;
use crate::plugins::upstream::link::testing::{Log, Script, converse};

/// An authority of the test's own, and where its files are.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    folder: tempfile::TempDir,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Two authorities of one name would be told apart by their signatures only.
        params.distinguished_name.push(DnType::CommonName, folder.path().display().to_string());
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(folder.path().join("ca.pem"), certificate.pem()).unwrap();
        Self { issuer: Issuer::new(params, key), certificate: certificate.der().clone(), folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A certificate and its key, also as files `NAME.pem` and `NAME.key`.
    fn issue(&self, name: &str) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.path(&format!("{name}.pem")), certificate.pem()).unwrap();
        std::fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
        (certificate.der().clone(), PrivateKeyDer::Pkcs8(key.serialize_der().into()))
    }

    /// Speaks TLS as `name`; wants a certificate of the client when `both` is set.
    fn acceptor(&self, name: &str, both: bool) -> TlsAcceptor {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let (certificate, key) = self.issue(name);
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = if both {
            let mut roots = RootCertStore::empty();
            roots.add(self.certificate.clone()).unwrap();
            let verifier =
                rustls::server::WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        } else {
            builder.with_no_client_auth()
        };
        TlsAcceptor::from(Arc::new(builder.with_single_cert(vec![certificate], key).unwrap()))
    }

    fn tls(&self) -> Tls {
        Tls { ca: Some(self.path("ca.pem")), ..Tls::default() }
    }
}

fn script() -> Script {
    Arc::new(|_, _: &Heard| vec![json(RESULT)])
}

async fn secure(acceptor: TlsAcceptor) -> (String, Arc<Log>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let log = Arc::<Log>::default();
    let seen = Arc::clone(&log);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(stream) = acceptor.accept(stream).await {
                seen.accepted.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(converse(stream, script(), Arc::clone(&seen)));
            }
        }
    });
    (format!("https://localhost:{port}/"), log)
}

fn trusting(url: &str, tls: Tls) -> HttpLink {
    with_key(url, |reach| reach.tls = tls)
}

#[tokio::test]
async fn a_server_is_trusted_for_the_sake_of_an_authority_of_ones_own() {
    let authority = Authority::new();
    let (url, log) = secure(authority.acceptor("localhost", false)).await;
    let link = trusting(&url, authority.tls());
    assert_eq!(call(&link, Some(MODERN)).await, ["result {}"]);
    assert_eq!(call(&link, Some(MODERN)).await, ["result {}"]);
    assert_eq!((log.accepted(), log.heard().len()), (1, 2));
}

#[tokio::test]
async fn a_server_that_is_not_trusted_gets_no_request() {
    let (authority, other) = (Authority::new(), Authority::new());
    let (url, log) = secure(authority.acceptor("localhost", false)).await;
    let said = call(&trusting(&url, other.tls()), Some(MODERN)).await;
    assert!(said[0].starts_with("unreachable: ") && said[0].contains("tls.ca"), "{said:?}");
    let (elsewhere, _) = secure(authority.acceptor("elsewhere.test", false)).await;
    let said = call(&trusting(&elsewhere, authority.tls()), Some(MODERN)).await;
    assert!(said[0].starts_with("unreachable: "), "{said:?}");
    assert!(log.heard().is_empty());
}

#[tokio::test]
async fn a_certificate_of_ones_own_is_shown_to_a_server_that_wants_one() {
    let authority = Authority::new();
    let (url, log) = secure(authority.acceptor("localhost", true)).await;
    let said = call(&trusting(&url, authority.tls()), Some(MODERN)).await;
    assert!(!said[0].starts_with("result"), "{said:?}");
    assert!(log.heard().is_empty());
    authority.issue("me");
    let tls =
        Tls { cert: Some(authority.path("me.pem")), key: Some(authority.path("me.key")), ..authority.tls() };
    assert_eq!(call(&trusting(&url, tls), Some(MODERN)).await, ["result {}"]);
    let tls = Tls {
        cert: Some(authority.path("me.pem")),
        key: Some(authority.path("localhost.key")),
        ..authority.tls()
    };
    let mut reach = reach(&url);
    reach.tls = tls;
    let error = HttpLink::open(&reach, HeaderMap::new(), 1).err().unwrap().to_string();
    assert!(error.contains("localhost.key") && error.contains("do not fit"), "{error}");
}

/// A link to `url` through a proxy.
fn through(proxy: &str, url: &str, tls: &Tls) -> Result<HttpLink, LinkError> {
    let matcher = Matcher::builder().all(proxy).no("direct.test").build();
    let uri = url.parse().unwrap();
    let connector =
        Connector::with_matcher(&uri, Vec::new(), Some(&matcher), tls).map_err(LinkError::Unreachable)?;
    Ok(HttpLink::over(&HttpCore::with_connector(uri, connector, HeaderMap::new(), 1 << 16)?))
}

#[tokio::test]
async fn a_proxy_is_told_the_whole_url_and_its_own_credential() {
    let (proxy, log) = serve(|_, _: &Heard| vec![json(RESULT)]).await;
    let proxy = proxy.replace("http://", "http://me:s3cret@");
    let link = through(&proxy, "http://server.test/mcp", &Tls::default()).unwrap();
    assert_eq!(call(&link, Some(MODERN)).await, ["result {}"]);
    let heard = log.heard().remove(0);
    assert_eq!((heard.line.as_str(), heard.header("host")), ("POST http://server.test/mcp", "server.test"));
    assert_eq!(heard.header("proxy-authorization"), "Basic bWU6czNjcmV0");
}

#[tokio::test]
async fn a_redirect_through_a_proxy_stays_within_its_origin() {
    let (proxy, log) = serve(|_, heard: &Heard| match heard.line.as_str() {
        "POST http://server.test/a" => vec![answer(307, "text/plain", "location: /b\r\n", "")],
        _ => vec![answer(307, "text/plain", "location: http://inner.test/\r\n", "")],
    })
    .await;
    let said = call(&through(&proxy, "http://server.test/a", &Tls::default()).unwrap(), Some(MODERN)).await;
    assert!(said[0].contains("cannot be judged through a proxy"), "{said:?}");
    assert_eq!(log.heard().len(), 2);
    let said =
        call(&through(&proxy, "http://169.254.169.254/", &Tls::default()).unwrap(), Some(MODERN)).await;
    assert!(said[0].contains("allow_ranges"), "{said:?}");
    assert_eq!(log.heard().len(), 2);
}

#[tokio::test]
async fn tls_goes_through_a_proxy_as_through_a_tunnel() {
    let authority = Authority::new();
    let acceptor = authority.acceptor("server.test", false);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = format!("http://me:s3cret@{}", listener.local_addr().unwrap());
    let (log, asked) = (Arc::<Log>::default(), Arc::<Mutex<String>>::default());
    let (seen, head) = (Arc::clone(&log), Arc::clone(&asked));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            *head.lock().unwrap() = connect(&mut stream).await;
            let stream = acceptor.accept(stream).await.unwrap();
            tokio::spawn(converse(stream, script(), Arc::clone(&seen)));
        }
    });
    let link = through(&proxy, "https://server.test/mcp", &authority.tls()).unwrap();
    assert_eq!(call(&link, Some(MODERN)).await, ["result {}"]);
    assert!(asked.lock().unwrap().starts_with("CONNECT server.test:443 HTTP/1.1\r\n"), "{asked:?}");
    assert!(asked.lock().unwrap().contains("Basic bWU6czNjcmV0"));
    let heard = log.heard().remove(0);
    assert_eq!((heard.line.as_str(), heard.header("proxy-authorization")), ("POST /mcp", ""));
}

/// Reads a CONNECT and grants it.
async fn connect(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
    String::from_utf8(head).unwrap()
}

#[tokio::test]
async fn proxies_are_passed_by_where_they_should_be_and_other_kinds_are_refused() {
    // This machine is never reached through a proxy.
    let (url, _) = serve(|_, _: &Heard| vec![json(RESULT)]).await;
    let link = through("http://127.0.0.1:1", &url, &Tls::default()).unwrap();
    assert_eq!(call(&link, Some(MODERN)).await, ["result {}"]);
    // Nor what NO_PROXY names, which is then looked up here.
    let said =
        call(&through("http://127.0.0.1:1", "http://direct.test/", &Tls::default()).unwrap(), LEGACY).await;
    assert!(said[0].contains("direct.test cannot be resolved"), "{said:?}");
    let said =
        call(&through("http://127.0.0.1:1", "http://server.test/", &Tls::default()).unwrap(), LEGACY).await;
    assert!(said[0].contains("the proxy http://127.0.0.1:1 cannot be reached"), "{said:?}");
    let error = through("socks5://127.0.0.1:1", "http://server.test/", &Tls::default()).err().unwrap();
    assert!(error.to_string().contains("only http:// proxies"), "{error}");
}
