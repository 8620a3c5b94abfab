//! Until when a certificate holds: the one date of X.509 that is needed here, read without a library for the rest.
//!
//! Must not judge a certificate: whoever connects does.

use std::path::Path;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

/// Tags of DER.
const SEQUENCE: u8 = 0x30;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// The version of a certificate, which may be left out.
const VERSION: u8 = 0xa0;

/// When the certificates of a PEM file end, the first to end first.
///
/// # Errors
/// Why that cannot be told, as the end of a sentence that names the file.
pub fn ends(path: &Path) -> Result<Vec<Timestamp>, String> {
    let all = CertificateDer::pem_file_iter(path).map_err(|error| format!("cannot be read: {error}"))?;
    let mut found = Vec::new();
    for certificate in all {
        let certificate = certificate.map_err(|error| format!("is no PEM file of certificates: {error}"))?;
        found.push(end(&certificate).ok_or("holds something that is no certificate")?);
    }
    if found.is_empty() {
        return Err("holds no certificate".to_owned());
    }
    found.sort_unstable();
    Ok(found)
}

/// `notAfter` of a certificate.
fn end(certificate: &[u8]) -> Option<Timestamp> {
    let (SEQUENCE, certificate, _) = element(certificate)? else { return None };
    let (SEQUENCE, mut body, _) = element(certificate)? else { return None };
    if let (VERSION, _, rest) = element(body)? {
        body = rest;
    }
    // The serial number, the signature's algorithm, the issuer.
    for _ in 0..3 {
        (_, _, body) = element(body)?;
    }
    let (SEQUENCE, validity, _) = element(body)? else { return None };
    let (_, _, validity) = element(validity)?;
    let (tag, text, _) = element(validity)?;
    let text = std::str::from_utf8(text).ok()?;
    let text = match tag {
        // RFC 5280, 4.1.2.5.1: two digits from 50 on are of the last century.
        UTC_TIME => format!("{}{text}", if text.get(..2)? < "50" { "20" } else { "19" }),
        GENERALIZED_TIME => text.to_owned(),
        _ => return None,
    };
    let at = DateTime::strptime("%Y%m%d%H%M%SZ", &text).ok()?;
    at.to_zoned(TimeZone::UTC).ok().map(|at| at.timestamp())
}

/// The first element of DER: its tag, its content, and what comes after it.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = bytes.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..0x80 => (usize::from(*first), rest),
        _ => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            if digits.len() > size_of::<u32>() {
                return None;
            }
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
        }
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((*tag, content, rest))
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
        assert_eq!(element(&[0x30, 0x84, 0xff]), None);
    }
}
