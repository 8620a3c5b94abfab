//! Whether an event stream comes through a URL as it is written. Must not know what stands between.

use std::io::{BufRead as _, BufReader};
use std::time::{Duration, Instant};

use serde_json::json;
use ureq::Body;
use ureq::http::Response;

use crate::cli::doctor::finding::Finding;
use crate::cli::doctor::patient::Patient;
use crate::cli::remote::{REVISION, meta};
use crate::config::Config;
use crate::telemetry::trust;

const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// The first event is written at once: what takes longer was held back.
const FIRST_WITHIN: Duration = Duration::from_secs(5);
/// What a sign of life may take beyond its time.
const SLACK: Duration = Duration::from_secs(5);
/// Signs of life that are further apart are not waited for.
const KEEP_ALIVE_MAX: Duration = Duration::from_secs(60);
/// Of a stream that is looked at.
const STREAM_MAX_BYTES: u64 = 1 << 20;
const HELD: &str = "progress, log messages and changes reach clients late, or only when the stream ends";

/// Looks, if there is a URL.
pub fn look(patient: &Patient) -> Vec<Finding> {
    let (Some(url), Some(config)) = (&patient.url, patient.config()) else { return Vec::new() };
    let url = endpoint(url);
    let keep_alive = Duration::from_secs(config.mcp.stream_keep_alive_seconds);
    let began = Instant::now();
    match open(&url, config, keep_alive) {
        Ok(response) => read(&url, response, began, keep_alive),
        Err(ureq::Error::Timeout(ureq::Timeout::RecvResponse)) => {
            vec![buffered(&url, "not even its head came")]
        }
        Err(error) => {
            let what = format!("{url} cannot be reached: {error}");
            let why = "no client that is given this URL reaches the server";
            let command = format!(
                "start what is to listen there, or name another --url; `curl -v {url}` shows how far it comes"
            );
            vec![Finding::error("streaming.unreachable", what, why, command)]
        }
    }
}

/// The URL of the endpoint, where only the server's own was given.
fn endpoint(url: &str) -> String {
    let behind = url.split_once("://").map_or(url, |(_, rest)| rest).split_once('/').map(|(_, path)| path);
    match behind {
        None => format!("{url}/mcp"),
        Some("") => format!("{url}mcp"),
        Some(_) => url.to_owned(),
    }
}

fn open(url: &str, config: &Config, keep_alive: Duration) -> Result<Response<Body>, ureq::Error> {
    let agent = ureq::Agent::config_builder()
        .tls_config(trust::of(url))
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(None)
        .timeout_connect(Some(CONNECT_WITHIN))
        .timeout_recv_response(Some(FIRST_WITHIN))
        .timeout_recv_body(Some(FIRST_WITHIN + keep_alive.min(KEEP_ALIVE_MAX) + SLACK))
        .build()
        .new_agent();
    let method = "subscriptions/listen";
    let mut request = agent.post(url).header("Content-Type", "application/json");
    request = request.header("Accept", "application/json, text/event-stream");
    request = request.header("MCP-Protocol-Version", REVISION).header("Mcp-Method", method);
    if let Some(key) = &config.access.api_key {
        request = request.header("Authorization", format!("Bearer {}", key.expose()));
    }
    let params = json!({"notifications": {"toolsListChanged": true}, "_meta": meta(1, false)});
    request.send(json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string())
}

fn read(url: &str, mut response: Response<Body>, began: Instant, keep_alive: Duration) -> Vec<Finding> {
    let status = response.status().as_u16();
    if matches!(status, 401 | 403) {
        let what = format!("{url} answers with {status}: it wants a key");
        let why = "the stream could not be looked at";
        let command = format!("WAYGATE_API_KEY=… waygate-mcp doctor --url {url}");
        return vec![Finding::warning("streaming.refused", what, why, command)];
    }
    if response.body().mime_type() != Some("text/event-stream") {
        let what = format!(
            "{url} answers with {status} and no event stream: it is no MCP endpoint of revision {REVISION}"
        );
        let why = "no client that is given this URL reaches the server";
        let command = format!(
            "name the endpoint itself by --url, or have the proxy pass it to Waygate's /mcp; `curl -i {url}` shows who answers"
        );
        return vec![Finding::error("streaming.endpoint", what, why, command)];
    }
    let mut found = Vec::new();
    if let Some(encoding) = response.headers().get("content-encoding").and_then(|value| value.to_str().ok()) {
        let what = format!("{url} compresses event streams ({encoding})");
        let command = "in the proxy, for /mcp: gzip off; then nginx -s reload";
        found.push(Finding::warning("streaming.compressed", what, HELD, command));
    }
    let reader = response.body_mut().with_config().limit(STREAM_MAX_BYTES).reader();
    let mut lines = BufReader::new(reader).lines();
    let first = lines.by_ref().map_while(Result::ok).any(|line| line.starts_with("data:"));
    let took = began.elapsed();
    if !first || took > FIRST_WITHIN {
        let how = if first { "its first event came late" } else { "its head came, and no event" };
        found.push(buffered(url, how));
        return found;
    }
    let lives = keep_alive > KEEP_ALIVE_MAX || lines.map_while(Result::ok).any(|line| line.starts_with(':'));
    if !lives {
        let what = format!("{url} lets no sign of life through within {} s", (keep_alive + SLACK).as_secs());
        let command =
            "in the proxy, for /mcp: proxy_buffering off; proxy_read_timeout 1h; then nginx -s reload";
        found.push(Finding::warning(
            "streaming.silent",
            what,
            "idle streams are taken for dead, and cut",
            command,
        ));
    }
    found
}

fn buffered(url: &str, how: &str) -> Finding {
    let what = format!("something between here and the server holds back event streams of {url}: {how}");
    let command = "in the proxy, for /mcp: proxy_buffering off; proxy_cache off; then nginx -s reload";
    Finding::error("streaming.buffered", what, HELD, command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_without_a_path_means_the_endpoint_behind_it() {
        for (given, wanted) in [
            ("https://a.example", "https://a.example/mcp"),
            ("https://a.example/", "https://a.example/mcp"),
            ("https://a.example/gate/mcp", "https://a.example/gate/mcp"),
        ] {
            assert_eq!(endpoint(given), wanted);
        }
    }
}
