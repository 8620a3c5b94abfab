//! Which tables and columns a database has, as it says itself, and rows of any table as texts. Must not know any table.

use std::collections::BTreeMap;

use diesel::backend::Backend;
use diesel::deserialize::{self, FromSql};
use diesel::row::{Field as _, NamedRow};
use diesel::sql_types::{Nullable, Text};
use diesel::{QueryResult, QueryableByName, RunQueryDsl as _};

/// The table that is Diesel's own.
pub(in crate::storage) const MIGRATIONS: &str = "__diesel_schema_migrations";

/// What a column holds, as far as the two databases write it differently.
#[cfg(feature = "sqlite")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::storage) enum Holds {
    /// Text, and numbers, which both read from text.
    Plain,
    /// A time.
    Time,
    /// Bytes.
    Bytes,
    /// True or false.
    Truth,
}

/// A column, in the order of its table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::storage) struct Column {
    pub(in crate::storage) name: String,
    /// As its database calls its type.
    pub(in crate::storage) kind: String,
}

/// Tables with their columns; Diesel's own is left out.
pub(in crate::storage) type Tables = BTreeMap<String, Vec<Column>>;

#[cfg(feature = "sqlite")]
impl Column {
    /// None for a type that nobody has taught this room.
    pub(in crate::storage) fn holds(&self) -> Option<Holds> {
        let kind = self.kind.to_ascii_lowercase();
        match kind.as_str() {
            "text" | "bigint" | "integer" | "smallint" | "double precision" | "double" | "real" => {
                Some(Holds::Plain)
            }
            "timestamp" | "timestamp without time zone" => Some(Holds::Time),
            "bytea" | "blob" => Some(Holds::Bytes),
            "boolean" => Some(Holds::Truth),
            _ => None,
        }
    }
}

/// A row of any table.
pub(in crate::storage) struct Texts(pub(in crate::storage) Vec<Option<String>>);

impl<DB: Backend> QueryableByName<DB> for Texts
where
    Option<String>: FromSql<Nullable<Text>, DB>,
{
    fn build<'a>(row: &impl NamedRow<'a, DB>) -> deserialize::Result<Self> {
        let field = |at: usize| {
            let field = diesel::row::Row::get(row, at).ok_or("a row has fewer fields than it says")?;
            <Option<String> as FromSql<Nullable<Text>, DB>>::from_nullable_sql(field.value())
        };
        (0..row.field_count()).map(field).collect::<deserialize::Result<_>>().map(Self)
    }
}

impl Texts {
    /// Takes out the text of a field; empty where there is none.
    pub(in crate::storage) fn take(&mut self, at: usize) -> String {
        self.0.get_mut(at).and_then(Option::take).unwrap_or_default()
    }
}

/// The tables of a SQLite file. What SQLite keeps for itself is not among them.
#[cfg(feature = "sqlite")]
pub(in crate::storage) fn of_sqlite(sqlite: &mut diesel::SqliteConnection) -> QueryResult<Tables> {
    let query = "SELECT known.name, field.name, field.type FROM sqlite_schema AS known, pragma_table_info(known.name) AS field \
                 WHERE known.type = 'table' AND known.name NOT LIKE 'sqlite~_%' ESCAPE '~' ORDER BY known.name, field.cid";
    diesel::sql_query(query).load(sqlite).map(gathered)
}

/// The tables of the schema that PostgreSQL makes new ones in.
#[cfg(feature = "postgres")]
pub(in crate::storage) fn of_postgres(postgres: &mut diesel::PgConnection) -> QueryResult<Tables> {
    let query = "SELECT known.relname::text, field.attname::text, format_type(field.atttypid, NULL)::text \
                 FROM pg_attribute AS field JOIN pg_class AS known ON known.oid = field.attrelid \
                 WHERE known.relnamespace = to_regnamespace(quote_ident(current_schema())) AND known.relkind IN ('r', 'p') \
                 AND field.attnum > 0 AND NOT field.attisdropped ORDER BY known.relname, field.attnum";
    diesel::sql_query(query).load(postgres).map(gathered)
}

fn gathered(rows: Vec<Texts>) -> Tables {
    let mut tables = Tables::new();
    for mut row in rows {
        let (table, name, kind) = (row.take(0), row.take(1), row.take(2));
        if table != MIGRATIONS {
            tables.entry(table).or_default().push(Column { name, kind });
        }
    }
    tables
}

/// What of `wanted` is not in `found`, or is more there, table by table; tables that only `found` has do not count.
#[cfg(feature = "sqlite")]
pub(in crate::storage) fn difference(wanted: &Tables, found: &Tables) -> Option<String> {
    wanted.iter().find_map(|(table, columns)| {
        let Some(known) = found.get(table) else { return Some(format!("there is no table {table}")) };
        let has = |columns: &[Column], name: &str| columns.iter().any(|column| column.name == name);
        let missing = columns.iter().find(|column| !has(known, &column.name));
        let strange = known.iter().find(|column| !has(columns, &column.name));
        let unknown = columns.iter().chain(known).find(|column| column.holds().is_none());
        missing
            .map(|column| format!("{table} has no column {}", column.name))
            .or_else(|| strange.map(|column| format!("{table} has a column {} too many", column.name)))
            .or_else(|| {
                unknown.map(|column| format!("{table}.{} is of the type {}", column.name, column.kind))
            })
    })
}

/// A name in a statement.
pub(in crate::storage) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
#[cfg(feature = "sqlite")]
mod tests {
    use super::*;

    fn tables(text: &[(&str, &[&str])]) -> Tables {
        let column = |name: &&str| {
            let (name, kind) = name.split_once(' ').unwrap_or((name, "TEXT"));
            Column { name: name.to_owned(), kind: kind.to_owned() }
        };
        text.iter()
            .map(|(table, columns)| ((*table).to_owned(), columns.iter().map(column).collect()))
            .collect()
    }

    #[test]
    fn a_table_or_column_that_would_be_forgotten_is_told() {
        let wanted = tables(&[("a", &["x", "y BIGINT"]), ("b", &["z"])]);
        assert_eq!(difference(&wanted, &wanted), None);
        let others = tables(&[("a", &["y", "x"]), ("b", &["z"]), ("of_another", &["q"])]);
        assert_eq!(difference(&wanted, &others), None, "order is no matter, nor are tables of others");
        for (found, says) in [
            (tables(&[("a", &["x", "y"])]), "no table b"),
            (tables(&[("a", &["x"]), ("b", &["z"])]), "a has no column y"),
            (tables(&[("a", &["x", "y", "new"]), ("b", &["z"])]), "a has a column new too many"),
            (tables(&[("a", &["x", "y"]), ("b", &["z jsonb"])]), "b.z is of the type jsonb"),
        ] {
            let told = difference(&wanted, &found).unwrap();
            assert!(told.contains(says), "{told}");
        }
    }
}
