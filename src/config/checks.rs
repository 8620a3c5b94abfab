//! What values must mean, alone and together. Pure: looks at nothing but the configuration itself.

use std::net::IpAddr;

use super::faults::Faults;
use super::layers::{Given, last_words};
use super::{CacheKind, Config, CountIn, Environment, collector};

/// Checks a configuration whose values all have the right types. Whether there are keys at all, only the database knows.
pub fn check(config: &Config, given: &[Given], faults: &mut Faults) {
    let last = last_words(given);
    let mut refuse = |key: &str, sentence: String| {
        let place = last.get(key).map(|given| given.origin.place.as_str()).filter(|place| !place.is_empty());
        faults.add(place.unwrap_or(key), sentence);
    };
    check_server(config, &mut refuse);
    check_names(config, &mut refuse);
    check_tls(config, &mut refuse);
    check_keys(config, &mut refuse);
    check_roots(&config.files.roots, &mut refuse);
    check_database(config, &mut refuse);
    check_limits(config, &mut refuse);
    check_redis(config, &mut refuse);
    collector::check(config, &mut refuse);
    check_together(config, &mut refuse);
}

pub(super) type Refuse<'a> = dyn FnMut(&str, String) + 'a;

fn check_server(config: &Config, refuse: &mut Refuse<'_>) {
    let server = &config.server;
    if !server.data_dir.is_absolute() {
        let sentence =
            "there is no home folder to put the data into; give a folder, as with --data-dir /srv/waygate";
        refuse("server.data_dir", sentence.to_owned());
    }
    if !is_host(&server.host) {
        let sentence =
            format!("server.host is {:?}, but takes an address or a name alone, as 127.0.0.1", server.host);
        refuse("server.host", sentence);
    }
}

/// What the files hold is looked at when the server starts: other verbs need not be able to read them.
fn check_tls(config: &Config, refuse: &mut Refuse<'_>) {
    let tls = &config.tls;
    for (given, missing, is_alone) in [
        ("tls.cert", "tls.key", tls.cert.is_some() && tls.key.is_none()),
        ("tls.key", "tls.cert", tls.key.is_some() && tls.cert.is_none()),
        ("tls.client_ca", "tls.cert", tls.client_ca.is_some() && tls.cert.is_none()),
    ] {
        if is_alone {
            refuse(
                given,
                format!("{given} goes with {missing}, which is not set; set both, or remove {given}"),
            );
        }
    }
}

fn check_limits(config: &Config, refuse: &mut Refuse<'_>) {
    for (key, quota, rate) in [
        ("limits.burst", config.limits.of_all(), "limits.requests_per_minute"),
        ("limits.address_burst", config.limits.of_one_address(), "limits.address_requests_per_minute"),
    ] {
        if quota.burst.is_some() && quota.requests_per_minute.is_none() {
            refuse(key, format!("{key} goes with {rate}, which is not set; set it, or remove {key}"));
        }
    }
}

/// The URL may hold a password: nothing of it is repeated.
fn check_redis(config: &Config, refuse: &mut Refuse<'_>) {
    let cache = &config.cache;
    let users = [
        ("cache.type", cache.kind == CacheKind::Redis),
        ("limits.count_in", config.limits.count_in == CountIn::Redis),
    ];
    let Some((key, _)) = users.into_iter().find(|(_, uses)| *uses) else { return };
    if !cfg!(feature = "redis") {
        let sentence = format!("{key} is redis, which this build leaves out; build with the feature redis");
        refuse(key, sentence);
    }
    match cache.redis_url.as_ref().map(super::Secret::expose) {
        None => {
            let sentence =
                format!("{key} is redis, but cache.redis_url is not set; set it, as to redis://host:6379");
            refuse(key, sentence);
        }
        Some(url) if url.starts_with("rediss://") => {
            let sentence = "cache.redis_url begins with rediss://, and this program does not speak TLS to Redis; put a tunnel between";
            refuse("cache.redis_url", sentence.to_owned());
        }
        Some(url) if !["redis://", "unix://", "redis+unix://"].iter().any(|begin| url.starts_with(begin)) => {
            let sentence =
                "cache.redis_url is no URL of Redis; write one as redis://host:6379 or unix:///path";
            refuse("cache.redis_url", sentence.to_owned());
        }
        Some(_) => {}
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b':' | b'.');
    let prefix = &cache.redis_prefix;
    if prefix.is_empty() || prefix.len() > 64 || !prefix.bytes().all(plain) {
        let sentence =
            format!("cache.redis_prefix is {prefix:?}, but takes 1 to 64 letters, digits, -, _, : and .");
        refuse("cache.redis_prefix", sentence);
    }
}

/// Whether only this machine reaches what listens on `host`.
pub fn is_loopback(host: &str) -> bool {
    match bare(host).parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

/// An IPv6 address without its brackets.
fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// An IP address, or a name as DNS has them.
fn is_host(host: &str) -> bool {
    bare(host).parse::<IpAddr>().is_ok() || is_name(host)
}

fn is_name(name: &str) -> bool {
    let label = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        !label.is_empty() && label.len() <= 63 && label.bytes().all(inner) && !label.starts_with('-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

/// `name`, `name:port`, `1.2.3.4:port`, `[::1]:port`.
fn is_authority(text: &str) -> bool {
    if is_host(text) {
        return true;
    }
    let (host, port) = text.rsplit_once(':').unwrap_or((text, ""));
    // A colon within a name means an address, which then needs its brackets.
    let bracketed = !host.contains(':') || host.starts_with('[');
    is_host(host) && bracketed && port.parse::<u16>().is_ok()
}

fn is_origin(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, rest)| {
        let is_scheme =
            !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
        is_scheme && is_authority(rest)
    })
}

/// An address, or a network as `10.0.0.0/8`.
pub fn is_network(text: &str) -> bool {
    let (address, bits) = text.split_once('/').unzip();
    let Ok(address) = address.unwrap_or(text).parse::<IpAddr>() else { return false };
    let bits_max = if address.is_ipv4() { 32 } else { 128 };
    bits.is_none_or(|bits| bits.parse::<u8>().is_ok_and(|bits| bits <= bits_max))
}

fn check_names(config: &Config, refuse: &mut Refuse<'_>) {
    let server = &config.server;
    if let Some(url) = &server.public_url {
        let trimmed = url.strip_suffix('/').unwrap_or(url);
        let is_web = trimmed.starts_with("http://") || trimmed.starts_with("https://");
        if !is_web || !is_origin(trimmed) {
            let sentence =
                format!("server.public_url is {url:?}, but takes a URL as https://mcp.example.org");
            refuse("server.public_url", sentence);
        }
    }
    for host in server.allowed_hosts.iter().filter(|host| !is_authority(host)) {
        let sentence = format!("server.allowed_hosts has {host:?}, but takes names, as mcp.example.org");
        refuse("server.allowed_hosts", sentence);
    }
    for origin in server.allowed_origins.iter().filter(|origin| !is_origin(origin)) {
        let sentence = format!(
            "server.allowed_origins has {origin:?}, but takes origins, as https://app.example.org: scheme and host, no path"
        );
        refuse("server.allowed_origins", sentence);
    }
    for origin in server.cors_origins.iter().filter(|origin| !is_origin(origin)) {
        let sentence = if origin.as_str() == "*" {
            "server.cors_origins has \"*\", with which any page in the world could use what its reader may use here; name \
             the origins, as https://app.example.org"
                .to_owned()
        } else {
            format!(
                "server.cors_origins has {origin:?}, but takes origins, as https://app.example.org: scheme and host, no path"
            )
        };
        refuse("server.cors_origins", sentence);
    }
    for network in server.trusted_proxies.iter().filter(|network| !is_network(network)) {
        let sentence =
            format!("server.trusted_proxies has {network:?}, but takes addresses or networks, as 10.0.0.0/8");
        refuse("server.trusted_proxies", sentence);
    }
    if config.history.redact_keys.iter().any(|key| key.trim().is_empty()) {
        refuse("history.redact_keys", "history.redact_keys has an empty name; remove it".to_owned());
    }
}

/// A key of this length made by a machine cannot be guessed.
const KEY_CHARACTERS_MIN: usize = 32;

fn check_keys(config: &Config, refuse: &mut Refuse<'_>) {
    let keys =
        [("access.api_key", &config.access.api_key), ("access.sealing_key", &config.access.sealing_key)];
    for (key, secret) in keys {
        let Some(secret) = secret.as_ref().map(super::Secret::expose) else { continue };
        if !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
            let sentence =
                format!("{key} has blanks or characters that no header can carry; use letters and digits");
            refuse(key, sentence);
        } else if config.server.env == Environment::Development {
            continue;
        } else if is_placeholder(secret) {
            refuse(key, format!("{key} is a placeholder; make a real one with `openssl rand -hex 32`"));
        } else if secret.len() < KEY_CHARACTERS_MIN {
            let sentence = format!(
                "{key} is shorter than {KEY_CHARACTERS_MIN} characters, which can be guessed; make one with `openssl \
                 rand -hex 32`"
            );
            refuse(key, sentence);
        }
    }
}

/// What is to be said of a key that development takes, where other machines may try to guess it.
pub fn weak_key(config: &Config) -> Option<String> {
    let key = config.access.api_key.as_ref().map(super::Secret::expose)?;
    let is_weak = is_placeholder(key) || key.len() < KEY_CHARACTERS_MIN;
    (is_weak && !is_loopback(&config.server.host)).then(|| {
        format!(
            "WAYGATE_API_KEY is a placeholder or shorter than {KEY_CHARACTERS_MIN} characters, other machines reach {}, and who guesses \
             it may do everything; make a real one with `openssl rand -hex 32`",
            config.server.host
        )
    })
}

/// What people leave in example files, and what no machine would make.
fn is_placeholder(secret: &str) -> bool {
    const TELLTALES: [&str; 8] =
        ["changeme", "change-me", "change_me", "your-", "your_", "example", "placeholder", "replace"];
    let lower = secret.to_ascii_lowercase();
    let one_character = lower.bytes().all(|byte| lower.as_bytes().first() == Some(&byte));
    one_character || lower.starts_with('<') || TELLTALES.iter().any(|telltale| lower.contains(telltale))
}

fn check_roots(roots: &[String], refuse: &mut Refuse<'_>) {
    let mut names = Vec::new();
    for root in roots {
        match root_name(root) {
            None => {
                let sentence = format!(
                    "files.roots has {root:?}, but takes name=/path:ro or name=/path:rw, the path whole and the name \
                     of letters, digits, - and _"
                );
                refuse("files.roots", sentence);
            }
            Some(name) if names.contains(&name) => {
                refuse("files.roots", format!("files.roots has the name {name} twice; rename one"));
            }
            Some(name) => names.push(name),
        }
    }
}

/// The name of a root that is written as it should be.
fn root_name(root: &str) -> Option<&str> {
    let (name, rest) = root.split_once('=')?;
    let (path, access) = rest.rsplit_once(':')?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let named = (1..=64).contains(&name.len()) && name.bytes().all(plain);
    (named && path.starts_with('/') && matches!(access, "ro" | "rw")).then_some(name)
}

fn check_database(config: &Config, refuse: &mut Refuse<'_>) {
    let Some(url) = config.database.url.as_ref().map(super::Secret::expose) else { return };
    let scheme = url.split_once("://").map(|(scheme, _)| scheme);
    match scheme {
        Some("postgres" | "postgresql") if cfg!(feature = "postgres") => {}
        Some("postgres" | "postgresql") => {
            let sentence =
                "database.url names PostgreSQL, which this build leaves out; build with the feature postgres";
            refuse("database.url", sentence.to_owned());
        }
        Some("sqlite" | "file") | None if cfg!(feature = "sqlite") => {}
        Some("sqlite" | "file") | None => {
            let sentence =
                "database.url names SQLite, which this build leaves out; build with the feature sqlite";
            refuse("database.url", sentence.to_owned());
        }
        // Only the scheme is repeated: the rest may hold a password.
        Some(other) => {
            let sentence =
                format!("database.url begins with {other}://; use postgres://…, sqlite:path or a path");
            refuse("database.url", sentence);
        }
    }
}

fn check_together(config: &Config, refuse: &mut Refuse<'_>) {
    if config.health.stuck_seconds <= config.health.beat_seconds {
        let sentence = format!(
            "health.stuck_seconds ({}) must be more than health.beat_seconds ({}), or every part looks stuck",
            config.health.stuck_seconds, config.health.beat_seconds
        );
        refuse("health.stuck_seconds", sentence);
    }
    if config.files.write_max_bytes > config.files.quota_bytes {
        let sentence = format!(
            "files.write_max_bytes ({}) is more than files.quota_bytes ({}); lower the one or raise the other",
            config.files.write_max_bytes, config.files.quota_bytes
        );
        refuse("files.write_max_bytes", sentence);
    }
    if config.plugins.lost_threads_max > config.plugins.blocking_threads {
        let sentence = format!(
            "plugins.lost_threads_max ({}) is more than plugins.blocking_threads ({}), so no plugin would ever be closed",
            config.plugins.lost_threads_max, config.plugins.blocking_threads
        );
        refuse("plugins.lost_threads_max", sentence);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_reaches_loopback() {
        for host in ["127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost", "::ffff:127.0.0.1"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["0.0.0.0", "::", "10.0.0.1", "example.org", "localhost.example.org"] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn hosts_origins_and_networks_have_their_forms() {
        for good in ["mcp.example.org", "mcp.example.org:8443", "[::1]:80", "10.0.0.1:80", "::1", "localhost"]
        {
            assert!(is_authority(good), "{good}");
        }
        for bad in ["", "*", "http://x", "a b", "x:99999", "x/y", "user@x", "-x"] {
            assert!(!is_authority(bad), "{bad}");
        }
        assert!(is_origin("https://app.example.org") && is_origin("http://localhost:3000"));
        assert!(!is_origin("app.example.org") && !is_origin("https://x/") && !is_origin("https://u:p@x"));
        assert!(is_network("10.0.0.0/8") && is_network("fd00::/8") && is_network("10.0.0.1"));
        assert!(!is_network("10.0.0.0/33") && !is_network("proxy") && !is_network("10.0.0.0/"));
    }

    #[test]
    fn a_root_has_a_name_a_whole_path_and_an_access() {
        assert_eq!(root_name("docs=/srv/a:b=c:ro"), Some("docs"));
        for bad in ["/srv", "docs=/srv", "docs=/srv:wr", "docs=srv:ro", "=/srv:ro", "a b=/srv:ro", "docs=:ro"]
        {
            assert_eq!(root_name(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_example_files_hold_is_a_placeholder() {
        for bad in [
            "changeme",
            "Your-Secret-Key-Here-Of-Forty-Characters",
            "<key>",
            "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        ] {
            assert!(is_placeholder(bad), "{bad}");
        }
        assert!(!is_placeholder("9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"));
    }
}
