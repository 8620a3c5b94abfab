//! Traces for a collector: one span a hop, under the client's, and nothing of it where the client does not want it; a collector
//! that is away, slow or full changes no answer.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::legacy::{NEWEST, Session, request};
use crate::scripted::{Answer, Asked, Scripted, http, read, result};
use crate::support::{Http, Reply, Server, eventually};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CLIENT: &str = "b7ad6b7169203331";
const TOOLS: &[&str] = &["look", "fails", "errs"];

/// A collector that takes all spans.
struct Collector {
    address: SocketAddr,
    /// Requests, as they came.
    got: Arc<Mutex<Vec<Asked>>>,
}

impl Collector {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let got = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&got);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let Some(asked) = read(&stream) else { continue };
                into.lock().expect("no panic").push(asked);
                let answer = http("200 OK", "Content-Type: application/json\r\n", "{}");
                drop(std::io::Write::write_all(&mut &stream, answer.as_bytes()));
            }
        });
        Self { address, got }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All spans so far.
    fn spans(&self) -> Vec<Value> {
        let got = self.got.lock().expect("no panic");
        let spans = got
            .iter()
            .filter_map(|asked| asked.body["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().cloned());
        spans.flatten().collect()
    }

    /// The spans of one trace, when there are so many, as they began.
    fn trace(&self, trace: &str, count: usize) -> Vec<Value> {
        let mut spans = eventually("the spans are collected", || {
            let mut spans = self.spans();
            spans.retain(|span| span["traceId"] == trace);
            (spans.len() >= count).then_some(spans)
        });
        assert_eq!(spans.len(), count, "{spans:#?}");
        spans.sort_by_key(|span| span["startTimeUnixNano"].as_str().map(str::to_owned));
        spans
    }

    fn text(&self) -> String {
        self.got.lock().expect("no panic").iter().map(|asked| asked.body.to_string()).collect()
    }
}

/// What the server behind was told of the trace, call by call.
type Told = Arc<Mutex<Vec<Value>>>;

fn answer(told: &Told, asked: &Asked) -> Option<Answer> {
    if asked.body["method"] != "tools/call" {
        return None;
    }
    told.lock().expect("no panic").push(asked.body["params"]["_meta"].clone());
    let well = json!({"resultType": "complete", "content": [{"type": "text", "text": "swordfish"}]});
    let error = json!({"code": -32099, "message": "swordfish"});
    let error = json!({"jsonrpc": "2.0", "id": asked.body["id"], "error": error}).to_string();
    Some(Answer::Whole(match asked.tool() {
        "fails" => result(asked, "", &json!({"resultType": "complete", "content": [], "isError": true})),
        "errs" => http("200 OK", "Content-Type: application/json\r\n", &error),
        _ => result(asked, "", &well),
    }))
}

/// A Waygate between a client and a server, whose spans are collected.
struct Hop {
    server: Server,
    told: Told,
    _root: TempDir,
}

impl Hop {
    fn start(collector: &str, is_legacy: bool, settings: &[(&str, &str)]) -> Self {
        let told = Told::default();
        let (into, root) = (Arc::clone(&told), tempfile::tempdir().expect("a folder"));
        let script = move |asked: &Asked| answer(&into, asked);
        let behind =
            if is_legacy { Scripted::legacy(TOOLS, script) } else { Scripted::modern(TOOLS, script) };
        write(root.path(), &format!("url = {:?}\n", behind.url()));
        let settings = [&[("WAYGATE_OTLP_ENDPOINT", collector)], settings].concat();
        let server = Server::on("waygate-mcp", root.path(), &settings);
        eventually("the plugin is there", || (server.get("/plugins/w").1["state"] == "ready").then_some(()));
        Self { server, told, _root: root }
    }

    fn call(&self, tool: &str, meta: Value) -> Reply {
        let arguments = json!({"password": "swordfish"});
        let params = json!({"name": tool, "arguments": arguments, "_meta": meta});
        self.server.call("tools/call", params)
    }

    /// What the server behind was told with the newest call.
    fn told(&self) -> Value {
        self.told.lock().expect("no panic").last().cloned().expect("a call")
    }

    fn spans(&self, outcome: &str) -> f64 {
        let name = format!("waygate_trace_spans_total{{outcome=\"{outcome}\"}}");
        self.server.metric(&name).unwrap_or(0.0)
    }
}

fn write(root: &Path, text: &str) {
    std::fs::create_dir_all(root.join("plugins")).expect("a folder");
    std::fs::write(root.join("plugins/w.toml"), text).expect("a file");
}

fn parent(flags: &str) -> String {
    format!("00-{TRACE}-{CLIENT}-{flags}")
}

fn attribute(span: &Value, key: &str) -> Value {
    let attributes = span["attributes"].as_array().expect("attributes");
    let found = attributes.iter().find(|attribute| attribute["key"] == key);
    found.map(|attribute| attribute["value"]["stringValue"].clone()).unwrap_or_default()
}

/// Holds that two spans lead from `above` to what the server behind was told.
#[track_caller]
fn lead(spans: &[Value], above: &Value, told: &Value) {
    let (server, client) = (&spans[0], &spans[1]);
    assert_eq!((&server["kind"], &client["kind"]), (&json!(2), &json!(3)));
    assert_eq!((&server["parentSpanId"], &client["parentSpanId"]), (above, &server["spanId"]));
    let (trace, id) =
        (client["traceId"].as_str().expect("a trace"), client["spanId"].as_str().expect("an id"));
    assert_eq!(told["traceparent"], format!("00-{trace}-{id}-01"));
}

#[test]
fn otlp_spans_lead_from_the_client_over_waygate_to_the_server_behind() {
    let collector = Collector::start();
    let headers = ("WAYGATE_OTLP_HEADERS", "authorization=Bearer collector, x-scope=a");
    let hop = Hop::start(&collector.url(), false, &[headers]);
    let reply = hop.call("w__look", json!({"traceparent": parent("01"), "tracestate": "a=1"}));
    assert_eq!(reply.result()["content"][0]["text"], "swordfish");
    let spans = collector.trace(TRACE, 2);
    lead(&spans, &json!(CLIENT), &hop.told());
    assert_eq!(hop.told()["tracestate"], "a=1");
    let name = |span: &Value| span["name"].clone();
    assert_eq!((name(&spans[0]), name(&spans[1])), (json!("tools/call w__look"), json!("tools/call look")));
    for (span, tool) in spans.iter().zip(["w__look", "look"]) {
        for (key, value) in [
            ("mcp.method.name", "tools/call"),
            ("gen_ai.tool.name", tool),
            ("gen_ai.operation.name", "execute_tool"),
            ("mcp.protocol.version", "2026-07-28"),
        ] {
            assert_eq!(attribute(span, key), value, "{key} of {span}");
        }
        assert_eq!((&span["status"], attribute(span, "error.type")), (&json!({}), Value::Null));
    }
    assert_eq!(attribute(&spans[0], "waygate.plugin"), "w");
    assert_eq!(attribute(&spans[1], "network.transport"), "tcp");
    let got = collector.got.lock().expect("no panic");
    assert_eq!((got[0].method.as_str(), got[0].path.as_str()), ("POST", "/v1/traces"));
    assert_eq!(
        (got[0].header("authorization"), got[0].header("x-scope")),
        (Some("Bearer collector"), Some("a"))
    );
    let resource = &got[0].body["resourceSpans"][0]["resource"];
    assert_eq!(attribute(resource, "service.name"), "waygate-mcp");
    assert_eq!(attribute(resource, "service.version"), env!("CARGO_PKG_VERSION"));
}

#[test]
fn otlp_spans_say_what_failed_and_nothing_of_what_was_asked_or_answered() {
    let collector = Collector::start();
    let hop = Hop::start(&collector.url(), false, &[]);
    for (n, (tool, types)) in [
        ("w__fails", &["tool_error", "tool_error"][..]),
        ("w__errs", &["-32099", "-32099"]),
        ("swordfish", &["-32602"]),
    ]
    .into_iter()
    .enumerate()
    {
        let trace = format!("{n:031x}a");
        let reply = hop.call(tool, json!({"traceparent": format!("00-{trace}-{CLIENT}-01")}));
        let spans = collector.trace(&trace, types.len());
        for (span, wanted) in spans.iter().zip(types) {
            assert_eq!((attribute(span, "error.type"), &span["status"]["code"]), (json!(wanted), &json!(2)));
        }
        if types[0].starts_with('-') {
            assert_eq!(reply.json()["error"]["data"]["traceId"], trace);
            assert_eq!(attribute(&spans[0], "rpc.response.status_code"), types[0]);
        }
    }
    assert_eq!(
        Http::modern("example/nobody", json!({"_meta": {"traceparent": parent("01")}}))
            .send(hop.server.address)
            .code(),
        -32601
    );
    assert_eq!(collector.trace(TRACE, 1)[0]["name"], "_OTHER");
    assert!(!collector.text().contains("swordfish"), "{}", collector.text());
}

#[test]
fn otlp_the_header_is_a_parent_where_the_message_names_none_and_whoever_names_none_begins_a_trace() {
    let collector = Collector::start();
    let hop = Hop::start(&collector.url(), false, &[]);
    let call = Http::tool("w__look", json!({})).header("traceparent", &parent("01"));
    let call = call.header("tracestate", "b=2");
    assert_eq!(call.send(hop.server.address).status, 200);
    lead(&collector.trace(TRACE, 2), &json!(CLIENT), &hop.told());
    assert_eq!(hop.told()["tracestate"], "b=2");

    assert_eq!(hop.call("w__look", json!({})).status, 200);
    let told = hop.told();
    let trace = told["traceparent"].as_str().and_then(|parent| parent.split('-').nth(1)).expect("a trace");
    assert_ne!(trace, TRACE);
    lead(&collector.trace(trace, 2), &Value::Null, &told);
    // The same trace is found in the answer to what fails.
    let refused = hop.call("w__none", json!({})).json();
    let trace = refused["error"]["data"]["traceId"].as_str().expect("a trace").to_owned();
    assert_eq!(collector.trace(&trace, 1)[0]["parentSpanId"], Value::Null);
}

#[test]
fn otlp_what_w3c_has_handed_on_is_handed_on_and_two_parents_are_none() {
    let collector = Collector::start();
    let hop = Hop::start(&collector.url(), false, &[]);
    let call = Http::tool("w__look", json!({})).header("traceparent", &parent("03"));
    let call = call.header("tracestate", "a=1").header("tracestate", "b=2");
    assert_eq!(call.send(hop.server.address).status, 200);
    assert_eq!(collector.trace(TRACE, 2)[0]["parentSpanId"], CLIENT);
    let told = hop.told()["traceparent"].as_str().expect("a parent").to_owned();
    assert!(told.contains(TRACE) && told.ends_with("-03"), "the id stays a random one: {told}");
    assert_eq!(hop.told()["tracestate"], "a=1,b=2");
    let call = Http::tool("w__look", json!({})).header("traceparent", &parent("01"));
    let call = call.header("traceparent", &parent("01")).header("tracestate", "a=1");
    assert_eq!(call.send(hop.server.address).status, 200);
    assert!(!hop.told().to_string().contains(TRACE), "{}", hop.told());
    assert_eq!(hop.told()["tracestate"], Value::Null, "a state without its parent");
}

#[test]
fn otlp_the_headers_of_a_batch_are_the_parent_of_all_in_it() {
    let collector = Collector::start();
    let hop = Hop::start(&collector.url(), false, &[]);
    let session = Session::open(&hop.server, "2025-03-26", json!({}));
    let call = |id: u64| request(id, "tools/call", json!({"name": "w__look", "arguments": {}}));
    let batch = session.request(&json!([call(1), call(2)])).header("traceparent", &parent("01"));
    assert_eq!(batch.send(hop.server.address).status, 200);
    let spans = collector.trace(TRACE, 4);
    assert_eq!(spans.iter().filter(|span| span["parentSpanId"] == CLIENT).count(), 2, "{spans:#?}");
}

#[test]
fn otlp_what_its_client_does_not_collect_is_handed_on_as_it_came() {
    let collector = Collector::start();
    let hop = Hop::start(&collector.url(), false, &[("WAYGATE_TRACE_SAMPLE_PER_MILLE", "0")]);
    assert_eq!(hop.call("w__look", json!({"traceparent": parent("00")})).status, 200);
    assert_eq!(hop.told()["traceparent"], parent("00"));
    // Of those that begin here none is chosen, and the server behind is told so.
    assert_eq!(hop.call("w__look", json!({})).status, 200);
    let told = hop.told()["traceparent"].as_str().expect("a parent").to_owned();
    assert!(told.ends_with("-00") && !told.contains(TRACE), "{told}");
    assert_eq!(hop.call("w__look", json!({"traceparent": parent("01")})).status, 200);
    assert_eq!(collector.trace(TRACE, 2).len(), collector.spans().len(), "{:#?}", collector.spans());
}

#[test]
fn otlp_sessions_on_either_side_are_part_of_the_trace() {
    let collector = Collector::start();
    let hop = Hop::start(&collector.url(), true, &[]);
    let session = Session::open(&hop.server, NEWEST, json!({}));
    let params = json!({"name": "w__look", "arguments": {}, "_meta": {"traceparent": parent("01")}});
    assert_eq!(session.call("tools/call", params).status, 200);
    let spans = collector.trace(TRACE, 2);
    lead(&spans, &json!(CLIENT), &hop.told());
    assert_eq!(attribute(&spans[1], "mcp.protocol.version"), "2025-11-25");
    let label = attribute(&spans[0], "mcp.session.id");
    assert!(label.is_string() && !collector.text().contains(&session.id), "a session's id is its secret");
    let failed = session.call("tools/call", json!({"name": "w__errs", "arguments": {}})).json();
    let trace = failed["error"]["data"]["traceId"].as_str().expect("a trace").to_owned();
    assert_eq!(attribute(&collector.trace(&trace, 2)[1], "error.type"), "-32099");
}

#[test]
fn otlp_what_waits_is_sent_when_the_server_stops() {
    let collector = Collector::start();
    let mut hop = Hop::start(&collector.url(), false, &[]);
    assert_eq!(hop.call("w__look", json!({"traceparent": parent("01")})).status, 200);
    hop.server.signal("-TERM");
    assert_eq!(hop.server.wait(), Some(0));
    assert_eq!(collector.trace(TRACE, 2).len(), 2);
}

#[test]
fn otlp_a_collector_that_is_away_changes_no_answer_and_its_spans_are_counted() {
    // Nobody listens at port 1; one that was free a moment ago may be taken by another test.
    let hop = Hop::start("http://127.0.0.1:1", false, &[]);
    eventually("spans are counted as lost", || {
        assert_eq!(hop.call("w__look", json!({})).result()["content"][0]["text"], "swordfish");
        (hop.spans("failed") >= 2.0).then_some(())
    });
    assert_eq!(hop.spans("sent"), 0.0);
    eventually("it is said once", || hop.server.log().contains("does not take spans").then_some(()));
}

#[test]
fn otlp_spans_that_find_the_queue_full_are_dropped_and_counted_and_a_slow_collector_holds_up_nobody() {
    // It takes requests, and never answers any.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", silent.local_addr().expect("an address"));
    let mut hop = Hop::start(&url, false, &[("WAYGATE_TRACE_QUEUE_MAX", "2")]);
    eventually("spans are dropped", || {
        assert_eq!(hop.call("w__look", json!({})).result()["content"][0]["text"], "swordfish");
        (hop.spans("dropped") >= 10.0).then_some(())
    });
    hop.server.signal("-TERM");
    assert_eq!(hop.server.wait(), Some(0), "a stop does not wait for it");
}
