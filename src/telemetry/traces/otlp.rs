//! OTLP over HTTP: spans in the JSON of OpenTelemetry, sent in batches by a thread of its own.
//!
//! A batch that the collector does not take in time is lost and counted, and so is one that breaks the sending: what waits
//! meanwhile has a limit, and no call waits.
//! OpenTelemetry Protocol 1.x, OTLP/HTTP. Must not know what spans are about.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value as Json, json};

use super::{End, Side, Work};
use crate::config::{Secret, Telemetry, is_loopback};
use crate::telemetry::metrics::METRICS;
use crate::telemetry::trust;

/// Spans of one request.
const BATCH_MAX: usize = 512;
/// How long spans gather before they are sent together.
const LINGER: Duration = Duration::from_secs(1);
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// The longest answer of a collector that is read.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;
/// Where a collector takes spans, below its address.
const PATH: &str = "/v1/traces";

/// Sends spans to one collector.
pub struct Exporter {
    agent: ureq::Agent,
    url: String,
    headers: Vec<(String, Secret)>,
    /// Whose spans they are.
    resource: Json,
}

impl Exporter {
    /// The one that the configuration wants, if any.
    ///
    /// # Errors
    /// A sentence, when its headers are none.
    pub fn of(config: &Telemetry, instance: &str) -> Result<Option<Self>, String> {
        let Some(endpoint) = &config.otlp_endpoint else { return Ok(None) };
        let url = url_of(endpoint);
        let mut agent = ureq::Agent::config_builder()
            .tls_config(trust::of(endpoint))
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_connect(Some(CONNECT_WITHIN))
            .timeout_global(Some(ANSWER_WITHIN));
        // What is shown to a collector on this machine in the clear is shown to no proxy.
        if url.parse::<ureq::http::Uri>().is_ok_and(|uri| uri.host().is_some_and(is_loopback)) {
            agent = agent.proxy(None);
        }
        let agent = agent.build().new_agent();
        let resource = json!({"attributes": [
            attribute("service.name", "waygate-mcp"),
            attribute("service.version", env!("CARGO_PKG_VERSION")),
            attribute("service.instance.id", instance),
        ]});
        let headers = config.headers()?;
        Ok(Some(Self { agent, url, headers, resource }))
    }

    /// Sends what comes until nobody sends any more.
    pub fn run(&self, spans: &Receiver<Box<Work>>) {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        let mut trouble = None;
        while let Ok(first) = spans.recv() {
            batch.push(first);
            let until = Instant::now() + LINGER;
            while batch.len() < BATCH_MAX {
                match spans.recv_timeout(until.saturating_duration_since(Instant::now())) {
                    Ok(span) => batch.push(span),
                    Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
                }
            }
            let sent = catch_unwind(AssertUnwindSafe(|| self.send(&batch)));
            let outcome = sent.unwrap_or_else(|_| Err("what sends them panicked".to_owned()));
            let all = batch.len() as u64;
            batch.clear();
            let (lost, why) = match outcome {
                Ok(0) => (0, None),
                Ok(refused) => (refused.min(all), Some("it refuses some of them".to_owned())),
                Err(why) => (all, Some(why)),
            };
            METRICS.spans.with_label_values(&["sent"]).inc_by(all - lost);
            METRICS.spans.with_label_values(&["failed"]).inc_by(lost);
            tell(&mut trouble, why);
        }
    }

    /// How many of them the collector took, and refused all the same.
    fn send(&self, batch: &[Box<Work>]) -> Result<u64, String> {
        let mut request = self.agent.post(&self.url).header("Content-Type", "application/json");
        request = request.header("User-Agent", concat!("waygate-mcp/", env!("CARGO_PKG_VERSION")));
        for (name, value) in &self.headers {
            request = request.header(name, value.expose());
        }
        let mut answer = request.send(self.body(batch).to_string()).map_err(|error| error.to_string())?;
        let status = answer.status();
        // Read in either case: the next batch then goes over the same connection.
        let said = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec().unwrap_or_default();
        if status.is_success() { Ok(refused(&said)) } else { Err(format!("it answers {status}")) }
    }

    fn body(&self, batch: &[Box<Work>]) -> Json {
        let scope = json!({"name": "waygate-mcp", "version": env!("CARGO_PKG_VERSION")});
        let spans: Vec<Json> = batch.iter().map(|work| span(work)).collect();
        json!({"resourceSpans": [{"resource": self.resource, "scopeSpans": [{"scope": scope, "spans": spans}]}]})
    }
}

/// How many spans a collector says that it did not take; what is no such answer says nothing.
fn refused(answer: &[u8]) -> u64 {
    let answer: Json = serde_json::from_slice(answer).unwrap_or_default();
    // A number of 64 bits is a text in this JSON, and a number to many who write it.
    answer.pointer("/partialSuccess/rejectedSpans").map_or(0, |count| {
        count.as_u64().or_else(|| count.as_str().and_then(|text| text.parse().ok())).unwrap_or(0)
    })
}

/// Where spans are sent, given the address of a collector or the whole URL.
fn url_of(endpoint: &str) -> String {
    let endpoint = endpoint.trim_end_matches('/');
    if endpoint.ends_with(PATH) { endpoint.to_owned() } else { [endpoint, PATH].concat() }
}

/// Tells of trouble when it begins, changes or ends, and not with every batch.
fn tell(before: &mut Option<String>, now: Option<String>) {
    if *before == now {
        return;
    }
    match &now {
        Some(why) => log::warn!(
            "telemetry.otlp_endpoint does not take spans, which are lost until it does: {why}; calls are not affected"
        ),
        None => log::info!("telemetry.otlp_endpoint takes spans again"),
    }
    *before = now;
}

fn span(work: &Work) -> Json {
    let began = work.began.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let mut attributes = vec![attribute("mcp.method.name", work.method)];
    attributes.extend(work.attributes.iter().map(|(key, value)| attribute(key, value)));
    let bad = match &work.end {
        End::Good => None,
        End::Dropped => Some(("cancelled", "")),
        End::Bad(kind, word) => Some((kind.as_ref(), *word)),
    };
    let mut status = json!({});
    if let Some((kind, word)) = bad {
        attributes.push(attribute("error.type", kind));
        status = json!({"code": 2, "message": if word.is_empty() { kind } else { word }});
    }
    let name = work.target.as_ref().map(|target| format!("{} {target}", work.method));
    let mut span = json!({
        "traceId": work.trace,
        "spanId": format!("{:016x}", work.id),
        "name": name.as_deref().unwrap_or(work.method),
        "kind": match work.side { Side::Server => 2, Side::Client => 3 },
        // Numbers of 64 bits are texts in this JSON.
        "startTimeUnixNano": began.as_nanos().to_string(),
        "endTimeUnixNano": (began + work.took).as_nanos().to_string(),
        "attributes": attributes,
        "status": status,
    });
    if let (Some(parent), Some(members)) = (&work.parent, span.as_object_mut()) {
        members.insert("parentSpanId".to_owned(), parent.as_str().into());
    }
    span
}

fn attribute(key: &str, text: &str) -> Json {
    json!({"key": key, "value": {"stringValue": text}})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_the_json_of_opentelemetry() {
        let work = Work {
            trace: "0af7651916cd43dd8448eb211c80319c".to_owned(),
            id: 0x2a,
            parent: Some("b7ad6b7169203331".to_owned()),
            side: Side::Client,
            method: "tools/call",
            target: Some("echo".into()),
            attributes: vec![("waygate.plugin", "p".into())],
            began: SystemTime::UNIX_EPOCH + Duration::from_secs(1),
            took: Duration::from_nanos(5),
            end: End::Bad("tool_error".into(), ""),
        };
        let wanted = json!({
            "traceId": "0af7651916cd43dd8448eb211c80319c",
            "spanId": "000000000000002a",
            "name": "tools/call echo",
            "kind": 3,
            "startTimeUnixNano": "1000000000",
            "endTimeUnixNano": "1000000005",
            "attributes": [
                {"key": "mcp.method.name", "value": {"stringValue": "tools/call"}},
                {"key": "waygate.plugin", "value": {"stringValue": "p"}},
                {"key": "error.type", "value": {"stringValue": "tool_error"}},
            ],
            "status": {"code": 2, "message": "tool_error"},
            "parentSpanId": "b7ad6b7169203331",
        });
        assert_eq!(span(&work), wanted);
        let good = span(&Work { end: End::Good, parent: None, target: None, ..work });
        assert_eq!((&good["status"], &good["name"]), (&json!({}), &json!("tools/call")));
        assert!(good.get("parentSpanId").is_none());
    }

    #[test]
    fn what_a_collector_refuses_in_good_order_is_counted() {
        assert_eq!(refused(br#"{"partialSuccess": {"rejectedSpans": "3"}}"#), 3);
        assert_eq!(refused(br#"{"partialSuccess": {"rejectedSpans": 2}}"#), 2);
        for none in [&b""[..], b"{}", b"[]", b"ok", br#"{"partialSuccess": {"rejectedSpans": "-1"}}"#] {
            assert_eq!(refused(none), 0);
        }
    }

    #[test]
    fn the_address_of_a_collector_or_the_whole_url_will_do() {
        for given in ["http://c:4318", "http://c:4318/", "http://c:4318/v1/traces"] {
            assert_eq!(url_of(given), "http://c:4318/v1/traces", "{given}");
        }
        assert_eq!(url_of("https://c/otlp/"), "https://c/otlp/v1/traces");
    }
}
