//! What rows take, and which are too many for so many bytes. Must not know what becomes of them.
//!
//! Counted is what stands in a row, as long as it is, the same on every database: what indexes and pages add differs, and room
//! that rows leave is seldom given back. Nothing is guessed of rows that were not weighed: what is too much is deleted for good.

use diesel::dsl::sql;
use diesel::sql_types::{BigInt, Nullable};
use diesel::{ExpressionMethods as _, QueryDsl as _, QueryResult, RunQueryDsl as _};

use super::super::DbConnection;
use super::super::schema::command_history;

/// Rows that are weighed at once.
const PAGE: u16 = 5_000;

/// What stands in a row, in bytes: its numbers, its time and its hash, which are as long in every row, and its texts.
macro_rules! row_bytes {
    () => {
        "CAST(136 + octet_length(instance_id) + octet_length(call_id) + octet_length(kind) + COALESCE(octet_length(method), 0) \
         + COALESCE(octet_length(plugin), 0) + COALESCE(octet_length(tool), 0) + COALESCE(octet_length(caller), 0) \
         + COALESCE(octet_length(client), 0) + COALESCE(octet_length(session), 0) + COALESCE(octet_length(protocol_version), 0) \
         + COALESCE(octet_length(status), 0) + COALESCE(octet_length(error_code), 0) + COALESCE(octet_length(arguments), 0) \
         + COALESCE(octet_length(request_id), 0) + COALESCE(octet_length(trace_id), 0) + COALESCE(octet_length(detail), 0) \
         + COALESCE(octet_length(plugin_instance), 0) + COALESCE(octet_length(bridged), 0) AS BIGINT)"
    };
}

/// What all rows take together. Reads every one of them.
///
/// # Errors
/// What the database says.
pub fn of_all(connection: &mut DbConnection) -> QueryResult<u64> {
    let bytes = sql::<Nullable<BigInt>>(concat!("CAST(sum(", row_bytes!(), ") AS BIGINT)"));
    let bytes: Option<i64> = command_history::table.select(bytes).first(connection)?;
    Ok(bytes.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or_default())
}

/// The newest row of those that are too many, if only so many bytes shall stay. Weighs each that may stay.
///
/// # Errors
/// What the database says.
pub fn beyond(connection: &mut DbConnection, most_bytes: u64) -> QueryResult<Option<i64>> {
    let mut walk = Walk::of(most_bytes);
    loop {
        match walk.step(connection)? {
            Step::Further => {}
            Step::Beyond(id) => return Ok(Some(id)),
            Step::End => return Ok(None),
        }
    }
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// More rows: these may all stay.
    Further,
    /// Nothing: this row and all that are older are too many.
    Beyond(i64),
    /// Nothing: all rows may stay.
    End,
}

/// A walk from the newest row backwards.
#[derive(Debug, Clone, Copy)]
pub struct Walk {
    /// The newest row that was not weighed yet has this id, or a lower one.
    from: i64,
    /// Bytes that may still stay.
    left: i128,
}

impl Walk {
    /// One that ends where rows are too many for so many bytes.
    pub fn of(most_bytes: u64) -> Self {
        Self { from: i64::MAX, left: i128::from(most_bytes) }
    }

    /// Weighs some rows.
    ///
    /// # Errors
    /// What the database says.
    pub fn step(&mut self, connection: &mut DbConnection) -> QueryResult<Step> {
        let rows: Vec<(i64, i64)> = command_history::table
            .filter(command_history::id.le(self.from))
            .order(command_history::id.desc())
            .limit(i64::from(PAGE))
            .select((command_history::id, sql::<BigInt>(row_bytes!())))
            .load(connection)?;
        Ok(self.weigh(&rows))
    }

    /// Takes rows, each with its id and its bytes, the newest first.
    fn weigh(&mut self, rows: &[(i64, i64)]) -> Step {
        for (id, bytes) in rows {
            self.left -= i128::from(*bytes);
            if self.left < 0 {
                return Step::Beyond(*id);
            }
        }
        match rows.last().and_then(|(oldest, _)| oldest.checked_sub(1)) {
            Some(next) if rows.len() == usize::from(PAGE) => {
                self.from = next;
                Step::Further
            }
            _ => Step::End,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What [`beyond`] finds among these rows, the oldest first.
    fn walked(rows: &[(i64, i64)], most_bytes: u64) -> Option<i64> {
        let mut walk = Walk::of(most_bytes);
        loop {
            let end = rows.partition_point(|(id, _)| *id <= walk.from);
            let some: Vec<_> = rows[..end].iter().rev().take(usize::from(PAGE)).copied().collect();
            match walk.weigh(&some) {
                Step::Further => {}
                Step::Beyond(id) => return Some(id),
                Step::End => return None,
            }
        }
    }

    fn kept(rows: &[(i64, i64)], up_to: Option<i64>) -> u64 {
        let stays = rows.iter().filter(|(id, _)| up_to.is_none_or(|up_to| *id > up_to));
        u64::try_from(stays.map(|row| row.1).sum::<i64>()).unwrap()
    }

    #[test]
    fn the_newest_rows_stay_that_are_not_too_much() {
        let rows = [(3, 200), (4, 150), (9, 700), (10, 100)];
        for (most, beyond) in [
            (1_150, None),
            (1_149, Some(3)),
            (950, Some(3)),
            (949, Some(4)),
            (100, Some(9)),
            (99, Some(10)),
            (0, Some(10)),
        ] {
            assert_eq!(walked(&rows, most), beyond, "{most}");
        }
        assert_eq!(walked(&[], 0), None);
    }

    #[test]
    fn neither_rows_that_are_seldom_and_large_nor_ids_that_no_row_has_change_what_stays() {
        // One in a thousand of a megabyte, and holes of all widths between pages and within them.
        let size = |number: i64| if number % 1_000 == 7 { 1 << 20 } else { 300 + number % 2_001 };
        let id = |number: i64| number + (number / 700) * 10_000 + if number > 30_000 { 1 << 50 } else { 0 };
        let rows: Vec<_> = (0..40_000).map(|number| (id(number), size(number))).collect();
        for up_to in [5, 4_999, 20_000, 39_990] {
            let (last, most) = (rows[up_to].0, kept(&rows, Some(rows[up_to].0)));
            assert_eq!(walked(&rows, most), Some(last));
            assert_eq!(walked(&rows, most + u64::try_from(rows[up_to].1).unwrap() - 1), Some(last));
        }
        assert_eq!(walked(&rows, kept(&rows, None)), None);
        let pages: Vec<_> = (0..2 * i64::from(PAGE)).map(|number| (number, 1)).collect();
        assert_eq!(walked(&pages, pages.len() as u64), None, "it ends where a page does");
    }
}
