//! Certificates made for a test, anew each time so that none runs out, and a client that speaks TLS.

#![allow(
    clippy::allow_attributes,
    dead_code,
    reason = "each test binary uses its own part, and one might use all"
)]

use std::fs::{self, Permissions};
use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::{ToSpan as _, Zoned};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};
use tempfile::TempDir;

use super::{Http, Open, PATIENCE, Reply};

/// An authority of the test's own, and the folder with what it made.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pub folder: TempDir,
}

/// A connection that speaks TLS.
pub type Secure = StreamOwned<ClientConnection, TcpStream>;

impl Authority {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Two authorities of one name would be told apart by their signatures only.
        params.distinguished_name.push(DnType::CommonName, folder.path().display().to_string());
        let certificate = params.self_signed(&key).expect("a certificate");
        fs::write(folder.path().join("ca.pem"), certificate.pem()).expect("a file");
        Self { issuer: Issuer::new(params, key), certificate: certificate.der().clone(), folder }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A certificate for `host` that ends after so many days, as `FILE.pem`, and its key, as `FILE.key`.
    pub fn issue(&self, file: &str, host: &str, days: i64) -> CertificateDer<'static> {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec![host.to_owned()]).expect("a name");
        let ends = Zoned::now().checked_add(days.days()).expect("a day");
        let [year, month, day] = [i64::from(ends.year()), i64::from(ends.month()), i64::from(ends.day())];
        let number = |number: i64| u8::try_from(number).expect("a small number");
        params.not_after = date_time_ymd(i32::try_from(year).expect("a year"), number(month), number(day));
        params.not_before = date_time_ymd(2000, 1, 1);
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        write(&self.path(&format!("{file}.pem")), &certificate.pem());
        write(&self.path(&format!("{file}.key")), &key.serialize_pem());
        certificate.der().clone()
    }

    /// The settings of a server that shows `FILE.pem`.
    pub fn settings(&self, file: &str) -> [(&'static str, String); 2] {
        let path = |end: &str| self.path(&format!("{file}.{end}")).display().to_string();
        [("WAYGATE_TLS_CERT", path("pem")), ("WAYGATE_TLS_KEY", path("key"))]
    }

    /// A client that trusts this authority.
    pub fn client(&self) -> Arc<ClientConfig> {
        self.client_of(rustls::ALL_VERSIONS, None)
    }

    /// The same with these versions of TLS, and with the certificate `FILE.pem` of its own.
    pub fn client_of(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        file: Option<&str>,
    ) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).expect("an authority");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions);
        let builder = builder.expect("versions").with_root_certificates(roots);
        let Some(file) = file else { return Arc::new(builder.with_no_client_auth()) };
        use rustls::pki_types::pem::PemObject as _;
        let chain = CertificateDer::from_pem_file(self.path(&format!("{file}.pem"))).expect("a certificate");
        let key = PrivateKeyDer::from_pem_file(self.path(&format!("{file}.key"))).expect("a key");
        Arc::new(builder.with_client_auth_cert(vec![chain], key).expect("they fit"))
    }
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).expect("a file");
    fs::set_permissions(path, Permissions::from_mode(0o600)).expect("a mode");
}

/// Settings as texts, as the server's command takes them.
pub fn borrowed<'a>(
    settings: &'a [(&'static str, String)],
    more: &[(&'a str, &'a str)],
) -> Vec<(&'a str, &'a str)> {
    settings.iter().map(|(name, value)| (*name, value.as_str())).chain(more.iter().copied()).collect()
}

/// Shakes hands with who listens at `address` and calls itself `host`.
pub fn connect(address: SocketAddr, host: &str, client: &Arc<ClientConfig>) -> io::Result<Secure> {
    over(TcpStream::connect(address)?, host, client)
}

/// The same on a connection that is there.
pub fn over(stream: TcpStream, host: &str, client: &Arc<ClientConfig>) -> io::Result<Secure> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let name = ServerName::try_from(host.to_owned()).expect("a name");
    let link = ClientConnection::new(Arc::clone(client), name).map_err(io::Error::other)?;
    let mut secure = StreamOwned::new(link, stream);
    while secure.conn.is_handshaking() {
        secure.conn.complete_io(&mut secure.sock)?;
    }
    Ok(secure)
}

/// What the other side showed of itself.
pub fn shown(secure: &Secure) -> CertificateDer<'static> {
    secure.conn.peer_certificates().expect("a chain")[0].clone().into_owned()
}

/// Sends a request and gives the stream to be read step by step.
pub fn open(mut secure: Secure, request: &Http, address: SocketAddr) -> Open<Secure> {
    secure.write_all(&request.bytes(address)).expect("the request is taken");
    secure.flush().expect("it is sent");
    Open::on(secure)
}

/// Sends a request on a connection that is kept, and reads the whole reply.
pub fn ask(secure: &mut Secure, request: &Http, address: SocketAddr) -> Reply {
    secure.write_all(&request.bytes(address)).expect("the request is taken");
    secure.flush().expect("it is sent");
    Open::on(secure).finish()
}
