//! What the figures say about settings, each with its reason. Pure.

use serde::Serialize;

use super::super::words::{bytes, count, milliseconds, rate, short};
use super::Row;
use super::knee::{ENOUGH, Knee};

/// Who is let in waits about so long for those before.
const LINE_SECONDS: f64 = 1.0;
/// Of what a server can do, so much is left to be promised.
const PROMISED: f64 = 0.8;
/// The bounds of `limits.calls_max`, and its default.
const CALLS: (f64, f64) = (100.0, 1_000_000.0);
/// The default of `database.pool_size`.
const POOL: u32 = 4;

/// One setting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Advice {
    /// Its variable.
    pub setting: &'static str,
    /// What to set it to.
    pub value: String,
    /// Why.
    pub reason: String,
}

/// For the number of workers that is enough.
pub fn of(rows: &[Row], knee: &Knee, processors: usize, is_open: bool) -> Vec<Advice> {
    let Some(row) = rows.iter().find(|row| row.workers == knee.workers) else { return Vec::new() };
    let mut all = vec![workers(rows, row, knee, processors)];
    all.push(pool(row));
    if !is_open {
        all.extend(limits(row));
    }
    all.extend(queue(row));
    all
}

fn workers(rows: &[Row], row: &Row, knee: &Knee, processors: usize) -> Advice {
    let mut reason = format!("{} of them gave {} answers/s", row.workers, rate(row.per_second.median));
    match rows.iter().find(|best| best.workers == knee.best).filter(|best| best.workers != row.workers) {
        Some(best) => {
            reason += &format!(
                ", {} % of the most that any number gave ({} by {})",
                short(row.to_best * 100.0),
                rate(best.per_second.median),
                best.workers
            );
        }
        None => reason += ", the most of all that were tried",
    }
    if let Some(fewer) = rows.iter().rev().find(|fewer| fewer.workers < row.workers) {
        reason += &format!("; {} gave {} %", fewer.workers, short(fewer.to_best * 100.0));
    }
    if let Some(more) = rows.iter().find(|more| more.workers > row.workers) {
        reason += &format!("; {} gave {} %", more.workers, short(more.to_best * 100.0));
        let costs = row.cpu_us_per_request.zip(more.cpu_us_per_request);
        reason += &costs
            .map(|(own, other)| {
                format!(
                    " at {} us of processor a request in place of {}",
                    short(other.median),
                    short(own.median)
                )
            })
            .unwrap_or_default();
        let waits = row.p99_ms.zip(more.p99_ms);
        reason += &waits
            .map(|(own, other)| {
                format!(", p99 {} in place of {}", milliseconds(other.median), milliseconds(own.median))
            })
            .unwrap_or_default();
    }
    let most = u32::try_from(processors).unwrap_or(u32::MAX);
    if row.workers > most {
        reason += &format!(
            "; but this machine has {processors} processors, and more workers than that only take turns"
        );
    }
    Advice { setting: "WAYGATE_WORKERS", value: row.workers.min(most).to_string(), reason }
}

fn pool(row: &Row) -> Advice {
    let written = match (row.history_dropped, row.history_queue_max) {
        (0, 1..) => format!(
            "; at most {} of {} places of its queue were taken",
            count(row.history_queue_most),
            count(row.history_queue_max)
        ),
        _ => String::new(),
    };
    let reason = format!(
        "calls do not wait for the database: history is written on a connection of its own{written}. The pool is for who reads \
         history, one connection for each who does at once, however many workers there are"
    );
    Advice { setting: "WAYGATE_DB_POOL_SIZE", value: POOL.to_string(), reason }
}

/// Of what it can do: a line that is not longer than a second, and a promise that can be kept.
fn limits(row: &Row) -> Vec<Advice> {
    let most = row.per_second.median;
    if most <= 0.0 {
        return Vec::new();
    }
    let line = two_digits((most * LINE_SECONDS).clamp(CALLS.0, CALLS.1));
    let a_minute = two_digits((most * PROMISED * 60.0).min(100_000_000.0));
    vec![
        Advice {
            setting: "WAYGATE_LIMITS_CALLS_MAX",
            value: line.to_string(),
            reason: format!(
                "at {} answers/s who comes last of so many calls waits {} s; who comes after that is refused with 503 at once, \
                 in place of waiting longer. With tools that are slower than this one, fewer",
                rate(most),
                short(line as f64 / most)
            ),
        },
        Advice {
            setting: "WAYGATE_LIMITS_REQUESTS_PER_MINUTE",
            value: a_minute.to_string(),
            reason: format!(
                "{} % of what it did, if all callers together are to be kept below what it can do; without that, 0 is no limit",
                short(PROMISED * 100.0)
            ),
        },
    ]
}

fn queue(row: &Row) -> Option<Advice> {
    let is_tight = row.history_dropped > 0 || row.history_queue_most * 2 > row.history_queue_max;
    let larger = row.history_queue_max.checked_mul(4).filter(|larger| is_tight && *larger > 0)?;
    Some(Advice {
        setting: "WAYGATE_HISTORY_QUEUE_MAX",
        value: larger.min(1_000_000).to_string(),
        reason: format!(
            "{} of {} places were taken at the most, and {} records found none",
            count(row.history_queue_most),
            count(row.history_queue_max),
            count(row.history_dropped)
        ),
    })
}

/// Rounded down to two digits: more would claim to be exact.
fn two_digits(number: f64) -> u64 {
    let unit = 10_f64.powf((number.log10().floor() - 1.0).max(0.0));
    // Within the bounds of the settings: the cast loses a fraction alone.
    ((number / unit).floor() * unit) as u64
}

/// What whoever reads the figures should know before.
pub fn remarks(rows: &[Row], knee: &Knee, processors: usize, interrupted: bool) -> Vec<String> {
    let mut remarks = Vec::new();
    if interrupted {
        remarks.push("It was ended early: rounds that were not finished by all are left out.".to_owned());
    }
    remarks.extend(of_processors(rows, processors));
    if knee.is_at_end && (knee.workers as usize) < processors {
        remarks.push(format!(
            "No more than {} workers were tried, and they did the most; try more, up to the {processors} processors.",
            knee.workers
        ));
    }
    if !knee.is_clear {
        remarks.push(format!(
            "The rounds do not agree on which side of {} % each number lies; with more --rounds, or a longer --duration, it \
             becomes clear.",
            short(ENOUGH * 100.0)
        ));
    }
    let memory =
        rows.first().zip(rows.last()).and_then(|(first, last)| Some((first.rss_bytes?, last.rss_bytes?)));
    if let Some((first, last)) = memory.filter(|_| rows.len() > 1) {
        remarks.push(format!(
            "Memory: {} with {}, {} with {}.",
            bytes(first.median),
            rows.first().map(|row| so_many(row.workers)).unwrap_or_default(),
            bytes(last.median),
            rows.last().map(|row| so_many(row.workers)).unwrap_or_default()
        ));
    }
    remarks
}

/// Whether it was the servers that were measured, or what else was on the machine.
fn of_processors(rows: &[Row], processors: usize) -> Option<String> {
    let cores = |row: &Row| row.cores.map_or(0.0, |cores| cores.median);
    let row = rows.iter().max_by(|one, other| cores(one).total_cmp(&cores(other)))?;
    row.cores?;
    let (server, generator) = (cores(row), row.generator_cores.median);
    let all = processors as f64;
    if server + generator > 0.9 * all {
        return Some(format!(
            "Server and generator shared {processors} processors and used them up ({} and {} at {}): on a machine of its own the \
             server can do more, and more workers may be of use. No more than its processors are.",
            short(server),
            short(generator),
            so_many(row.workers)
        ));
    }
    (server + generator < 0.5 * all.min(f64::from(row.workers))).then(|| {
        format!(
            "Neither the server nor the generator had much to do ({} and {} of {processors} processors at {}): other programs kept \
             the machine busy, or the calls wait for something else than processors. Then this says little about workers; try a \
             machine that is idle, or more --connections.",
            short(server),
            short(generator),
            so_many(row.workers)
        )
    })
}

fn so_many(workers: u32) -> String {
    if workers == 1 { "1 worker".to_owned() } else { format!("{workers} workers") }
}

#[cfg(test)]
mod tests {
    use super::super::Middle;
    use super::*;

    fn row(workers: u32, per_second: f64, to_best: f64) -> Row {
        let middle = |median: f64| Middle { median, least: median, most: median };
        Row {
            workers,
            per_second: middle(per_second),
            p50_ms: Some(middle(1.0)),
            p99_ms: Some(middle(f64::from(workers))),
            cpu_us_per_request: Some(middle(20.0)),
            cores: Some(middle(1.0)),
            rss_bytes: Some(middle(20e6)),
            generator_cores: middle(0.5),
            to_best,
            failed: 0,
            history_dropped: 0,
            history_queue_most: 10,
            history_queue_max: 8192,
        }
    }

    fn knee(workers: u32, best: u32) -> Knee {
        Knee { workers, best, is_clear: true, is_at_end: false, to_best: Vec::new() }
    }

    #[test]
    fn each_setting_has_its_reason_in_figures() {
        let rows = [row(1, 24_000.0, 0.6), row(2, 39_500.0, 0.987), row(4, 40_000.0, 1.0)];
        let advice = of(&rows, &knee(2, 4), 8, false);
        let settings: Vec<(&str, &str)> =
            advice.iter().map(|one| (one.setting, one.value.as_str())).collect();
        let wanted = [
            ("WAYGATE_WORKERS", "2"),
            ("WAYGATE_DB_POOL_SIZE", "4"),
            ("WAYGATE_LIMITS_CALLS_MAX", "39000"),
            ("WAYGATE_LIMITS_REQUESTS_PER_MINUTE", "1800000"),
        ];
        assert_eq!(settings, wanted);
        for part in [
            "39,500 answers/s",
            "98.7 % of the most",
            "40,000 by 4",
            "1 gave 60 %",
            "p99 4 ms in place of 2 ms",
        ] {
            assert!(advice[0].reason.contains(part), "{part}: {}", advice[0].reason);
        }
        // More workers than processors only take turns.
        assert_eq!(of(&rows, &knee(4, 4), 2, false)[0].value, "2");
        // At a rate that was given, nobody knows what more it could do.
        assert_eq!(of(&rows, &knee(2, 4), 8, true).len(), 2);
    }

    #[test]
    fn a_queue_that_was_full_is_to_be_larger_and_a_shared_machine_is_told() {
        let full = Row { history_dropped: 7, history_queue_most: 8192, ..row(1, 1000.0, 1.0) };
        let advice = of(&[full], &knee(1, 1), 2, false);
        assert_eq!(
            advice.last().map(|one| (one.setting, one.value.as_str())),
            Some(("WAYGATE_HISTORY_QUEUE_MAX", "32768"))
        );
        let told =
            remarks(&[row(1, 1.0, 1.0)], &Knee { is_clear: false, is_at_end: true, ..knee(1, 1) }, 2, true);
        assert_eq!(told.len(), 3, "{told:?}");
        let shared = Row { cores: Some(Middle { median: 1.4, least: 1.4, most: 1.4 }), ..row(1, 1.0, 1.0) };
        assert!(remarks(&[shared], &knee(1, 1), 2, false)[0].contains("shared 2 processors"));
        let little = Middle { median: 0.1, least: 0.1, most: 0.1 };
        let idle = Row { cores: Some(little), generator_cores: little, ..row(4, 1.0, 1.0) };
        assert!(remarks(&[idle], &knee(4, 4), 2, false)[0].contains("much to do"));
    }

    #[test]
    fn numbers_are_rounded_to_what_they_can_claim() {
        assert_eq!(
            [39_500.0, 999.0, 100.0, 12.7, 1_896_000.0].map(two_digits),
            [39_000, 990, 100, 12, 1_800_000]
        );
    }
}
