//! When a certificate begins to hold and when it ends, read from its bytes: RFC 5280, section 4.1. Must not know files.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

const INTEGER: u8 = 0x02;
const SEQUENCE: u8 = 0x30;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// The version stands under a tag of its own, and may be left out.
const VERSION: u8 = 0xa0;

/// From when, and until when; none when these bytes are no certificate.
pub fn of(der: &[u8]) -> Option<(Timestamp, Timestamp)> {
    let (certificate, _signature) = part(der, SEQUENCE)?;
    let (body, _) = part(certificate, SEQUENCE)?;
    let body = part(body, VERSION).map_or(body, |(_, rest)| rest);
    let (_serial_number, body) = part(body, INTEGER)?;
    let (_algorithm, body) = part(body, SEQUENCE)?;
    let (_issuer, body) = part(body, SEQUENCE)?;
    let (validity, _) = part(body, SEQUENCE)?;
    let (from, rest) = moment(validity)?;
    let (until, _) = moment(rest)?;
    Some((from, until))
}

/// The contents of the element that `der` begins with, if it is one of this tag, and what follows it.
fn part(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let [first, length, rest @ ..] = der else { return None };
    if *first != tag {
        return None;
    }
    if *length < 0x80 {
        return rest.split_at_checked(usize::from(*length));
    }
    let (digits, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
    if digits.len() > 4 {
        return None;
    }
    rest.split_at_checked(digits.iter().fold(0, |sum, digit| sum << 8 | usize::from(*digit)))
}

/// A moment, written `YYMMDDhhmmssZ` up to 2049 and `YYYYMMDDhhmmssZ` after that, and what follows it.
fn moment(der: &[u8]) -> Option<(Timestamp, &[u8])> {
    let (century, text, rest) = match part(der, UTC_TIME) {
        Some((text, rest)) if number(text, 0)? < 50 => (20, text, rest),
        Some((text, rest)) => (19, text, rest),
        None => {
            let (text, rest) = part(der, GENERALIZED_TIME)?;
            (number(text, 0)?, text.get(2..)?, rest)
        }
    };
    let year = i16::from(century) * 100 + i16::from(number(text, 0)?);
    let [month, day, hour, minute, second] =
        [number(text, 2)?, number(text, 4)?, number(text, 6)?, number(text, 8)?, number(text, 10)?];
    let at = DateTime::new(year, month, day, hour, minute, second, 0).ok()?;
    // "Never", written as the last second of the year 9999, is later than any moment that can be told.
    let at = at.to_zoned(TimeZone::UTC).map_or(Timestamp::MAX, |at| at.timestamp());
    Some((at, rest))
}

/// The two digits at this place.
fn number(text: &[u8], at: usize) -> Option<i8> {
    let digits = std::str::from_utf8(text.get(at..at + 2)?).ok()?;
    digits.bytes().all(|digit| digit.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    fn made(from: (i32, u8, u8), until: (i32, u8, u8)) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["mcp.example.org".to_owned()]).unwrap();
        params.not_before = date_time_ymd(from.0, from.1, from.2);
        params.not_after = date_time_ymd(until.0, until.1, until.2);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    fn told(der: &[u8]) -> Option<(String, String)> {
        of(der).map(|(from, until)| (from.to_string(), until.to_string()))
    }

    #[test]
    fn both_moments_are_read_in_either_form() {
        for (from, until, wanted) in [
            ((2026, 1, 31), (2027, 12, 1), ("2026-01-31T00:00:00Z", "2027-12-01T00:00:00Z")),
            ((1999, 2, 28), (2049, 12, 31), ("1999-02-28T00:00:00Z", "2049-12-31T00:00:00Z")),
            ((2050, 1, 1), (2150, 6, 7), ("2050-01-01T00:00:00Z", "2150-06-07T00:00:00Z")),
        ] {
            let (from, until) = told(&made(from, until)).unwrap();
            assert_eq!((from.as_str(), until.as_str()), wanted);
        }
        assert_eq!(moment(b"\x18\x0f99991231235959Z").unwrap().0, Timestamp::MAX);
    }

    #[test]
    fn what_is_cut_off_is_no_certificate() {
        let whole = made((2026, 1, 31), (2027, 12, 1));
        for length in 0..whole.len() {
            assert_eq!(of(&whole[..length]), None, "{length}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(bytes: Vec<u8>, at: usize, byte: u8) {
            let _harmless = of(&bytes);
            let mut bent = made((2026, 1, 31), (2027, 12, 1));
            let at = at % bent.len();
            bent[at] = byte;
            let _harmless = of(&bent);
        }
    }
}
