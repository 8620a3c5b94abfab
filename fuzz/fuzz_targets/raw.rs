//! `Raw::parse` on any bytes: no panic, and what it accepts every later reader accepts, too.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use waygate_mcp::protocol::{Object, Raw};

fuzz_target!(|data: &[u8]| {
    let Ok(raw) = Raw::parse(Bytes::copy_from_slice(data)) else { return };
    assert_eq!(raw.as_str().as_bytes(), data, "accepted bytes are kept as they came");
    let value: Value = raw.read().expect("what was accepted is JSON");
    assert!(Raw::parse(Raw::value(&value).bytes().clone()).is_ok(), "our own rendering is accepted");
    if let Ok(object) = Object::open(&raw) {
        let members = value.as_object().expect("only an object opens as one");
        assert_eq!(object.members().count(), members.len(), "no key stands twice");
        assert_eq!(object.to_raw().read::<Value>().expect("a rewritten object is JSON"), value);
    }
});
