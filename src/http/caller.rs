//! Who is calling: a handler that has a `Caller` is authenticated.

use std::net::{IpAddr, SocketAddr};
use std::sync::PoisonError;
use std::time::{Instant, SystemTime};

use actix_web::HttpRequest;
use actix_web::http::header::{AUTHORIZATION, HeaderMap, HeaderName};

use super::door::{Connection, Frame};
use super::reply::{REASON, SCOPE};
use crate::access::keys::{Refusal, Scope, is_within};
use crate::access::{Caller, slowed_down};
use crate::actors::keys;
use crate::error::{ErrorCode, Fault};
use crate::telemetry::metrics::METRICS;

/// Headers that only somebody who forwards adds.
const FORWARDING: [&str; 6] =
    ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "via"];

/// What takes a key as it is. A name made once need not be read for each request.
static X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// What a URL asks of who calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wants {
    /// A key that is taken, whatever it opens.
    AnyKey,
    /// A key that opens this.
    Scope(Scope),
    /// A key that opens everything; while there are no keys, that the caller is on this machine.
    Operator,
}

/// Admits the caller, if they may have what the URL asks for.
///
/// # Errors
/// 401 without a key that is taken, 403 for one that does not open this, 400 for headers that contradict each other, and 429
/// for who showed too many wrong keys.
pub fn admit(request: &HttpRequest, frame: &Frame, wants: Wants) -> Result<Caller, Fault> {
    if is_this_user(request) {
        return Ok(Caller::local());
    }
    let ring = frame.house.keys.ring();
    let shown = if ring.is_open() { None } else { proof(request.headers())? };
    let caller = ring.admit(shown, SystemTime::now()).map_err(|refusal| refused(request, frame, refusal))?;
    permit(&caller, wants, ring.is_open(), || is_local(request, frame))
        .inspect_err(|_| METRICS.refused.with_label_values(&["key_scope"]).inc())?;
    Ok(caller)
}

/// Whether a caller may have what a URL asks for, at a server that may be open to everybody.
///
/// # Errors
/// 403 when they may not.
pub fn permit(
    caller: &Caller,
    wants: Wants,
    is_open: bool,
    is_local: impl FnOnce() -> bool,
) -> Result<(), Fault> {
    let (may, wanted) = match wants {
        Wants::AnyKey => (true, Scope::Mcp),
        Wants::Scope(scope) => (caller.scopes.holds(scope), scope),
        Wants::Operator => (caller.scopes.holds(Scope::Admin) || is_open && is_local(), Scope::Admin),
    };
    if may { Ok(()) } else { Err(out_of_scope(wanted, is_open)) }
}

/// Who calls, if they show a key that is taken; nothing is said or counted of one that is not.
pub fn known(request: &HttpRequest, frame: &Frame) -> Option<Caller> {
    if is_this_user(request) {
        return Some(Caller::local());
    }
    let shown = proof(request.headers()).ok().flatten()?;
    frame.house.keys.ring().admit(Some(shown), SystemTime::now()).ok()
}

/// Why the key does not open this.
fn out_of_scope(wanted: Scope, open: bool) -> Fault {
    let fault = if open {
        Fault::new(
            ErrorCode::Forbidden,
            "this is for the operator, and the server has no keys by which it would know one",
            "make a key by `waygate-mcp keys create NAME --scope admin` on the machine that Waygate runs on",
        )
    } else {
        Fault::new(
            ErrorCode::Forbidden,
            format!("this needs a key with the scope {}, which the one that was sent has not", wanted.name()),
            format!(
                "use another key, or have the operator make one by `waygate-mcp keys create NAME --scope {}`",
                wanted.name()
            ),
        )
    };
    fault.with(SCOPE, wanted.name())
}

/// What is said to who is not let in.
pub fn not_let_in(refusal: Refusal) -> Fault {
    Fault::new(ErrorCode::Unauthenticated, refusal.sentence(), refusal.advice()).with(REASON, refusal.name())
}

/// What is answered to who is not let in; counted, logged, and slowed down where it looks like guessing.
fn refused(request: &HttpRequest, frame: &Frame, refusal: Refusal) -> Fault {
    let from = address(request, frame);
    let (mut reason, mut told) = (refusal.name(), None);
    let mut fault = not_let_in(refusal);
    if refusal != Refusal::Missing {
        let mut failures = frame.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(wait) = failures.note(from, Instant::now()) {
            reason = "key_failures";
            fault = slowed_down(from, wait);
        }
        told = failures.tell(Instant::now());
    }
    if let Err(limited) = frame.quotas.charge_stranger(from) {
        (reason, fault) = ("address_limited", limited);
    }
    METRICS.refused.with_label_values(&[reason]).inc();
    let client = from.map(|from| from.to_string()).unwrap_or_default();
    if let Some(untold) = told {
        keys::tell_refusal(&frame.house.bench.recorder, &client, reason, untold);
    }
    log::info!(client = client.as_str(), reason = reason; "a caller without a valid key was refused");
    fault
}

/// Whether the request comes from this machine, and from nobody who forwards for others: a trusted proxy does, whether or
/// not it says so.
pub fn is_local(request: &HttpRequest, frame: &Frame) -> bool {
    let loopback = request.peer_addr().map(|peer| peer.ip().to_canonical()).filter(IpAddr::is_loopback);
    let is_local = loopback.is_some_and(|peer| !is_trusted(peer, frame)) && !is_forwarded(request);
    is_local || is_this_user(request)
}

fn is_trusted(address: IpAddr, frame: &Frame) -> bool {
    frame.trusted_proxies.iter().any(|proxy| proxy.holds(address))
}

/// Whether the request comes from the user whose server this is, and from nobody who forwards for others: it came over
/// the socket that the file system keeps for this user.
pub fn is_this_user(request: &HttpRequest) -> bool {
    request.conn_data::<Connection>().is_some_and(Connection::is_of_this_user) && !is_forwarded(request)
}

fn is_forwarded(request: &HttpRequest) -> bool {
    FORWARDING.iter().any(|name| request.headers().contains_key(*name))
}

/// The client's address: the peer's, or what a trusted proxy says of it.
pub fn address(request: &HttpRequest, frame: &Frame) -> Option<IpAddr> {
    let peer = request.peer_addr()?.ip().to_canonical();
    if !is_trusted(peer, frame) {
        return Some(peer);
    }
    Some(told_by(request.headers(), peer, |address| is_trusted(address, frame)))
}

/// The address that the forwarding headers tell of, which the proxy at `peer` sent: the last one that no trusted proxy wrote
/// about another one. What comes before that, or before something that is no address, anybody may have written.
fn told_by(headers: &HeaderMap, peer: IpAddr, is_trusted: impl Fn(IpAddr) -> bool) -> IpAddr {
    let lists: Vec<&str> =
        headers.get_all("x-forwarded-for").map(|list| list.to_str().unwrap_or_default()).collect();
    let mut last = peer;
    for told in lists.iter().rev().flat_map(|list| list.rsplit(',')) {
        let Some(address) = written_address(told.trim()) else { return last };
        last = address;
        if !is_trusted(address) {
            return last;
        }
    }
    last
}

/// An address as proxies write it: alone, or with a port.
fn written_address(text: &str) -> Option<IpAddr> {
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    text.parse::<IpAddr>().ok().or_else(with_port).map(|address| address.to_canonical())
}

/// The key that is shown, in either header.
///
/// # Errors
/// 400 when it is not clear which it is.
fn proof(headers: &HeaderMap) -> Result<Option<&[u8]>, Fault> {
    let once = |name: &HeaderName| {
        let mut values = headers.get_all(name);
        match (values.next(), values.next()) {
            (_, Some(_)) => Err(unclear(format!("the header {name} is there more than once"))),
            (value, None) => Ok(value),
        }
    };
    let bearer = once(&AUTHORIZATION)?.and_then(|value| {
        let (scheme, key) = value.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| key.trim().as_bytes())
    });
    let plain = once(&X_API_KEY)?.map(|value| value.as_bytes().trim_ascii());
    match (bearer, plain) {
        (Some(bearer), Some(plain)) if bearer != plain => {
            Err(unclear("the headers authorization and x-api-key show different keys".to_owned()))
        }
        (bearer, plain) => Ok(bearer.or(plain)),
    }
}

fn unclear(why: String) -> Fault {
    METRICS.refused.with_label_values(&["key_doubled"]).inc();
    Fault::new(
        ErrorCode::InvalidRequest,
        why,
        "send one key, once: `Authorization: Bearer <key>` or `X-API-Key: <key>`",
    )
}

/// Names under which clients put keys into a URL.
const IN_QUERY: [&str; 7] = ["api_key", "apikey", "api-key", "key", "access_token", "token", "x-api-key"];

/// Why a request is refused that shows a key in its URL: what stands there is kept by proxies, logs and histories. A key of ours
/// is known by its mark, wherever it stands; any other, as the operator's own, by the name that is given to it.
pub fn key_in_url(path: &str, query: &str) -> Option<Fault> {
    // Nearly all requests are these, and have nothing that could be looked at.
    if path == super::MCP && query.is_empty() {
        return None;
    }
    (shows_mark(path) || shows_mark(query) || names_key(path, query)).then(shown_in_url)
}

fn shows_mark(part: &str) -> bool {
    is_within(part.as_bytes()) || part.contains('%') && is_within(&unescaped(part))
}

fn names_key(path: &str, query: &str) -> bool {
    // There `key` is what a key is called; whoever serves it looks that it is no more than that.
    let names_keys = path == super::explain::PATH;
    let shows = |pair: &str| {
        let name = unescaped(pair.split_once('=').map_or(pair, |(name, _)| name));
        let is_named = names_keys && name == b"key";
        !is_named && IN_QUERY.iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
    };
    query.split(['&', ';']).any(shows)
}

/// What is said to who shows a key in a URL.
pub fn shown_in_url() -> Fault {
    METRICS.refused.with_label_values(&["key_in_query"]).inc();
    Fault::new(
        ErrorCode::InvalidRequest,
        "a key was sent in the URL, where logs and histories keep it, and is not looked at there",
        "send it as `Authorization: Bearer <key>` or `X-API-Key: <key>`, and rotate it if the URL was used elsewhere",
    )
}

/// A part of a URL as it was meant.
fn unescaped(part: &str) -> Vec<u8> {
    let (mut plain, mut rest) = (Vec::with_capacity(part.len()), part.as_bytes());
    while let [first, after @ ..] = rest {
        let code = if *first == b'%' {
            after.get(..2).and_then(|code| std::str::from_utf8(code).ok())
        } else {
            None
        };
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) => {
                plain.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                plain.push(*first);
                rest = after;
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    fn read(headers: &[(&'static str, &'static str)]) -> Result<Option<Vec<u8>>, ErrorCode> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        proof(&map).map(|proof| proof.map(<[u8]>::to_vec)).map_err(|fault| fault.code)
    }

    #[test]
    fn a_key_is_read_from_either_header_and_from_both_if_they_agree() {
        let key = |text: &str| Ok(Some(text.as_bytes().to_vec()));
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&[("authorization", "bearer  k ")]), key("k"));
        assert_eq!(read(&[("x-api-key", " k")]), key("k"));
        assert_eq!(read(&[("authorization", "Bearer k"), ("x-api-key", "k")]), key("k"));
        assert_eq!(read(&[("authorization", "Basic k"), ("x-api-key", "l")]), key("l"));
        assert_eq!(read(&[("authorization", "Basic k")]), Ok(None));
        for unclear in [
            [("authorization", "Bearer k"), ("x-api-key", "l")],
            [("authorization", "Bearer k"), ("authorization", "Bearer k")],
            [("x-api-key", "k"), ("x-api-key", "l")],
        ] {
            assert_eq!(read(&unclear), Err(ErrorCode::InvalidRequest), "{unclear:?}");
        }
    }

    #[test]
    fn of_the_forwarded_addresses_the_last_that_is_no_proxy_s_counts() {
        let told = |lists: &[&'static str]| {
            let mut map = HeaderMap::new();
            for list in lists {
                map.append(HeaderName::from_static("x-forwarded-for"), HeaderValue::from_static(list));
            }
            let peer = "127.0.0.1".parse().unwrap();
            told_by(&map, peer, |address| address.is_loopback() || address.to_string().starts_with("10."))
                .to_string()
        };
        assert_eq!(told(&[]), "127.0.0.1");
        assert_eq!(told(&["203.0.113.7"]), "203.0.113.7");
        assert_eq!(told(&["1.1.1.1, 203.0.113.7, 10.0.0.9"]), "203.0.113.7");
        assert_eq!(told(&["1.1.1.1", "203.0.113.7"]), "203.0.113.7", "a proxy may add a line of its own");
        assert_eq!(told(&["203.0.113.7:4711"]), "203.0.113.7");
        assert_eq!(told(&["[2001:db8::7]:4711"]), "2001:db8::7");
        assert_eq!(told(&["1.1.1.1, unknown"]), "127.0.0.1", "what comes before may be anybody's word");
        assert_eq!(told(&["1.1.1.1, unknown, 10.0.0.9"]), "10.0.0.9");
        assert_eq!(told(&["10.0.0.8, 10.0.0.9"]), "10.0.0.8");
    }

    #[test]
    fn a_key_in_a_url_is_seen_however_its_name_is_written() {
        for bad in [
            "api_key=x",
            "a=1&KEY=x",
            "access_token=x",
            "%61pi%5Fkey=x",
            "token",
            "a=b;token=x",
            "X-Api-Key=1",
        ] {
            assert!(key_in_url("/mcp", bad).is_some(), "{bad}");
        }
        for fine in ["", "limit=1&since=2", "session_id=key", "keys=1", "a=token", "%", "%zz=1"] {
            assert!(key_in_url("/mcp", fine).is_none(), "{fine}");
        }
        let named = |query| key_in_url(crate::http::explain::PATH, query).is_none();
        assert!(named("tool=a&key=ci") && !named("key=ci&api_key=x") && !named("KEY=ci"));
    }

    #[test]
    fn a_key_of_ours_is_seen_by_its_mark_wherever_it_stands_in_a_url() {
        for (path, query) in [
            ("/health", "authorization=Bearer%20wg_abcdefgh_0123456789abcdef"),
            ("/health", "foo=wg_abcdefgh_0123456789abcdef"),
            ("/health", "wg_abcdefgh_0123456789abcdef"),
            ("/health", "foo=%77g%5fabcd%65fgh_0123456789abcdef"),
            ("/mcp", "bearer=wg_abcdefgh_0123456789abcdef"),
            ("/mcp/wg_abcdefgh_0123456789abcdef", ""),
            ("/mcp/%77g_abcdefgh%5F0123456789abcdef", ""),
            ("/nope/a-wg_wg_abcde234_0123456789-_ABCD", ""),
            (crate::http::explain::PATH, "tool=a&key=wg_abcdefgh_0123456789abcdef"),
        ] {
            assert!(key_in_url(path, query).is_some(), "{path}?{query}");
        }
        for (path, query) in [
            ("/mcp/wg", ""),
            ("/mcp/wg_abcdefgh", "a=wg_abcdefgh"),
            ("/mcp/wg_database_tools", "tool=wg__do_this"),
            ("/%", "%w=%7"),
            ("/admin/api/keys/abcdefgh", "a=b_wg_"),
        ] {
            assert!(key_in_url(path, query).is_none(), "{path}?{query}");
        }
    }
}
