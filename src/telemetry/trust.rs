//! Whom clients of https trust here: the certificate authorities of the system, as plugins do. Must not know who is spoken to.

use std::sync::Arc;

use ureq::tls::{Certificate, RootCerts, TlsConfig};

/// For an agent that may be given any URL; nothing is read for one without https.
pub fn of(url: &str) -> TlsConfig {
    let is_needed = url.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https:"));
    // With `SSL_CERT_FILE` it is another file: that of a private authority.
    let found = is_needed.then(rustls_native_certs::load_native_certs).unwrap_or_default();
    let roots: Vec<Certificate<'static>> =
        found.certs.iter().map(|root| Certificate::from_der(root).to_owned()).collect();
    TlsConfig::builder()
        .root_certs(RootCerts::new_with_certs(&roots))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build()
}
