//! Rows written one by one, as JSON or as CSV, so that any number of them fits. Must not know what a row means.

use std::borrow::Cow;
use std::io::{self, ErrorKind, StdoutLock, Write};

use serde::Serialize;
use serde_json::Value;

use super::output;
use crate::telemetry::letters::{harmless_json, on_one_line};

/// How a row becomes a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// One object a line.
    Json,
    /// RFC 4180, with the names of the columns first.
    Csv,
}

/// Where the lines go.
enum Sink<W: Write> {
    Json(W),
    Csv(Box<csv::Writer<W>>),
}

/// A writer of rows that are serialized with the members `columns`.
pub struct Lines<W: Write> {
    sink: Sink<W>,
    columns: &'static [&'static str],
    /// Whether the names of the columns still have to be written.
    is_headless: bool,
    /// Whether they are written to a terminal, which text of others must not command.
    is_seen: bool,
}

impl Lines<StdoutLock<'static>> {
    pub fn on_stdout(shape: Shape, columns: &'static [&'static str]) -> Self {
        Self::new(io::stdout().lock(), shape, columns).seen(output::is_terminal())
    }
}

impl<W: Write> Lines<W> {
    pub fn new(out: W, shape: Shape, columns: &'static [&'static str]) -> Self {
        let sink = match shape {
            Shape::Json => Sink::Json(out),
            Shape::Csv => {
                let writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(out);
                Sink::Csv(Box::new(writer))
            }
        };
        Self { sink, columns, is_headless: shape == Shape::Csv, is_seen: false }
    }

    /// The same, written to a terminal or not.
    pub fn seen(self, is_seen: bool) -> Self {
        Self { is_seen, ..self }
    }

    /// Writes some rows, and sees to it that they have left. False when the reader has gone, as `| head` does: then there is
    /// no use in going on, and no fault either.
    ///
    /// # Errors
    /// When it cannot be written, as on a full disk.
    pub fn write_all<T: Serialize>(&mut self, rows: &[T]) -> anyhow::Result<bool> {
        is_read_on(self.try_write(rows))
    }

    fn try_write<T: Serialize>(&mut self, rows: &[T]) -> io::Result<()> {
        match &mut self.sink {
            Sink::Json(out) => {
                for row in rows {
                    if self.is_seen {
                        out.write_all(harmless_json(&serde_json::to_string(row)?).as_bytes())?;
                    } else {
                        serde_json::to_writer(&mut *out, row)?;
                    }
                    out.write_all(b"\n")?;
                }
                out.flush()
            }
            Sink::Csv(writer) => {
                if self.is_headless {
                    writer.write_record(self.columns)?;
                    self.is_headless = false;
                }
                for row in rows {
                    let row = serde_json::to_value(row)?;
                    writer.write_record(self.columns.iter().map(|column| {
                        let text = no_formula(&cell(row.get(column))).into_owned();
                        if self.is_seen { on_one_line(&text) } else { text }
                    }))?;
                }
                writer.flush()
            }
        }
    }
}

/// Tells a reader that has gone from what is a fault.
///
/// # Errors
/// When it could not be written for another reason.
pub fn is_read_on(written: io::Result<()>) -> anyhow::Result<bool> {
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(anyhow::Error::new(error).context("cannot write")),
    }
}

/// A value as the text of a cell; what is not there is empty.
fn cell(value: Option<&Value>) -> Cow<'_, str> {
    match value {
        None | Some(Value::Null) => Cow::Borrowed(""),
        Some(Value::String(text)) => Cow::Borrowed(text),
        Some(other) => Cow::Owned(other.to_string()),
    }
}

/// Spreadsheets take a cell that begins so for a formula, and clients choose what stands in many cells; an apostrophe in
/// front makes a text of it. Who needs the very bytes exports JSON.
fn no_formula(cell: &str) -> Cow<'_, str> {
    if cell.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        Cow::Owned(format!("'{cell}"))
    } else {
        Cow::Borrowed(cell)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::telemetry::letters::is_harmful;

    fn written(shape: Shape, rows: &[Value]) -> String {
        let mut text = Vec::new();
        let mut lines = Lines::new(&mut text, shape, &["a", "b"]);
        assert!(lines.write_all(rows).unwrap());
        assert!(lines.write_all::<Value>(&[]).unwrap());
        drop(lines);
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn csv_is_that_of_rfc_4180() {
        let rows = [json!({"b": 7, "a": "x, \"y\"\r\nz"}), json!({"a": null, "b": "ü"})];
        assert_eq!(written(Shape::Csv, &rows), "a,b\r\n\"x, \"\"y\"\"\r\nz\",7\r\n,ü\r\n");
        assert_eq!(written(Shape::Csv, &[]), "a,b\r\n", "the columns are named even when there is nothing");
    }

    #[test]
    fn no_cell_is_a_formula() {
        for bad in ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"] {
            let text = written(Shape::Csv, &[json!({"a": bad, "b": "a=b"})]);
            let cell = text.strip_prefix("a,b\r\n").unwrap().trim_start_matches('"');
            assert!(cell.starts_with('\'') && text.ends_with(",a=b\r\n"), "{text:?}");
        }
    }

    #[test]
    fn json_is_one_object_a_line_whatever_is_in_it() {
        let text = written(Shape::Json, &[json!({"a": "x\ny"}), json!({"a": "=1"})]);
        assert_eq!(text, "{\"a\":\"x\\ny\"}\n{\"a\":\"=1\"}\n");
    }

    #[test]
    fn on_a_terminal_no_row_commands_it_and_elsewhere_every_letter_stays() {
        let hostile = json!({"a": "=1+1\u{1b}[31mEVIL\u{202e}", "b": "x\r\ny\u{9b}"});
        for shape in [Shape::Json, Shape::Csv] {
            let seen = |is_seen| {
                let mut text = Vec::new();
                let mut lines = Lines::new(&mut text, shape, &["a", "b"]).seen(is_seen);
                assert!(lines.write_all(std::slice::from_ref(&hostile)).unwrap());
                drop(lines);
                String::from_utf8(text).unwrap()
            };
            let (plain, shown) = (seen(false), seen(true));
            assert!(plain.contains(['\u{202e}']) && plain.contains('\u{9b}'), "{plain:?}");
            let shown = shown.replace("\r\n", "\n");
            assert!(!shown.contains(|letter| is_harmful(letter) && letter != '\n'), "{shown:?}");
            assert!(shown.contains("EVIL") && shown.lines().count() <= 2, "{shown:?}");
        }
    }

    #[test]
    fn a_reader_that_has_gone_is_the_end_and_a_full_disk_is_an_error() {
        struct Failing(ErrorKind);
        impl Write for Failing {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(self.0.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Err(self.0.into())
            }
        }
        for shape in [Shape::Json, Shape::Csv] {
            let write = |kind| Lines::new(Failing(kind), shape, &["a"]).write_all(&[json!({"a": 1})]);
            assert!(!write(ErrorKind::BrokenPipe).unwrap());
            assert!(write(ErrorKind::StorageFull).is_err());
        }
    }
}
