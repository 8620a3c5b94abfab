//! Where a stream goes, and how it is told that something arrived. Must not know what is carried.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ureq::http::{StatusCode, Uri};

use super::super::super::Exit;
use super::super::follow::reader_leaves;
use super::super::output;
use crate::config::{Secret, is_loopback};
use crate::telemetry::letters::harmless_json;
use crate::telemetry::trust;

/// How long a URL may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// A line that a kill cut off is looked for so far back.
const TORN_MAX_BYTES: u64 = 16 << 20;
const SECRET_MAX_BYTES: u64 = 16 << 10;

/// Where to.
pub enum Target {
    /// Whoever reads.
    Stdout,
    /// Is appended to, and opened anew each time, so that it may be rotated.
    File(PathBuf),
    /// An endpoint.
    Url(Box<Endpoint>),
}

/// What takes rows over HTTP.
pub struct Endpoint {
    agent: ureq::Agent,
    url: String,
    /// Without what may be a secret.
    shown: String,
    authorization: Option<Secret>,
}

/// Why something did not arrive.
pub enum Undelivered {
    /// Nobody reads any more.
    Gone,
    /// It may the next time, not before so long; whoever does not wait for that ends so.
    Later(String, Option<Duration>, Exit),
    /// It was too much at once.
    TooLarge,
    /// It never will.
    Refused(String),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdout => f.write_str("stdout"),
            Self::File(path) => path.display().fmt(f),
            Self::Url(endpoint) => f.write_str(&endpoint.shown),
        }
    }
}

impl Target {
    /// The target that somebody typed.
    ///
    /// # Errors
    /// A sentence, when it makes no sense or would give a secret away.
    pub fn of(text: &str, authorization: Option<&Path>) -> Result<Self, String> {
        let is_url = text.contains("://");
        if authorization.is_some() && !is_url {
            return Err("--authorization-file is for a URL".to_owned());
        }
        match text {
            "-" => Ok(Self::Stdout),
            "" => Err("--to names no target; give a file, a URL or -".to_owned()),
            _ if is_url => Endpoint::of(text, authorization).map(|endpoint| Self::Url(Box::new(endpoint))),
            path => Ok(Self::File(PathBuf::from(path))),
        }
    }

    pub fn is_stdout(&self) -> bool {
        matches!(self, Self::Stdout)
    }

    /// Waits; true when there is nobody any more to carry to.
    pub fn ends_within(&self, wait: Duration) -> bool {
        if self.is_stdout() {
            return reader_leaves(wait);
        }
        std::thread::sleep(wait);
        false
    }

    /// Has all of it arrive, for good.
    pub fn deliver(&self, body: &[u8]) -> Result<(), Undelivered> {
        match self {
            Self::Stdout => {
                let mut stdout = io::stdout().lock();
                let shown = output::is_terminal().then(|| harmless_json(&String::from_utf8_lossy(body)));
                let body = shown.as_ref().map_or(body, String::as_bytes);
                match stdout.write_all(body).and_then(|()| stdout.flush()) {
                    Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(Undelivered::Gone),
                    Err(error) => {
                        let why = format!("stdout cannot be written: {error}");
                        Err(Undelivered::Later(why, None, Exit::CannotCreate))
                    }
                    Ok(()) => Ok(()),
                }
            }
            Self::File(path) => append(path, body).map_err(|error| {
                Undelivered::Later(format!("{}: {error}", path.display()), None, of_file(&error))
            }),
            Self::Url(endpoint) => endpoint.post(body),
        }
    }
}

/// How it ends when a file does not take what it is given.
fn of_file(error: &io::Error) -> Exit {
    if error.kind() == ErrorKind::PermissionDenied { Exit::NotPermitted } else { Exit::CannotCreate }
}

/// Appends whole lines; what was cut off before goes, since it comes again.
fn append(path: &Path, body: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
    let about = file.metadata()?;
    let begins_at = if about.is_file() { mend(&mut file, about.len())? } else { 0 };
    let written = file.write_all(body).and_then(|()| if about.is_file() { file.sync_data() } else { Ok(()) });
    if written.is_err() && about.is_file() {
        // As on a full disk: half of it would stay as a torn line.
        file.set_len(begins_at)?;
    }
    written
}

/// Cuts off a last line without its end; gives the length that is left.
fn mend(file: &mut File, length: u64) -> io::Result<u64> {
    let from = length.saturating_sub(TORN_MAX_BYTES);
    file.seek(SeekFrom::End(-1)).or_else(|error| if length == 0 { Ok(0) } else { Err(error) })?;
    let mut last = [0; 1];
    if length == 0 || file.read(&mut last)? == 1 && last == *b"\n" {
        return Ok(length);
    }
    file.seek(SeekFrom::Start(from))?;
    let mut tail = Vec::new();
    io::Read::by_ref(file).take(length - from).read_to_end(&mut tail)?;
    let whole = tail.iter().rposition(|byte| *byte == b'\n').map(|at| from + at as u64 + 1);
    let Some(whole) = whole.or((from == 0).then_some(0)) else {
        return Err(io::Error::other("its end is no line of a stream; give another name"));
    };
    file.set_len(whole)?;
    Ok(whole)
}

impl Endpoint {
    fn of(text: &str, authorization: Option<&Path>) -> Result<Self, String> {
        let uri: Uri = text.parse().map_err(|error| format!("--to is no URL: {error}"))?;
        let (scheme, authority) = (uri.scheme_str().unwrap_or_default(), uri.authority());
        let Some(authority) = authority.filter(|_| matches!(scheme, "http" | "https")) else {
            return Err("--to takes an http:// or https:// URL".to_owned());
        };
        if authority.as_str().contains('@') {
            return Err(
                "--to shows a password to everybody who lists processes; put it into --authorization-file"
                    .to_owned(),
            );
        }
        let authorization = authorization.map(read_secret).transpose()?;
        if authorization.is_some() && scheme == "http" && !is_loopback(authority.host()) {
            return Err(
                "the Authorization header would cross the network in the clear; use https://".to_owned()
            );
        }
        let agent = ureq::Agent::config_builder()
            .tls_config(trust::of(text))
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_connect(Some(CONNECT_WITHIN))
            .timeout_global(Some(ANSWER_WITHIN))
            .build()
            .new_agent();
        let shown = format!("{scheme}://{authority}{}", uri.path());
        Ok(Self { agent, url: text.to_owned(), shown, authorization })
    }

    fn post(&self, body: &[u8]) -> Result<(), Undelivered> {
        let mut request = self.agent.post(&self.url).header("Content-Type", "application/x-ndjson");
        request = request.header("User-Agent", concat!("waygate-mcp/", env!("CARGO_PKG_VERSION")));
        if let Some(authorization) = &self.authorization {
            request = request.header("Authorization", authorization.expose());
        }
        let answer = request.send(body).map_err(|error| {
            let why = format!("{} does not take it: {error}", self.shown);
            Undelivered::Later(why, None, Exit::Unreachable)
        })?;
        let status = answer.status();
        let after = answer.headers().get("retry-after").and_then(|after| after.to_str().ok()?.parse().ok());
        let said = format!("{} answers {status}", self.shown);
        match status {
            status if status.is_success() => Ok(()),
            StatusCode::PAYLOAD_TOO_LARGE => Err(Undelivered::TooLarge),
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
                Err(Undelivered::Later(said, after.map(Duration::from_secs), Exit::Temporary))
            }
            status if status.is_server_error() => {
                Err(Undelivered::Later(said, after.map(Duration::from_secs), Exit::Temporary))
            }
            _ => Err(Undelivered::Refused(format!(
                "{said}; mend the URL or --authorization-file, and it goes on where it was"
            ))),
        }
    }
}

fn read_secret(path: &Path) -> Result<Secret, String> {
    let shown = path.display();
    let read = || -> io::Result<String> {
        let mut text = String::new();
        File::open(path)?.take(SECRET_MAX_BYTES).read_to_string(&mut text)?;
        Ok(text)
    };
    let text = read().map_err(|error| format!("--authorization-file {shown}: {error}"))?;
    let text = text.trim();
    let is_header = !text.is_empty() && text.chars().all(|char| !char.is_control());
    is_header
        .then(|| Secret::new(text))
        .ok_or_else(|| format!("--authorization-file {shown} is no value of a header; it holds one line"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_line_that_was_cut_off_goes_and_whole_ones_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        for (before, after) in [("", "new\n"), ("a\n", "a\nnew\n"), ("a\nb", "a\nnew\n"), ("b", "new\n")] {
            fs::write(&path, before).unwrap();
            append(&path, b"new\n").unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), after, "{before:?}");
        }
    }

    #[test]
    fn targets_that_make_no_sense_or_give_secrets_away_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        fs::write(&path, "Bearer x\n").unwrap();
        let secret = Some(path.as_path());
        assert!(Target::of("https://siem.example/in", secret).is_ok());
        assert!(Target::of("http://127.0.0.1:9/in", secret).is_ok());
        assert_eq!(
            Target::of("https://siem.example/in?key=x", None).unwrap().to_string(),
            "https://siem.example/in"
        );
        for (text, secret) in [
            ("ftp://a/b", None),
            ("https://user:password@siem.example/", None),
            ("http://siem.example/", secret),
            ("file.ndjson", secret),
            ("", None),
        ] {
            assert!(Target::of(text, secret).is_err(), "{text}");
        }
    }
}
