//! Counts and percentiles over many calls, read in pages and kept in little memory. Must not know how they are shown.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDateTime};
use diesel::dsl::sql;
use diesel::result::Error;
use diesel::sql_types::{Bool, Nullable, Text};
use diesel::{
    BoolExpressionMethods as _, ExpressionMethods as _, QueryDsl as _, QueryResult, Queryable,
    RunQueryDsl as _, Selectable, SelectableHelper as _,
};
use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};

use super::super::DbConnection;
use super::super::schema::command_history_calls;
use super::calls::{ANONYMOUS, Cursor, Dialect, Filter, SLOW_US, is_rare, said, spelled, wanted};
use super::{Kind, Status, rfc3339};

/// Calls of one page: few enough that no statement takes long and no writer waits for the file to be tidied.
const PAGE: i64 = 10_000;
/// Names that are told apart at most; clients choose the URIs that they ask for.
const NAMES_MAX: usize = 1_000;
/// What calls under all further names are counted by.
pub const OTHER_NAMES: &str = "(other names)";
/// Steps between a duration and its double, as a power of two: 64, so that no percentile is off by more than 1 %.
const STEPS_BITS: u32 = 6;
const HOUR_SECONDS: i64 = 3_600;

/// What is read of a call.
#[derive(Debug, Queryable, Selectable)]
#[diesel(table_name = command_history_calls)]
struct Told {
    id: i64,
    kind: String,
    created_at: NaiveDateTime,
    method: Option<String>,
    tool: Option<String>,
    caller: Option<String>,
    status: String,
    duration_us: Option<i64>,
}

/// How long calls took, in buckets that grow with what they hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Durations {
    buckets: Vec<u64>,
    count: u64,
    longest_us: u64,
}

impl Durations {
    fn add(&mut self, us: u64) {
        let bucket = bucket_of(us);
        if self.buckets.len() <= bucket {
            self.buckets.resize(bucket + 1, 0);
        }
        if let Some(count) = self.buckets.get_mut(bucket) {
            *count += 1;
        }
        self.count += 1;
        self.longest_us = self.longest_us.max(us);
    }

    /// How long at least so many of a hundred calls took at most, in microseconds; none while there are no calls.
    pub fn percentile(&self, percent: u64) -> Option<u64> {
        let rank = (self.count * percent).div_ceil(100).max(1);
        let mut seen = 0;
        let bucket = self.buckets.iter().position(|count| {
            seen += count;
            seen >= rank
        })?;
        Some(middle_of(bucket).min(self.longest_us))
    }

    /// The longest, in microseconds.
    pub fn longest(&self) -> Option<u64> {
        (self.count > 0).then_some(self.longest_us)
    }
}

impl Serialize for Durations {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(4))?;
        for (name, percent) in [("p50", 50), ("p95", 95), ("p99", 99)] {
            map.serialize_entry(name, &self.percentile(percent))?;
        }
        map.serialize_entry("max", &self.longest())?;
        map.end()
    }
}

/// Up to 127 us each has its own; above, each doubling has as many buckets as the one before.
fn bucket_of(us: u64) -> usize {
    let doublings = us.checked_ilog2().unwrap_or_default().saturating_sub(STEPS_BITS);
    let bucket = (u64::from(doublings) << STEPS_BITS) + (us >> doublings);
    usize::try_from(bucket).unwrap_or(usize::MAX)
}

/// What stands for all that is in a bucket.
fn middle_of(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let doublings = (bucket >> STEPS_BITS).saturating_sub(1);
    let low = (bucket - (doublings << STEPS_BITS)) << doublings;
    low + (1_u64 << doublings) / 2
}

/// What is counted of some calls.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// All of them.
    pub calls: u64,
    /// Those that ended well, badly or cut off; what waits has not.
    pub ended: u64,
    /// Of these: failed, timed out or interrupted. Who gives a call up makes no error.
    pub errors: u64,
}

impl Tally {
    fn add(&mut self, status: &str) {
        let [is_error, is_other_end] = [
            [Status::Failed, Status::Timeout, Status::Interrupted].map(Status::name).contains(&status),
            [Status::Success, Status::Cancelled].map(Status::name).contains(&status),
        ];
        self.calls += 1;
        self.ended += u64::from(is_error || is_other_end);
        self.errors += u64::from(is_error);
    }

    /// Errors among what ended, from 0 to 1; none while nothing ended.
    pub fn error_rate(&self) -> Option<f64> {
        (self.ended > 0).then(|| self.errors as f64 / self.ended as f64)
    }
}

/// The calls under one name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Named {
    /// How many.
    #[serde(flatten)]
    pub tally: Tally,
    /// How long they took.
    pub duration_us: Durations,
}

/// All that is counted.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Stats {
    /// How many.
    #[serde(flatten)]
    pub tally: Tally,
    /// Errors among what ended.
    pub error_rate: Option<f64>,
    /// How long they took.
    pub duration_us: Durations,
    /// The oldest, UTC.
    #[serde(serialize_with = "maybe_rfc3339")]
    pub first: Option<NaiveDateTime>,
    /// The newest, UTC.
    #[serde(serialize_with = "maybe_rfc3339")]
    pub last: Option<NaiveDateTime>,
    /// By how they stand.
    pub statuses: BTreeMap<String, u64>,
    /// By tool, prompt or URI; calls without one stand under their method.
    pub names: BTreeMap<String, Named>,
    /// By who called.
    pub callers: BTreeMap<String, Tally>,
    /// By the hour in which they were written, told by its beginning in UTC.
    #[serde(serialize_with = "by_hour")]
    pub hours: BTreeMap<NaiveDateTime, Tally>,
    /// Places where rows are missing.
    pub gaps: u64,
    /// Acts of operators, which are no calls.
    pub acts: u64,
}

impl Stats {
    /// Counts the calls of one page, the oldest first. Gives the place where the next page begins, to be put into the filter's
    /// `after`; none at the end. Since no statement spans pages, none holds up a writer, and none takes long.
    ///
    /// # Errors
    /// What the database says; then nothing of the page was counted.
    pub fn count_page(
        &mut self,
        connection: &mut DbConnection,
        filter: &Filter,
    ) -> QueryResult<Option<Cursor>> {
        use command_history_calls::{created_at, id};
        let page: Vec<Told> = wanted!(command_history_calls, filter, Dialect::of(connection))
            .select(Told::as_select())
            .order((created_at.asc(), id.asc()))
            .limit(PAGE)
            .load(connection)?;
        let place = |told: &Told| Cursor { created_at: told.created_at, id: told.id };
        // A time that is written otherwise than we write it sorts otherwise than it reads: the walk would not end.
        if let Some(stuck) =
            page.first().filter(|first| filter.after.is_some_and(|after| after >= place(first)))
        {
            let why = format!(
                "the time of record {} of the history was written by somebody else, so that its records have no order; write it as those of the others, or restore a backup",
                stuck.id
            );
            return Err(Error::DeserializationError(why.into()));
        }
        let last = page.last().map(place);
        page.into_iter().for_each(|told| self.add(told));
        Ok(last)
    }

    fn add(&mut self, told: Told) {
        match told.kind.as_str() {
            kind if kind == Kind::Gap.name() => return self.gaps += 1,
            kind if kind == Kind::Admin.name() => return self.acts += 1,
            _ => {}
        }
        self.tally.add(&told.status);
        self.error_rate = self.tally.error_rate();
        self.first = self.first.or(Some(told.created_at));
        self.last = Some(told.created_at);
        self.hours.entry(hour_of(told.created_at)).or_default().add(&told.status);
        if let Some(caller) = told.caller {
            within_limits(&mut self.callers, caller).add(&told.status);
        }
        let named = within_limits(&mut self.names, told.tool.or(told.method).unwrap_or_default());
        named.tally.add(&told.status);
        if let Some(us) = told.duration_us {
            let us = u64::try_from(us).unwrap_or_default();
            named.duration_us.add(us);
            self.duration_us.add(us);
        }
        *self.statuses.entry(told.status).or_default() += 1;
    }
}

/// What is counted under a name, or under all that are too many.
fn within_limits<T: Default>(counted: &mut BTreeMap<String, T>, name: String) -> &mut T {
    let is_known = counted.len() < NAMES_MAX || counted.contains_key(&name);
    counted.entry(if is_known { name } else { OTHER_NAMES.to_owned() }).or_default()
}

fn hour_of(at: NaiveDateTime) -> NaiveDateTime {
    let seconds = at.and_utc().timestamp();
    let begin = seconds - seconds.rem_euclid(HOUR_SECONDS);
    DateTime::from_timestamp(begin, 0).unwrap_or_default().naive_utc()
}

fn maybe_rfc3339<S: Serializer>(at: &Option<NaiveDateTime>, serializer: S) -> Result<S::Ok, S::Error> {
    match at {
        Some(at) => rfc3339(at, serializer),
        None => serializer.serialize_none(),
    }
}

fn by_hour<S: Serializer>(hours: &BTreeMap<NaiveDateTime, Tally>, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Hour<'a> {
        #[serde(serialize_with = "rfc3339")]
        from: NaiveDateTime,
        #[serde(flatten)]
        tally: &'a Tally,
    }
    serializer.collect_seq(hours.iter().map(|(from, tally)| Hour { from: *from, tally }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(second: i64, tool: &str, status: Status, us: i64) -> Told {
        Told {
            id: second,
            kind: "outcome".to_owned(),
            created_at: DateTime::from_timestamp(second, 0).unwrap().naive_utc(),
            method: Some("tools/call".to_owned()),
            tool: Some(tool.to_owned()).filter(|tool| !tool.is_empty()),
            caller: Some("local".to_owned()),
            status: status.name().to_owned(),
            duration_us: Some(us),
        }
    }

    #[test]
    fn a_percentile_is_off_by_no_more_than_one_percent() {
        assert_eq!(Durations::default().percentile(50), None);
        for scale in [1, 37, 1_000, 999_983, 1 << 40] {
            let mut durations = Durations::default();
            (1..=1_000).rev().for_each(|number| durations.add(number * scale));
            for percent in [1, 50, 95, 99, 100] {
                let (exact, found) = (percent * 10 * scale, durations.percentile(percent).unwrap());
                assert!(found.abs_diff(exact) * 100 <= exact, "p{percent} of {scale}: {found}, not {exact}");
            }
            assert_eq!(durations.longest(), Some(1_000 * scale));
        }
    }

    #[test]
    fn buckets_follow_one_another_to_the_end_of_numbers() {
        for us in (0..100_000).chain([u64::MAX / 3, u64::MAX - 1]) {
            assert!(matches!(bucket_of(us + 1) - bucket_of(us), 0 | 1), "{us}");
        }
        assert!(bucket_of(u64::MAX) < 4_000, "few enough to be kept for each name");
        let mut durations = Durations::default();
        durations.add(u64::MAX);
        assert!(durations.percentile(50) > Some(u64::MAX / 100 * 99));
    }

    #[test]
    fn errors_are_told_from_what_was_given_up_and_from_what_waits() {
        let mut stats = Stats::default();
        for status in Status::ALL.into_iter().filter(|status| *status != Status::Gap) {
            stats.add(told(10, "a", status, 5));
        }
        assert_eq!(stats.tally, Tally { calls: 7, ended: 5, errors: 3 });
        assert_eq!(stats.tally.error_rate(), Some(0.6));
        assert_eq!(stats.error_rate, Some(0.6), "what `--json` shows");
        assert_eq!(Tally::default().error_rate(), None);
        stats.add(Told { kind: "gap".to_owned(), ..told(11, "", Status::Gap, 0) });
        stats.add(Told { kind: "admin".to_owned(), ..told(12, "", Status::Success, 0) });
        assert_eq!((stats.tally.calls, stats.gaps, stats.acts), (7, 1, 1));
    }

    #[test]
    fn calls_are_told_apart_by_name_and_by_hour_within_limits() {
        let mut stats = Stats::default();
        stats.add(told(3_599, "", Status::Success, 1));
        for number in 0..1_500 {
            stats.add(told(3_600, &format!("files:///{number}"), Status::Success, 1));
        }
        assert_eq!(stats.names.get("tools/call").map(|named| named.tally.calls), Some(1));
        assert_eq!(stats.names.get(OTHER_NAMES).map(|named| named.tally.calls), Some(501));
        stats.add(Told { caller: Some("key-a".to_owned()), ..told(3_600, "a", Status::Failed, 1) });
        assert_eq!(stats.callers.get("local").map(|tally| (tally.calls, tally.errors)), Some((1_501, 0)));
        assert_eq!(stats.callers.get("key-a").map(|tally| (tally.calls, tally.errors)), Some((1, 1)));
        let hours: Vec<u64> = stats.hours.values().map(|tally| tally.calls).collect();
        assert_eq!(hours, [1, 1_501]);
    }
}
