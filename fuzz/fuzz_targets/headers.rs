//! A header against the body's text, both any bytes: no panic, and it agrees only with itself, plain or in Base64.
#![no_main]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use waygate_mcp::protocol::Method;
use waygate_mcp::protocol::headers::{Header, Headers, check_method, check_name, check_param, check_version};

/// The same header for whatever is asked.
struct Every<'a>(&'a [u8]);

impl Headers for Every<'_> {
    fn protocol_version(&self) -> Header<'_> {
        Header::Once(self.0)
    }
    fn method(&self) -> Header<'_> {
        Header::Once(self.0)
    }
    fn name(&self) -> Header<'_> {
        Header::Once(self.0)
    }
    fn param(&self, _name: &str) -> Header<'_> {
        Header::Once(self.0)
    }
}

fuzz_target!(|both: (&[u8], &str)| {
    let (header, text) = both;
    let every = Every(header);
    for agrees in [check_version(&every, text).is_ok(), check_method(&every, text).is_ok()] {
        assert!(!agrees || header == text.as_bytes());
    }
    let encoded = format!("=?base64?{}?=", STANDARD.encode(text));
    if check_name(&every, Method::ToolsCall, Some(text)).is_ok() {
        assert!(header == text.as_bytes() || header == encoded.as_bytes());
    }
    let _read = check_param(&every, "X", Some(&Value::from(text)));
    assert!(check_name(&Every(encoded.as_bytes()), Method::ToolsCall, Some(text)).is_ok());
});
