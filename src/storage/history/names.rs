//! Which names a pattern means, read off an index name by name: there are few, however many rows have them. Must not know what else is
//! asked of the rows.

use diesel::sql_types::{BigInt, Nullable, Text};
use diesel::{QueryResult, QueryableByName, RunQueryDsl as _, sql_query};

use super::super::DbConnection;
use super::calls::{ANONYMOUS, Dialect, Filter};

/// So many names are looked at.
const LOOKED_AT_MAX: i64 = 5_000;
/// A pattern that means more names than these means many rows, too, and a walk back in time meets them soon.
const MEANT_MAX: usize = 200;

/// A column with an index that begins with it.
#[derive(Debug, Clone, Copy)]
enum Column {
    Tool,
    Session,
    Caller,
}

impl Column {
    const ALL: [Self; 3] = [Self::Tool, Self::Session, Self::Caller];

    const fn name(self) -> &'static str {
        match self {
            Self::Tool => "tool",
            Self::Session => "session",
            Self::Caller => "caller",
        }
    }

    /// Which rows the index has, in its own words.
    const fn indexed(self) -> &'static str {
        match self {
            Self::Tool => "tool IS NOT NULL",
            Self::Session => "session IS NOT NULL",
            Self::Caller => "caller <> 'anonymous'",
        }
    }

    fn of(self, filter: &mut Filter) -> &mut Option<String> {
        match self {
            Self::Tool => &mut filter.tool,
            Self::Session => &mut filter.session,
            Self::Caller => &mut filter.caller,
        }
    }
}

/// The same filter once for each name that its first pattern means; none where a walk through the rows is as good.
pub(super) fn spell_out(connection: &mut DbConnection, filter: &Filter) -> QueryResult<Option<Vec<Filter>>> {
    let mut each = filter.clone();
    for column in Column::ALL {
        let Some(pattern) = column.of(&mut each).clone().filter(|text| text.contains('*')) else { continue };
        let Some(names) = meant(connection, column, &pattern)? else { return Ok(None) };
        let filters = names.into_iter().map(|name| {
            *column.of(&mut each) = Some(name);
            each.clone()
        });
        return Ok(Some(filters.collect()));
    }
    Ok(None)
}

#[derive(QueryableByName)]
struct Name {
    #[diesel(sql_type = Nullable<Text>)]
    name: Option<String>,
    #[diesel(sql_type = BigInt)]
    nth: i64,
}

/// The names that `pattern` means; none where those may be too many, or be one that no index has.
fn meant(connection: &mut DbConnection, column: Column, pattern: &str) -> QueryResult<Option<Vec<String>>> {
    let begin = pattern.split('*').next().unwrap_or_default();
    if matches!(column, Column::Caller) && ANONYMOUS.starts_with(begin) {
        return Ok(None);
    }
    let dialect = Dialect::of(connection);
    let (name, indexed) = (column.name(), column.indexed());
    let (operator, place) = (dialect.operator(), dialect.first_place());
    // From each name to the next one, by a look into the index.
    let query = format!(
        "WITH RECURSIVE names(name, nth) AS ( \
         SELECT (SELECT min({name}) FROM command_history WHERE {indexed}), CAST(1 AS BIGINT) \
         UNION ALL \
         SELECT (SELECT min({name}) FROM command_history WHERE {indexed} AND {name} > names.name), nth + 1 \
         FROM names WHERE names.name IS NOT NULL AND nth <= {LOOKED_AT_MAX}) \
         SELECT name, nth FROM names WHERE name {operator} {place} OR nth > {LOOKED_AT_MAX}"
    );
    let found: Vec<Name> = sql_query(query).bind::<Text, _>(dialect.pattern(pattern)).load(connection)?;
    if found.len() > MEANT_MAX || found.iter().any(|name| name.nth > LOOKED_AT_MAX) {
        return Ok(None);
    }
    Ok(Some(found.into_iter().filter_map(|name| name.name).collect()))
}
