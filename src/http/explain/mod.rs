//! Explains what would become of a call now, step by step, and what decides each: the request path's own functions are asked, and
//! nothing is charged.
//!
//! Whoever asks learns of their own key what a call of theirs would tell them; of other keys, and of what is kept from them, the
//! operator alone learns. Must not decide anything itself.

mod absent;
mod by;
mod steps;

use std::net::IpAddr;
use std::time::SystemTime;

use actix_web::web::{Data, Query};
use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;
use serde_json::{Value, json};

use super::caller::{self, Wants};
use super::door::Door;
use super::{ops, reply};
use crate::access::Caller;
use crate::access::keys::{About, KeyError, Refusal, is_marked};
use crate::error::{Fault, RETRY_AFTER};

/// Where it is asked.
pub const PATH: &str = "/diagnostics/explain";

/// The query.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExplainQuery {
    /// The published name of a tool.
    tool: String,
    /// What a key is called: its id or its name; `anonymous` for none, `local` for the user whose server this is.
    key: Option<String>,
    /// The bundle, or the plugin that is served alone; without one, everything.
    bundle: Option<String>,
}

/// Who would call.
struct Subject {
    admitted: Result<Caller, Refusal>,
    /// Of a key that was made.
    about: Option<About>,
    from: Option<IpAddr>,
    is_local: bool,
}

/// A call that might be made.
struct Case<'a> {
    door: &'a Door,
    subject: &'a Subject,
    /// Whether who asks may know of everything.
    sees_all: bool,
    tool: &'a str,
    bundle: Option<&'a str>,
}

/// `GET /diagnostics/explain?tool&key&bundle`
pub async fn explain(
    request: HttpRequest,
    door: Data<Door>,
    query: Result<Query<ExplainQuery>, actix_web::Error>,
) -> HttpResponse {
    let told = ops::admitted(&request, &door).and_then(|asker| {
        let query = query.map_err(|error| {
            Fault::invalid_params(
                format!("the query is malformed: {error}"),
                "use ?tool=NAME, and &key=NAME for another's key or &bundle=NAME for a path below /mcp",
            )
        })?;
        decide(&request, &door, asker, &query)
    });
    ops::respond(&request, &door, told)
}

fn decide(request: &HttpRequest, door: &Door, asker: Caller, query: &ExplainQuery) -> Result<Value, Fault> {
    let is_open = door.frame.house.keys.ring().is_open();
    let operator =
        caller::permit(&asker, Wants::Operator, is_open, || caller::is_local(request, &door.frame));
    let subject = subject(request, door, asker, query.key.as_deref(), &operator)?;
    let case = Case {
        door,
        subject: &subject,
        sees_all: operator.is_ok(),
        tool: &query.tool,
        bundle: query.bundle.as_deref(),
    };
    let (steps, refusal) = steps::walk(&case);
    let path = case.bundle.map_or_else(|| super::MCP.to_owned(), |name| format!("{}/{name}", super::MCP));
    Ok(json!({
        "tool": query.tool,
        "path": path,
        "caller": told(&subject),
        "allowed": refusal.is_none(),
        "decidedBy": steps.iter().find(|step| step.is_refusal()).map(|step| step.name),
        "answer": refusal.as_ref().map(answer),
        "steps": steps.iter().map(steps::Step::to_json).collect::<Vec<_>>(),
    }))
}

/// Whom it is about: who asks, or, for the operator, whoever is named.
fn subject(
    request: &HttpRequest,
    door: &Door,
    asker: Caller,
    which: Option<&str>,
    operator: &Result<(), Fault>,
) -> Result<Subject, Fault> {
    let (ring, now) = (door.frame.house.keys.ring(), SystemTime::now());
    let from = door.frame.quotas.origin(request, &door.frame, &asker);
    let is_local = caller::is_local(request, &door.frame);
    let of = |admitted: Result<Caller, Refusal>, about| Subject { admitted, about, from, is_local };
    let own = |asker: Caller| {
        // A key may be called as somebody is who has none.
        let is_own = |about: &About| about.principal() == asker.principal;
        let about = ring.named(&asker.principal, now).pop().and_then(|named| named.about).filter(is_own);
        of(Ok(asker), about)
    };
    let Some(which) = which else { return Ok(own(asker)) };
    // Others could try out here what the operator's own key is.
    if is_marked(which) || operator.is_ok() && ring.is_key(which) {
        return Err(caller::shown_in_url());
    }
    if *asker.principal == *which {
        return Ok(own(asker));
    }
    let mut named = ring.named(which, now);
    if let Err(fault) = operator {
        // Whether there is such a key is not told either.
        let is_own = |about: &About| about.principal() == asker.principal;
        let is_own = named.iter().any(|named| named.about.as_ref().is_some_and(is_own));
        return if is_own { Ok(own(asker)) } else { Err(fault.clone()) };
    }
    match which {
        Caller::ANONYMOUS => Ok(of(ring.admit(None, now), None)),
        Caller::LOCAL => Ok(of(Ok(Caller::local()), None)),
        _ if named.len() > 1 => {
            let ids = named.iter().filter_map(|named| Some(named.about.as_ref()?.id.to_string())).collect();
            Err(KeyError::Ambiguous { name: which.to_owned(), ids }.into())
        }
        _ => match named.pop() {
            Some(named) => Ok(Subject { from: None, is_local: false, ..of(named.admitted, named.about) }),
            None => Err(KeyError::Unknown(which.to_owned()).into()),
        },
    }
}

fn told(subject: &Subject) -> Value {
    let admitted = subject.admitted.as_ref().ok().map(|caller| &*caller.principal);
    let named = subject.about.as_ref().map(About::principal);
    json!({
        "principal": admitted.or(named.as_deref()).unwrap_or(Caller::ANONYMOUS),
        "key": subject.about.as_ref().map(|about| json!({"id": &*about.id, "name": about.name})),
    })
}

/// What the call would be answered with.
fn answer(fault: &Fault) -> Value {
    json!({
        "status": reply::status(fault.code).as_u16(),
        "code": fault.code.rpc(),
        "reason": fault.code.name(),
        "message": fault.message,
        "retryAfterSeconds": fault.detail(RETRY_AFTER),
    })
}
