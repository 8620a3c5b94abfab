//! What a link to `https` trusts, and what it shows of itself: the system's authorities, further ones, a certificate.
//!
//! Reads files, and blocks while it does. Must not know hosts or connections.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::config::plugin::Tls;

/// The system's authorities: read once, when the first `https` is spoken.
static SYSTEM: OnceLock<Arc<RootCertStore>> = OnceLock::new();

/// Makes the configuration of one plugin's connections.
///
/// # Errors
/// Which file cannot be used, and why; or that there is nothing to trust.
pub fn configure(tls: &Tls) -> Result<Arc<ClientConfig>, String> {
    let roots = roots(tls.ca.as_deref())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS cannot be set up: {error}"))?
        .with_root_certificates(roots);
    let config = match (&tls.cert, &tls.key) {
        (None, None) => builder.with_no_client_auth(),
        (Some(cert), Some(key)) => {
            let chain = certificates(cert, "tls.cert")?;
            let secret =
                PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(key, "tls.key", &error))?;
            builder.with_client_auth_cert(chain, secret).map_err(|error| {
                format!("tls.cert {} and tls.key {} do not fit: {error}", cert.display(), key.display())
            })?
        }
        _ => return Err("tls.cert and tls.key belong together: give both, or none".into()),
    };
    Ok(Arc::new(config))
}

fn roots(ca: Option<&Path>) -> Result<Arc<RootCertStore>, String> {
    let system = SYSTEM.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            log::warn!("a certificate authority of the system is left out: {error}");
        }
        roots.add_parsable_certificates(found.certs);
        Arc::new(roots)
    });
    let Some(ca) = ca else {
        return if system.is_empty() {
            Err("no certificate authorities are installed, so that no https server can be trusted: install the \
                 package ca-certificates, or name a bundle as tls.ca"
                .into())
        } else {
            Ok(Arc::clone(system))
        };
    };
    let mut roots = RootCertStore::clone(system);
    for certificate in certificates(ca, "tls.ca")? {
        roots.add(certificate).map_err(|error| {
            format!("tls.ca {} has a certificate that cannot be used: {error}", ca.display())
        })?;
    }
    Ok(Arc::new(roots))
}

fn certificates(path: &Path, setting: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(path).map_err(|error| unusable(path, setting, &error))?;
    let found: Result<Vec<_>, _> = read.collect();
    let found = found.map_err(|error| unusable(path, setting, &error))?;
    if found.is_empty() {
        return Err(format!("{setting} {} holds no certificate: it must be a PEM file", path.display()));
    }
    Ok(found)
}

fn unusable(path: &Path, setting: &str, error: &PemError) -> String {
    let why = match error {
        PemError::Io(error) => error.to_string(),
        PemError::NoItemsFound => "it holds nothing of that kind; it must be a PEM file".to_owned(),
        // What else the reader says may quote the file, which may hold a key.
        _ => "it is not a well-formed PEM file".to_owned(),
    };
    format!("{setting} {} cannot be used: {why}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_used_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let junk = folder.path().join("junk.pem");
        std::fs::write(&junk, "-----BEGIN PRIVATE KEY-----\ns3cret!\n-----END PRIVATE KEY-----\n").unwrap();
        let absent = folder.path().join("absent.pem");
        for (tls, says) in [
            (Tls { ca: Some(absent.clone()), ..Tls::default() }, "absent.pem"),
            (Tls { ca: Some(junk.clone()), ..Tls::default() }, "tls.ca"),
            (Tls { cert: Some(junk.clone()), ..Tls::default() }, "belong together"),
        ] {
            let error = configure(&tls).unwrap_err();
            assert!(error.contains(says) && !error.contains("s3cret"), "{error}");
        }
    }
}
