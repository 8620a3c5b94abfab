//! URIs of files: `files://<root>/<path>`, percent-encoded both ways. Must not know which roots or files exist.
//!
//! The scheme is not `file:`, so that no client takes such a URI for a path on its own machine.

use std::fmt::Write as _;

const SCHEME: &str = "files://";

/// The URI of `path` in `root`; the empty path is the root itself.
pub(super) fn of(root: &str, path: &str) -> String {
    let mut uri = format!("{SCHEME}{root}/");
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'/') {
            uri.push(char::from(byte));
        } else {
            // Writing into a String cannot fail.
            let _ = write!(uri, "%{byte:02X}");
        }
    }
    uri
}

/// The template of all files in `root`.
pub(super) fn template(root: &str) -> String {
    format!("{SCHEME}{root}/{{+path}}")
}

/// The root's name and the decoded path of a URI; nothing when it is none of ours. An encoded slash is refused, since
/// no file's name can hold one.
pub(super) fn parse(uri: &str) -> Option<(&str, String)> {
    let (root, path) = match uri.strip_prefix(SCHEME)?.split_once('/') {
        Some(both) => both,
        None => (uri.strip_prefix(SCHEME)?, ""),
    };
    let encoded_slash = path.contains("%2F") || path.contains("%2f");
    if encoded_slash { None } else { Some((root, decode(path)?)) }
}

/// Percent-decodes once; nothing when an escape is malformed or the bytes are not UTF-8.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let (high, low) = (hex(rest.next()?)?, hex(rest.next()?)?);
            bytes.push(high << 4 | low);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// What a client typed for `{+path}`: escapes count, a stray `%` stands for itself.
pub(super) fn typed(text: &str) -> String {
    decode(text).unwrap_or_else(|| text.to_owned())
}

/// A path as a value for `{+path}`: that expansion leaves escapes as they are, so that only `%` must be escaped here.
pub(super) fn value(path: &str) -> String {
    path.replace('%', "%25")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_survives_the_way_into_a_uri_and_back() {
        for path in
            ["", "a.txt", "a b/ü#?.md", "100%25/%2e%2e", "x\\y", "\u{1f600}", "a+b&c=d;e", "new\nline"]
        {
            let uri = of("docs", path);
            assert!(uri.is_ascii() && !uri.contains([' ', '#', '?']), "{uri}");
            assert_eq!(parse(&uri), Some(("docs", path.to_owned())), "{uri}");
        }
    }

    #[test]
    fn what_is_not_ours_or_is_malformed_is_refused() {
        for uri in ["file:///etc/passwd", "http://docs/a", "files:/docs/a", "", "docs/a"] {
            assert_eq!(parse(uri), None, "{uri}");
        }
        for uri in [
            "files://docs/%",
            "files://docs/%zz",
            "files://docs/%ff",
            "files://docs/a%2Fb",
            "files://d/a%2fb",
        ] {
            assert_eq!(parse(uri), None, "{uri}");
        }
    }

    #[test]
    fn escapes_are_decoded_once_only() {
        assert_eq!(parse("files://docs/%252e%252e/x"), Some(("docs", "%2e%2e/x".to_owned())));
        assert_eq!(parse("files://docs/%2e%2e/x"), Some(("docs", "../x".to_owned())));
    }

    #[test]
    fn the_root_needs_no_slash() {
        assert_eq!(parse("files://docs"), Some(("docs", String::new())));
        assert_eq!(parse("files://docs/"), Some(("docs", String::new())));
    }

    #[test]
    fn a_completed_value_means_the_same_after_expansion() {
        let name = "100%41.txt";
        assert_eq!(value(name), "100%2541.txt");
        assert_eq!(typed(&value(name)), name);
        assert_eq!(typed("50% off"), "50% off");
    }
}
