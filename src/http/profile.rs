//! `POST /diagnostics/profile/cpu` and `/diagnostics/profile/heap`: where the processor's time goes for some seconds, and what
//! memory is taken by. For the operator alone.
//!
//! Must not know how anything is sampled.

use actix_web::http::header;
use actix_web::web::{Data, Query};
use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;
use serde_json::Value;

use super::caller::Wants;
use super::door::Door;
use super::ops::{admitted, respond};
use crate::actors::profiling::{self, SECONDS};
use crate::error::Fault;
use crate::telemetry::profile::{Samples, folded, pprof};

/// What both ask for.
pub const OPERATOR: Wants = Wants::Operator;
/// Where the processor's time is sampled.
pub const CPU: &str = "/diagnostics/profile/cpu";
/// Where memory is looked at.
pub const HEAP: &str = "/diagnostics/profile/heap";

const SECONDS_DEFAULT: u64 = 10;

/// The query of `/diagnostics/profile/cpu`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CpuQuery {
    seconds: Option<u64>,
    #[serde(default)]
    format: Form,
}

/// How samples are written down.
#[derive(Debug, Default, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Form {
    #[default]
    Pprof,
    Folded,
}

impl Form {
    fn write(self, samples: &Samples) -> HttpResponse {
        let (kind, file, body) = match self {
            Self::Pprof => ("application/octet-stream", "waygate-cpu.pb", pprof(samples)),
            Self::Folded => ("text/plain; charset=utf-8", "waygate-cpu.folded", folded(samples).into_bytes()),
        };
        let disposition = format!("attachment; filename=\"{file}\"");
        HttpResponse::Ok()
            .insert_header((header::CONTENT_TYPE, kind))
            .insert_header((header::CONTENT_DISPOSITION, disposition))
            .body(body)
    }
}

/// `POST /diagnostics/profile/cpu?seconds&format`
pub async fn cpu(
    request: HttpRequest,
    door: Data<Door>,
    query: Result<Query<CpuQuery>, actix_web::Error>,
) -> HttpResponse {
    let sampled = async {
        let caller = admitted(&request, &door)?;
        let advice = "use ?seconds=10&format=pprof, or format=folded";
        let query = query
            .map_err(|error| Fault::invalid_params(format!("the query is malformed: {error}"), advice))?;
        let seconds = query.seconds.unwrap_or(SECONDS_DEFAULT);
        if !SECONDS.contains(&seconds) {
            let (least, most) = (SECONDS.start(), SECONDS.end());
            let message = format!("`seconds` is {seconds}, and takes a whole number from {least} to {most}");
            return Err(Fault::invalid_params(message, advice));
        }
        let samples = profiling::cpu(&door.frame.house, seconds, &caller.principal).await?;
        Ok(query.format.write(&samples))
    };
    sampled.await.unwrap_or_else(|fault| respond(&request, &door, Err(fault)))
}

/// `POST /diagnostics/profile/heap`
pub async fn heap(request: HttpRequest, door: Data<Door>) -> HttpResponse {
    let looked = async {
        admitted(&request, &door)?;
        let heap = profiling::heap().await?;
        serde_json::to_value(heap).map_err(|error| Fault::internal(error.to_string()))
    };
    let looked: Result<Value, Fault> = looked.await;
    respond(&request, &door, looked)
}
