//! Files that can be used and files that cannot, and what the health says of them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use rcgen::{CertificateParams, KeyPair, date_time_ymd};

use super::*;

/// A folder with a certificate and its key.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        place.issue(2000, 2999);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str, mode: u32) {
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Another certificate and key in the place of those that there are.
    fn issue(&self, from: i32, until: i32) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.not_before = date_time_ymd(from, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        self.write("cert.pem", &params.self_signed(&key).unwrap().pem(), 0o644);
        self.write("key.pem", &key.serialize_pem(), 0o600);
    }

    fn tls(&self) -> Tls {
        Tls { cert: Some(self.path("cert.pem")), key: Some(self.path("key.pem")), client_ca: None }
    }

    fn refusal(&self) -> String {
        Certificate::of(&self.tls()).err().unwrap()
    }
}

#[test]
fn without_files_there_is_no_certificate_and_with_good_ones_there_is() {
    assert!(Certificate::of(&Tls::default()).unwrap().is_none());
    let place = Place::new();
    let certificate = Certificate::of(&place.tls()).unwrap().unwrap();
    assert_eq!(certificate.check(), Check::Ok);
    place.write("key.pem", &fs::read_to_string(place.path("key.pem")).unwrap(), 0o640);
    assert!(Certificate::of(&place.tls()).is_ok(), "a group such as ssl-cert may read it");
}

#[test]
fn a_pipe_in_the_place_of_a_file_is_named_and_not_waited_for() {
    let place = Place::new();
    fs::remove_file(place.path("cert.pem")).unwrap();
    let (here, kind, mode) =
        (rustix::fs::CWD, rustix::fs::FileType::Fifo, rustix::fs::Mode::from_raw_mode(0o600));
    rustix::fs::mknodat(here, place.path("cert.pem"), kind, mode, 0).unwrap();
    assert!(place.refusal().contains("is no file"), "{}", place.refusal());
}

#[test]
fn a_file_that_cannot_be_used_is_named_with_what_is_wrong_and_what_to_do() {
    let place = Place::new();
    let key = fs::read_to_string(place.path("key.pem")).unwrap();
    for mode in [0o604, 0o620, 0o666] {
        place.write("key.pem", &key, mode);
        assert!(place.refusal().contains("chmod 600"), "{mode:o}: {}", place.refusal());
    }
    for (name, text, says) in [
        ("key.pem", "", "tls.key"),
        ("key.pem", "-----BEGIN PRIVATE KEY-----\ns3cret!\n-----END PRIVATE KEY-----\n", "well-formed"),
        (
            "key.pem",
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
            "openssl pkey",
        ),
        ("key.pem", &KeyPair::generate().unwrap().serialize_pem(), "belong together"),
        ("cert.pem", &key, "holds no certificate"),
        (
            "cert.pem",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "well-formed certificate",
        ),
    ] {
        let place = Place::new();
        place.write(name, text, 0o600);
        let why = place.refusal();
        let path = place.path(name).display().to_string();
        assert!(why.contains(says) && why.contains(&path) && why.contains("; "), "{why}");
        assert!(!why.contains("s3cret"), "{why}");
    }
    for (from, until, says) in [(2000, 2001, "ended on 2001-01-01"), (2998, 2999, "clock")] {
        let place = Place::new();
        place.issue(from, until);
        assert!(place.refusal().contains(says), "{}", place.refusal());
    }
    let place = Place::new();
    fs::remove_file(place.path("cert.pem")).unwrap();
    assert!(place.refusal().contains("is not there"));
    let mut tls = Place::new().tls();
    tls.cert = Some(place.0.path().to_owned());
    assert!(Certificate::of(&tls).err().unwrap().contains("no file"));
}

#[test]
fn who_vouches_for_clients_is_read_too() {
    let place = Place::new();
    let tls = Tls { client_ca: Some(place.path("cert.pem")), ..place.tls() };
    assert!(Certificate::of(&tls).is_ok());
    let tls = Tls { client_ca: Some(place.path("key.pem")), ..place.tls() };
    assert!(Certificate::of(&tls).err().unwrap().contains("tls.client_ca"));
}

#[test]
fn new_files_take_the_place_of_the_old_ones_and_bad_ones_do_not() {
    let place = Place::new();
    let certificate = Certificate::of(&place.tls()).unwrap().unwrap();
    let first = certificate.config();
    assert!(!certificate.reread().changed);
    assert!(Arc::ptr_eq(&first, &certificate.config()), "what is the same is kept, with its sessions");
    place.issue(2000, 2900);
    let reread = certificate.reread();
    assert!(reread.changed && reread.expires_at.starts_with("2900-01-01"), "{reread:?}");
    let second = certificate.config();
    assert!(!Arc::ptr_eq(&first, &second));
    place.issue(2000, 2001);
    let reread = certificate.reread();
    assert!(!reread.changed && reread.failed.unwrap().contains("ended on 2001-01-01"));
    assert!(Arc::ptr_eq(&second, &certificate.config()));
    assert!(matches!(certificate.check(), Check::Degraded(why) if why.contains("ended on 2001-01-01")));
    place.issue(2000, 2800);
    assert_eq!((certificate.reread().failed, certificate.check()), (None, Check::Ok));
}

#[test]
fn somebody_is_told_two_weeks_before_the_end() {
    let now = Timestamp::now();
    let hours = |hours| now.checked_add(SignedDuration::from_hours(hours)).unwrap();
    assert_eq!(judge(hours(14 * 24), None, now), Check::Ok);
    for (left, says) in [(14 * 24 - 1, "in 13 days"), (1, "in 0 days"), (0, "ended on"), (-24, "ended on")] {
        let judged = judge(hours(left), None, now);
        assert!(matches!(&judged, Check::Degraded(why) if why.contains(says)), "{left}: {judged:?}");
    }
    assert!(
        matches!(judge(hours(1), Some("so"), now), Check::Degraded(why) if why.ends_with("not taken: so"))
    );
}
