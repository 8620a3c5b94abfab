//! What can be asked of the ledger, on any database: `hold` is called with an empty one.

use std::borrow::Cow;

use chrono::{DateTime, NaiveDateTime};
use waygate_mcp::config::{Flags, Sources, load};
use waygate_mcp::storage::history::stats::Stats;
use waygate_mcp::storage::history::{self, Call, Cursor, Entry, Filter, Head, Kind, NewEntry, Status};
use waygate_mcp::storage::stamp::Stamp;
use waygate_mcp::storage::{self, DbConnection, Storage};

const BEGIN_SECONDS: i64 = 1_795_348_800;

fn at(second: i64) -> NaiveDateTime {
    DateTime::from_timestamp(BEGIN_SECONDS + second, 0).unwrap().naive_utc()
}

/// A successful call of `echo` in this second; the rest is for the caller to change.
pub fn row(second: i64, call_id: &str) -> NewEntry<'_> {
    NewEntry {
        instance_id: "01",
        seq: second,
        call_id,
        round: 0,
        kind: "outcome",
        created_at: Stamp(at(second)),
        method: Some("tools/call".into()),
        plugin: None,
        tool: Some("echo".into()),
        caller: Some("anonymous".into()),
        client: Some("reader/1".into()),
        session: None,
        protocol_version: None,
        status: Some("success"),
        error_code: None,
        duration_us: Some(1_000),
        arguments: None,
        result_bytes: None,
        request_id: None,
        trace_id: None,
        detail: None,
        behind: None,
    }
}

/// What must hold on every database.
pub fn hold(storage: &Storage) {
    storage.migrate().unwrap();
    let mut connection = storage.connect().unwrap();
    assert_eq!(history::last_id(&mut connection).unwrap(), 0);
    history::append(&mut connection, &mut Head::default(), rows().into_iter()).unwrap();
    filters_find_what_they_name(&mut connection);
    pages_of_a_pattern_follow_one_another(&mut connection);
    walks_meet_every_row_once(&mut connection);
    what_is_added_is_found_by_its_place(&mut connection);
    counts_agree_with_the_list(&mut connection);
    what_is_rare_is_found_by_an_index(&mut connection);
}

fn rows() -> Vec<NewEntry<'static>> {
    let text = |text: &'static str| Some(Cow::Borrowed(text));
    vec![
        row(0, "plain"),
        NewEntry { tool: text("files__read_file"), session: text("s-1"), ..row(0, "read") },
        NewEntry { tool: text("files__Read_file"), session: text("s-12"), ..row(1, "upper") },
        NewEntry { tool: text("files%read[x]?"), client: text("reader_1/2"), ..row(2, "odd") },
        NewEntry { tool: text(r"back\slash"), client: None, ..row(3, "slash") },
        NewEntry { status: Some("failed"), duration_us: Some(2_000), ..row(4, "bad") },
        NewEntry { method: text("resources/read"), tool: None, duration_us: None, ..row(5, "nameless") },
        NewEntry { kind: "intent", status: None, duration_us: None, ..row(6, "waits") },
        NewEntry { kind: "intent", status: None, duration_us: None, ..row(7, "strict") },
        NewEntry { status: Some("timeout"), duration_us: Some(5_000_000), ..row(3_600, "strict") },
        NewEntry { kind: "gap", method: None, tool: None, client: None, status: None, ..row(3_601, "hole") },
    ]
}

fn run(connection: &mut DbConnection, statements: &[&str]) {
    for statement in statements {
        diesel::RunQueryDsl::execute(diesel::sql_query(*statement), connection).unwrap();
    }
}

/// Of many rows that are alike, and few that are not.
fn what_is_rare_is_found_by_an_index(connection: &mut DbConnection) {
    let names: Vec<String> = (0..20_000).map(|number| format!("many-{number}")).collect();
    let rows = (0..20_000).zip(&names).map(|(second, name)| {
        let row = row(second, name);
        match second % 2_000 {
            1 => NewEntry { tool: Some("rare".into()), ..row },
            2 => NewEntry { caller: Some("key-0123456789ab".into()), ..row },
            3 => NewEntry { session: Some("s-rare".into()), ..row },
            4 => NewEntry { status: Some("timeout"), ..row },
            5 => NewEntry { kind: "admin", tool: None, ..row },
            6 => NewEntry { method: Some("prompts/get".into()), ..row },
            7 => NewEntry { duration_us: Some(2_000_000), ..row },
            _ => row,
        }
    });
    history::append(connection, &mut Head::default(), rows).unwrap();
    #[cfg(feature = "sqlite")]
    let is_sqlite = matches!(connection, DbConnection::Sqlite(_));
    #[cfg(not(feature = "sqlite"))]
    let is_sqlite = false;
    if is_sqlite {
        what_is_named_is_looked_up_before_what_was_slow(connection);
    }
    run(connection, &["ANALYZE command_history"]);
    if !is_sqlite {
        run(connection, &["SELECT brin_summarize_new_values('idx_command_history_client')"]);
    }
    let own = |text: &str| Some(text.to_owned());
    let none = Filter::default;
    for (filter, index) in [
        (none(), "created"),
        (Filter { since: Some(at(19_990)), ..none() }, "created"),
        (Filter { call_id: own("many-7"), ..none() }, "call"),
        (Filter { tool: own("rare"), ..none() }, "tool"),
        (Filter { tool: own("rare"), since: Some(at(100)), ..none() }, "tool"),
        (Filter { caller: own("key-0123456789ab"), ..none() }, "caller"),
        (Filter { session: own("s-rare"), ..none() }, "session"),
        (Filter { status: Some(Status::Timeout), ..none() }, "status"),
        (Filter { kind: Some(Kind::Admin), ..none() }, "kind"),
        (Filter { method: own("prompts/get"), ..none() }, "method"),
        (Filter { method: own("prompts/*"), ..none() }, "method"),
        (Filter { slower_than_us: Some(1_000_000), ..none() }, "slow"),
        (Filter { slower_than_us: Some(100_000), since: Some(at(100)), ..none() }, "slow"),
        (Filter { slower_than_us: Some(10), ..none() }, "created"),
        (Filter { method: own("tools/call"), ..none() }, "created"),
        (Filter { status: Some(Status::Gap), ..none() }, "kind"),
        // Which holds the client on SQLite, so that rows of others are not read.
        (Filter { client: own("nobody"), ..none() }, if is_sqlite { "created" } else { "client" }),
        (Filter { client: own("nobody/2"), ..none() }, if is_sqlite { "created" } else { "client" }),
    ] {
        let plan = history::plan(connection, &filter).unwrap();
        let first = plan.iter().find(|step| step.contains("idx_command_history"));
        let is_used = first.is_some_and(|step| step.contains(&format!("idx_command_history_{index}")));
        assert!(is_used, "{filter:?}: {plan:#?}");
        let reads_all = plan.iter().any(|step| step.contains("Seq Scan"));
        assert!(!reads_all, "{filter:?}: {plan:#?}");
        // Where all calls are recorded before they run, half of all rows are no outcomes.
        let is_one_kind = plan.iter().any(|step| step.contains("kind=?") || step.contains("(kind = "));
        assert!(is_one_kind || index != "kind", "{filter:?}: {plan:#?}");
    }
}

/// SQLite has no statistics until somebody compacts: all calls may be slow, for all that it knows.
fn what_is_named_is_looked_up_before_what_was_slow(connection: &mut DbConnection) {
    let own = |text: &str| Some(text.to_owned());
    let slow = || Filter { slower_than_us: Some(1_000_000), ..Filter::default() };
    for (filter, index) in [
        (slow(), "slow"),
        (Filter { tool: own("*"), ..slow() }, "slow"),
        (Filter { caller: own("anonymous"), ..slow() }, "slow"),
        (Filter { status: Some(Status::Success), ..slow() }, "slow"),
        (Filter { tool: own("rare"), ..slow() }, "tool"),
        (Filter { tool: own("rare"), since: Some(at(100)), ..slow() }, "tool"),
        (Filter { caller: own("key-0123456789ab"), ..slow() }, "caller"),
        (Filter { session: own("s-rare"), ..slow() }, "session"),
        (Filter { call_id: own("many-7"), ..slow() }, "call"),
        (Filter { status: Some(Status::Timeout), ..slow() }, "status"),
        (Filter { kind: Some(Kind::Admin), ..slow() }, "kind"),
        (Filter { method: own("prompts/get"), ..slow() }, "method"),
    ] {
        let plan = history::plan(connection, &filter).unwrap();
        let first = plan.iter().find(|step| step.contains("idx_command_history"));
        let is_used = first.is_some_and(|step| step.contains(&format!("idx_command_history_{index} ")));
        assert!(is_used, "{filter:?}: {plan:#?}");
    }
}

fn ids(calls: &[Call]) -> Vec<&str> {
    calls.iter().map(|call| call.call_id.as_str()).collect()
}

fn filters_find_what_they_name(connection: &mut DbConnection) {
    let own = |text: &str| Some(text.to_owned());
    let none = Filter::default;
    for (filter, expected) in [
        (Filter { tool: own("echo"), ..none() }, &["strict", "waits", "bad", "plain"][..]),
        (Filter { tool: own("files__*"), ..none() }, &["upper", "read"]),
        (Filter { tool: own("*read*"), ..none() }, &["odd", "read"]),
        (Filter { tool: own("files__read_file"), ..none() }, &["read"]),
        (Filter { tool: own("Echo"), ..none() }, &[]),
        (Filter { tool: own("file%"), ..none() }, &[]),
        (Filter { tool: own("files%read[x]?"), ..none() }, &["odd"]),
        (Filter { tool: own(r"back\*"), ..none() }, &["slash"]),
        (Filter { method: own("resources/*"), ..none() }, &["nameless"]),
        (Filter { client: own("reader_1"), ..none() }, &["odd"]),
        (Filter { client: own("*/2"), ..none() }, &["odd"]),
        (Filter { client: own("reader_1/2"), ..none() }, &["odd"]),
        (Filter { client: own("reader_*"), ..none() }, &["odd"]),
        (Filter { client: own("reader_1/*"), ..none() }, &["odd"]),
        (Filter { client: own("reader_1/"), ..none() }, &[]),
        (Filter { client: own("reader"), status: Some(Status::Failed), ..none() }, &["bad"]),
        (Filter { session: own("s-1"), ..none() }, &["read"]),
        (Filter { session: own("s-*"), ..none() }, &["upper", "read"]),
        (Filter { tool: own("*read*"), session: own("s-*"), ..none() }, &["read"]),
        (Filter { tool: own("nobody*"), ..none() }, &[]),
        (Filter { caller: own("anon*"), tool: own("files__read_file"), ..none() }, &["read"]),
        (Filter { caller: own("key*"), ..none() }, &[]),
        (Filter { caller: own("nobody"), ..none() }, &[]),
        (Filter { slower_than_us: Some(1_000), ..none() }, &["strict", "bad"]),
        (Filter { kind: Some(Kind::Gap), ..none() }, &["hole"]),
        (Filter { kind: Some(Kind::Intent), ..none() }, &["waits"]),
        (Filter { status: Some(Status::Pending), ..none() }, &["waits"]),
        (Filter { since: Some(at(4)), until: Some(at(7)), ..none() }, &["waits", "nameless", "bad"]),
    ] {
        let page = history::list(connection, &filter).unwrap();
        assert_eq!(ids(&page.calls), expected, "{filter:?}");
    }
}

fn pages_of_a_pattern_follow_one_another(connection: &mut DbConnection) {
    let mut filter = Filter { tool: Some("*e*".to_owned()), limit: 1, ..Filter::default() };
    let mut met = Vec::new();
    loop {
        let page = history::list(connection, &filter).unwrap();
        met.extend(page.calls.into_iter().map(|call| call.call_id));
        let Some(next) = page.next else { break };
        filter.before = Some(next);
    }
    assert_eq!(met, ["strict", "waits", "bad", "odd", "upper", "read", "plain"]);
}

/// All pages of a walk, one row each, so that two rows of one time lie on two pages.
fn pages<T>(mut page: impl FnMut(&Filter) -> Vec<T>, cursor: fn(&T) -> Cursor, filter: Filter) -> Vec<T> {
    let mut filter = Filter { limit: 1, ..filter };
    let mut all = Vec::new();
    loop {
        let some = page(&filter);
        assert!(some.len() <= 1);
        let Some(last) = some.last() else { return all };
        filter.after = Some(cursor(last));
        all.extend(some);
    }
}

fn walks_meet_every_row_once(connection: &mut DbConnection) {
    let calls = pages(|filter| history::walk(connection, filter).unwrap(), Call::cursor, Filter::default());
    let expected = ["plain", "read", "upper", "odd", "slash", "bad", "nameless", "waits", "strict", "hole"];
    assert_eq!(ids(&calls), expected, "two of one time, too");
    let filter = Filter { tool: Some("echo".to_owned()), ..Filter::default() };
    let rows = pages(|filter| history::walk_rows(connection, filter).unwrap(), Entry::cursor, filter);
    let told: Vec<(&str, &str)> = rows.iter().map(|row| (row.call_id.as_str(), row.kind.as_str())).collect();
    let strict = [("strict", "intent"), ("strict", "outcome")];
    assert_eq!(told[2..], [("waits", "intent"), strict[0], strict[1]]);
}

fn what_is_added_is_found_by_its_place(connection: &mut DbConnection) {
    let newest = history::last_id(connection).unwrap();
    let none = history::added(connection, &Filter::default(), newest).unwrap();
    assert!(none.is_empty());
    // Its clock is behind, and still it was added last.
    let late = [row(-50, "late"), NewEntry { tool: Some("other".into()), ..row(-60, "later") }];
    history::append(connection, &mut Head::default(), late.into_iter()).unwrap();
    let added = history::added(connection, &Filter::default(), newest).unwrap();
    assert_eq!(ids(&added), ["late", "later"]);
    let filter = Filter { tool: Some("other".to_owned()), ..Filter::default() };
    assert_eq!(ids(&history::added(connection, &filter, newest).unwrap()), ["later"]);
    assert!(history::last_id(connection).unwrap() > newest);
}

fn counts_agree_with_the_list(connection: &mut DbConnection) {
    let mut stats = Stats::default();
    let mut filter = Filter { since: Some(at(0)), ..Filter::default() };
    while let Some(place) = stats.count_page(connection, &filter).unwrap() {
        filter.after = Some(place);
    }
    assert_eq!((stats.tally.calls, stats.tally.ended, stats.tally.errors, stats.gaps), (9, 8, 2, 1));
    let statuses: Vec<(&str, u64)> =
        stats.statuses.iter().map(|(status, count)| (status.as_str(), *count)).collect();
    assert_eq!(statuses, [("failed", 1), ("pending", 1), ("success", 6), ("timeout", 1)]);
    assert_eq!(stats.names["resources/read"].tally.calls, 1);
    assert_eq!((stats.first, stats.last), (Some(at(0)), Some(at(3_600))));
    let hours: Vec<(NaiveDateTime, u64)> =
        stats.hours.iter().map(|(hour, tally)| (*hour, tally.calls)).collect();
    assert_eq!(hours, [(at(0), 8), (at(3_600), 1)]);
    assert_eq!(stats.duration_us.longest(), Some(5_000_000));
    let slow = Filter { slower_than_us: Some(1_500), after: None, ..filter };
    let mut stats = Stats::default();
    stats.count_page(connection, &slow).unwrap();
    assert_eq!((stats.tally.calls, stats.tally.error_rate()), (2, Some(1.0)));
}

/// The database of a data folder, opened as the program opens it.
pub fn open(data_dir: &std::path::Path) -> Storage {
    let settings = vec![("--data-dir", data_dir.to_str().unwrap().to_owned())];
    let flags = Flags { settings, ..Flags::default() };
    let sources = Sources { home: Some(data_dir.to_owned()), flags, ..Sources::default() };
    let config = load(&sources).unwrap_or_else(|faults| panic!("{faults}")).config;
    storage::open(&config.database, &data_dir.join("data/waygate.db")).unwrap()
}

/// Many successful calls, a second each, for what must not depend on how many there are.
pub fn fill(storage: &Storage, count: i64) {
    storage.migrate().unwrap();
    let names: Vec<String> = (0..count).map(|number| format!("call-{number}")).collect();
    let rows = names.iter().zip(0..).map(|(name, second)| row(second, name));
    history::append(&mut storage.connect().unwrap(), &mut Head::default(), rows).unwrap();
}

#[cfg(feature = "sqlite")]
#[test]
fn the_ledger_answers_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    hold(&open(folder.path()));
}

#[cfg(feature = "postgres")]
#[test]
fn the_ledger_answers_on_postgresql() {
    let Some(url) = crate::support::postgres::schema_for("queries") else { return };
    let database = waygate_mcp::config::Database {
        url: Some(waygate_mcp::config::Secret::new(url)),
        pool_size: 1,
        busy_timeout_ms: 5000,
        wait_seconds: 0,
    };
    hold(&storage::open(&database, std::path::Path::new("")).unwrap());
}

#[test]
fn rows_are_serialized_with_the_columns_that_they_name() {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(folder.path());
    fill(&storage, 1);
    let mut connection = storage.connect().unwrap();
    let keys =
        |value: serde_json::Value| -> Vec<String> { value.as_object().unwrap().keys().cloned().collect() };
    let calls = history::walk(&mut connection, &Filter::default()).unwrap();
    assert_eq!(keys(serde_json::to_value(&calls[0]).unwrap()), Call::COLUMNS);
    let rows = history::walk_rows(&mut connection, &Filter::default()).unwrap();
    assert_eq!(keys(serde_json::to_value(&rows[0]).unwrap()), Entry::COLUMNS);
}
