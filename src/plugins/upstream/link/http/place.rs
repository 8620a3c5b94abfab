//! URLs as a link needs them: which origin one belongs to, and where a redirect leads. Pure.
//!
//! Must not know what is asked there. Texts made here name origins only: a path or query may hold a secret.

use hyper::Uri;
use hyper::http::uri::{Authority, PathAndQuery, Scheme};

/// Who answers: scheme, host and port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Whether it is `https`.
    pub secure: bool,
    /// In small letters; IPv6 in brackets.
    pub host: String,
    /// Given or the scheme's.
    pub port: u16,
}

impl Origin {
    /// That of `uri`; none when it is not absolute, or neither http nor https.
    pub fn of(uri: &Uri) -> Option<Self> {
        let secure = match uri.scheme_str()? {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let host = uri.host().filter(|host| !host.is_empty())?.to_ascii_lowercase();
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        Some(Self { secure, host, port })
    }

    /// The host without the brackets of IPv6.
    pub fn bare_host(&self) -> &str {
        self.host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(&self.host)
    }

    /// Whether it is this machine by its name.
    pub fn is_loopback(&self) -> bool {
        let host = self.bare_host();
        let address = host.parse::<std::net::IpAddr>();
        host == "localhost"
            || host.ends_with(".localhost")
            || address.is_ok_and(|address| address.is_loopback())
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.secure { "https" } else { "http" };
        write!(f, "{scheme}://{}:{}", self.host, self.port)
    }
}

/// Reads an absolute URL without user, password or fragment.
///
/// # Errors
/// What is wrong with it; without the URL.
pub fn absolute(text: &str) -> Result<Uri, &'static str> {
    let text = text.split('#').next().unwrap_or_default();
    let uri: Uri = text.parse().map_err(|_| "it is not a URL")?;
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err("it holds a user or a password: put credentials into `headers`");
    }
    if Origin::of(&uri).is_none() {
        return Err("it must begin with http:// or https:// and name a host");
    }
    Ok(uri)
}

/// Where `reference`, found at `base`, leads (RFC 3986, section 5.2).
///
/// # Errors
/// What is wrong with it; without the URL.
pub fn join(base: &Uri, reference: &str) -> Result<Uri, &'static str> {
    let reference = reference.split('#').next().unwrap_or_default();
    let colon =
        reference.find(':').filter(|colon| !reference.get(..*colon).unwrap_or_default().contains(['/', '?']));
    if colon.is_some() {
        return absolute(reference);
    }
    let scheme = base.scheme().cloned().unwrap_or(Scheme::HTTP);
    if let Some(rest) = reference.strip_prefix("//") {
        return absolute(&format!("{scheme}://{rest}"));
    }
    let path = match reference.chars().next() {
        None => base.path_and_query().map_or("/", PathAndQuery::as_str).to_owned(),
        Some('/') => without_dots(reference),
        Some('?') => format!("{}{reference}", base.path()),
        Some(_) => {
            let folder = base.path().rsplit_once('/').map_or("", |(folder, _)| folder);
            without_dots(&format!("{folder}/{reference}"))
        }
    };
    let authority = base.authority().map_or("", Authority::as_str);
    absolute(&format!("{scheme}://{authority}{path}"))
}

/// A path with `.` and `..` followed.
fn without_dots(path: &str) -> String {
    let (path, query) = path.find('?').map_or((path, ""), |at| path.split_at(at));
    let mut kept: Vec<&str> = Vec::new();
    let mut parts = path.split('/').skip(1).peekable();
    while let Some(part) = parts.next() {
        let last = parts.peek().is_none();
        match part {
            "." | ".." => {
                if part == ".." {
                    kept.pop();
                }
                if last {
                    kept.push("");
                }
            }
            part => kept.push(part),
        }
    }
    format!("/{}{query}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_leads_where_a_browser_would_go() {
        let base: Uri = "https://a.example/b/c?q=1".parse().unwrap();
        for (reference, wanted) in [
            ("d", "https://a.example/b/d"),
            ("./d", "https://a.example/b/d"),
            ("../d?x=..", "https://a.example/d?x=.."),
            ("../../../d", "https://a.example/d"),
            ("/d/./e/../f", "https://a.example/d/f"),
            ("/d/..", "https://a.example/"),
            ("?y", "https://a.example/b/c?y"),
            ("", "https://a.example/b/c?q=1"),
            ("#x", "https://a.example/b/c?q=1"),
            ("//b.example/d", "https://b.example/d"),
            ("http://b.example:81/d#x", "http://b.example:81/d"),
        ] {
            assert_eq!(join(&base, reference).unwrap().to_string(), wanted, "{reference}");
        }
        for bad in ["file:///etc/passwd", "http://u:p@b.example/", "javascript:x", "http:///x", "//"] {
            assert!(join(&base, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn origins_are_the_same_however_they_are_written() {
        let of = |text: &str| Origin::of(&text.parse().unwrap()).unwrap();
        assert_eq!(of("http://A.example/x"), of("http://a.example:80/y"));
        assert_ne!(of("http://a.example"), of("https://a.example"));
        assert_ne!(of("http://a.example"), of("http://a.example:81"));
        assert_eq!(of("http://[::1]:8/").bare_host(), "::1");
        assert!(of("http://[::1]:8/").is_loopback() && of("http://x.localhost/").is_loopback());
        assert!(!of("http://localhost.example/").is_loopback());
    }
}
