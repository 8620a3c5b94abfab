//! `read_file`: all of a file or a part of it, as text where it is text, else as Base64.
//!
//! Everything comes from one opened handle, so that a file replaced meanwhile is read as it was. Must not know URIs'
//! way in, nor how places are found.

use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cap_std::fs::{File, Metadata};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::roots::Place;
use super::trouble::Trouble;
use super::{hex, mime};
use crate::plugins::Context;
use crate::protocol::content::{ToolResult, blob_contents, embedded, image, text};

const BUFFER_BYTES: usize = 64 * 1024;

/// How the contents shall come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub(super) enum Encoding {
    #[default]
    #[serde(rename = "auto")]
    Auto,
    #[serde(rename = "utf-8")]
    Text,
    #[serde(rename = "base64")]
    Base64,
}

/// The arguments of `read_file`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Arguments {
    pub(super) path: String,
    #[serde(default)]
    pub(super) encoding: Encoding,
    pub(super) offset: Option<u64>,
    pub(super) limit: Option<u64>,
    pub(super) byte_offset: Option<u64>,
    pub(super) byte_limit: Option<u64>,
}

/// Which part is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Range {
    Whole,
    /// From this line, counted from 1.
    Lines(u64, u64),
    Bytes(u64, u64),
}

/// A part that was read.
#[derive(Debug, Default)]
struct Part {
    bytes: Vec<u8>,
    byte_offset: u64,
    first_line: Option<u64>,
    /// Whether the size cap cut it, so that its last line or character may be incomplete.
    capped: bool,
    /// Whether the file goes on after it.
    more: bool,
}

/// A whole file, for resources.
#[derive(Debug)]
pub(super) enum Contents {
    Text(&'static str, String),
    Blob(&'static str, String),
}

/// Runs the tool. At most `max_bytes` are returned.
pub(super) fn run(
    place: &Place,
    arguments: &Arguments,
    max_bytes: u64,
    context: &Context,
) -> Result<ToolResult, Trouble> {
    let range = range(arguments)?;
    let (mut file, before) = place.open_file()?;
    let mut part = read_part(&mut file, range, max_bytes, place, context)?;
    let is_text = choose_text(&mut part, range, arguments.encoding, place)?;
    let whole = range == Range::Whole;
    if whole && part.more && !is_text {
        let advice = "read it in parts with byte_offset and byte_limit";
        return Err(Trouble::TooLarge { path: place.shown(), size: before.len(), max: max_bytes, advice });
    }
    let changed = has_changed(&file, &before);
    Ok(render(place, part, is_text, &before, changed))
}

/// Reads a whole file of at most `max_bytes`.
pub(super) fn whole(place: &Place, max_bytes: u64, context: &Context) -> Result<Contents, Trouble> {
    let (mut file, metadata) = place.open_file()?;
    let mut part = read_part(&mut file, Range::Whole, max_bytes, place, context)?;
    if part.more {
        let advice = "read it in parts with the tool read_file";
        return Err(Trouble::TooLarge { path: place.shown(), size: metadata.len(), max: max_bytes, advice });
    }
    let is_text = choose_text(&mut part, Range::Whole, Encoding::Auto, place)?;
    let mime_type = mime_of(place, &part, is_text);
    Ok(match String::from_utf8(part.bytes) {
        Ok(text) if is_text => Contents::Text(mime_type, text),
        Ok(text) => Contents::Blob(mime_type, STANDARD.encode(text)),
        Err(error) => Contents::Blob(mime_type, STANDARD.encode(error.as_bytes())),
    })
}

fn range(arguments: &Arguments) -> Result<Range, Trouble> {
    let lines = arguments.offset.is_some() || arguments.limit.is_some();
    let bytes = arguments.byte_offset.is_some() || arguments.byte_limit.is_some();
    if lines && (bytes || arguments.encoding == Encoding::Base64) {
        let says = "offset and limit count lines of text; use either them, or byte_offset and byte_limit, also for \
                    base64";
        return Err(Trouble::BadArgument(says.to_owned()));
    }
    Ok(if lines {
        Range::Lines(arguments.offset.unwrap_or(1).max(1), arguments.limit.unwrap_or(u64::MAX))
    } else if bytes {
        Range::Bytes(arguments.byte_offset.unwrap_or(0), arguments.byte_limit.unwrap_or(u64::MAX))
    } else {
        Range::Whole
    })
}

fn read_part(
    file: &mut File,
    range: Range,
    max_bytes: u64,
    place: &Place,
    context: &Context,
) -> Result<Part, Trouble> {
    let shown = place.shown();
    let trouble = |error: std::io::Error| Trouble::of(&error, &shown, "read");
    match range {
        Range::Whole => read_bytes(file, 0, u64::MAX, max_bytes, context).map_err(trouble),
        Range::Bytes(from, count) => {
            file.seek(SeekFrom::Start(from)).map_err(trouble)?;
            read_bytes(file, from, count, max_bytes, context).map_err(trouble)
        }
        Range::Lines(from, count) => {
            let mut reader = BufReader::with_capacity(BUFFER_BYTES, Wanted { inner: file, context });
            let (skipped, byte_offset) = skip_lines(&mut reader, from - 1).map_err(trouble)?;
            if from > 1 && reader.fill_buf().map_err(trouble)?.is_empty() {
                let says = format!("{shown} has no line {from}: it ends with line {skipped}");
                return Err(Trouble::BadArgument(says));
            }
            let mut part = take_lines(&mut reader, count, max_bytes).map_err(trouble)?;
            part.byte_offset = byte_offset;
            part.first_line = Some(from);
            Ok(part)
        }
    }
}

fn read_bytes(
    file: &mut File,
    from: u64,
    count: u64,
    max_bytes: u64,
    context: &Context,
) -> std::io::Result<Part> {
    let wanted = count.min(max_bytes);
    let mut bytes = Vec::new();
    let mut source = Wanted { inner: file, context };
    // One more, to know whether it goes on.
    source.by_ref().take(wanted.saturating_add(1)).read_to_end(&mut bytes)?;
    let more = bytes.len() as u64 > wanted;
    bytes.truncate(usize::try_from(wanted).unwrap_or(usize::MAX));
    let first_line = (from == 0).then_some(1);
    Ok(Part { bytes, byte_offset: from, first_line, capped: more, more })
}

/// Skips lines; tells how many there were, and how many bytes.
fn skip_lines(reader: &mut impl BufRead, count: u64) -> std::io::Result<(u64, u64)> {
    let (mut lines, mut bytes, mut inside) = (0, 0, false);
    while lines < count {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() {
            return Ok((lines + u64::from(inside), bytes));
        }
        let newline = buffer.iter().position(|byte| *byte == b'\n');
        let used = newline.map_or(buffer.len(), |at| at + 1);
        inside = newline.is_none();
        lines += u64::from(!inside);
        bytes += used as u64;
        reader.consume(used);
    }
    Ok((lines, bytes))
}

fn take_lines(reader: &mut impl BufRead, count: u64, max_bytes: u64) -> std::io::Result<Part> {
    let max_bytes = usize::try_from(max_bytes).unwrap_or(usize::MAX);
    let mut part = Part::default();
    let mut lines = 0;
    while lines < count {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() {
            return Ok(part);
        }
        let newline = buffer.iter().position(|byte| *byte == b'\n');
        let line = buffer.split_at(newline.map_or(buffer.len(), |at| at + 1)).0;
        let room = max_bytes - part.bytes.len();
        let used = line.len().min(room);
        part.bytes.extend_from_slice(line.split_at(used).0);
        if line.len() > room {
            return Ok(Part { capped: true, more: true, ..part });
        }
        reader.consume(used);
        lines += u64::from(newline.is_some());
    }
    part.more = !reader.fill_buf()?.is_empty();
    Ok(part)
}

/// Decides whether the part is text, and cuts what the cap left incomplete at its end.
fn choose_text(part: &mut Part, range: Range, encoding: Encoding, place: &Place) -> Result<bool, Trouble> {
    if encoding == Encoding::Base64 {
        return Ok(false);
    }
    let by_lines = !matches!(range, Range::Bytes(..));
    let valid = match std::str::from_utf8(&part.bytes) {
        Ok(_) => part.bytes.len(),
        // Only its last character is incomplete, because we cut there.
        Err(error) if error.error_len().is_none() && part.capped && error.valid_up_to() > 0 => {
            error.valid_up_to()
        }
        Err(error) => {
            let at = format!("the byte {}", part.byte_offset + error.valid_up_to() as u64);
            return not_text(range, encoding, place, at);
        }
    };
    if encoding == Encoding::Auto && part.bytes.contains(&0) {
        return not_text(range, encoding, place, "it holds NUL bytes".to_owned());
    }
    part.bytes.truncate(valid);
    let last_newline = part.bytes.iter().rposition(|byte| *byte == b'\n');
    if let (true, Some(newline)) = (by_lines && part.capped, last_newline) {
        part.bytes.truncate(newline + 1);
    }
    Ok(true)
}

fn not_text(range: Range, encoding: Encoding, place: &Place, at: String) -> Result<bool, Trouble> {
    let must_be = encoding == Encoding::Text || matches!(range, Range::Lines(..));
    if must_be { Err(Trouble::NotText { path: place.shown(), at }) } else { Ok(false) }
}

fn mime_of(place: &Place, part: &Part, is_text: bool) -> &'static str {
    let name = place.split().map(|(_, name)| name.to_owned()).unwrap_or_default();
    let image = if is_text { None } else { mime::image(&part.bytes) };
    image.unwrap_or_else(|| mime::guess(&name, is_text))
}

fn has_changed(file: &File, before: &Metadata) -> bool {
    let same = |now: Metadata| now.len() == before.len() && now.modified().ok() == before.modified().ok();
    !file.metadata().is_ok_and(same)
}

fn render(place: &Place, part: Part, is_text: bool, metadata: &Metadata, changed: bool) -> ToolResult {
    let (shown, uri) = (place.shown(), place.uri());
    let mime_type = mime_of(place, &part, is_text);
    let end = part.byte_offset + part.bytes.len() as u64;
    let mut facts = Map::new();
    let mut fact = |key: &str, value: Value| facts.insert(key.to_owned(), value);
    fact("path", json!(shown));
    fact("uri", json!(uri));
    fact("mime_type", json!(mime_type));
    fact("size_bytes", json!(metadata.len()));
    fact("encoding", json!(if is_text { "utf-8" } else { "base64" }));
    fact("byte_offset", json!(part.byte_offset));
    fact("bytes", json!(part.bytes.len()));
    fact("truncated", json!(part.more));
    fact("changed_while_read", json!(changed));
    let lines = part.bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
    let ends_with_line = part.bytes.ends_with(b"\n");
    if let (true, Some(first)) = (is_text, part.first_line) {
        let partial = u64::from(!ends_with_line && !part.bytes.is_empty());
        fact("first_line", json!(first));
        fact("lines", json!(lines + partial));
        if part.more && ends_with_line {
            fact("next_offset", json!(first + lines));
        }
    }
    if part.more {
        fact("next_byte_offset", json!(end));
    }
    if part.byte_offset == 0 && !part.more && !changed {
        fact("sha256", json!(hex(&Sha256::digest(&part.bytes))));
    }
    let note = note(&facts, &shown);
    let mut content = Vec::new();
    if is_text {
        let says = String::from_utf8(part.bytes).unwrap_or_default();
        facts.insert("text".to_owned(), json!(says));
        content.push(text(says));
        content.extend(part.more.then(|| text(note)));
    } else {
        let blob = STANDARD.encode(&part.bytes);
        let is_image = !part.more && part.byte_offset == 0 && mime::image(&part.bytes).is_some();
        content.push(if is_image {
            image(&blob, mime_type)
        } else {
            embedded(blob_contents(&uri, mime_type, blob))
        });
        content.push(text(note));
    }
    ToolResult::of(content).with_structured(Value::Object(facts))
}

/// One sentence on what was read and how to go on.
fn note(facts: &Map<String, Value>, shown: &str) -> String {
    let number = |key: &str| facts.get(key).and_then(Value::as_u64);
    let part = format!(
        "{shown}: {} bytes from byte {} of {}, {}",
        number("bytes").unwrap_or_default(),
        number("byte_offset").unwrap_or_default(),
        number("size_bytes").unwrap_or_default(),
        facts.get("mime_type").and_then(Value::as_str).unwrap_or_default(),
    );
    match (number("next_offset"), number("next_byte_offset")) {
        (Some(line), _) => format!("[{part}; it goes on: read on with offset {line}]"),
        (None, Some(byte)) => format!("[{part}; it goes on: read on with byte_offset {byte}]"),
        (None, None) => format!("[{part}]"),
    }
}

/// Reads on as long as the result is wanted.
pub(super) struct Wanted<'a, R> {
    pub(super) inner: R,
    pub(super) context: &'a Context,
}

impl<R: Read> Read for Wanted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.context.is_wanted() {
            self.inner.read(buffer)
        } else {
            Err(std::io::ErrorKind::TimedOut.into())
        }
    }
}
