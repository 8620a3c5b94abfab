//! Times of keys as people write them: how long from now, a day, or never. Must not know what time it is.

use std::time::{Duration, SystemTime};

use jiff::{Span, Timestamp, Zoned, civil};

/// How long a key lives that takes another's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewal {
    /// As long as that one was meant to, from now on.
    AsBefore,
    /// Until then; without a moment, for ever.
    Until(Option<SystemTime>),
}

/// Reads when a key ends: `90d`, `2026-12-31`, a moment with its zone, or `never`.
///
/// # Errors
/// A sentence that says what may be written, or that this is over.
pub fn end(text: &str, now: &Zoned) -> Result<Option<SystemTime>, String> {
    if text.eq_ignore_ascii_case("never") {
        return Ok(None);
    }
    let unreadable = || {
        format!(
            "{text:?} is no time at which a key ends; write 90d, 12h, 2026-12-31, 2026-12-31T18:00Z or never"
        )
    };
    let end = if let Ok(span) = text.parse::<Span>() {
        now.checked_add(span).map_err(|_| unreadable())?.timestamp()
    } else if let Ok(exact) = text.parse::<Timestamp>() {
        exact
    } else {
        let local = text.parse::<civil::DateTime>().map_err(|_| unreadable())?;
        local.to_zoned(now.time_zone().clone()).map_err(|_| unreadable())?.timestamp()
    };
    if end <= now.timestamp() {
        return Err(format!("a key that ends at {end:.0} has ended already; give a time to come, or never"));
    }
    Ok(Some(whole(end.into())))
}

/// Reads how long something lasts: `24h`, `7d`, `0`.
///
/// # Errors
/// A sentence that says what may be written.
pub fn until(text: &str, now: &Zoned) -> Result<SystemTime, String> {
    let text = if text == "0" { "0s" } else { text };
    let span = text.parse::<Span>().ok().filter(|span| !span.is_negative());
    let end = span.and_then(|span| now.checked_add(span).ok());
    let end = end.ok_or_else(|| format!("{text:?} is no duration; write 24h, 7d or 0"))?;
    Ok(whole(end.timestamp().into()))
}

/// Without the parts of a second, which no database and no person would keep.
pub fn whole(at: SystemTime) -> SystemTime {
    let seconds = at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

/// A moment as RFC 3339 in UTC.
pub fn shown(at: SystemTime) -> String {
    Timestamp::try_from(at).map_or_else(|_| String::new(), |at| format!("{at:.0}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Zoned {
        "2026-11-22T12:00:00+01:00[Europe/Berlin]".parse().unwrap()
    }

    #[test]
    fn an_end_may_be_written_as_people_do() {
        for (text, wanted) in [
            ("90d", "2027-02-20T11:00:00Z"),
            ("12h", "2026-11-22T23:00:00Z"),
            ("2026-12-31", "2026-12-30T23:00:00Z"),
            ("2026-12-31T18:00Z", "2026-12-31T18:00:00Z"),
            ("2026-12-31T18:00:00+02:00", "2026-12-31T16:00:00Z"),
        ] {
            assert_eq!(end(text, &now()).unwrap().map(shown).as_deref(), Some(wanted), "{text}");
        }
        assert_eq!(end("never", &now()).unwrap(), None);
        for bad in ["", "soon", "2026-11-22T10:00Z", "-5d", "90", "2026-13-01", "999999999y", "\u{1b}[31m"] {
            let why = end(bad, &now()).unwrap_err();
            assert!(!why.contains('\u{1b}'), "{why}");
        }
    }

    #[test]
    fn a_grace_is_a_duration_and_may_be_none() {
        assert_eq!(shown(until("24h", &now()).unwrap()), "2026-11-23T11:00:00Z");
        assert_eq!(shown(until("0", &now()).unwrap()), "2026-11-22T11:00:00Z");
        for bad in ["", "24", "-1h", "later"] {
            assert!(until(bad, &now()).is_err(), "{bad}");
        }
    }
}
