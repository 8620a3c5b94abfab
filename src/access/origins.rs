//! From which pages and under which names the server may be reached: the guard against DNS rebinding.
//!
//! MCP 2026-07-28, basic/transports/streamable-http#security. Must not know requests.

use std::net::IpAddr;

/// What `Host` and `Origin` may be.
#[derive(Debug, Clone)]
pub struct Gate {
    hosts: Vec<String>,
    origins: Vec<String>,
    any_host: bool,
}

impl Gate {
    /// For a server bound to `bound`, known as `public_url`, with the operator's additions. A server that is bound to
    /// all addresses and told no name takes any host: it cannot know under which names it is reached.
    pub fn new(bound: &str, public_url: Option<&str>, hosts: &[String], origins: &[String]) -> Self {
        let mut names: Vec<String> = hosts.iter().map(|host| bare(host).to_owned()).collect();
        let public = public_url.map(|url| url.split_once("://").map_or(url, |(_, rest)| rest));
        let public = public.map(|rest| rest.split('/').next().unwrap_or(rest));
        names.extend(public.map(|host| bare(host).to_owned()));
        let unspecified = bound.parse::<IpAddr>().is_ok_and(|address| address.is_unspecified());
        let any_host = unspecified && names.is_empty();
        names.push(bare(bound).to_owned());
        names.extend(["localhost", "127.0.0.1", "[::1]"].map(str::to_owned));
        let mut origins: Vec<String> =
            origins.iter().map(|origin| origin.trim_end_matches('/').to_owned()).collect();
        origins.extend(public_url.and_then(|url| {
            let (scheme, rest) = url.split_once("://")?;
            Some(format!("{scheme}://{}", rest.split('/').next()?))
        }));
        Self { hosts: names, origins, any_host }
    }

    /// Whether the server may be called by this `Host`.
    pub fn admits_host(&self, host: &str) -> bool {
        self.any_host || self.hosts.iter().any(|known| known.eq_ignore_ascii_case(bare(host)))
    }

    /// Whether a page of this origin may call the server: one that was named, or one on a host that is the server's.
    pub fn admits_origin(&self, origin: &str) -> bool {
        if self.origins.iter().any(|known| known == "*" || known.eq_ignore_ascii_case(origin)) {
            return true;
        }
        let Some((scheme, host)) = origin.split_once("://") else { return false };
        matches!(scheme, "http" | "https")
            && self.hosts.iter().any(|known| known.eq_ignore_ascii_case(bare(host)))
    }
}

/// The host without its port.
fn bare(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port))
            if port.bytes().all(|byte| byte.is_ascii_digit())
                && (!name.contains(':') || name.ends_with(']')) =>
        {
            name
        }
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_name_is_refused_and_our_own_is_not() {
        let gate = Gate::new("127.0.0.1", None, &[], &[]);
        for host in ["localhost:8000", "127.0.0.1", "[::1]:8000", "LOCALHOST"] {
            assert!(gate.admits_host(host), "{host}");
        }
        for host in ["evil.example.com", "127.0.0.1.evil.example", "localhost.evil", ""] {
            assert!(!gate.admits_host(host), "{host}");
        }
        assert!(gate.admits_origin("http://localhost:3000"));
        for origin in ["http://evil.example.com", "null", "file://localhost", "localhost"] {
            assert!(!gate.admits_origin(origin), "{origin}");
        }
    }

    #[test]
    fn the_operator_names_hosts_and_origins() {
        let gate = Gate::new(
            "0.0.0.0",
            Some("https://mcp.example.com/x"),
            &["a.example:80".into()],
            &["https://app.example/".into()],
        );
        assert!(gate.admits_host("mcp.example.com") && gate.admits_host("a.example"));
        assert!(!gate.admits_host("b.example"));
        assert!(gate.admits_origin("https://app.example") && gate.admits_origin("https://mcp.example.com"));
        assert!(!gate.admits_origin("https://b.example"));
        assert!(Gate::new("0.0.0.0", None, &[], &[]).admits_host("anything"));
    }
}
