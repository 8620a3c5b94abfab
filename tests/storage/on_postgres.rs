//! The ledger on PostgreSQL: the suite, and what its own way of writing must keep.

#[cfg(test)]
#[path = "../support/postgres.rs"]
#[expect(dead_code, reason = "black-box tests use more of it")]
mod postgres;

use waygate_mcp::storage::history::{Behind, Head, NewEntry};
use waygate_mcp::storage::stamp::Stamp;

use super::*;

#[actix::test]
async fn the_suite_holds_on_postgresql() {
    let Some(url) = postgres::schema_for("the suite") else { return };
    suite(|| at(&url).unwrap()).await;
}

#[actix::test]
async fn one_row_that_postgresql_refuses_costs_itself_only() {
    let Some(url) = postgres::schema_for("one row is refused") else { return };
    refuses_one_row(
        at(&url).unwrap(),
        "ALTER TABLE command_history ADD CONSTRAINT refuse CHECK (call_id <> 'row-2')",
    )
    .await;
}

#[test]
fn a_database_that_cannot_hold_every_character_is_refused_with_what_to_do() {
    use diesel::connection::SimpleConnection as _;
    use diesel::{Connection as _, PgConnection};

    let Some(url) = postgres::schema_for("another encoding") else { return };
    let mut connection = PgConnection::establish(&url).unwrap();
    let made = "CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0";
    connection.batch_execute(made).unwrap();
    let (server, _schema) = url.rsplit_once("/postgres?").unwrap();
    let error = at(&format!("{server}/latin")).err().unwrap();
    assert!(matches!(error, StorageError::Encoding { .. }), "{error}");
    assert!(error.to_string().contains("LATIN1") && error.to_string().contains("ENCODING 'UTF8'"), "{error}");
    // One that was let in all the same, by an older version, costs the row only.
    let mut latin = PgConnection::establish(&format!("{server}/latin")).unwrap();
    let error = latin.batch_execute("SELECT '\u{20ac}'").unwrap_err();
    assert!(matches!(StorageError::of_query("here", &error), StorageError::Refused { .. }), "{error}");
}

#[test]
fn a_group_of_any_size_is_written_to_postgresql_whole_or_not_at_all() {
    let Some(url) = postgres::schema_for("groups") else { return };
    let storage = at(&url).unwrap();
    storage.migrate().unwrap();
    let mut connection = storage.connect().unwrap();
    let at = storage::history::moment(std::time::SystemTime::now());
    let told = |what: &str, seq: i64| (seq % 2 == 0).then(|| format!("{what}-{seq}"));
    let row = |seq: i64, kind: &'static str| NewEntry {
        instance_id: "instance",
        seq,
        call_id: "call",
        round: 7,
        kind,
        created_at: Stamp(at),
        method: told("method", seq).map(Into::into),
        plugin: told("plugin", seq).map(Into::into),
        tool: told("tool", seq).map(Into::into),
        caller: told("caller", seq).map(Into::into),
        client: Some("nul\0".into()),
        session: told("session", seq).map(Into::into),
        protocol_version: told("version", seq).map(Into::into),
        status: Some("success"),
        error_code: told("error", seq).map(Into::into),
        duration_us: (seq % 3 == 0).then_some(seq),
        arguments: told("arguments", seq).map(Into::into),
        result_bytes: (seq % 5 == 0).then_some(seq),
        request_id: told("request", seq).map(Into::into),
        trace_id: told("trace", seq).map(Into::into),
        detail: told("detail", seq).map(Into::into),
        behind: told("behind", seq).map(|instance| Behind {
            instance: Some(instance.into()),
            upstream_us: Some(seq),
            bridged: Some("modern-legacy"),
            ..Behind::default()
        }),
    };
    storage::history::append(
        &mut connection,
        &mut Head::default(),
        (0..3_500).map(|seq| row(seq, "outcome")),
    )
    .unwrap();
    // The last one breaks a rule of the table.
    let spoilt = (4_000..6_500).map(|seq| row(seq, if seq == 6_499 { "nonsense" } else { "outcome" }));
    let error = storage::history::append(&mut connection, &mut Head::default(), spoilt).unwrap_err();
    assert!(matches!(storage.failed(&error), StorageError::Refused { .. }), "{error}");
    storage::history::append(&mut connection, &mut Head::default(), std::iter::empty()).unwrap();
    let since = std::time::SystemTime::UNIX_EPOCH;
    assert_eq!(storage::history::last_seq(&mut connection, "instance", since).unwrap(), Some(3_499));
    let rows = storage::history::show(&mut connection, "call").unwrap();
    let expected = |(seq, row): (i64, &Entry)| Entry {
        id: row.id,
        instance_id: "instance".to_owned(),
        seq,
        call_id: "call".to_owned(),
        round: 7,
        kind: "outcome".to_owned(),
        created_at: at,
        method: told("method", seq),
        plugin: told("plugin", seq),
        tool: told("tool", seq),
        caller: told("caller", seq),
        client: Some("nul\u{fffd}".to_owned()),
        session: told("session", seq),
        protocol_version: told("version", seq),
        status: Some("success".to_owned()),
        error_code: told("error", seq),
        duration_us: (seq % 3 == 0).then_some(seq),
        arguments: told("arguments", seq),
        result_bytes: (seq % 5 == 0).then_some(seq),
        request_id: told("request", seq),
        trace_id: told("trace", seq),
        detail: told("detail", seq),
        plugin_instance: told("behind", seq),
        queue_us: None,
        upstream_us: told("behind", seq).map(|_| seq),
        bytes_out: None,
        bytes_in: None,
        bridged: told("behind", seq).map(|_| "modern-legacy".to_owned()),
    };
    assert_eq!(rows.len(), 1_000, "a page of it, in the order that they came");
    assert_eq!(rows, (0..).zip(&rows).map(expected).collect::<Vec<_>>());
}

/// Set for the process that ends while it connects.
const ENDING: &str = "WAYGATE_TEST_ENDS_WHILE_CONNECTING";

#[test]
fn a_process_that_ends_while_it_connects_does_not_crash() {
    if let Ok(url) = std::env::var(ENDING) {
        let storage = at(&url).unwrap();
        for _ in 0..6 {
            let storage = storage.clone();
            std::thread::spawn(move || {
                loop {
                    drop(storage.connect());
                }
            });
        }
        let until = std::time::Instant::now() + Duration::from_millis(60);
        while std::time::Instant::now() < until {
            drop(storage.connect());
        }
        std::process::exit(0);
    }
    let Some(url) = postgres::schema_for("ends while connecting") else { return };
    let this = std::env::current_exe().unwrap();
    // Without care one in ten crashed.
    for _ in 0..40 {
        let mut ending = std::process::Command::new(&this);
        let name = "on_postgres::a_process_that_ends_while_it_connects_does_not_crash";
        ending.args(["--exact", name]).env(ENDING, &url);
        let ended = ending.output().unwrap();
        assert!(ended.status.success(), "{}", ended.status);
    }
}
