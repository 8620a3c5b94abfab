//! What each step of a call costs by itself: parse, route, validate, execute, hand over to the history, render.
//!
//! `cargo bench --bench hot_path` runs all, a word behind it those that have it in their names. For finding where time goes:
//! what is promised of the whole stands in `scripts/bench`. Must not know HTTP, nor wait for a disk.

#![expect(
    clippy::unwrap_used,
    reason = "a measurement that cannot be prepared has nothing better to do than to panic"
)]

use std::sync::Arc;

use actix::Addr;
use actix_rt::{System, SystemRunner};
use bytes::Bytes;
use divan::counter::BytesCount;
use divan::{Bencher, black_box, black_box_drop};
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;
use waygate_mcp::access::limits::Places;
use waygate_mcp::access::{Caller, Sealer};
use waygate_mcp::actors::db::{Record, Recorder};
use waygate_mcp::actors::executor::messages::{Perform, Task};
use waygate_mcp::actors::executor::{self, Bench, CommandExecutor};
use waygate_mcp::actors::plugin::Roll;
use waygate_mcp::actors::supervision::{Ping, Roster};
use waygate_mcp::catalog::{Manner, PluginState, Schema, Seat, SeatLimits, Shelf, ViewName};
use waygate_mcp::config::plugin::{Curation, PluginLimits};
use waygate_mcp::plugins::{Change, Context, Inventory, Outcome, Plugin, PluginError, Request};
use waygate_mcp::protocol::modern::{Meta, Params};
use waygate_mcp::protocol::render::{self, ServerInfo};
use waygate_mcp::protocol::{
    ClientCapabilities, Definition, Id, Message, Method, Object, Raw, Revision, Trace, content,
};
use waygate_mcp::storage::history::{Kind, Status};

/// Bytes of the message that is called with: of most calls, of a small file, of a large one.
const SIZES: [usize; 3] = [29, 2_048, 262_144];
/// Tools on offer.
const CATALOGS: [usize; 3] = [10, 200, 2_000];
/// Records that fill a buffer, before another is taken: nobody empties it here.
const ROOM: usize = 8_192;

fn main() {
    divan::main();
}

// === the steps, in the order in which a call takes them ===

/// From the bytes of a body to a request whose parameters are found.
#[divan::bench(args = SIZES)]
fn parse(bencher: Bencher<'_, '_>, bytes: usize) {
    let body = body(bytes);
    bencher
        .counter(BytesCount::new(body.len()))
        .with_inputs(|| body.clone())
        .bench_values(|body| Message::parse(body).unwrap());
}

/// What a request says of its client and its wishes.
#[divan::bench]
fn meta(bencher: Bencher<'_, '_>) {
    let (_, params) = request(29);
    bencher.bench_local(|| Meta::open(black_box(&params)).unwrap());
}

/// From a name to the tool, in the current snapshot.
#[divan::bench(args = CATALOGS)]
fn route(bencher: Bencher<'_, '_>, tools: usize) {
    let shelf = shelf(tools);
    let (_, params) = request(29);
    bencher.bench_local(|| {
        let catalog = shelf.view(&ViewName::MAIN).unwrap();
        let name = black_box(&params).name().unwrap().text().unwrap();
        Arc::clone(catalog.tool(&name).unwrap())
    });
}

/// The first page of a list, which lies ready, as the answer to one request.
#[divan::bench(args = CATALOGS)]
fn list(bencher: Bencher<'_, '_>, tools: usize) {
    let shelf = shelf(tools);
    let (id, _) = request(29);
    bencher.bench_local(|| {
        let catalog = shelf.view(&ViewName::MAIN).unwrap();
        render::result(black_box(&id), catalog.tools_list.page(None).unwrap().finished())
    });
}

/// Arguments, read and held against the schema of their tool.
#[divan::bench(args = SIZES)]
fn validate(bencher: Bencher<'_, '_>, bytes: usize) {
    let schema = Schema::of_arguments(&Raw::value(&schema())).unwrap();
    let (_, params) = request(bytes);
    let arguments = params.arguments().unwrap();
    bencher.counter(BytesCount::new(bytes)).bench_local(|| {
        let value: Value = black_box(&arguments).read().unwrap();
        schema.check(&value).unwrap();
    });
}

/// A message to an actor on the same thread, and its answer.
#[divan::bench]
fn actor_message(bencher: Bencher<'_, '_>) {
    let (system, executor) = executor();
    bencher.bench_local(|| system.block_on(executor.send(Ping)).unwrap());
}

/// A whole call in the executor: its message, its place, the plugin, the result, the record. No more of them than the buffer
/// of the history has room for.
#[divan::bench(args = SIZES, sample_count = 100, sample_size = 64)]
fn execute(bencher: Bencher<'_, '_>, bytes: usize) {
    let (system, executor) = executor();
    let task = task(bytes);
    bencher.with_inputs(|| perform(task())).bench_local_values(|perform| {
        system.block_on(async { executor.send(perform).await.unwrap().end().await.unwrap() })
    });
}

/// A record, left for the writer of the history.
#[divan::bench(args = SIZES)]
fn history_hand_over(bencher: Bencher<'_, '_>, bytes: usize) {
    let (_, params) = request(bytes);
    let arguments = params.arguments().unwrap();
    let mut filling = Filling::default();
    bencher
        .with_inputs(|| (filling.next(), record(&arguments)))
        .bench_local_values(|(recorder, record)| recorder.record(record));
}

/// From a plugin's result to the bytes of an answer.
#[divan::bench(args = SIZES)]
fn render(bencher: Bencher<'_, '_>, bytes: usize) {
    let (id, info) = (request(29).0, ServerInfo::new("bench", "1"));
    let message = "x".repeat(bytes);
    bencher.counter(BytesCount::new(bytes)).bench_local(|| {
        let result = content::text_result(black_box(&message));
        black_box_drop(render::result(&id, &render::complete(&result, &info).unwrap()));
    });
}

/// A notice, as an event of a stream.
#[divan::bench]
fn render_event(bencher: Bencher<'_, '_>) {
    let params =
        Object::open(&Raw::value(&json!({"progressToken": "p", "progress": 1.0, "total": 3.0}))).unwrap();
    bencher
        .bench_local(|| render::event(&render::notification("notifications/progress", black_box(&params))));
}

// === what they are measured on ===

fn schema() -> Value {
    json!({
        "type": "object",
        "properties": {"message": {"type": "string", "description": "What to give back"}},
        "required": ["message"]
    })
}

fn body(bytes: usize) -> Bytes {
    let request = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
        "name": "echo",
        "arguments": {"message": "x".repeat(bytes)},
        "_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
            "io.modelcontextprotocol/clientInfo": {"name": "waygate-bench", "version": "1"}
        }
    }});
    request.to_string().into()
}

fn request(bytes: usize) -> (Id, Params) {
    match Message::parse(body(bytes)) {
        Ok(Message::Request { id, params, .. }) => (id, *params),
        other => unreachable!("a call is read as {other:?}"),
    }
}

/// Gives back what it is given, as the example `echo` does.
struct Echo(broadcast::Sender<Change>);

impl Plugin for Echo {
    fn inventory(&self) -> Inventory {
        Inventory::default()
    }

    fn changes(&self) -> broadcast::Receiver<Change> {
        self.0.subscribe()
    }

    fn handle(
        self: Arc<Self>,
        request: Request,
        _: Context,
    ) -> BoxFuture<'static, Result<Outcome, PluginError>> {
        let Request::Call { arguments, .. } = request else {
            return Box::pin(std::future::ready(Err(PluginError::Unknown("it".to_owned()))));
        };
        let arguments: Value = arguments.read().unwrap();
        let message = arguments.get("message").and_then(Value::as_str).unwrap_or_default();
        Box::pin(std::future::ready(Ok(Outcome::Complete(content::text_result(message)))))
    }
}

/// A shelf on which one plugin offers `echo` and others, all in one page.
fn shelf(tools: usize) -> Shelf {
    let limits = SeatLimits {
        concurrency: 64,
        queue_max: 64,
        queue_timeout: None,
        blocking_threads: 1,
        lost_threads_max: 1,
        timeout_seconds: 60,
        breaker: None,
        start_timeout: None,
        own: PluginLimits::default(),
    };
    let plain = Arc::new(Curation { plain: true, ..Curation::default() });
    let seat = Arc::new(Seat::new("echo", plain, Arc::new(Echo(broadcast::Sender::new(1))), limits));
    seat.turn(PluginState::Ready, None, None);
    let names = std::iter::once("echo".to_owned()).chain((1..tools).map(|number| format!("tool_{number}")));
    let tools = names.map(|name| Definition::tool(&name, "Gives back the message it is given", schema()));
    let shelf = Shelf::new(Manner { page_size: 2_000, ttl_ms: 0, info: ServerInfo::new("bench", "1") });
    shelf.publish(&seat, Inventory { tools: tools.collect(), ..Inventory::default() });
    shelf
}

/// An executor on a system of its own, whose history has no writer.
fn executor() -> (SystemRunner, Addr<CommandExecutor>) {
    let system = System::new();
    let bench = Arc::new(Bench {
        links: Arc::default(),
        plugins: Arc::new(Roll::default()),
        sealer: Sealer::new([&b"a secret of the measurement"[..]]),
        cache: None,
        recorder: Recorder::new(ROOM, true),
        info: ServerInfo::new("bench", "1"),
        input_timeout_seconds: 60,
        strict: false,
    });
    let executor = system.block_on(async {
        let roster = Arc::new(Roster::default());
        roster.start("executor".to_owned(), "executor", executor::TERMS, |_| CommandExecutor::new(bench)).0
    });
    (system, executor)
}

/// Makes tasks that call `echo` with so many bytes.
fn task(bytes: usize) -> impl Fn() -> Task {
    let shelf = shelf(10);
    let (_, params) = request(bytes);
    let arguments = params.arguments().unwrap();
    let value: Value = arguments.read().unwrap();
    let entry = Arc::clone(shelf.current().tool("echo").unwrap());
    move || Task::Tool { entry: Arc::clone(&entry), arguments: arguments.clone(), value: value.clone() }
}

fn perform(task: Task) -> Box<Perform> {
    Box::new(Perform {
        task,
        view: ViewName::MAIN,
        caller: Caller::anonymous(),
        request_id: "bench-1".into(),
        responses: Object::default(),
        refusals: Vec::new(),
        state: None,
        revision: Revision::V20260728,
        session: None,
        client: ClientCapabilities::default(),
        client_name: None,
        trace: Trace::default(),
        foreign: None,
        notices: None,
        wants_progress: false,
        log_level: None,
        cancel: CancellationToken::new(),
        places: Places::default(),
    })
}

fn record(arguments: &Raw) -> Record {
    let name: Arc<str> = "echo".into();
    Record {
        plugin: Some(Arc::clone(&name)),
        tool: Some(name),
        caller: Some(Arc::clone(&Caller::anonymous().principal)),
        status: Some(Status::Success),
        duration_us: Some(20),
        result_bytes: Some(120),
        arguments: Some(arguments.clone()),
        ..Record::new(Kind::Outcome, "018f0000000070008000000000000000".into(), Method::ToolsCall.name())
    }
}

/// A buffer that has room: another one, whenever one is full.
struct Filling {
    recorder: Recorder,
    left: usize,
}

impl Default for Filling {
    fn default() -> Self {
        Self { recorder: Recorder::new(ROOM, true), left: ROOM }
    }
}

impl Filling {
    fn next(&mut self) -> Recorder {
        if self.left == 0 {
            *self = Self::default();
        }
        self.left -= 1;
        self.recorder.clone()
    }
}
