//! Who is calling: a handler that has a `Caller` is authenticated.

use std::net::IpAddr;

use actix_web::HttpRequest;
use actix_web::http::header::{self, HeaderMap};

use super::door::{Connection, Frame};
use crate::access::Caller;
use crate::error::{ErrorCode, Fault};

/// Headers that only somebody who forwards adds.
const FORWARDING: [&str; 4] = ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip"];

/// Admits the caller.
///
/// # Errors
/// `Unauthenticated` when a key is required and the request has none, or a wrong one.
pub fn admit(request: &HttpRequest, frame: &Frame) -> Result<Caller, Fault> {
    if is_this_user(request) {
        return Ok(Caller::local());
    }
    let proof = if frame.keys.are_required() { proof(request.headers()) } else { None };
    frame.keys.admit(proof).ok_or_else(|| {
        Fault::new(
            ErrorCode::Unauthenticated,
            "a key is required, and none was sent or it is wrong",
            "send it as `Authorization: Bearer <key>` or `X-API-Key: <key>`",
        )
    })
}

/// Whether the request comes from this machine, and from nobody who forwards for others.
pub fn is_local(request: &HttpRequest) -> bool {
    let loopback = request.peer_addr().is_some_and(|peer| peer.ip().to_canonical().is_loopback());
    is_this_user(request) || loopback && !is_forwarded(request)
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
    if !frame.trusted_proxies.iter().any(|proxy| proxy.holds(peer)) {
        return Some(peer);
    }
    let forwarded = request.headers().get("x-forwarded-for").and_then(|value| value.to_str().ok());
    // The last address that no trusted proxy wrote about itself.
    let told =
        forwarded.into_iter().flat_map(|list| list.rsplit(',')).filter_map(|one| one.trim().parse().ok());
    let mut told = told.skip_while(|address| frame.trusted_proxies.iter().any(|proxy| proxy.holds(*address)));
    Some(told.next().unwrap_or(peer))
}

fn proof(headers: &HeaderMap) -> Option<&[u8]> {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| {
        let (scheme, key) = value.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| key.trim().as_bytes())
    });
    bearer.or_else(|| headers.get("x-api-key").map(|value| value.as_bytes()))
}
