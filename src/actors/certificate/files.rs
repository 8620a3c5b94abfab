//! From the files that the operator names to what TLS is spoken with, or to why not. Blocks. Must not know who is served.

use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{Error as PemError, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{Error, RootCertStore, ServerConfig};
use sha2::{Digest as _, Sha256};

use super::validity;
use crate::config::Tls;

/// No such file is larger.
const FILE_MAX_BYTES: u64 = 1 << 20;
/// What others, and the group beyond reading, may not do with a key.
const FORBIDDEN_MODE: u32 = 0o027;
/// The only version of HTTP that is spoken here.
const HTTP_1_1: &[u8] = b"http/1.1";

/// Which files.
#[derive(Debug, Clone)]
pub(super) struct Files {
    pub(super) cert: PathBuf,
    pub(super) key: PathBuf,
    pub(super) client_ca: Option<PathBuf>,
}

/// What they held.
pub(super) struct Held {
    pub(super) config: Arc<ServerConfig>,
    /// When the certificate ends.
    pub(super) until: Timestamp,
    /// Of all that was read: what is the same is not put in place of itself.
    pub(super) digest: [u8; 32],
}

impl Files {
    /// Those that are set; none where none is.
    pub(super) fn of(tls: &Tls) -> Option<Self> {
        let (cert, key) = tls.cert.clone().zip(tls.key.clone())?;
        Some(Self { cert, key, client_ca: tls.client_ca.clone() })
    }

    /// Reads them.
    ///
    /// # Errors
    /// A sentence: which setting, which file, what is wrong with it, and what to do.
    pub(super) fn read(&self, now: Timestamp) -> Result<Held, String> {
        let cert = contents(&self.cert, "tls.cert", false)?;
        let key = contents(&self.key, "tls.key", true)?;
        let client_ca = self.client_ca.as_deref().map(|path| contents(path, "tls.client_ca", false));
        let client_ca = client_ca.transpose()?;
        let chain = certificates(&cert, &self.cert, "tls.cert")?;
        let until = self.holds(&chain, now)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let certified = self.certified(chain, &key, &provider)?;
        let verifier = match (&self.client_ca, &client_ca) {
            (Some(path), Some(text)) => clients(path, text, &provider)?,
            _ => WebPkiClientVerifier::no_client_auth(),
        };
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("TLS cannot be set up: {error}"))?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        config.alpn_protocols = vec![HTTP_1_1.to_vec()];
        let mut digest = Sha256::new();
        for part in [&cert, &key, &client_ca.unwrap_or_default()] {
            digest.update(Sha256::digest(part));
        }
        Ok(Held { config: Arc::new(config), until, digest: digest.finalize().into() })
    }

    /// Until when the first certificate of the chain holds, if it does now.
    fn holds(&self, chain: &[CertificateDer<'_>], now: Timestamp) -> Result<Timestamp, String> {
        let shown = self.cert.display();
        let (from, until) = chain.first().and_then(|first| validity::of(first)).ok_or_else(|| {
            format!("tls.cert {shown} has no well-formed certificate first; export it again, as PEM")
        })?;
        if now < from {
            return Err(format!(
                "the certificate in tls.cert {shown} holds from {} on only, and it is {} here; set this machine's clock, or \
                 give one that holds",
                day(from),
                day(now)
            ));
        }
        if now >= until {
            return Err(format!(
                "the certificate in tls.cert {shown} ended on {}; renew it and give the new files",
                day(until)
            ));
        }
        Ok(until)
    }

    fn certified(
        &self,
        chain: Vec<CertificateDer<'static>>,
        key: &[u8],
        provider: &CryptoProvider,
    ) -> Result<CertifiedKey, String> {
        let shown = self.key.display();
        let secret = PrivateKeyDer::from_pem_slice(key).map_err(|error| {
            let is_locked = key.windows(9).any(|word| word == b"ENCRYPTED");
            let locked = || {
                format!(
                    "tls.key {shown} is locked with a passphrase, which nobody can type at a start; unlock it with \
                     `openssl pkey -in {shown} -out KEY`"
                )
            };
            if is_locked { locked() } else { malformed(&self.key, "tls.key", &error, "private key") }
        })?;
        CertifiedKey::from_der(chain, secret, provider).map_err(|error| match error {
            Error::InconsistentKeys(_) => format!(
                "tls.key {shown} is not the key of the first certificate in tls.cert {}; give those that belong together, the \
                 server's own certificate before those of its authorities",
                self.cert.display()
            ),
            Error::InvalidCertificate(_) => format!(
                "tls.cert {} has no certificate first that a server can show; give one made for TLS servers",
                self.cert.display()
            ),
            // What the reader says of a key is not repeated: it may quote it.
            _ => format!("tls.key {shown} is of a kind that cannot be used; make an ECDSA, Ed25519 or RSA key"),
        })
    }
}

/// The day of a moment, in UTC.
pub(super) fn day(at: Timestamp) -> String {
    at.strftime("%F").to_string()
}

/// Who vouches for clients.
fn clients(
    path: &Path,
    text: &[u8],
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let shown = path.display();
    let unusable = |error: &dyn std::fmt::Display| {
        format!(
            "tls.client_ca {shown} has a certificate that cannot vouch for clients: {error}; give those of authorities"
        )
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(text, path, "tls.client_ca")? {
        roots.add(certificate).map_err(|error| unusable(&error))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|error| unusable(&error))
}

fn certificates(text: &[u8], path: &Path, setting: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    let found = found.map_err(|error| malformed(path, setting, &error, "certificate"))?;
    if found.is_empty() {
        return Err(malformed(path, setting, &PemError::NoItemsFound, "certificate"));
    }
    Ok(found)
}

fn malformed(path: &Path, setting: &str, error: &PemError, wanted: &str) -> String {
    let shown = path.display();
    match error {
        PemError::NoItemsFound => {
            format!(
                "{setting} {shown} holds no {wanted}; it must be a PEM file, with a line `-----BEGIN …-----`"
            )
        }
        // What else the reader says may quote the file, which may hold a key.
        _ => format!("{setting} {shown} is no well-formed PEM file; export it again"),
    }
}

/// What a file holds. Whether others may read a secret one is asked of the very file that is read.
fn contents(path: &Path, setting: &str, is_secret: bool) -> Result<Vec<u8>, String> {
    let shown = path.display();
    let unreadable = |error: io::Error| {
        let what = match error.kind() {
            io::ErrorKind::NotFound => "is not there".to_owned(),
            io::ErrorKind::PermissionDenied => "may not be read by this user".to_owned(),
            _ => format!("cannot be read ({error})"),
        };
        format!("{setting} {shown} {what}; mend the path or its permissions")
    };
    // Opening a pipe would wait for who writes to it.
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(unreadable)?;
    let about = file.metadata().map_err(unreadable)?;
    if !about.is_file() {
        return Err(format!("{setting} {shown} is no file; name a PEM file"));
    }
    if is_secret && about.permissions().mode() & FORBIDDEN_MODE != 0 {
        return Err(format!(
            "{setting} {shown} can be read by others, or written by its group, so that the key is no secret; run: chmod 600 \
             {shown}"
        ));
    }
    let mut held = Vec::new();
    file.take(FILE_MAX_BYTES + 1).read_to_end(&mut held).map_err(unreadable)?;
    if held.len() as u64 > FILE_MAX_BYTES {
        return Err(format!("{setting} {shown} is larger than {FILE_MAX_BYTES} bytes; name a PEM file"));
    }
    Ok(held)
}
