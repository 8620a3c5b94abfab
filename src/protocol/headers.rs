//! The headers that repeat parts of the body, so that a router need not parse it: encoding, decoding and comparing.
//!
//! MCP 2026-07-28, basic/transports/streamable-http#request-metadata and SEP-2243. Must not know an HTTP library.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use serde_json::value::RawValue;

use super::methods::{MODERN, Method, Named, SERVED};
use crate::error::{ErrorCode, Fault};

/// The largest integer below which no two are the same as floats.
const SAFE_INTEGER_MAX: f64 = 9_007_199_254_740_991.0;

/// One header of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header<'a> {
    /// Not there.
    Absent,
    /// There once, with this value, surrounding white space taken off.
    Once(&'a [u8]),
    /// There more than once.
    Doubled,
}

/// The headers of a request that this page is about.
pub trait Headers {
    /// `MCP-Protocol-Version`.
    fn protocol_version(&self) -> Header<'_>;
    /// `Mcp-Method`.
    fn method(&self) -> Header<'_>;
    /// `Mcp-Name`.
    fn name(&self) -> Header<'_>;
    /// `Mcp-Param-{name}`.
    fn param(&self, name: &str) -> Header<'_>;
    /// Whether one that is absent is missed: not where a client has no headers to send (stdio). One that is there must
    /// agree with the body in any case.
    fn are_required(&self) -> bool {
        true
    }
}

/// Checks `MCP-Protocol-Version` against the body's version, and that against what is served.
///
/// # Errors
/// -32020 when the header is missing or differs, -32022 when both agree on a revision that is not served.
pub fn check_version(headers: &dyn Headers, body: &str) -> Result<(), Fault> {
    expect(headers, "MCP-Protocol-Version", headers.protocol_version(), body)?;
    if body == MODERN { Ok(()) } else { Err(unsupported(body)) }
}

/// The answer to a request of a revision that is not served.
pub fn unsupported(requested: &str) -> Fault {
    Fault::new(
        ErrorCode::UnsupportedVersion,
        format!("protocol revision {requested:?} is not served here"),
        format!("use one of: {}", SERVED.join(", ")),
    )
    .with("supported", SERVED)
    .with("requested", requested)
}

/// Checks `Mcp-Method`.
///
/// # Errors
/// -32020 when it is missing or differs.
pub fn check_method(headers: &dyn Headers, body: &str) -> Result<(), Fault> {
    expect(headers, "Mcp-Method", headers.method(), body)
}

/// Checks `Mcp-Name` where the method has one and the body has the member that it repeats.
///
/// # Errors
/// -32020 when it is missing, badly encoded or differs.
pub fn check_name(headers: &dyn Headers, method: Method, body: Option<&str>) -> Result<(), Fault> {
    match (method.named(), body) {
        (Named::Not, _) | (_, None) => Ok(()),
        (_, Some(body)) => {
            let Some(value) = said(headers, "Mcp-Name", headers.name())? else { return Ok(()) };
            same("Mcp-Name", &decode("Mcp-Name", value)?, body)
        }
    }
}

/// Checks one `Mcp-Param-*` against the argument it repeats.
///
/// # Errors
/// -32020 when the argument is there and the header is not, the reverse, or they differ.
pub fn check_param(headers: &dyn Headers, name: &str, argument: Option<&RawValue>) -> Result<(), Fault> {
    let title = format!("Mcp-Param-{name}");
    let value = once(&title, headers.param(name))?;
    match (value, argument.filter(|argument| argument.get() != "null")) {
        (None, None) => Ok(()),
        (None, Some(_)) if headers.are_required() => Err(missing(&title)),
        (None, Some(_)) => Ok(()),
        (Some(_), None) => {
            Err(mismatch(format!("{title} is there, but the argument that it repeats is not")))
        }
        (Some(value), Some(argument)) => {
            let said = decode(&title, value)?;
            let agrees = match serde_json::from_str(argument.get()) {
                Ok(Value::String(text)) => text == said,
                Ok(Value::Bool(_)) => argument.get() == said,
                Ok(Value::Number(_)) => same_number(argument.get(), &said),
                _ => false,
            };
            if agrees {
                Ok(())
            } else {
                Err(mismatch(format!("{title} differs from the argument that it repeats")))
            }
        }
    }
}

/// Whether 42 and 42.0 are meant to be the same. Integers too large to be told apart as floats must be the same text.
fn same_number(number: &str, said: &str) -> bool {
    let float = |text: &str| text.parse::<f64>().ok().filter(|float| float.abs() <= SAFE_INTEGER_MAX);
    number == said || float(said).is_some_and(|said| float(number) == Some(said))
}

fn expect(headers: &dyn Headers, title: &str, header: Header<'_>, body: &str) -> Result<(), Fault> {
    let Some(value) = said(headers, title, header)? else { return Ok(()) };
    if value == body.as_bytes() {
        return Ok(());
    }
    let text = std::str::from_utf8(value)
        .map_err(|_| mismatch(format!("{title} has characters that no header may have")))?;
    same(title, text, body)
}

fn same(title: &str, header: &str, body: &str) -> Result<(), Fault> {
    if header == body {
        Ok(())
    } else {
        Err(mismatch(format!("{title} says {header:?}, the body says {body:?}")))
    }
}

/// What a header says that repeats something which is there; nothing where it may be absent, and is.
fn said<'a>(headers: &dyn Headers, title: &str, header: Header<'a>) -> Result<Option<&'a [u8]>, Fault> {
    match once(title, header)? {
        None if headers.are_required() => Err(missing(title)),
        value => Ok(value),
    }
}

fn once<'a>(title: &str, header: Header<'a>) -> Result<Option<&'a [u8]>, Fault> {
    match header {
        Header::Absent => Ok(None),
        Header::Once(value) => Ok(Some(value)),
        Header::Doubled => Err(mismatch(format!("{title} stands more than once"))),
    }
}

/// Undoes the encoding `=?base64?…?=`. Half a sentinel, or one in other letters, is literal text.
fn decode<'a>(title: &str, value: &'a [u8]) -> Result<Cow<'a, str>, Fault> {
    let broken = |why: &str| mismatch(format!("{title} {why}"));
    let text = std::str::from_utf8(value).map_err(|_| broken("has characters that no header may have"))?;
    if text.bytes().any(|byte| byte.is_ascii_control() || !byte.is_ascii()) {
        return Err(broken("has characters that no header may have"));
    }
    let Some(inner) = text.strip_prefix("=?base64?").and_then(|rest| rest.strip_suffix("?=")) else {
        return Ok(Cow::Borrowed(text));
    };
    let bytes = STANDARD.decode(inner).map_err(|_| broken("is marked as Base64 and is not valid Base64"))?;
    String::from_utf8(bytes).map(Cow::Owned).map_err(|_| broken("is Base64 of something that is not UTF-8"))
}

/// A text as the value of `Mcp-Name` or `Mcp-Param-*`: itself, or `=?base64?…?=` where a header could not carry it, or
/// where it would be taken for something encoded.
pub fn encode(text: &str) -> Cow<'_, str> {
    let printable = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    let trimmed = text.starts_with(' ') || text.ends_with(' ');
    let seems_encoded = text.starts_with("=?base64?") && text.ends_with("?=");
    let carried = printable && !trimmed && !seems_encoded;
    if carried { Cow::Borrowed(text) } else { Cow::Owned(format!("=?base64?{}?=", STANDARD.encode(text))) }
}

fn missing(title: &str) -> Fault {
    mismatch(format!("{title} is missing"))
}

fn mismatch(message: String) -> Fault {
    Fault::new(
        ErrorCode::HeaderMismatch,
        message,
        "make the headers repeat the body; if a tool's schema changed, list the tools again and retry",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_encoded_reads_as_it_was_and_plain_text_stays_plain() {
        for plain in ["", "a", "a b", "=?base64?", "?=", "=?BASE64?YQ==?="] {
            assert_eq!(encode(plain), plain);
        }
        for text in [" a", "a ", "ä", "a\nb", "a\tb", "\u{7f}", "=?base64?YQ==?=", "\ta"] {
            let encoded = encode(text);
            assert!(encoded.starts_with("=?base64?") && encoded.is_ascii(), "{text:?}");
            assert_eq!(decode("x", encoded.as_bytes()).unwrap(), text);
        }
    }

    struct One(Option<&'static str>);

    impl Headers for One {
        fn protocol_version(&self) -> Header<'_> {
            self.param("")
        }
        fn method(&self) -> Header<'_> {
            self.param("")
        }
        fn name(&self) -> Header<'_> {
            self.param("")
        }
        fn param(&self, _: &str) -> Header<'_> {
            self.0.map_or(Header::Absent, |value| Header::Once(value.as_bytes()))
        }
    }

    #[test]
    fn base64_is_decoded_strictly_and_half_a_sentinel_is_text() {
        let name = |header, body| check_name(&One(Some(header)), Method::ToolsCall, Some(body));
        assert!(name("=?base64?SGVsbG8=?=", "Hello").is_ok());
        assert!(name("=?base64?SGVsbG8?=", "Hello").is_err());
        assert!(name("=?base64?SGV%%G8=?=", "Hello").is_err());
        for literal in ["=?base64?SGVsbG8=", "SGVsbG8=?=", "=?BASE64?SGVsbG8=?="] {
            assert!(name(literal, literal).is_ok(), "{literal}");
        }
        assert!(name("Hello", "hello").is_err());
    }

    #[test]
    fn a_parameter_header_stands_exactly_where_its_argument_does() {
        let check = |header, argument: Value| {
            let argument = serde_json::value::to_raw_value(&argument).unwrap();
            check_param(&One(header), "X", Some(&argument))
        };
        assert!(check(Some("42"), json!(42)).is_ok());
        assert!(check(Some("42.0"), json!(42)).is_ok());
        assert!(check(Some("43"), json!(42)).is_err());
        assert!(check(Some("9007199254740992"), json!(9_007_199_254_740_993_i64)).is_err());
        let long = |text: &str| RawValue::from_string(text.to_owned()).unwrap();
        let digits = "123456789012345678901234567890";
        assert!(check_param(&One(Some(digits)), "X", Some(&long(digits))).is_ok());
        assert!(check_param(&One(Some("123456789012345678901234567891")), "X", Some(&long(digits))).is_err());
        assert!(check(Some("true"), json!(true)).is_ok());
        assert!(check(Some(""), json!("")).is_ok());
        assert!(check(None, json!("a")).is_err());
        assert!(check(None, json!(null)).is_ok());
        assert!(check(Some("a"), json!(null)).is_err());
        assert!(check_param(&One(None), "X", None).is_ok());
    }

    #[test]
    fn a_header_that_differs_wins_over_a_version_that_is_not_served() {
        assert_eq!(check_version(&One(Some("v1")), "v2").unwrap_err().code, ErrorCode::HeaderMismatch);
        assert_eq!(check_version(&One(None), MODERN).unwrap_err().code, ErrorCode::HeaderMismatch);
        let fault = check_version(&One(Some("v2")), "v2").unwrap_err();
        assert_eq!(fault.code, ErrorCode::UnsupportedVersion);
        assert_eq!(fault.detail("requested"), Some(&json!("v2")));
    }
}
