//! Backups of PostgreSQL, and between the two databases: every column of every table comes along, both ways.

use std::collections::BTreeMap;
use std::path::Path;

use diesel::sql_types::Text;
use diesel::{Connection as _, PgConnection, QueryableByName, RunQueryDsl as _, SqliteConnection};

use crate::database::all_migrations_are_taken_back;
use crate::killed::{kill_everywhere, prepared};
use crate::places::Home;
use crate::support::postgres::schema_for;

#[derive(QueryableByName)]
struct Line {
    #[diesel(sql_type = Text)]
    line: String,
}

/// The columns of each table, in the order of their names.
type Columns = BTreeMap<String, Vec<(String, String)>>;

fn columns_of(sqlite: &mut SqliteConnection) -> Columns {
    let query = "SELECT known.name || ' ' || field.name || ' ' || lower(field.type) AS line \
                 FROM sqlite_schema AS known, pragma_table_info(known.name) AS field \
                 WHERE known.type = 'table' AND known.name NOT LIKE '__diesel%' AND known.name NOT LIKE 'sqlite%'";
    gathered(diesel::sql_query(query).load::<Line>(sqlite).unwrap())
}

fn gathered(lines: Vec<Line>) -> Columns {
    let mut columns = Columns::new();
    for Line { line } in lines {
        let mut words = line.splitn(3, ' ').map(str::to_owned);
        let (table, name, kind) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
        columns.entry(table).or_default().push((name, kind));
    }
    columns.values_mut().for_each(|columns| columns.sort());
    columns
}

fn open(path: &Path) -> SqliteConnection {
    SqliteConnection::establish(path.to_str().unwrap()).unwrap()
}

/// Three rows in every table, with a value of its own in every column; in the last, empty where that may be.
fn fill_every_column(home: &Home) {
    let mut sqlite = open(&home.database_file());
    for (table, columns) in columns_of(&mut sqlite) {
        let rows = if table == "generation" { 1 } else { 3 };
        home.sql(&format!("DELETE FROM {table}"));
        for row in 1..=rows {
            let value = |number: usize, name: &str, kind: &str| match (name, kind) {
                ("id", _) => (row * 5 - 4).to_string(),
                ("kind", _) if table == "ledger_checkpoints" => "'head'".to_owned(),
                ("kind", _) => "'outcome'".to_owned(),
                ("status", _) => "'failed'".to_owned(),
                (_, "timestamp") => {
                    format!("'2026-11-{:02} 21:45:40{}'", 1 + number % 28, ["", ".120", ".000120"][row - 1])
                }
                (_, "boolean") => (row % 2).to_string(),
                (_, "blob") => format!("x'00ff{row:02}{:02}'", number % 100),
                (_, "text") => format!("'{name} ''{row}'' {{\"a\":\"ä\n\\\\\"}} {{,}}'"),
                (_, "real" | "double") => format!("{row}.25"),
                _ => (9_000_000 * number as i64 + row as i64).to_string(),
            };
            let names: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
            let values: Vec<String> =
                columns.iter().enumerate().map(|(number, (name, kind))| value(number, name, kind)).collect();
            home.sql(&format!("INSERT INTO {table} ({}) VALUES ({})", names.join(", "), values.join(", ")));
        }
        if rows > 1 {
            let empty: Vec<Line> = diesel::sql_query(format!(
                "SELECT name AS line FROM pragma_table_info('{table}') WHERE \"notnull\" = 0 AND pk = 0"
            ))
            .load(&mut sqlite)
            .unwrap();
            for Line { line: name } in empty {
                home.sql(&format!(
                    "UPDATE {table} SET {name} = NULL WHERE rowid = (SELECT max(rowid) FROM {table})"
                ));
            }
        }
    }
}

/// Every value of a file, as SQLite writes it.
fn values(path: &Path) -> Vec<String> {
    let mut sqlite = open(path);
    let mut all = Vec::new();
    for (table, columns) in columns_of(&mut sqlite) {
        let quoted: Vec<String> =
            columns.iter().map(|(name, _)| format!("'{name}=' || quote({name})")).collect();
        let query = format!("SELECT {} AS line FROM {table} ORDER BY 1", quoted.join(" || ' ' || "));
        let lines: Vec<Line> = diesel::sql_query(query).load(&mut sqlite).unwrap();
        all.extend(lines.into_iter().map(|line| format!("{table}: {}", line.line)));
    }
    all
}

#[test]
fn the_two_databases_have_the_same_tables_and_columns() {
    let Some(url) = schema_for("the same tables") else { return };
    let (sqlite, postgres) = (Home::new(), Home::on(url.clone()));
    for home in [&sqlite, &postgres] {
        home.said(&["db", "migrate"]);
    }
    let query = "SELECT known.relname || ' ' || field.attname || ' x' AS line FROM pg_attribute AS field \
                 JOIN pg_class AS known ON known.oid = field.attrelid WHERE known.relnamespace = current_schema()::regnamespace \
                 AND known.relkind = 'r' AND field.attnum > 0 AND NOT field.attisdropped AND relname NOT LIKE '\\_\\_diesel%'";
    let found =
        gathered(diesel::sql_query(query).load::<Line>(&mut PgConnection::establish(&url).unwrap()).unwrap());
    let names = |columns: Columns| -> Vec<(String, Vec<String>)> {
        let of = |columns: Vec<(String, String)>| columns.into_iter().map(|(name, _)| name).collect();
        columns.into_iter().map(|(table, columns)| (table, of(columns))).collect()
    };
    assert_eq!(names(found), names(columns_of(&mut open(&sqlite.database_file()))));
}

#[test]
fn every_value_comes_from_sqlite_to_postgresql_and_back() {
    let Some(url) = schema_for("every value") else { return };
    let (sqlite, postgres) = (Home::new(), Home::on(url.clone()));
    sqlite.said(&["db", "migrate"]);
    fill_every_column(&sqlite);
    let wanted = values(&sqlite.database_file());
    assert!(wanted.len() > 10);
    let there = sqlite.backup();
    postgres.said(&["db", "migrate"]);
    let restored = postgres.json(&["backup", "restore", there.to_str().unwrap(), "--yes"]);
    let aside = restored["keptSchema"].as_str().unwrap();
    assert!(aside.starts_with("waygate_before_"), "{restored}");
    let made = postgres.json(&["backup", "create"]);
    assert_eq!(made["backend"], "postgres");
    let back = postgres.path().join("back");
    postgres.said(&["backup", "restore", "latest", "--into", back.to_str().unwrap()]);
    let mut brought = values(&back.join("data/waygate.db"));
    // That it was restored is told by a row of its own.
    brought.retain(|row| !row.contains("method='backup/restore'"));
    assert_eq!(brought, wanted);
    // Rows that were made up are no ledger that holds.
    let (code, why) = postgres.refused(&["backup", "drill"]);
    assert!(code == 1 && why.contains("its ledger does not hold"), "{code} {why}");
    // New rows are numbered behind those that came with their numbers.
    postgres.sql(
        "INSERT INTO command_history (instance_id, seq, call_id, kind, created_at) VALUES ('x', 1, 'x', 'outcome', now())",
    );
    let stats = postgres.json(&["db", "stats"]);
    // Three that came, that one, and what was done here: a restore and a backup.
    assert_eq!(
        (&stats["backend"], &stats["tables"]["command_history"]["rows"]),
        (&"postgres".into(), &6.into())
    );
    assert_eq!(postgres.json(&["db", "check"])["status"], "ok");
    postgres.said(&["db", "vacuum"]);
    let reset = postgres.json(&["db", "reset", "--yes"]);
    assert!(reset["kept"].as_str().unwrap().starts_with("waygate_before_"));
    let rows = postgres.json(&["db", "stats"])["tables"]["command_history"]["rows"].clone();
    assert_eq!(rows, 1, "nothing but that it was emptied");
    // Tables that are not those of its migrations are copied by halves nowhere.
    postgres.sql("ALTER TABLE sessions RENAME TO elsewhere");
    let (code, why) = postgres.refused(&["backup", "create"]);
    assert!(code == 74 && why.contains("db migrate up"), "{code} {why}");
    postgres.sql("ALTER TABLE elsewhere RENAME TO sessions");
    // An index that is not valid is found.
    postgres
        .sql("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'idx_instances_running'::regclass");
    let output = postgres.run(&["db", "check", "--json"]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("idx_instances_running"));
}

#[test]
fn migrations_of_postgresql_are_taken_back_one_after_the_other() {
    let Some(url) = schema_for("down and down") else { return };
    let home = Home::on(url);
    home.said(&["db", "migrate"]);
    home.fill_rows("a");
    let calls = home.calls();
    all_migrations_are_taken_back(&home);
    assert_eq!(home.calls(), calls);
}

#[test]
fn a_restore_to_postgresql_that_is_killed_leaves_the_old_state_or_the_new_one() {
    let Some(url) = schema_for("killed") else { return };
    let (home, archive, pass) = prepared(Home::on(url));
    kill_everywhere(&home, &archive, &["--passphrase-file", pass.to_str().unwrap()], &["db", "migrate"]);
}

#[test]
fn another_server_on_the_same_database_is_in_the_way() {
    let Some(url) = schema_for("in use") else { return };
    let home = Home::on(url);
    home.said(&["db", "migrate"]);
    home.backup();
    home.sql("INSERT INTO instances VALUES ('x', now() AT TIME ZONE 'UTC', now() AT TIME ZONE 'UTC', NULL, 'elsewhere', 77, '1')");
    let (code, why) = home.refused(&["backup", "restore", "latest", "--yes"]);
    assert!(code == 75 && why.contains("process 77 on elsewhere"), "{code} {why}");
}
