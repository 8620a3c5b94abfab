//! The ledger on a real database: one suite for whichever database a [`House`] stands on, and what only a file can suffer.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails where it stands")]

#[cfg(feature = "postgres")]
#[path = "storage/on_postgres.rs"]
mod on_postgres;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use actix::Addr;
use diesel::connection::SimpleConnection as _;
use tempfile::TempDir;
use waygate_mcp::actors::ask::{AskError, ask};
use waygate_mcp::actors::db::messages::{CheckDatabase, Close, Crash, Flush, GetPool, ListHistory, ShowCall};
use waygate_mcp::actors::db::{self, DbActor, Record, RecordError, Recorder};
use waygate_mcp::actors::supervision::Roster;
use waygate_mcp::config::{self, Capture, Durability, Secret};
use waygate_mcp::protocol::Raw;
use waygate_mcp::storage::definitions::{self, ToolDefinition};
use waygate_mcp::storage::history::{Audit, Call, Entry, Filter, Kind, Page, Report, Status, last_id, size};
use waygate_mcp::storage::{self, Instance, Notary, Storage, StorageError, instances, migrations, upkeep};

const DEADLINE: Duration = Duration::from_secs(20);

fn notary() -> Notary {
    Notary::new([&b"a key of these tests"[..]])
}

/// A DbActor on a database of its own.
struct House {
    db: Addr<DbActor>,
    recorder: Recorder,
    roster: Arc<Roster>,
    storage: Storage,
}

impl House {
    fn on(storage: Storage, durability: Durability) -> Self {
        Self::with(storage, durability, 4096, |raw| Some(raw.as_str().to_owned()))
    }

    fn with(
        storage: Storage,
        durability: Durability,
        queue_max: usize,
        render: impl Fn(&Raw) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        Self::keeping((0, 0), storage, durability, queue_max, render)
    }

    /// One that keeps at most so many rows, and so many bytes in them.
    fn keeping(
        (max_rows, max_bytes): (u64, u64),
        storage: Storage,
        durability: Durability,
        queue_max: usize,
        render: impl Fn(&Raw) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        storage.migrate().unwrap();
        let roster = Arc::new(Roster::default());
        let history = config::History {
            durability,
            arguments: Capture::Full,
            queue_max,
            linger_ms: 1,
            redact_keys: Vec::new(),
            keep_days: 0,
            max_rows,
            max_bytes,
        };
        let (db, recorder) =
            db::start(&roster, storage.clone(), Instance::begin(), &history, Arc::new(render), notary());
        Self { db, recorder, roster, storage }
    }

    async fn list(&self, filter: Filter) -> Page {
        ask(&self.db, ListHistory { filter }, DEADLINE).await.unwrap()
    }

    async fn calls(&self) -> Vec<Call> {
        ask(&self.db, Flush, DEADLINE).await.unwrap();
        self.list(Filter { limit: 1000, ..Filter::default() }).await.calls
    }

    async fn show(&self, call_id: &str) -> Vec<Entry> {
        ask(&self.db, ShowCall { call_id: call_id.to_owned() }, DEADLINE).await.unwrap()
    }

    async fn close(self) {
        ask(&self.db, Close, DEADLINE).await.unwrap();
    }
}

fn at(url: &str) -> Result<Storage, StorageError> {
    let database =
        config::Database { url: Some(Secret::new(url)), pool_size: 2, busy_timeout_ms: 20, wait_seconds: 0 };
    storage::open(&database, Path::new("/nowhere"))
}

struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("data/waygate.db")
    }

    fn open(&self) -> Storage {
        at(self.file().to_str().unwrap()).unwrap()
    }
}

fn intent(call: &str) -> Record {
    let mut record = Record::new(Kind::Intent, call.into(), "tools/call");
    record.tool = Some("echo".into());
    record
}

fn outcome(call: &str, status: Status) -> Record {
    Record { kind: Kind::Outcome, status: Some(status), ..intent(call) }
}

fn ids(calls: &[Call]) -> Vec<&str> {
    calls.iter().map(|call| call.call_id.as_str()).collect()
}

// === the suite: for every database ===

/// Everything that must hold on any database; `open` gives the same one each time, empty at first.
async fn suite(open: impl Fn() -> Storage) {
    migrates_once(&open());
    a_call_is_listed_by_its_latest_row(open()).await;
    filters_and_pages(open()).await;
    the_dead_leave_interrupted_calls(open()).await;
    definitions_are_kept_with_what_they_were_before(&open());
    a_crash_loses_nothing(open()).await;
    what_is_too_much_is_deleted_and_the_rest_is_proved(&open).await;
    rows_that_take_too_many_bytes_are_deleted_and_the_rest_is_proved(&open).await;
}

async fn what_is_too_much_is_deleted_and_the_rest_is_proved(open: impl Fn() -> Storage) {
    let house = House::on(open(), Durability::Strict);
    for number in 0..20 {
        house.recorder.record_durably(outcome(&format!("much-{number}"), Status::Success)).await.unwrap();
    }
    house.close().await;
    let house = House::keeping((5, 0), open(), Durability::Strict, 4096, |_raw| None);
    let acts = || async {
        let page = house.list(Filter { kind: Some(Kind::Admin), ..Filter::default() }).await;
        page.calls.into_iter().next()
    };
    let act = eventually(async || acts().await).await;
    assert_eq!((act.method.as_deref(), act.status.as_str()), (Some("history/prune"), "success"));
    assert_eq!(ids(&house.calls().await)[1..], ["much-19", "much-18", "much-17", "much-16", "much-15"]);
    house.close().await;
    let report = audited(&open());
    assert!(report.rows == 6 && report.checkpoints > 1, "{report:?}");
}

async fn rows_that_take_too_many_bytes_are_deleted_and_the_rest_is_proved(open: impl Fn() -> Storage) {
    let house = House::on(open(), Durability::Batched);
    for number in 0..600 {
        let detail = "ä".repeat((number * 37 % 400) * if number < 300 { 3 } else { 1 });
        let record =
            Record { detail: Some(detail.into()), ..outcome(&format!("wide-{number}"), Status::Success) };
        house.recorder.record(record);
    }
    house.close().await;
    let before = upkeep::stats(&open()).unwrap();
    let newest = last_id(&mut open().connect().unwrap()).unwrap();
    let most = before.history_bytes / 4;
    let house = House::keeping((0, most), open(), Durability::Strict, 4096, |_raw| None);
    let acts = || async {
        let page = house.list(Filter { kind: Some(Kind::Admin), ..Filter::default() }).await;
        page.calls.into_iter().find(|act| act.method.as_deref() == Some("history/prune") && act.id > newest)
    };
    let act = eventually(async || acts().await).await;
    let oldest = house.calls().await.last().map(|call| call.call_id.clone()).unwrap();
    house.close().await;
    let mut connection = open().connect().unwrap();
    let stays = size::of_all(&mut connection).unwrap();
    // The row that tells of it came after it, and the one that went last would have been too much.
    let (told, widest) = (400, 3_000);
    assert!(stays <= most + told && stays + widest >= most, "{stays} of {most}; {act:?}");
    assert!(oldest.starts_with("wide-"), "{oldest}");
    assert_eq!(size::beyond(&mut connection, stays).unwrap(), None);
    assert!(size::beyond(&mut connection, stays - 1).unwrap().is_some());
    let report = audited(&open());
    assert!(report.rows < before.tables["command_history"].rows, "{report:?}");
}

/// What a walk along the chain says, which must not be broken.
fn audited(storage: &Storage) -> Report {
    let (notary, mut connection) = (notary(), storage.connect().unwrap());
    let mut audit = Audit::begin(&mut connection, &notary, None).unwrap();
    while audit.page(&mut connection).unwrap() {}
    let report = audit.end(&mut connection).unwrap();
    assert!(report.broken.is_empty(), "{report:?}");
    report
}

fn migrates_once(storage: &Storage) {
    let mut connection = storage.connect().unwrap();
    let pending = migrations::pending(&mut connection, storage.place()).unwrap();
    assert_eq!(storage.migrate().unwrap().len(), pending.len());
    assert!(!pending.is_empty());
    assert!(storage.migrate().unwrap().is_empty());
    assert!(migrations::pending(&mut connection, storage.place()).unwrap().is_empty());
    assert!(upkeep::check(&mut connection, storage.place()).unwrap().is_empty());
    let newer = "INSERT INTO __diesel_schema_migrations (version) VALUES ('99999999999999')";
    connection.batch_execute(newer).unwrap();
    assert!(matches!(storage.migrate(), Err(StorageError::Newer { .. })));
    connection.batch_execute("DELETE FROM __diesel_schema_migrations WHERE version LIKE '9999%'").unwrap();
}

async fn a_call_is_listed_by_its_latest_row(storage: Storage) {
    let house = House::on(storage, Durability::Strict);
    house.recorder.record_durably(intent("pending")).await.unwrap();
    for (call, status) in [("a", Status::InputRequired), ("b", Status::Failed)] {
        house.recorder.record_durably(intent(call)).await.unwrap();
        house.recorder.record_durably(outcome(call, status)).await.unwrap();
    }
    // The answers begin a second round; its outcome overtakes its own intent's row on the way to nothing.
    let second = Record { round: 1, ..outcome("a", Status::Success) };
    let full = Record {
        plugin: Some("house".into()),
        client: Some("curl\0/8.0".into()),
        duration_us: Some(u64::MAX),
        arguments: Some(Raw::value(&serde_json::json!({ "text": "hej" }))),
        result_bytes: Some(7),
        request_id: Some("r-1".into()),
        detail: Some("said so".into()),
        behind: None,
        ..second
    };
    house.recorder.record_durably(full).await.unwrap();
    house.recorder.record(Record { round: 1, ..intent("a") });
    let calls = house.calls().await;
    let status = |id: &str| calls.iter().find(|call| call.call_id == id).map(|call| call.status.as_str());
    assert_eq!(
        (status("pending"), status("a"), status("b")),
        (Some("pending"), Some("success"), Some("failed"))
    );
    assert_eq!(calls.len(), 3);
    let rows = house.show("a").await;
    let told: Vec<(i32, &str)> = rows.iter().map(|row| (row.round, row.kind.as_str())).collect();
    assert_eq!(told, [(0, "intent"), (0, "outcome"), (1, "outcome"), (1, "intent")]);
    let row = &rows[2];
    assert_eq!(row.arguments.as_deref(), Some(r#"{"text":"hej"}"#));
    assert_eq!((row.duration_us, row.result_bytes), (Some(i64::MAX), Some(7)));
    assert!(
        row.client.as_deref().is_some_and(|client| client.starts_with("curl") && client.ends_with("/8.0"))
    );
    assert_eq!(house.show("none").await, []);
    house.recorder.record_durably(outcome("pending", Status::Success)).await.unwrap();
    house.close().await;
}

fn definitions_are_kept_with_what_they_were_before(storage: &Storage) {
    let mut connection = storage.connect().unwrap();
    let clock = |seconds: u64| std::time::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + seconds);
    let seen = |tool: &str, digest: &str, at: u64| ToolDefinition {
        plugin: "files\0".to_owned(),
        tool: tool.to_owned(),
        digest: digest.to_owned(),
        first_seen_at: definitions::written(clock(at)),
        changed_at: None,
        previous_digest: None,
    };
    definitions::save(&mut connection, &[seen("read", "one", 1), seen("write", "same", 1)]).unwrap();
    definitions::save(&mut connection, &[seen("read", "two", 2), seen("write", "same", 2)]).unwrap();
    let mut third = seen("read", "three", 1);
    (third.changed_at, third.previous_digest) =
        (Some(definitions::written(clock(3))), Some("two".to_owned()));
    let of = |connection: &mut _, tool: &str| {
        definitions::all(connection).unwrap().into_iter().find(|row| row.tool == tool).unwrap()
    };
    let second = of(&mut connection, "read");
    assert_eq!((second.digest.as_str(), second.previous_digest.as_deref()), ("two", Some("one")));
    assert_eq!(
        second.changed_at.map(definitions::read),
        Some(clock(2)),
        "who does not know, has it noticed here"
    );
    definitions::save(&mut connection, std::slice::from_ref(&third)).unwrap();
    assert_eq!(of(&mut connection, "read"), ToolDefinition { plugin: "files\u{fffd}".to_owned(), ..third });
    let same = of(&mut connection, "write");
    assert_eq!((same.changed_at, definitions::read(same.first_seen_at)), (None, clock(1)));
}

async fn filters_and_pages(storage: Storage) {
    let house = House::on(storage, Durability::Batched);
    for number in 0..25 {
        let mut record =
            outcome(&format!("page-{number:02}"), [Status::Success, Status::Timeout][number % 2]);
        record.tool = Some("pager".into());
        record.client = Some(["reader/1", "reader/2", "reader_2", "other/1"][number % 4].into());
        house.recorder.record(record);
    }
    house.calls().await;
    let pager = |filter: Filter| Filter { tool: Some("pager".to_owned()), ..filter };
    let count = async |filter: Filter| house.list(pager(filter)).await.calls.len();
    assert_eq!(count(Filter::default()).await, 25);
    assert_eq!(count(Filter { status: Some(Status::Timeout), ..Filter::default() }).await, 12);
    assert_eq!(count(Filter { method: Some("tools/list".to_owned()), ..Filter::default() }).await, 0);
    for (client, expected) in [("reader", 13), ("reader/2", 6), ("reader_2", 6), ("r%", 0)] {
        let filter = Filter { client: Some(client.to_owned()), ..Filter::default() };
        assert_eq!(count(filter).await, expected, "{client}");
    }
    let mut seen = Vec::new();
    let mut before = None;
    loop {
        let page = house.list(pager(Filter { limit: 10, before, ..Filter::default() })).await;
        assert!(page.calls.len() <= 10);
        seen.extend(page.calls);
        let Some(next) = page.next else { break };
        before = Some(next.to_string().parse().unwrap());
    }
    let expected: Vec<String> = (0..25).rev().map(|number| format!("page-{number:02}")).collect();
    assert_eq!(ids(&seen), expected);
    let middle = seen[12].created_at;
    let newer = count(Filter { since: Some(middle), ..Filter::default() }).await;
    let older = count(Filter { until: Some(middle), ..Filter::default() }).await;
    assert_eq!(newer + older, 25);
    assert!(newer >= 13, "`since` is inclusive");
    house.close().await;
}

async fn the_dead_leave_interrupted_calls(storage: Storage) {
    // A server that was killed: it registered, wrote intents and one outcome, and never stopped.
    let dead = Instance::begin();
    let mut connection = storage.connect().unwrap();
    instances::register(&mut connection, &dead).unwrap();
    for (seq, kind, call) in [(1, "intent", "cut"), (2, "intent", "whole"), (3, "outcome", "whole")] {
        let row = format!(
            "INSERT INTO command_history (instance_id, seq, call_id, round, kind, created_at, tool, status) VALUES \
             ('{}', {seq}, '{call}', 0, '{kind}', '2026-01-01 00:00:00', 'echo', {})",
            dead.id,
            if kind == "outcome" { "'success'" } else { "NULL" }
        );
        connection.batch_execute(&row).unwrap();
    }
    drop(connection);
    let house = House::on(storage, Durability::Batched);
    let rows = eventually(async || Some(house.show("cut").await).filter(|rows| rows.len() == 2)).await;
    assert_eq!(rows[1].status.as_deref(), Some("interrupted"));
    assert_eq!((rows[1].tool.as_deref(), rows[1].kind.as_str()), (Some("echo"), "outcome"));
    assert_ne!(rows[1].instance_id, dead.id, "written by who found it");
    assert_eq!(house.show("whole").await.len(), 2);
    let own = rows[1].instance_id.clone();
    eventually(async || {
        let unstopped = instances::dead(&mut house.storage.connect().unwrap(), &own).unwrap();
        unstopped.is_empty().then_some(())
    })
    .await;
    house.close().await;
}

async fn a_crash_loses_nothing(storage: Storage) {
    let house = House::on(storage, Durability::Batched);
    let before = house.calls().await.len();
    let part = house.roster.find("db").unwrap();
    for round in 0..3 {
        for number in 0..200 {
            house.recorder.record(outcome(&format!("crash-{round}-{number}"), Status::Success));
            if number == 100 {
                assert!(part.crash().send(Crash).await.is_err(), "the poison itself is not answered");
            }
        }
    }
    let after = house.calls().await;
    assert_eq!(after.len() - before, 600);
    assert!(after.iter().all(|call| call.kind != "gap"));
    assert_eq!(part.restarts(), 3);
    let state = house.recorder.state();
    assert!(state.failed >= 1, "the writer has panicked, too: {state:?}");
    assert_eq!((state.dropped, state.degraded, state.depth), (0, false, 0));
    house.close().await;
}

async fn eventually<T>(mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let until = std::time::Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(std::time::Instant::now() < until, "it never came true");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[actix::test]
async fn the_suite_holds_on_sqlite() {
    let place = Place::new();
    suite(|| place.open()).await;
}

// === what only a file can suffer, or is the same for each ===

#[actix::test]
async fn one_row_that_is_refused_costs_itself_only() {
    let refuse = "CREATE TRIGGER refuse BEFORE INSERT ON command_history WHEN NEW.call_id = 'row-2' \
                  BEGIN SELECT RAISE(ABORT, 'string or blob too big'); END";
    refuses_one_row(Place::new().open(), refuse).await;
}

async fn refuses_one_row(storage: Storage, refuse: &str) {
    storage.migrate().unwrap();
    storage.connect().unwrap().batch_execute(refuse).unwrap();
    let house = House::on(storage, Durability::Strict);
    let written = (0..5)
        .map(|number| house.recorder.record_durably(outcome(&format!("row-{number}"), Status::Success)));
    let told = futures_util::future::join_all(written).await;
    let lost = Err(RecordError::Lost);
    assert_eq!(told, [Ok(()), Ok(()), lost, Ok(()), Ok(())]);
    let calls = house.calls().await;
    assert_eq!(ids(&calls)[1..], ["row-4", "row-3", "row-1", "row-0"]);
    assert_eq!((calls[0].status.as_str(), calls[0].kind.as_str()), ("gap", "gap"));
    assert_eq!(house.recorder.state().dropped, 1);
    house.close().await;
}

#[actix::test]
async fn a_capture_that_panics_costs_the_arguments_only() {
    let place = Place::new();
    let house = House::with(place.open(), Durability::Strict, 16, |_raw| panic!("cannot redact"));
    let record =
        Record { arguments: Some(Raw::value(&serde_json::json!({}))), ..outcome("a", Status::Success) };
    house.recorder.record_durably(record).await.unwrap();
    assert_eq!(house.show("a").await[0].arguments, None);
    house.close().await;
}

#[actix::test]
async fn a_clean_stop_leaves_one_whole_file_and_no_other() {
    let place = Place::new();
    let house = House::on(place.open(), Durability::Batched);
    let recorder = house.recorder.clone();
    for number in 0..100 {
        recorder.record(outcome(&number.to_string(), Status::Success));
    }
    let db = house.db.clone();
    house.close().await;
    let files: Vec<_> = fs::read_dir(place.file().parent().unwrap()).unwrap().collect();
    assert_eq!(files.len(), 1, "{files:?}");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&place.file()), mode(place.file().parent().unwrap())), (0o600, 0o700));
    // Closed is closed, and says so.
    assert_eq!(recorder.record_durably(outcome("late", Status::Success)).await, Err(RecordError::Closed));
    let read = ask(&db, CheckDatabase, DEADLINE).await;
    assert!(matches!(read, Err(AskError::Reply(StorageError::Closed(_)))), "{read:?}");
    // The file alone is whole; no instance is left for dead.
    let copy = place.folder.path().join("copy.db");
    fs::copy(place.file(), &copy).unwrap();
    let house = House::on(at(copy.to_str().unwrap()).unwrap(), Durability::Batched);
    assert_eq!(house.calls().await.len(), 100);
    assert!(instances::dead(&mut house.storage.connect().unwrap(), "other").unwrap().len() <= 1);
    house.close().await;
    // Deleting it and starting makes it anew.
    fs::remove_file(place.file()).unwrap();
    let house = House::on(place.open(), Durability::Batched);
    assert_eq!(house.calls().await, []);
    house.close().await;
}

#[actix::test]
async fn a_locked_database_is_waited_for_and_loses_nothing() {
    let place = Place::new();
    let house = House::on(place.open(), Durability::Batched);
    house.calls().await;
    let mut neighbour = house.storage.connect().unwrap();
    neighbour.batch_execute("BEGIN IMMEDIATE").unwrap();
    for number in 0..50 {
        house.recorder.record(outcome(&number.to_string(), Status::Success));
    }
    let degraded = eventually(async || Some(house.recorder.state()).filter(|state| state.degraded)).await;
    assert!(degraded.last_error.is_some_and(|error| error.contains("locked by another process")));
    assert!(ask(&house.db, CheckDatabase, DEADLINE).await.is_ok(), "reading goes on");
    neighbour.batch_execute("COMMIT").unwrap();
    assert_eq!(house.calls().await.len(), 50);
    let state = house.recorder.state();
    assert_eq!((state.degraded, state.dropped, state.rows), (false, 0, 50));
    let pool = ask(&house.db, GetPool, DEADLINE).await.unwrap();
    assert!(pool.max == 3 && pool.open >= 1, "{pool:?}");
    house.close().await;
}

#[actix::test]
async fn a_full_buffer_refuses_the_strict_and_leaves_a_gap_of_the_rest() {
    let place = Place::new();
    let house = House::with(place.open(), Durability::Strict, 4, |_raw| None);
    house.calls().await;
    let mut neighbour = house.storage.connect().unwrap();
    neighbour.batch_execute("BEGIN IMMEDIATE").unwrap();
    // The writer takes the first in hand; then the buffer fills.
    house.recorder.record(outcome("in-hand", Status::Success));
    eventually(async || (house.recorder.state().depth == 0).then_some(())).await;
    for number in 0..20 {
        house.recorder.record(outcome(&number.to_string(), Status::Success));
    }
    let refused = house.recorder.record_durably(intent("refused")).await;
    assert_eq!(refused, Err(RecordError::Full));
    neighbour.batch_execute("COMMIT").unwrap();
    let calls = house.calls().await;
    let gaps: Vec<&Call> = calls.iter().filter(|call| call.kind == "gap").collect();
    let dropped = house.recorder.state().dropped;
    assert_eq!(gaps.len(), 1);
    assert!(
        gaps[0].detail.as_deref().is_some_and(|detail| detail.starts_with(&format!("{dropped} records")))
    );
    assert_eq!(calls.len() as u64, 21 - dropped + 1);
    assert!(dropped >= 12, "four have room, four may wait for it: {dropped}");
    assert!(calls.iter().all(|call| call.call_id != "refused"));
    assert!(house.recorder.state().degraded);
    house.close().await;
}

#[actix::test]
async fn a_database_that_cannot_be_written_at_the_end_is_given_up_in_time() {
    let place = Place::new();
    let house = House::on(place.open(), Durability::Batched);
    house.calls().await;
    let mut neighbour = house.storage.connect().unwrap();
    neighbour.batch_execute("BEGIN IMMEDIATE").unwrap();
    house.recorder.record(outcome("never", Status::Success));
    let closed = ask(&house.db, Close, DEADLINE).await;
    assert!(matches!(closed, Err(AskError::Reply(RecordError::Lost))), "{closed:?}");
    assert_eq!(house.recorder.state().dropped, 1);
}

#[test]
fn a_file_that_is_no_database_is_named_with_what_to_do() {
    let place = Place::new();
    fs::create_dir_all(place.file().parent().unwrap()).unwrap();
    fs::write(place.file(), "this is no database".repeat(100)).unwrap();
    let error = at(place.file().to_str().unwrap()).err().unwrap();
    assert!(matches!(error, StorageError::Corrupt { .. }));
    let text = error.to_string();
    assert!(text.contains("waygate.db") && text.contains("move the file"), "{text}");
}

#[actix::test]
async fn a_damaged_page_is_found_by_the_check() {
    let place = Place::new();
    let house = House::on(place.open(), Durability::Strict);
    for number in 0..500 {
        house.recorder.record(outcome(&number.to_string(), Status::Success));
    }
    house.close().await;
    let mut bytes = fs::read(place.file()).unwrap();
    // The header says in two bytes how large a page is.
    let page = usize::from(u16::from_be_bytes([bytes[16], bytes[17]]));
    let middle = bytes.len() / page / 2 * page;
    bytes[middle..middle + page].fill(0xAA);
    fs::write(place.file(), bytes).unwrap();
    let storage = place.open();
    let found = upkeep::check(&mut storage.connect().unwrap(), storage.place());
    assert!(found.as_ref().map_or(true, |faults| !faults.is_empty()), "{found:?}");
}

#[test]
fn a_database_that_can_only_be_read_is_read_and_says_so_when_written() {
    let place = Place::new();
    place.open().migrate().unwrap();
    // The superuser may write any file: the parameter makes it read-only for everybody.
    let storage = at(&format!("sqlite:{}?mode=ro", place.file().display())).unwrap();
    assert!(storage.migrate().unwrap().is_empty());
    let mut connection = storage.connect().unwrap();
    assert!(storage::history::list(&mut connection, &Filter::default()).unwrap().calls.is_empty());
    let error = instances::register(&mut connection, &Instance::begin()).unwrap_err();
    assert!(matches!(storage.failed(&error), StorageError::ReadOnly(_)), "{error}");
}

#[test]
fn a_migration_waits_for_another_and_then_says_what_holds_it() {
    let place = Place::new();
    let storage = place.open();
    let mut neighbour = storage.connect().unwrap();
    neighbour.batch_execute("BEGIN IMMEDIATE").unwrap();
    assert!(matches!(storage.migrate(), Err(StorageError::Locked(_))));
    neighbour.batch_execute("COMMIT").unwrap();
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let url = place.file().display().to_string();
            std::thread::spawn(move || {
                let patient = config::Database {
                    url: Some(Secret::new(url)),
                    pool_size: 1,
                    busy_timeout_ms: 10_000,
                    wait_seconds: 0,
                };
                storage::open(&patient, Path::new("/nowhere")).unwrap().migrate().unwrap().len()
            })
        })
        .collect();
    let ran: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    let all = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/sqlite")).unwrap().count();
    assert_eq!(ran, all, "one of them migrates, the others find it done");
}

#[test]
fn what_is_not_there_is_not_made_by_reading() {
    let place = Place::new();
    let database = config::Database { url: None, pool_size: 1, busy_timeout_ms: 10, wait_seconds: 0 };
    let error = storage::open_existing(&database, &place.file()).err().unwrap();
    assert!(matches!(error, StorageError::Missing(_)));
    assert!(!place.file().exists());
}
