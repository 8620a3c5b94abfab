//! The MCP endpoint: from a body to its answer, check by check in the order that the protocol wants.
//!
//! MCP 2026-07-28, basic/transports/streamable-http and basic/versioning. Must not know how anything is carried out.

use std::panic::AssertUnwindSafe;
use std::time::Instant;

use actix_web::web::{Bytes, Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use futures_util::FutureExt as _;

use super::call::{Asked, Busy, Call, Mirrors, SESSION_ID};
use super::door::{Connection, Door};
use super::limits;
use super::route::{self, Routed};
use super::{caller, listen, reply, stream, tally};
use crate::access::Caller;
use crate::actors::supervision::message_of;
use crate::error::{ErrorCode, Fault};
use crate::protocol::headers::{self, Header, Headers};
use crate::protocol::modern::{self, Meta, Params};
use crate::protocol::{Id, MODERN, Message, Method, render};
use crate::telemetry::metrics::METRICS;

/// `POST /mcp`
pub async fn post(request: HttpRequest, mut payload: Payload, door: Data<Door>) -> HttpResponse {
    let request_id = door.frame.house.ids.next();
    let (caller, body) = match take(&request, &mut payload, &door, &request_id).await {
        Ok(taken) => taken,
        Err(fault) => {
            if fault.code != ErrorCode::BodyTimeout {
                limits::discard(&mut payload).await;
            }
            return reply::rpc_error(None, &fault, "POST /mcp", &request_id);
        }
    };
    let connection = request.conn_data::<Connection>();
    let call = Call { door, headers: request.headers(), caller, request_id, connection };
    answer(&call, body).await
}

/// What is settled before a body is looked into: who calls, whether the server serves, and that the body is whole.
async fn take(
    request: &HttpRequest,
    payload: &mut Payload,
    door: &Door,
    request_id: &str,
) -> Result<(Caller, Bytes), Fault> {
    let caller = caller::admit(request, &door.frame).inspect_err(|_| {
        METRICS.refused.with_label_values(&["unauthenticated"]).inc();
        let from = caller::address(request, &door.frame).map(|from| from.to_string()).unwrap_or_default();
        log::info!(client = from.as_str(), request_id = request_id; "a caller without a valid key was refused");
    })?;
    door.frame.house.phase.admits()?;
    let body = limits::read_json(request, payload, &door.frame).await?;
    Ok((caller, body))
}

/// `/mcp` by any other method: there are no sessions and no free-standing streams in the stateless revision.
pub async fn other(request: HttpRequest, door: Data<Door>) -> HttpResponse {
    let request_id = door.frame.house.ids.next();
    let fault = match caller::admit(&request, &door.frame) {
        Err(fault) => fault,
        Ok(_) => Fault::new(
            ErrorCode::MethodNotAllowed,
            format!("{} is not served at the MCP endpoint", request.method()),
            format!("send every message as a POST, in revision {MODERN}"),
        )
        .with("allow", "POST"),
    };
    reply::rpc_error(None, &fault, "/mcp", &request_id)
}

/// Answers one body.
pub async fn answer(call: &Call<'_>, body: Bytes) -> HttpResponse {
    let accepts = limits::accepts(call.headers);
    let refuse = |id: Option<&Id>, fault: &Fault| reply::rpc_error(id, fault, "POST /mcp", &call.request_id);
    if !accepts.json && !accepts.events {
        let fault = Fault::new(
            ErrorCode::NotAcceptable,
            "the Accept header takes neither JSON nor an event stream",
            "send `Accept: application/json, text/event-stream`",
        );
        return refuse(None, &fault);
    }
    match Message::parse(body) {
        Err(malformed) => refuse(malformed.id.as_ref(), &malformed.fault),
        // No notification is defined from client to server over HTTP; unknown ones are to be ignored.
        Ok(Message::Notification { .. }) => HttpResponse::Accepted().finish(),
        Ok(Message::Response { .. }) => {
            let why = "a JSON-RPC response was sent, but this server never asks over HTTP";
            refuse(
                None,
                &Fault::new(
                    ErrorCode::InvalidRequest,
                    why,
                    "send answers as `inputResponses` of a new request",
                ),
            )
        }
        Ok(Message::Request { id, method, params }) => {
            let asked = Asked { id, method, accepts };
            let _busy = Busy::begin();
            let served = AssertUnwindSafe(serve(call, &asked, &params)).catch_unwind().await;
            let served = served.unwrap_or_else(|panic| {
                Err(Fault::internal(format!("a handler panicked: {}", message_of(panic.as_ref()))))
            });
            served.unwrap_or_else(|fault| asked.refuse(call, &fault))
        }
    }
}

async fn serve(call: &Call<'_>, asked: &Asked, params: &Params) -> Result<HttpResponse, Fault> {
    let began = Instant::now();
    let headers = Mirrors(call.headers);
    if !is_modern(&headers, &asked.method, params) {
        speaks(call, 2);
        return Err(refuse_legacy(&headers, &asked.method, params));
    }
    speaks(call, 1);
    let meta = Meta::open(params)?;
    headers::check_version(&headers, &meta.version)?;
    headers::check_method(&headers, &asked.method)?;
    let method = Method::parse(&asked.method).ok_or_else(|| unknown_method(&asked.method))?;
    headers::check_name(&headers, method, params.target(method).as_deref())?;
    let routed = route::find(&call.door.frame.house, method, params, &headers)?;
    let response = match routed {
        Routed::Page(page) => {
            tally::ended(method, "ok");
            stream::send(render::result(&asked.id, &page), asked.accepts)
        }
        Routed::Listen(wanted) => listen::open(call, asked, &wanted).await?,
        Routed::Perform(task) => stream::perform(call, asked, params, meta, task).await?,
    };
    tally::took(method, began.elapsed());
    Ok(response)
}

/// Whether the stateless revision rules over this request.
fn is_modern(headers: &Mirrors<'_>, method: &str, params: &Params) -> bool {
    // Revisions are ISO dates, so that they compare as text.
    let header = matches!(headers.protocol_version(), Header::Once(version) if version >= MODERN.as_bytes() && is_date(version));
    header || method == "server/discover" || modern::is_modern(params)
}

fn is_date(version: &[u8]) -> bool {
    version.len() == 10
        && version
            .iter()
            .enumerate()
            .all(|(n, byte)| if n == 4 || n == 7 { *byte == b'-' } else { byte.is_ascii_digit() })
}

/// The answer to a request of an older revision: it names what is served.
fn refuse_legacy(headers: &Mirrors<'_>, method: &str, params: &Params) -> Fault {
    if headers.0.contains_key(&SESSION_ID) && method != "initialize" {
        return Fault::new(
            ErrorCode::NotFound,
            "there is no such session",
            format!("this server is stateless: send each request in revision {MODERN}, without a session"),
        );
    }
    // A handshake names its revision in the body; headers came later, with 2025-06-18.
    let offered = params.members.revision.as_ref().and_then(|version| version.read::<String>().ok());
    let requested = match (offered.filter(|_| method == "initialize"), headers.protocol_version()) {
        (Some(version), _) => version,
        (None, Header::Once(version)) => String::from_utf8_lossy(version).into_owned(),
        (None, Header::Absent | Header::Doubled) => "a revision before 2025-06-18".to_owned(),
    };
    headers::unsupported(&requested)
}

fn unknown_method(method: &str) -> Fault {
    Fault::new(
        ErrorCode::MethodNotFound,
        format!("there is no method {method:?} in revision {MODERN}"),
        "call server/discover to see what is served",
    )
}

fn speaks(call: &Call<'_>, era: u8) {
    if let Some(connection) = call.connection {
        connection.speaks(era);
    }
}
