//! What rows take, and which are too many for so many bytes. Must not know what becomes of them.
//!
//! Counted is what stands in a row, as long as it is, the same on every database: what indexes and pages add differs, and room
//! that rows leave is seldom given back. To read all rows would take long where there are millions: they are walked from the
//! newest, some are read, and as many bytes again are passed over as if they were like these.

use diesel::dsl::sql;
use diesel::sql_types::{BigInt, Nullable};
use diesel::{ExpressionMethods as _, QueryDsl as _, QueryResult, RunQueryDsl as _};

use super::super::DbConnection;
use super::super::schema::command_history;

/// Rows that are read in one place.
const SAMPLE: u16 = 100;
/// Into so many stretches is divided what may stay; of each the newest rows are read, and all if they are no more than
/// [`SAMPLE`].
const STRETCHES: u64 = 256;
/// Where fewer than one in so many ids has a row, a sample spans a hole and tells nothing of what comes next: nothing is passed over.
const SPARSE: i128 = 4;

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

/// The newest row of those that are too many, if only so many bytes shall stay. Exact for up to some ten megabytes; beyond, it is
/// off by no more than one stretch, a 256th, and by how much the rows that are read differ from those between them.
///
/// # Errors
/// What the database says.
pub fn beyond(connection: &mut DbConnection, most_bytes: u64) -> QueryResult<Option<i64>> {
    let mut walk = Walk::of(most_bytes);
    let mut from = i64::MAX;
    loop {
        let rows: Vec<(i64, i64)> = command_history::table
            .filter(command_history::id.le(from))
            .order(command_history::id.desc())
            .limit(i64::from(SAMPLE))
            .select((command_history::id, sql::<BigInt>(row_bytes!())))
            .load(connection)?;
        match walk.step(&rows) {
            Step::From(next) => from = next,
            Step::Beyond(id) => return Ok(Some(id)),
            Step::End => return Ok(None),
        }
    }
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// Rows from this id on backwards.
    From(i64),
    /// This row and all that are older are too many.
    Beyond(i64),
    /// Nothing: all rows may stay.
    End,
}

/// A walk from the newest row backwards.
struct Walk {
    /// What a stretch holds.
    stretch: i128,
    /// What may still stay.
    left: i128,
}

impl Walk {
    fn of(most_bytes: u64) -> Self {
        Self { stretch: i128::from(most_bytes / STRETCHES), left: i128::from(most_bytes) }
    }

    /// Takes the rows that were read, each with its id and its bytes, the newest first.
    fn step(&mut self, rows: &[(i64, i64)]) -> Step {
        let mut read = 0;
        for (id, bytes) in rows {
            read += i128::from(*bytes);
            self.left -= i128::from(*bytes);
            if self.left < 0 {
                return Step::Beyond(*id);
            }
        }
        let (Some((newest, _)), Some((oldest, _))) = (rows.first(), rows.last()) else { return Step::End };
        if rows.len() < usize::from(SAMPLE) {
            return Step::End;
        }
        let (oldest, ids) = (i128::from(*oldest), i128::from(*newest) - i128::from(*oldest) + 1);
        let is_hole = ids > SPARSE * i128::from(SAMPLE);
        let rest = if is_hole { 0 } else { (self.stretch - read).max(0) };
        let ids_of = |bytes: i128| bytes * ids / read.max(1);
        if rest > self.left {
            return Step::Beyond(id_of(oldest - 1 - ids_of(self.left)));
        }
        self.left -= rest;
        Step::From(id_of(oldest - 1 - ids_of(rest)))
    }
}

/// Before the first id there is no row.
fn id_of(id: i128) -> i64 {
    i64::try_from(id).unwrap_or(i64::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What [`beyond`] finds among these rows, the oldest first, and how many of them it read.
    fn walked(rows: &[(i64, i64)], most_bytes: u64) -> (Option<i64>, usize) {
        let (mut walk, mut from, mut read) = (Walk::of(most_bytes), i64::MAX, 0);
        loop {
            let end = rows.partition_point(|(id, _)| *id <= from);
            let some: Vec<_> = rows[..end].iter().rev().take(usize::from(SAMPLE)).copied().collect();
            read += some.len();
            match walk.step(&some) {
                Step::From(next) => {
                    assert!(next < from, "it comes to an end");
                    from = next;
                }
                Step::Beyond(id) => return (Some(id), read),
                Step::End => return (None, read),
            }
        }
    }

    fn kept(rows: &[(i64, i64)], up_to: Option<i64>) -> u64 {
        let bytes: i64 =
            rows.iter().filter(|(id, _)| up_to.is_none_or(|up_to| *id > up_to)).map(|row| row.1).sum();
        u64::try_from(bytes).unwrap()
    }

    /// From 300 to 2,300 bytes, by no rule that a walk could follow, and the older half four times as large.
    fn uneven(count: i64, id: impl Fn(i64) -> i64) -> Vec<(i64, i64)> {
        let size =
            |number: i64| 300 + number.wrapping_mul(0x9E37_79B9_7F4A_7C15_u64 as i64).rem_euclid(2_001);
        (0..count).map(|number| (id(number), size(number) * if number < count / 2 { 4 } else { 1 })).collect()
    }

    #[test]
    fn what_is_small_is_counted_to_the_byte() {
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
            assert_eq!(walked(&rows, most).0, beyond, "{most}");
        }
        assert_eq!(walked(&[], 0).0, None);
        let rows = uneven(5_000, |number| number + 1);
        let exact = kept(&rows, Some(4_000));
        assert_eq!(walked(&rows, exact).0, Some(4_000));
        assert_eq!(walked(&rows, exact - 1).0, Some(4_001));
    }

    #[test]
    fn of_much_a_part_is_read_and_what_stays_is_right_within_two_percent() {
        let rows = uneven(400_000, |number| number + 1);
        let all = kept(&rows, None);
        for most in [all / 10, all / 3, all / 2, all - all / 20] {
            let (up_to, read) = walked(&rows, most);
            let stays = kept(&rows, up_to);
            assert!(stays.abs_diff(most) * 50 <= most, "{stays} of {most}");
            assert!(read <= 30_000, "{read}");
        }
        assert_eq!(walked(&rows, all + all / 50).0.filter(|id| *id > 0), None, "all of them may stay");
    }

    #[test]
    fn ids_that_no_row_has_cost_no_row_more_than_a_stretch() {
        let hole = 1 << 50;
        for (what, gaps) in [("one in three", 3), ("one in fifty", 50)] {
            let rows = uneven(200_000, |number| number * gaps);
            let most = kept(&rows, None) / 3;
            let stays = kept(&rows, walked(&rows, most).0);
            assert!(stays.abs_diff(most) * 50 <= most, "{what}: {stays} of {most}");
        }
        // Wherever in a sample or between two the hole is.
        for after in [199_990, 180_000, 150_123, 100_000] {
            let rows = uneven(200_000, |number| if number < after { number } else { number + hole });
            let most = kept(&rows, None) / 3;
            let stays = kept(&rows, walked(&rows, most).0);
            assert!(stays.abs_diff(most) * 40 <= most, "{after}: {stays} of {most}");
        }
    }
}
