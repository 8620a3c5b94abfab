//! `history stats`: counts and percentiles as tables and as a small chart. Must not know how they are counted.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::ExitCode;

use chrono::NaiveDateTime;
use jiff::Zoned;

use super::CONNECTION_WAIT;
use super::filter::{Which, moment};
use super::table::{local, shown};
use crate::cli::{Exit, output};
use crate::storage::Storage;
use crate::storage::history::stats::{Durations, Named, Stats, Tally};

/// Names that a person is shown, the most called first; JSON has all.
const NAMES_SHOWN: usize = 20;
/// Lines of the chart.
const BARS_MAX: usize = 48;
/// Characters of its longest bar.
const BAR_WIDTH: u64 = 40;

/// Counts, and shows. What is recorded from now on is left out, so that there is an end.
///
/// # Errors
/// What the database says.
pub fn run(storage: &Storage, which: &Which, now: &Zoned, json: bool) -> anyhow::Result<ExitCode> {
    let mut filter = which.filter(now)?;
    filter.until = filter.until.or(moment(now.timestamp()));
    let mut stats = Stats::default();
    loop {
        filter.after = storage.run(CONNECTION_WAIT, |connection| stats.count_page(connection, &filter))?;
        if filter.after.is_none() {
            break;
        }
    }
    if json {
        output::print_json(&serde_json::to_value(&stats)?)?;
    } else {
        output::print(&text(&stats))?;
    }
    Ok(Exit::Ok.into())
}

fn text(stats: &Stats) -> String {
    let (Some(first), Some(last)) = (stats.first, stats.last) else {
        return format!("no calls{}", beside(stats));
    };
    let mut text = format!("{} calls from {} to {}", stats.tally.calls, local(first), local(last));
    text.push_str(&beside(stats));
    let took = &stats.duration_us;
    let _infallible = write!(
        text,
        "\nerrors {}, took {} (p50), {} (p95), {} (p99), {} (longest)\n",
        share(&stats.tally),
        milliseconds(took.percentile(50)),
        milliseconds(took.percentile(95)),
        milliseconds(took.percentile(99)),
        milliseconds(took.longest()),
    );
    let statuses = stats.statuses.iter().map(|(status, calls)| vec![status.clone(), calls.to_string()]);
    text.push_str(&columns(&["STATUS", "CALLS"], statuses.collect()));
    text.push_str(&names(&stats.names));
    text.push_str(&callers(&stats.callers));
    text.push_str(&chart(&stats.hours));
    text
}

/// What was found beside calls.
fn beside(stats: &Stats) -> String {
    let mut text = String::new();
    for (count, what) in [(stats.gaps, "gaps where rows are missing"), (stats.acts, "acts of operators")] {
        if count > 0 {
            let _infallible = write!(text, "; {what}: {count}");
        }
    }
    text
}

fn names(names: &BTreeMap<String, Named>) -> String {
    let mut sorted: Vec<(&String, &Named)> = names.iter().collect();
    sorted.sort_by_key(|(_, named)| std::cmp::Reverse(named.tally.calls));
    let left = sorted.len().saturating_sub(NAMES_SHOWN);
    let line = |(name, named): (&String, &Named)| {
        let took = |percent| milliseconds(Durations::percentile(&named.duration_us, percent));
        let calls = named.tally.calls.to_string();
        vec![shown(name), calls, share(&named.tally), took(50), took(95), took(99)]
    };
    let lines = sorted.into_iter().take(NAMES_SHOWN).map(line).collect();
    let mut text = columns(&["NAME", "CALLS", "ERRORS", "P50", "P95", "P99"], lines);
    if left > 0 {
        let _infallible = writeln!(text, "and {left} more names; --json shows all");
    }
    text
}

fn callers(callers: &BTreeMap<String, Tally>) -> String {
    let mut sorted: Vec<(&String, &Tally)> = callers.iter().collect();
    sorted.sort_by_key(|(_, tally)| std::cmp::Reverse(tally.calls));
    let left = sorted.len().saturating_sub(NAMES_SHOWN);
    let line =
        |(caller, tally): (&String, &Tally)| vec![shown(caller), tally.calls.to_string(), share(tally)];
    let mut text =
        columns(&["CALLER", "CALLS", "ERRORS"], sorted.into_iter().take(NAMES_SHOWN).map(line).collect());
    if left > 0 {
        let _infallible = writeln!(text, "and {left} more callers; --json shows all");
    }
    text
}

/// A bar an hour, or a day when there are too many hours; empty ones too, since a silence says something.
fn chart(hours: &BTreeMap<NaiveDateTime, Tally>) -> String {
    let (Some((first, _)), Some((last, _))) = (hours.first_key_value(), hours.last_key_value()) else {
        return String::new();
    };
    let by_day = (*last - *first).num_hours() >= BARS_MAX as i64;
    let label = |at: NaiveDateTime| {
        let mut label = local(at);
        label.truncate(if by_day { "2026-11-22".len() } else { "2026-11-22 10:00".len() });
        label
    };
    let mut bars: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    let step = chrono::TimeDelta::hours(1);
    let steps = if by_day { 24 * BARS_MAX as i32 } else { BARS_MAX as i32 };
    // Backwards from the newest: of a long time, only its end is drawn.
    for at in (0..steps).map(|back| *last - step * back).take_while(|at| at >= first) {
        let bar = bars.entry(label(at)).or_default();
        if let Some(tally) = hours.get(&at) {
            *bar = (bar.0 + tally.calls, bar.1 + tally.errors);
        }
    }
    let most = bars.values().map(|(calls, _)| *calls).max().unwrap_or_default().max(1);
    let lines = bars.into_iter().map(|(label, (calls, errors))| {
        let bar = "█".repeat(usize::try_from((calls * BAR_WIDTH).div_ceil(most)).unwrap_or_default());
        vec![label, calls.to_string(), errors.to_string(), bar]
    });
    columns(&[if by_day { "DAY" } else { "HOUR" }, "CALLS", "ERRORS", ""], lines.collect())
}

fn share(tally: &Tally) -> String {
    tally.error_rate().map_or_else(|| "-".to_owned(), |rate| format!("{:.2} %", rate * 100.0))
}

fn milliseconds(us: Option<u64>) -> String {
    us.map_or_else(|| "-".to_owned(), |us| format!("{}.{:03} ms", us / 1000, us % 1000))
}

/// A table after an empty line; the first and the unnamed column to the left, numbers to the right.
fn columns(head: &[&str], lines: Vec<Vec<String>>) -> String {
    let head: Vec<String> = head.iter().map(|&name| name.to_owned()).collect();
    let is_left: Vec<bool> = head.iter().enumerate().map(|(at, name)| at == 0 || name.is_empty()).collect();
    let lines: Vec<Vec<String>> = std::iter::once(head).chain(lines).collect();
    let mut widths = vec![0; is_left.len()];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::from("\n");
    for line in &lines {
        let cells = line.iter().zip(&widths).zip(&is_left).map(|((cell, &width), &is_left)| {
            if is_left { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hours(counts: &[(i64, u64)]) -> BTreeMap<NaiveDateTime, Tally> {
        let at =
            |hour: i64| chrono::DateTime::from_timestamp(1_795_348_800 + hour * 3600, 0).unwrap().naive_utc();
        let tally = |calls| Tally { calls, ended: calls, errors: 1 };
        counts.iter().map(|(hour, calls)| (at(*hour), tally(*calls))).collect()
    }

    #[test]
    fn the_chart_has_a_line_an_hour_and_shows_silence() {
        let text = chart(&hours(&[(0, 10), (2, 40), (3, 1)]));
        let bars: Vec<usize> = text.lines().skip(2).map(|line| line.matches('█').count()).collect();
        assert_eq!(bars, [10, 0, 40, 1], "{text}");
        assert!(text.trim_start().starts_with("HOUR"));
        assert_eq!(chart(&BTreeMap::new()), "");
    }

    #[test]
    fn a_long_time_is_drawn_by_days_and_only_its_end() {
        let long: Vec<(i64, u64)> = (0..24 * 365).map(|hour| (hour, 1)).collect();
        let text = chart(&hours(&long));
        let lines: Vec<&str> = text.lines().skip(2).collect();
        assert!(text.trim_start().starts_with("DAY") && lines.len() <= BARS_MAX + 1, "{text}");
        assert!(lines.iter().all(|line| !line.contains(':')), "{text}");
    }

    #[test]
    fn nothing_is_said_in_numbers_of_nothing() {
        assert_eq!(text(&Stats::default()), "no calls");
        assert_eq!(text(&Stats { gaps: 2, ..Stats::default() }), "no calls; gaps where rows are missing: 2");
        assert_eq!((share(&Tally::default()), milliseconds(None)), ("-".to_owned(), "-".to_owned()));
    }

    #[test]
    fn of_many_callers_those_who_call_most_are_shown() {
        let tally = |calls| Tally { calls, ended: calls, errors: 0 };
        let many = (0..30).map(|number| (format!("key-{number:02}"), tally(number))).collect();
        let text = callers(&many);
        assert!(text.contains("and 10 more callers") && !text.contains("key-09"), "{text}");
        assert!(text.lines().nth(2).is_some_and(|line| line.starts_with("key-29")), "{text}");
    }

    #[test]
    fn of_many_names_the_most_called_are_shown() {
        let named = |calls| Named { tally: Tally { calls, ended: calls, errors: 0 }, ..Named::default() };
        let many = (0..30).map(|number| (format!("tool-{number:02}\u{1b}"), named(number))).collect();
        let text = names(&many);
        assert!(
            text.contains("and 10 more names") && !text.contains("tool-09") && !text.contains('\u{1b}'),
            "{text}"
        );
        assert!(text.lines().nth(2).is_some_and(|line| line.starts_with("tool-29")), "{text}");
    }
}
