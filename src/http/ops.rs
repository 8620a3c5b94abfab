//! The operations endpoints: small handlers that ask, and say what they were told.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::web::{Bytes, Data, Path, Query};
use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;
use serde_json::{Value, json};

use super::call::Call;
use super::caller::{self, Wants};
use super::door::{Door, ERAS};
use super::mcp;
use super::openapi;
use super::reply;
use super::urls::{URLS, Url};
use super::views::{self, ANSWER_WITHIN};
use crate::access::Caller;
use crate::access::keys::Scope;
use crate::actors::House;
use crate::actors::ask::ask;
use crate::actors::metrics::messages::Render;
use crate::actors::plugin::reload::Reloaded;
use crate::actors::supervision::{Crash, Ping};
use crate::catalog::ViewName;
use crate::error::{ErrorCode, Fault};
use crate::protocol::{MODERN, spoken};
use crate::telemetry::metrics::METRICS;

/// `GET /`
pub async fn index(request: HttpRequest, door: Data<Door>) -> HttpResponse {
    let body = || {
        Ok(json!({
            "service": "waygate-mcp",
            "version": env!("CARGO_PKG_VERSION"),
            "protocolVersions": spoken(),
            "links": {
                "mcp": "/mcp", "health": "/health", "ready": "/ready", "metrics": "/metrics", "plugins": "/plugins", "bundles": "/bundles",
                "openapi": openapi::PATH,
                "diagnostics": shown_under("/diagnostics/"),
            },
        }))
    };
    respond(&request, &door, admitted(&request, &door).and_then(|_| body()))
}

/// What can be read below this path.
fn shown_under(begin: &str) -> Vec<&'static str> {
    let is_read = |url: &&Url| url.methods.iter().any(|(method, _)| method == Method::GET);
    URLS.iter().filter(is_read).map(|url| url.path).filter(|path| path.starts_with(begin)).collect()
}

/// `GET /health`: 200 while it works, even if somebody should look; 503 when a check fails.
pub async fn health(request: HttpRequest, door: Data<Door>) -> HttpResponse {
    let details = sees_details(&request, &door);
    match views::judgement(&door.frame.house).await {
        Err(fault) => respond(&request, &door, Err(fault)),
        Ok(judgement) => {
            let ok = judgement.status() != "unhealthy";
            verdict(ok, &views::health(&door.frame.house, &judgement, details))
        }
    }
}

/// `GET /ready`: whether a discovery and a list of tools come back through the real path in time.
pub async fn ready(request: HttpRequest, door: Data<Door>) -> HttpResponse {
    let details = sees_details(&request, &door);
    let tried = async {
        door.frame.house.phase.admits()?;
        let part = door.part.waits();
        let pinged = tokio::time::timeout(ANSWER_WITHIN, door.executor.send(Ping)).await;
        drop(part);
        if !matches!(pinged, Ok(Ok(()))) {
            return Err(views::no_answer("the executor of this worker", &"no sign of life"));
        }
        for method in ["server/discover", "tools/list"] {
            let answered = tokio::time::timeout(ANSWER_WITHIN, try_out(&door, method)).await;
            let status = answered.map_err(|error| views::no_answer(method, &error))?;
            if status != StatusCode::OK {
                return Err(views::no_answer(method, &status));
            }
        }
        Ok(())
    };
    let outcome: Result<(), Fault> = tried.await;
    let mut body = json!({"ready": outcome.is_ok()});
    if let (true, Some(body)) = (details, body.as_object_mut()) {
        body.insert("phase".to_owned(), door.frame.house.phase.name().into());
        body.extend(outcome.as_ref().err().map(|fault| ("reason".to_owned(), Value::from(&*fault.message))));
    }
    verdict(outcome.is_ok(), &body)
}

/// Sends a request of our own through the door's own path.
async fn try_out(door: &Data<Door>, method: &str) -> StatusCode {
    let mut headers = HeaderMap::new();
    let mut set = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    set("accept", "application/json, text/event-stream");
    set("mcp-protocol-version", MODERN);
    set("mcp-method", method);
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let body = json!({"jsonrpc": "2.0", "id": "ready", "method": method, "params": {"_meta": meta}});
    let call = Call {
        door: door.clone(),
        headers: &headers,
        caller: Caller::anonymous(),
        view: ViewName::MAIN,
        request_id: door.frame.house.ids.next(),
        connection: None,
        from: None,
        is_own: true,
    };
    mcp::answer(&call, Bytes::from(body.to_string())).await.status()
}

/// `GET /metrics`
pub async fn metrics(request: HttpRequest, door: Data<Door>) -> HttpResponse {
    if let Err(fault) = admitted(&request, &door) {
        return respond(&request, &door, Err(fault));
    }
    let addresses = door.frame.quotas.addresses();
    METRICS.limited_addresses.set(i64::try_from(addresses).unwrap_or(i64::MAX));
    match ask(&door.frame.house.metrics, Render, ANSWER_WITHIN).await {
        Ok(text) => HttpResponse::Ok()
            .insert_header((header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8"))
            .body(text),
        Err(error) => respond(&request, &door, Err(views::no_answer("the metrics", &error))),
    }
}

/// `GET /diagnostics/connection`
pub async fn connection(request: HttpRequest, door: Data<Door>) -> HttpResponse {
    let shown = match admitted(&request, &door) {
        Err(fault) => Err(fault),
        Ok(_) => connections(&door).await,
    };
    respond(&request, &door, shown)
}

/// What `/diagnostics/connection` shows.
async fn connections(door: &Door) -> Result<Value, Fault> {
    let frame = &door.frame;
    let judgement = views::judgement(&frame.house).await?;
    let streams = frame.house.streams.view();
    let by_era = frame.connections.by_era();
    let eras: serde_json::Map<String, Value> =
        ERAS.iter().zip(by_era).map(|(era, count)| ((*era).to_owned(), count.into())).collect();
    Ok(json!({
        "listeners": frame.listeners,
        "connections": {"open": by_era.iter().sum::<usize>(), "accepted": frame.connections.accepted(), "byEra": eras},
        "streams": {"open": streams.open, "oldestSeconds": streams.oldest.map(|oldest| oldest.as_secs())},
        "sessions": {"open": frame.house.sessions.count(), "byRevision": frame.house.sessions.by_revision()},
        "requestsInFlight": METRICS.in_flight.get(),
        "auth": views::auth(&frame.house),
        "database": {"latencyMs": judgement.db_latency.map(|latency| latency.as_micros() as f64 / 1e3)},
    }))
}

/// `GET /diagnostics/performance`
pub async fn performance(request: HttpRequest, door: Data<Door>) -> HttpResponse {
    let shown = match admitted(&request, &door) {
        Err(fault) => Err(fault),
        Ok(_) => views::performance(&door.frame.house).await,
    };
    respond(&request, &door, shown)
}

/// The query of `/diagnostics/errors`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ErrorsQuery {
    limit: Option<usize>,
    /// RFC 3339, or seconds ago.
    since: Option<String>,
}

/// `GET /diagnostics/errors?limit&since`
pub async fn errors(
    request: HttpRequest,
    door: Data<Door>,
    query: Result<Query<ErrorsQuery>, actix_web::Error>,
) -> HttpResponse {
    let shown = admitted(&request, &door).and_then(|_| {
        let refuse = |why: String| {
            Fault::invalid_params(
                why,
                "use ?limit=50&since=2026-01-31T12:00:00Z, or since=3600 for the last hour",
            )
        };
        let query = query.map_err(|error| refuse(format!("the query is malformed: {error}")))?;
        let since = query
            .since
            .as_deref()
            .map(|since| read_since(since).ok_or_else(|| refuse(format!("`since` is no moment: {since:?}"))));
        Ok(views::recent_errors(query.limit.unwrap_or(50), since.transpose()?))
    });
    respond(&request, &door, shown)
}

fn read_since(text: &str) -> Option<SystemTime> {
    if let Ok(seconds) = text.parse::<u64>() {
        return SystemTime::now().checked_sub(Duration::from_secs(seconds));
    }
    text.parse::<jiff::Timestamp>().ok().map(SystemTime::from)
}

/// `GET /diagnostics/cache`
pub async fn cache(request: HttpRequest, door: Data<Door>) -> HttpResponse {
    respond(&request, &door, admitted(&request, &door).map(|_| views::cache(&door.frame.house)))
}

/// `GET /diagnostics/history`
pub async fn history(request: HttpRequest, door: Data<Door>) -> HttpResponse {
    respond(&request, &door, admitted(&request, &door).map(|_| views::history(&door.frame.house)))
}

/// `GET /diagnostics/actors`
pub async fn actors(request: HttpRequest, door: Data<Door>) -> HttpResponse {
    respond(&request, &door, admitted(&request, &door).map(|_| views::actors(&door.frame.house)))
}

/// `POST /diagnostics/actors/{name}/crash`, where `WAYGATE_ENV=test` only.
pub async fn crash(request: HttpRequest, door: Data<Door>, name: Path<String>) -> HttpResponse {
    let sent = match admitted(&request, &door) {
        Err(fault) => Err(fault),
        Ok(_) if !door.frame.limits.crash_allowed => Err(no_such_url(&request)),
        Ok(_) => match door.frame.house.roster.find(&name) {
            None => Err(Fault::new(
                ErrorCode::NotFound,
                format!("there is no actor {:?}", *name),
                "see /diagnostics/actors",
            )),
            Some(part) => {
                // The sender of the poison always loses its answer; that is the sign that it worked.
                let lost = tokio::time::timeout(ANSWER_WITHIN, part.crash().send(Crash)).await;
                Ok(
                    json!({"crashed": part.name(), "restarts": part.restarts(), "answered": matches!(lost, Ok(Ok(())))}),
                )
            }
        },
    };
    respond(&request, &door, sent)
}

/// `GET /plugins`
pub async fn plugins(request: HttpRequest, door: Data<Door>) -> HttpResponse {
    respond(&request, &door, admitted(&request, &door).map(|_| views::plugins(&door.frame.house)))
}

/// `GET /plugins/{name}`
pub async fn plugin(request: HttpRequest, door: Data<Door>, name: Path<String>) -> HttpResponse {
    let shown = admitted(&request, &door).and_then(|_| {
        let unknown =
            || Fault::new(ErrorCode::NotFound, format!("there is no plugin {:?}", *name), "see /plugins");
        views::plugin(&door.frame.house, &name).ok_or_else(unknown)
    });
    respond(&request, &door, shown)
}

/// `GET /bundles`
pub async fn bundles(request: HttpRequest, door: Data<Door>) -> HttpResponse {
    respond(&request, &door, admitted(&request, &door).map(|_| views::bundles(&door.frame.house)))
}

/// `GET /bundles/{name}`
pub async fn bundle(request: HttpRequest, door: Data<Door>, name: Path<String>) -> HttpResponse {
    let shown = admitted(&request, &door).and_then(|_| {
        let unknown =
            || Fault::new(ErrorCode::NotFound, format!("there is no bundle {:?}", *name), "see /bundles");
        views::bundle(&door.frame.house, &name).ok_or_else(unknown)
    });
    respond(&request, &door, shown)
}

/// `POST /plugins/reload`: for the operator alone.
pub async fn reload(request: HttpRequest, door: Data<Door>) -> HttpResponse {
    let shown = match admitted(&request, &door) {
        Err(fault) => Err(fault),
        Ok(caller) => reload_for(&door.frame.house, &caller.principal).await,
    };
    respond(&request, &door, shown)
}

async fn reload_for(house: &House, by: &Arc<str>) -> Result<Value, Fault> {
    let certificate = match &house.certificate {
        Some(certificate) => Some(certificate.reload(by, &house.bench.recorder).await),
        None => None,
    };
    let reloaded = match &house.reload {
        // What became of the certificate is told where the plugins' reload failed, too.
        Some(reload) => reload.reload(by).await.map_err(|mut fault| {
            if let Some(certificate) = &certificate {
                fault.message = format!("{}; {}", fault.message, certificate.sentence()).into();
            }
            fault
        })?,
        None if certificate.is_some() => Reloaded::default(),
        None => {
            return Err(Fault::new(
                ErrorCode::NotFound,
                "this server has no folder of plugins",
                "start it by `waygate-mcp serve`",
            ));
        }
    };
    let internal = |error: serde_json::Error| Fault::internal(error.to_string());
    let mut shown = serde_json::to_value(&reloaded).map_err(internal)?;
    if let (Some(certificate), Some(shown)) = (certificate, shown.as_object_mut()) {
        shown.insert("certificate".to_owned(), serde_json::to_value(certificate).map_err(internal)?);
    }
    Ok(shown)
}

/// Any other URL.
pub async fn not_found(request: HttpRequest, door: Data<Door>) -> HttpResponse {
    respond(&request, &door, admitted(&request, &door).and_then(|_| Err(no_such_url(&request))))
}

/// A known URL by a method that it does not have.
pub fn not_allowed(request: &HttpRequest, door: &Door, allow: &str) -> HttpResponse {
    let fault = Fault::new(
        ErrorCode::MethodNotAllowed,
        format!("{} is not served at {}", request.method(), request.path()),
        "see / for what is served",
    )
    .with("allow", allow);
    respond(request, door, admitted(request, door).and_then(|_| Err(fault)))
}

fn no_such_url(request: &HttpRequest) -> Fault {
    Fault::new(
        ErrorCode::NotFound,
        format!("there is nothing at {:?}", request.path()),
        "see / for what is served",
    )
}

/// Admits who calls, if they may have what the table of URLs asks for.
pub(super) fn admitted(request: &HttpRequest, door: &Door) -> Result<Caller, Fault> {
    let wants = request.app_data::<Wants>().copied().unwrap_or(Wants::AnyKey);
    caller::admit(request, &door.frame, wants)
}

fn sees_details(request: &HttpRequest, door: &Door) -> bool {
    let may_see =
        |caller: Caller| caller.scopes.holds(Scope::OpsRead) && &*caller.principal != Caller::ANONYMOUS;
    caller::is_local(request, &door.frame) || caller::known(request, &door.frame).is_some_and(may_see)
}

pub(super) fn respond(request: &HttpRequest, door: &Door, shown: Result<Value, Fault>) -> HttpResponse {
    match shown {
        Ok(body) => reply::json(body.to_string()),
        Err(fault) => {
            let during = format!("{} {}", request.method(), request.path());
            reply::plain_error(&fault, &during, &door.frame.house.ids.next())
        }
    }
}

fn verdict(ok: bool, body: &Value) -> HttpResponse {
    let status = if ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut response = HttpResponse::build(status);
    if !ok {
        response.insert_header((header::RETRY_AFTER, "1"));
    }
    response.insert_header((header::CONTENT_TYPE, reply::JSON)).body(body.to_string())
}
