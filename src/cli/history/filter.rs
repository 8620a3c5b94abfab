//! What an operator asks for, as the filter that the storage knows: times, durations, names. Must not know the database.

use anyhow::{Context as _, anyhow};
use chrono::NaiveDateTime;
use clap::Args;
use jiff::{SignedDuration, Span, Timestamp, Zoned, civil};

use crate::cli::exit::Misuse;
use crate::storage::history::{Filter, Kind, Status};

/// Which calls.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Which calls")]
pub struct Which {
    /// From this time on: `15m`, `2h`, `7d` ago, `2026-11-22`, `2026-11-22T08:00` (local) or with a zone (`…Z`)
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub since: Option<String>,
    /// Before this time, written in the same ways
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub until: Option<String>,
    /// Only this tool, prompt or resource, by its published name or URI; `*` stands for anything
    #[arg(long, value_name = "NAME")]
    pub tool: Option<String>,
    /// Only this method, for instance `tools/call` or `resources/*`
    #[arg(long, value_name = "METHOD")]
    pub method: Option<String>,
    /// Only calls that stand so: pending, success, failed, timeout, cancelled, interrupted, input_required, gap
    #[arg(long, value_name = "STATUS")]
    pub status: Option<Status>,
    /// Only this client, by name or by `name/version`; `*` stands for anything
    #[arg(long, value_name = "CLIENT")]
    pub client: Option<String>,
    /// Only this session, by the handle that the history shows, not by its secret id
    #[arg(long, value_name = "HANDLE")]
    pub session: Option<String>,
    /// Only this caller, as the history shows it
    #[arg(long, value_name = "CALLER")]
    pub caller: Option<String>,
    /// Only calls that took longer: 250us, 500ms, 1.5s, 2m
    #[arg(long, value_name = "DURATION", value_parser = micros_of)]
    pub slower_than: Option<i64>,
    /// Only rows of this kind: intent, outcome, admin, gap
    #[arg(long, value_name = "KIND")]
    pub kind: Option<Kind>,
}

impl Which {
    /// The filter, without limit and place.
    ///
    /// # Errors
    /// Times between which nothing lies.
    pub fn filter(&self, now: &Zoned) -> anyhow::Result<Filter> {
        let time = |option: &'static str, text: &Option<String>| {
            text.as_deref()
                .map(|text| moment_of(text, now).with_context(|| format!("--{option} {text}")))
                .transpose()
        };
        let (since, until) = (time("since", &self.since)?, time("until", &self.until)?);
        if let (Some(since), Some(until)) = (since, until)
            && since >= until
        {
            return Err(Misuse("--since is not before --until, so nothing lies between; swap them").into());
        }
        Ok(Filter {
            since,
            until,
            tool: self.tool.clone(),
            method: self.method.clone(),
            status: self.status,
            kind: self.kind,
            client: self.client.clone(),
            session: self.session.clone(),
            caller: self.caller.clone(),
            slower_than_us: self.slower_than,
            ..Filter::default()
        })
    }
}

/// A time that can be read; when that is, is known once all of what was typed is.
fn time(text: &str) -> Result<String, String> {
    moment_of(text, &Zoned::now()).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

/// Reads a time as people write one: how long ago, a day, a day and a time, or an exact one.
fn moment_of(text: &str, now: &Zoned) -> anyhow::Result<NaiveDateTime> {
    let at = if let Ok(ago) = text.trim_end_matches(" ago").parse::<Span>() {
        now.checked_sub(ago.abs())?.timestamp()
    } else if let Ok(exact) = text.parse::<Timestamp>() {
        exact
    } else if let Ok(local) = text.parse::<civil::DateTime>() {
        local.to_zoned(now.time_zone().clone())?.timestamp()
    } else {
        return Err(anyhow!(
            "this is no time; write 15m, 2h or 7d (ago), 2026-11-22, 2026-11-22T08:00 or 2026-11-22T08:00Z"
        ));
    };
    moment(at).ok_or_else(|| anyhow!("this time is out of range; write one of this age"))
}

/// A time as the storage keeps it; none when no table could hold it.
pub fn moment(at: Timestamp) -> Option<NaiveDateTime> {
    chrono::DateTime::from_timestamp_micros(at.as_microsecond()).map(|at| at.naive_utc())
}

/// Reads a duration with its unit, in microseconds.
fn micros_of(text: &str) -> Result<i64, String> {
    let duration = text.parse::<SignedDuration>().ok().filter(|duration| !duration.is_negative());
    let micros = duration.and_then(|duration| i64::try_from(duration.as_micros()).ok());
    micros.ok_or_else(|| "this is no duration; write 250us, 500ms, 1.5s or 2m".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Zoned {
        "2026-11-22T12:00:00+01:00[Europe/Berlin]".parse().unwrap()
    }

    #[test]
    fn a_time_may_be_written_as_people_do() {
        for (text, expected) in [
            ("15m", "2026-11-22T10:45:00"),
            ("2h", "2026-11-22T09:00:00"),
            ("7d", "2026-11-15T11:00:00"),
            ("1 day ago", "2026-11-21T11:00:00"),
            ("2026-11-22", "2026-11-21T23:00:00"),
            ("2026-11-22 08:30", "2026-11-22T07:30:00"),
            ("2026-11-22T10:00Z", "2026-11-22T10:00:00"),
            ("2026-11-22T08:30:00Z", "2026-11-22T08:30:00"),
            ("2026-11-22T08:30:00+02:00", "2026-11-22T06:30:00"),
        ] {
            let moment = moment_of(text, &now()).unwrap();
            assert_eq!(moment.format("%Y-%m-%dT%H:%M:%S").to_string(), expected, "{text}");
        }
        for bad in ["", "yesterday", "2026-13-01", "5"] {
            assert!(moment_of(bad, &now()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_duration_needs_its_unit() {
        for (text, expected) in [("250us", 250), ("500ms", 500_000), ("1.5s", 1_500_000), ("2m", 120_000_000)]
        {
            assert_eq!(micros_of(text).unwrap(), expected, "{text}");
        }
        for bad in ["", "500", "-1s", "soon", "1s 1d ago of"] {
            assert!(micros_of(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn times_between_which_nothing_lies_are_misuse() {
        let swapped =
            Which { since: Some("1h".to_owned()), until: Some("2h".to_owned()), ..Which::default() };
        let why = swapped.filter(&now()).unwrap_err();
        assert!(why.is::<Misuse>() && why.to_string().contains("swap them"), "{why}");
    }
}
