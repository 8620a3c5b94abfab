//! Calls and rows as people read them. Must not know where they come from.

use std::fmt::Write as _;

use chrono::NaiveDateTime;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::storage::history::{Call, Entry, Page};
use crate::telemetry::letters::on_one_line;

/// A page of calls with its heading, and where older ones begin.
pub fn page(page: &Page) -> String {
    let Page { calls, next } = page;
    if calls.is_empty() {
        return "no calls\n".to_owned();
    }
    let mut text = Table::default().with_heading(calls.iter());
    if let Some(next) = next {
        text.push_str(&format!("older calls: --before {next}\n"));
    }
    text
}

/// A table that is written piece by piece: its columns only ever grow.
#[derive(Debug, Default)]
pub struct Table {
    widths: [usize; 7],
}

impl Table {
    /// The heading and these calls.
    pub fn with_heading<'a>(&mut self, calls: impl Iterator<Item = &'a Call>) -> String {
        let head = ["TIME", "STATUS", "TOOK", "METHOD", "NAME", "CLIENT", "CALL"].map(str::to_owned);
        self.text(std::iter::once(head).chain(calls.map(line)).collect())
    }

    /// These calls, as wide as those before.
    pub fn more<'a>(&mut self, calls: impl Iterator<Item = &'a Call>) -> String {
        self.text(calls.map(line).collect())
    }

    fn text(&mut self, lines: Vec<[String; 7]>) -> String {
        for line in &lines {
            for (width, cell) in self.widths.iter_mut().zip(line) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut text = String::new();
        for line in &lines {
            let cells: Vec<String> =
                line.iter().zip(self.widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            text.push_str(cells.join("  ").trim_end());
            text.push('\n');
        }
        text
    }
}

/// A stored time in local time, as the log writes it.
pub fn local(at: NaiveDateTime) -> String {
    let at = Timestamp::from_microsecond(at.and_utc().timestamp_micros()).unwrap_or_default();
    at.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

fn line(call: &Call) -> [String; 7] {
    let took = call.duration_us.map_or_else(String::new, |us| format!("{}.{:03} ms", us / 1000, us % 1000));
    let status = match &call.error_code {
        Some(code) => format!("{} ({})", call.status, shown(code)),
        None => call.status.clone(),
    };
    let cell = |text: &Option<String>| text.as_deref().map(shown).unwrap_or_default();
    [
        local(call.created_at),
        status,
        took,
        cell(&call.method),
        cell(&call.tool),
        cell(&call.client),
        shown(&call.call_id),
    ]
}

/// What clients say must not move the operator's cursor or pass for another line.
pub fn shown(text: &str) -> String {
    on_one_line(text)
}

/// Every column of a row that says something.
pub fn sheet(row: &Entry) -> String {
    let number = |value: Option<i64>, unit: &str| value.map(|value| format!("{value} {unit}"));
    let fields = [
        ("time", Some(local(row.created_at))),
        ("call", Some(row.call_id.clone())),
        ("round", Some(row.round.to_string())),
        ("status", row.status.clone()),
        ("error", row.error_code.clone()),
        ("took", number(row.duration_us, "us")),
        ("method", row.method.clone()),
        ("plugin", row.plugin.clone()),
        ("name", row.tool.clone()),
        ("arguments", row.arguments.clone()),
        ("result", number(row.result_bytes, "bytes")),
        ("client", row.client.clone()),
        ("session", row.session.clone()),
        ("caller", row.caller.clone()),
        ("protocol", row.protocol_version.clone()),
        ("request", row.request_id.clone()),
        ("trace", row.trace_id.clone()),
        ("instance", row.plugin_instance.clone()),
        ("queued", number(row.queue_us, "us")),
        ("upstream", number(row.upstream_us, "us")),
        ("sent", number(row.bytes_out, "bytes")),
        ("received", number(row.bytes_in, "bytes")),
        ("bridged", row.bridged.clone()),
        ("detail", row.detail.clone()),
        ("written by", Some(format!("{} (row {})", row.instance_id, row.seq))),
    ];
    let mut text = format!("{}\n", row.kind);
    for (name, value) in fields {
        if let Some(value) = value {
            // Writing to a string cannot fail.
            let _infallible = writeln!(text, "  {name:<10}  {}", shown(&value));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_cannot_write_on_the_operators_screen() {
        assert_eq!(shown("evil\u{1b}[2J\r\nname\u{9b}"), r"evil\u{1b}[2J\r\nname\u{9b}");
        assert_eq!(shown("\u{202e}lmth"), r"\u{202e}lmth");
        assert_eq!(shown("großer Name"), "großer Name");
    }
}
