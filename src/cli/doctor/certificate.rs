//! Until when the certificates of a file hold. Must not judge a certificate: whoever connects does.

use std::path::Path;

use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::app::validity_of;

/// When the certificates of a PEM file end, the first to end first.
///
/// # Errors
/// Why that cannot be told, as the end of a sentence that names the file.
pub fn ends(path: &Path) -> Result<Vec<Timestamp>, String> {
    let all = CertificateDer::pem_file_iter(path).map_err(|error| format!("cannot be read: {error}"))?;
    let mut found = Vec::new();
    for certificate in all {
        let certificate = certificate.map_err(|error| format!("is no PEM file of certificates: {error}"))?;
        let (_, end) = validity_of(&certificate).ok_or("holds something that is no certificate")?;
        found.push(end);
    }
    if found.is_empty() {
        return Err("holds no certificate".to_owned());
    }
    found.sort_unstable();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_end_of_a_certificate_is_read_and_what_is_none_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cert.pem");
        let make = |year: i32| {
            let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
            params.not_after = rcgen::date_time_ymd(year, 2, 3);
            params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem()
        };
        // From 2050 on the date is written otherwise.
        fs::write(&path, make(2051) + &make(2031)).unwrap();
        let wanted = ["2031-02-03T00:00:00Z", "2051-02-03T00:00:00Z"].map(|at| at.parse().unwrap());
        assert_eq!(ends(&path).unwrap(), wanted);
        for (text, why) in [
            ("", "no certificate"),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "is no certificate"),
        ] {
            fs::write(&path, text).unwrap();
            assert!(ends(&path).unwrap_err().contains(why), "{text}");
        }
        assert!(ends(&folder.path().join("none")).unwrap_err().contains("cannot be read"));
    }
}
