//! What the operations endpoints show, as JSON. The built-in `waygate` plugin shows the same, through `app`.
//!
//! Must not know requests or statuses.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use prometheus::Histogram;
use serde_json::{Map, Value, json};

use crate::actors::House;
use crate::actors::ask::ask;
use crate::actors::health::messages::Judge;
use crate::actors::health::{Check, Judgement};
use crate::actors::metrics::messages::Performance;
use crate::actors::plugin::Member;
use crate::catalog::{Snapshot, ViewName, ViewSummary};
use crate::error::{ErrorCode, Fault};
use crate::telemetry::errors;
use crate::telemetry::metrics::METRICS;

/// How long an actor may take to answer an operator.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// The last judgement.
///
/// # Errors
/// `Unavailable` when the monitor does not answer.
pub async fn judgement(house: &House) -> Result<Arc<Judgement>, Fault> {
    ask(&house.health, Judge, ANSWER_WITHIN).await.map_err(|error| no_answer("the health monitor", &error))
}

/// `/health`; without details only the status.
pub fn health(house: &House, judgement: &Judgement, details: bool) -> Value {
    if !details {
        return json!({"status": judgement.status()});
    }
    let mut checks = Map::new();
    let mut problems = Map::new();
    for (name, check) in &judgement.checks {
        let (word, problem) = match check {
            Check::Ok => ("ok", None),
            Check::Disabled => ("disabled", None),
            Check::Degraded(why) => ("degraded", Some(why)),
            Check::Failed(why) => ("failed", Some(why)),
        };
        checks.insert((*name).to_owned(), word.into());
        problems.extend(problem.map(|why| ((*name).to_owned(), why.as_str().into())));
    }
    json!({
        "status": judgement.status(),
        "checks": checks,
        "problems": problems,
        "auth": auth(house),
        "phase": house.phase.name(),
        "version": env!("CARGO_PKG_VERSION"),
        "uptimeSeconds": house.began.elapsed().as_secs(),
        "checkedAt": moment(judgement.at),
    })
}

/// Whether a key is asked for, and how many are taken.
pub fn auth(house: &House) -> Value {
    let ring = house.keys.ring();
    json!({"required": !ring.is_open(), "keys": ring.count(SystemTime::now()).0})
}

/// `/diagnostics/performance`
///
/// # Errors
/// `Unavailable` when the metrics do not answer.
pub async fn performance(house: &House) -> Result<Value, Fault> {
    ask(&house.metrics, Performance, ANSWER_WITHIN).await.map_err(|error| no_answer("the metrics", &error))
}

/// `/diagnostics/actors`
pub fn actors(house: &House) -> Value {
    let parts = house.roster.parts();
    let shown = parts.iter().map(|part| {
        let panic = part.last_panic();
        json!({
            "name": part.name(),
            "kind": part.kind(),
            "state": match (part.is_given_up(), part.is_stuck()) {
                (true, _) => "given_up",
                (false, true) => "stuck",
                (false, false) => "running",
            },
            "restarts": part.restarts(),
            "waiting": part.waiting(),
            "lastPanic": panic.map(|panic| json!({
                "at": moment(panic.at),
                "message": panic.message,
                "restartMicroseconds": panic.restarted_in.as_nanos() as f64 / 1e3,
            })),
        })
    });
    json!({"actors": shown.collect::<Vec<_>>()})
}

/// `/diagnostics/errors`
pub fn recent_errors(limit: usize, since: Option<SystemTime>) -> Value {
    let shown = errors::newest(limit, since).into_iter().map(|error| {
        json!({
            "at": moment(error.at),
            "code": error.code,
            "during": error.during,
            "cause": error.cause,
            "requestId": error.request_id,
            "traceId": error.trace_id,
        })
    });
    json!({"errors": shown.collect::<Vec<_>>()})
}

/// `/plugins`
pub fn plugins(house: &House) -> Value {
    let catalog = house.shelf.keep();
    let shown: Vec<Value> =
        house.plugins.all().iter().map(|member| plugin_summary(&catalog, member)).collect();
    json!({"plugins": shown})
}

/// `/plugins/{name}`
pub fn plugin(house: &House, name: &str) -> Option<Value> {
    let catalog = house.shelf.keep();
    let member = house.plugins.get(name)?;
    let seat = &member.seat;
    // One that was never ready offers nothing.
    let inventory = catalog.offer(seat).cloned().unwrap_or_default();
    let mut shown = plugin_summary(&catalog, &member);
    let mut tools: Vec<_> = catalog.tools().filter(|entry| entry.seat.name == seat.name).collect();
    tools.sort_by(|a, b| a.name.cmp(&b.name));
    let seen = house.shelf.sightings(&seat.name);
    let tools: Vec<Value> = tools
        .iter()
        .map(|entry| {
            let seen = seen.get(&entry.local);
            json!({
                "name": &*entry.name,
                "own": &*entry.local,
                "tokens": entry.tokens(),
                "calls": entry.time().map_or(0, Histogram::get_sample_count),
                "cached": house.bench.cache.is_some() && entry.caching.is_looked_for(),
                "digest": &*entry.digest,
                "previousDigest": seen.and_then(|seen| seen.previous.as_deref()),
                "definitionChangedAt": seen.and_then(|seen| seen.changed_at).map(moment),
            })
        })
        .collect();
    let mut prompts: Vec<&str> =
        catalog.prompts().filter(|entry| entry.seat.name == seat.name).map(|entry| &*entry.name).collect();
    prompts.sort_unstable();
    let uris = |definitions: &[crate::protocol::Definition]| -> Vec<String> {
        definitions.iter().map(crate::protocol::Definition::uri).collect()
    };
    let more = json!({
        "tools": tools,
        "prompts": prompts,
        "resources": uris(&inventory.resources),
        "templates": uris(&inventory.templates),
        "refused": catalog.refused.iter().filter(|refused| refused.plugin == seat.name).map(|refused| refused.why.as_str()).collect::<Vec<_>>(),
        "definitionChanges": METRICS.tool_definition_changes.with_label_values(&[&*seat.name]).get(),
        "limits": {
            "concurrency": seat.limits.concurrency,
            "queueMax": seat.limits.queue_max,
            "blockingThreads": seat.limits.blocking_threads,
            "lostThreadsMax": seat.limits.lost_threads_max,
            "timeoutSeconds": seat.limits.timeout_seconds,
            "queueTimeoutSeconds": seat.limits.queue_timeout.map(|timeout| timeout.as_secs_f64()),
        },
        "breaker": seat.limits.breaker.map(|rule| json!({
            "circuit": seat.circuit().name(),
            "failures": rule.failures,
            "openSeconds": rule.open.as_secs_f64(),
        })),
        "failedCalls": failed_calls(seat),
        "report": seat.plugin.report(),
    });
    if let (Some(shown), Value::Object(more)) = (shown.as_object_mut(), more) {
        shown.extend(more);
    }
    Some(shown)
}

/// How many calls failed, and why the last of them did.
fn failed_calls(seat: &crate::catalog::Seat) -> Value {
    let failed = seat.failed();
    let (why, at) = failed.last.map(|(why, at)| (why, moment(at))).unzip();
    json!({"count": failed.count, "lastWhy": why, "lastAt": at})
}

/// `/diagnostics/cache`
pub fn cache(house: &House) -> Value {
    let Some(cache) = &house.bench.cache else { return json!({"type": "none", "state": "disabled"}) };
    let count = |plugin: &str, outcome| METRICS.cache_lookups.with_label_values(&[plugin, outcome]).get();
    let shown = house.plugins.all().into_iter().filter_map(|member| {
        let name = &*member.seat.name;
        let (hits, misses, joined) = (count(name, "hit"), count(name, "miss"), count(name, "joined"));
        // Most keep nothing.
        (hits + misses > 0).then(|| json!({"name": name, "hits": hits, "misses": misses, "joined": joined}))
    });
    let plugins: Vec<Value> = shown.collect();
    let mut report = cache.report();
    if let Some(report) = report.as_object_mut() {
        report.insert("plugins".to_owned(), plugins.into());
    }
    report
}

/// `/diagnostics/history`
pub fn history(house: &House) -> Value {
    let history = house.bench.recorder.state();
    json!({
        "waiting": history.depth,
        "waitingMax": history.capacity,
        "rows": history.rows,
        "dropped": history.dropped,
        "failedWrites": history.failed,
        "lastError": history.last_error,
        "stands": history.stands.map(|stands| json!({
            "database": stands.database,
            "instanceId": stands.instance_id,
            "seq": stands.seq,
            "hash": stands.hash,
        })),
    })
}

/// `/bundles`: the operator's bundles, and the plugins that are served alone.
pub fn bundles(house: &House) -> Value {
    let shown: Vec<Value> = house.shelf.views().iter().map(view_summary).collect();
    let catalog = house.shelf.current();
    let refused = catalog.refused_bundles.iter();
    let refused: Vec<Value> =
        refused.map(|refused| json!({"name": &*refused.plugin, "why": refused.why})).collect();
    json!({"bundles": shown, "refused": refused})
}

/// `/bundles/{name}`
pub fn bundle(house: &House, name: &str) -> Option<Value> {
    let summary = house.shelf.views().into_iter().find(|summary| &*summary.name == name)?;
    let catalog = house.shelf.view(&ViewName::of(name))?;
    let mut shown = view_summary(&summary);
    let tools: Vec<Value> = catalog
        .tools()
        .map(|entry| json!({"name": &*entry.name, "plugin": &*entry.seat.name, "tokens": entry.tokens()}))
        .collect();
    let more = [
        ("tools", Value::from(tools)),
        ("instructions", catalog.instructions.as_deref().into()),
        ("refused", catalog.refused.iter().map(|refused| refused.why.as_str()).collect()),
    ];
    if let Some(shown) = shown.as_object_mut() {
        shown.extend(more.map(|(key, value)| (key.to_owned(), value)));
    }
    Some(shown)
}

fn view_summary(summary: &ViewSummary) -> Value {
    json!({
        "name": &*summary.name,
        "kind": if summary.is_bundle { "bundle" } else { "front" },
        "path": ViewName::of(&summary.name).to_string(),
        "plugins": summary.plugins.iter().map(|plugin| &**plugin).collect::<Vec<_>>(),
        "missing": summary.missing,
        "toolCount": summary.tools,
        "tokens": summary.tokens,
    })
}

fn plugin_summary(catalog: &Snapshot, member: &Member) -> Value {
    let seat = &member.seat;
    let tools = || catalog.tools().filter(|entry| entry.seat.name == seat.name);
    json!({
        "name": &*seat.name,
        "kind": member.kind,
        "file": member.origin.as_ref().map(|file| file.display().to_string()),
        "state": seat.state_name(),
        "era": seat.plugin.era(),
        "why": seat.why(),
        "since": moment(seat.since()),
        "restarts": seat.meter.restarts(),
        "toolCount": tools().count(),
        "tokens": tools().map(|entry| entry.tokens()).sum::<usize>(),
        "running": seat.running(),
        "queued": seat.queued(),
        "lostThreads": seat.blocking.lost(),
    })
}

/// A moment as RFC 3339 in UTC.
pub fn moment(at: SystemTime) -> String {
    Timestamp::try_from(at).map_or_else(|_| String::new(), |at| format!("{at:.3}"))
}

/// What to say when an actor does not answer an operator.
pub fn no_answer(who: &str, error: &dyn std::fmt::Display) -> Fault {
    Fault::new(
        ErrorCode::Unavailable,
        format!("{who} did not answer"),
        "retry after a moment; /diagnostics/actors shows its restarts",
    )
    .because(error)
}
