//! How a database would answer a query, so that a test can see that an index does. Must not know any query.

use std::marker::PhantomData;

use diesel::backend::Backend;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
#[cfg(feature = "sqlite")]
use diesel::sql_types::Integer;
use diesel::sql_types::Text;
use diesel::{Connection, QueryResult, RunQueryDsl};

use super::super::DbConnection;

type Both = <DbConnection as Connection>::Backend;

/// A query with a word before it; what comes back are rows of the type `S`.
struct Explained<Q, S>(&'static str, Q, PhantomData<S>);

/// What it would do, step by step.
pub(super) fn of<Q>(connection: &mut DbConnection, query: Q) -> QueryResult<Vec<String>>
where
    Q: QueryFragment<Both>,
{
    match connection {
        // A step a row, with its place in a tree.
        #[cfg(feature = "sqlite")]
        DbConnection::Sqlite(_) => {
            type Step = (Integer, Integer, Integer, Text);
            let explained = Explained("EXPLAIN QUERY PLAN ", query, PhantomData::<Step>);
            let steps: Vec<(i32, i32, i32, String)> = explained.load(connection)?;
            Ok(steps.into_iter().map(|(.., step)| step).collect())
        }
        // A line a row.
        #[cfg(feature = "postgres")]
        DbConnection::Postgres(_) => Explained("EXPLAIN ", query, PhantomData::<Text>).load(connection),
    }
}

impl<Q, S> Query for Explained<Q, S> {
    type SqlType = S;
}

impl<Q, S> QueryId for Explained<Q, S> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<Q, S> RunQueryDsl<DbConnection> for Explained<Q, S> {}

impl<DB: Backend, Q: QueryFragment<DB>, S> QueryFragment<DB> for Explained<Q, S> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        out.unsafe_to_cache_prepared();
        out.push_sql(self.0);
        self.1.walk_ast(out)
    }
}
