//! The admin API: keys, made and taken back over HTTP by a key with the scope `admin`, or by the user whose server this is;
//! and the cache, cleared.
//!
//! Must not know where keys or answers are kept. What it answers with a new key in it, no cache may keep.

use std::sync::Arc;
use std::time::SystemTime;

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::web::{Bytes, Data, Path, Payload, Query};
use actix_web::{HttpRequest, HttpResponse};
use jiff::Zoned;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::caller::{self, Wants};
use super::door::Door;
use super::{limits, reply};
use crate::access::Caller;
use crate::access::keys::{
    Act, Acted, Form, FormLimits, GRACE_DEFAULT, KeyError, Renewal, Scope, end, until,
};
use crate::actors::clearing::clear;
use crate::error::{ErrorCode, Fault};
use crate::protocol::from_object;

/// What all of it asks for.
pub const ADMIN: Wants = Wants::Scope(Scope::Admin);
/// What clears the cache.
pub const CACHE_CLEAR: &str = "/admin/api/cache/clear";

/// How a key is rotated.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Rotation {
    grace: Option<String>,
    expires: Option<String>,
}

/// `GET /admin/api/keys`
pub async fn list(request: HttpRequest, door: Data<Door>) -> HttpResponse {
    let listed = match caller::admit(&request, &door.frame, ADMIN) {
        Err(fault) => Err(fault),
        Ok(_) => keys(&door).await.map(|keys| json!({"keys": keys})),
    };
    let request_id = door.frame.house.ids.next();
    respond(&request, listed.map(|body| (StatusCode::OK, body)), &request_id)
}

/// `GET /admin/api/keys/{id}`
pub async fn show(request: HttpRequest, door: Data<Door>, id: Path<String>) -> HttpResponse {
    let shown = match caller::admit(&request, &door.frame, ADMIN) {
        Err(fault) => Err(fault),
        Ok(_) => keys(&door).await.and_then(|keys| {
            let found = keys.into_iter().find(|key| key.get("id").and_then(Value::as_str) == Some(&**id));
            found.map(|key| json!({"key": key})).ok_or_else(|| KeyError::Unknown(id.to_string()).into())
        }),
    };
    let request_id = door.frame.house.ids.next();
    respond(&request, shown.map(|body| (StatusCode::OK, body)), &request_id)
}

/// `POST /admin/api/keys`
pub async fn create(request: HttpRequest, mut payload: Payload, door: Data<Door>) -> HttpResponse {
    let request_id = door.frame.house.ids.next();
    let made = async {
        let (caller, form): (Caller, Form) = take(&request, &mut payload, &door).await?;
        let wanted = form.check(&Zoned::now()).map_err(wrong)?;
        act(&door, Act::Create(wanted), &caller, &request_id).await
    };
    let made = made.await;
    finish(&request, made, StatusCode::CREATED, &mut payload, &request_id).await
}

/// `POST /admin/api/keys/{id}/rotate`
pub async fn rotate(
    request: HttpRequest,
    mut payload: Payload,
    door: Data<Door>,
    id: Path<String>,
) -> HttpResponse {
    let request_id = door.frame.house.ids.next();
    let made = async {
        let (caller, rotation): (Caller, Rotation) = take(&request, &mut payload, &door).await?;
        let now = Zoned::now();
        let grace_until = until(rotation.grace.as_deref().unwrap_or(GRACE_DEFAULT), &now).map_err(wrong)?;
        let renewal = match rotation.expires.as_deref() {
            None => Renewal::AsBefore,
            Some(text) => Renewal::Until(end(text, &now).map_err(wrong)?),
        };
        let rotate = Act::Rotate { which: id.to_string(), grace_until, renewal };
        act(&door, rotate, &caller, &request_id).await
    };
    let made = made.await;
    finish(&request, made, StatusCode::CREATED, &mut payload, &request_id).await
}

/// `PUT /admin/api/keys/{id}/limits`
pub async fn limit(
    request: HttpRequest,
    mut payload: Payload,
    door: Data<Door>,
    id: Path<String>,
) -> HttpResponse {
    let request_id = door.frame.house.ids.next();
    let done = async {
        let (caller, limits): (Caller, FormLimits) = take(&request, &mut payload, &door).await?;
        let quota = limits.check().map_err(wrong)?;
        act(&door, Act::Limit { which: id.to_string(), quota }, &caller, &request_id).await
    };
    let done = done.await;
    finish(&request, done, StatusCode::OK, &mut payload, &request_id).await
}

/// `POST /admin/api/keys/{id}/revoke`
pub async fn revoke(
    request: HttpRequest,
    mut payload: Payload,
    door: Data<Door>,
    id: Path<String>,
) -> HttpResponse {
    let request_id = door.frame.house.ids.next();
    let done = match caller::admit(&request, &door.frame, ADMIN) {
        Err(fault) => Err(fault),
        Ok(caller) => act(&door, Act::Revoke { which: id.to_string() }, &caller, &request_id).await,
    };
    finish(&request, done, StatusCode::OK, &mut payload, &request_id).await
}

/// `DELETE /admin/api/keys/{id}`
pub async fn delete(
    request: HttpRequest,
    mut payload: Payload,
    door: Data<Door>,
    id: Path<String>,
) -> HttpResponse {
    let request_id = door.frame.house.ids.next();
    let done = match caller::admit(&request, &door.frame, ADMIN) {
        Err(fault) => Err(fault),
        Ok(caller) => act(&door, Act::Delete { which: id.to_string() }, &caller, &request_id).await,
    };
    finish(&request, done, StatusCode::OK, &mut payload, &request_id).await
}

/// The query of `/admin/api/cache/clear`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClearQuery {
    plugin: Option<String>,
}

/// `POST /admin/api/cache/clear?plugin`
pub async fn clear_cache(
    request: HttpRequest,
    door: Data<Door>,
    query: Result<Query<ClearQuery>, actix_web::Error>,
) -> HttpResponse {
    let request_id = door.frame.house.ids.next();
    let cleared = async {
        let caller = caller::admit(&request, &door.frame, ADMIN)?;
        let query = query
            .map_err(|error| wrong(format!("the query is malformed: {error}; use ?plugin=NAME, or none")))?;
        let cleared = clear(&door.frame.house, query.plugin.as_deref(), &caller.principal).await?;
        Ok(json!({"cleared": cleared.answers, "pending": cleared.pending}))
    };
    respond(&request, cleared.await.map(|body| (StatusCode::OK, body)), &request_id)
}

/// Who asks, and what they filled in; nothing at all is an empty form.
async fn take<T: DeserializeOwned + Default>(
    request: &HttpRequest,
    payload: &mut Payload,
    door: &Door,
) -> Result<(Caller, T), Fault> {
    let caller = caller::admit(request, &door.frame, ADMIN)?;
    door.frame.house.phase.admits()?;
    let has_kind = request.headers().contains_key(header::CONTENT_TYPE);
    let is_empty = request.headers().get(header::CONTENT_LENGTH).is_none_or(|length| length == "0");
    if is_empty && !has_kind && !request.headers().contains_key(header::TRANSFER_ENCODING) {
        return Ok((caller, T::default()));
    }
    let body: Bytes = limits::read_json(request, payload, &door.frame).await?;
    filled_in(&body).map(|form| (caller, form)).map_err(wrong)
}

/// The form that a body fills in: what all bodies of this API go through.
fn filled_in<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    let mut read = serde_json::Deserializer::from_slice(body);
    let form = from_object(&mut read).and_then(|form| read.end().map(|()| form));
    form.map_err(|error| format!("the body is not what is taken here: {error}"))
}

async fn act(door: &Door, act: Act, caller: &Caller, request_id: &Arc<str>) -> Result<Acted, Fault> {
    let house = &door.frame.house;
    house.keys.act(&house.db, &house.bench.recorder, act, (&caller.principal, request_id)).await
}

async fn keys(door: &Door) -> Result<Vec<Value>, Fault> {
    let house = &door.frame.house;
    let now = SystemTime::now();
    Ok(house.keys.all(&house.db).await?.iter().map(|key| key.to_json(now)).collect())
}

fn wrong(why: String) -> Fault {
    let (message, advice) = match why.split_once("; ") {
        Some((message, advice)) => (message.to_owned(), advice.to_owned()),
        None => (why, "mend the request; docs/keys.md shows what it takes".to_owned()),
    };
    Fault::invalid_params(message, advice)
}

async fn finish(
    request: &HttpRequest,
    done: Result<Acted, Fault>,
    status: StatusCode,
    payload: &mut Payload,
    request_id: &str,
) -> HttpResponse {
    let body = match done {
        Ok(acted) => Ok(json!({
            "key": acted.key.to_json(SystemTime::now()),
            "secret": acted.secret.as_ref().map(crate::config::Secret::expose),
            "others": acted.others,
        })),
        Err(fault) => {
            if fault.code != ErrorCode::BodyTimeout {
                limits::discard(payload).await;
            }
            Err(fault)
        }
    };
    respond(request, body.map(|body| (status, body)), request_id)
}

fn respond(
    request: &HttpRequest,
    done: Result<(StatusCode, Value), Fault>,
    request_id: &str,
) -> HttpResponse {
    match done {
        Ok((status, body)) => HttpResponse::build(status)
            .insert_header((header::CONTENT_TYPE, reply::JSON))
            .insert_header((header::CACHE_CONTROL, HeaderValue::from_static("no-store")))
            .body(body.to_string()),
        Err(fault) => {
            let during = format!("{} {}", request.method(), request.path());
            reply::plain_error(&fault, &during, request_id)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_an_object_throughout_and_never_filled_in_by_position() {
        let form = |body: &str| filled_in::<Form>(body.as_bytes());
        assert_eq!(
            form(r#"{"name": "n", "limits": {"burst": 2}}"#).map(|form| form.limits.burst),
            Ok(Some(2))
        );
        for body in [
            r#"["n", null, null, ["admin"]]"#,
            r#"["n"]"#,
            "[]",
            r#"{"name": "n", "limits": [60, 2, 1]}"#,
            r#"{"name": "n"} {}"#,
            r#"{"name": "n", "name": "m"}"#,
            "null",
            "\"n\"",
        ] {
            assert!(form(body).is_err(), "{body}");
        }
        assert!(filled_in::<Rotation>(br#"["0", "never"]"#).is_err());
        assert!(filled_in::<FormLimits>(b"[1, 1, 1]").is_err());
    }
}
