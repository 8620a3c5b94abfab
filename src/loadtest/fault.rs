//! What can go wrong with one request, each kind under one name, so that it can be counted. Must not know who counts.

use std::io;
use std::time::Duration;

use crate::telemetry::letters::is_harmful;

/// Of what a server said, so much is kept as an example.
const EXAMPLE_MAX_CHARS: usize = 300;

/// One that went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Its kind, as it is counted.
    pub what: String,
    /// What was said.
    pub example: String,
    /// The HTTP status, where there was one.
    pub status: Option<u16>,
    /// Whether the connection broke before a byte of an answer came.
    pub is_unheard: bool,
}

impl Fault {
    fn new(what: impl Into<String>, example: impl Into<String>) -> Self {
        let example: String = example.into();
        let example = example.chars().map(|char| if is_harmful(char) { ' ' } else { char });
        let example = example.take(EXAMPLE_MAX_CHARS).collect();
        Self { what: what.into(), example, status: None, is_unheard: false }
    }

    /// A status without a reason that could be read.
    pub fn status(status: u16, body: &[u8]) -> Self {
        let fault = Self::new(format!("status {status}"), String::from_utf8_lossy(start(body)));
        Self { status: Some(status), ..fault }
    }

    /// An error of JSON-RPC.
    pub fn refused(status: u16, code: i64, message: &str) -> Self {
        let fault = Self::new(format!("error {code} (status {status})"), message);
        Self { status: Some(status), ..fault }
    }

    /// A result that says that the tool did not succeed.
    pub fn tool(body: &[u8]) -> Self {
        Self::new("the tool failed", String::from_utf8_lossy(start(body)))
    }

    /// Nothing that was to be expected.
    pub fn strange(what: &str, body: &[u8]) -> Self {
        Self::new(what, String::from_utf8_lossy(start(body)))
    }

    /// None in time.
    pub fn late(within: Duration) -> Self {
        Self::new(format!("no answer within {} s", within.as_secs_f64()), "")
    }

    /// The connection did not come about.
    pub fn unconnected(error: &io::Error) -> Self {
        Self::new("no connection", error.to_string())
    }

    /// The connection broke, or what came over it was no HTTP.
    pub fn broken(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::InvalidData => Self::new("an answer that is no HTTP", error.to_string()),
            _ => Self::new("the connection broke", error.to_string()),
        }
    }

    /// The server says that it waited too long for a request.
    pub fn is_of_patience(&self) -> bool {
        self.status == Some(408)
    }

    /// No session was opened.
    pub fn sessionless(why: &Self) -> Self {
        let what = format!("no session: {}", why.what);
        Self { what, ..why.clone() }
    }
}

fn start(body: &[u8]) -> &[u8] {
    body.get(..EXAMPLE_MAX_CHARS * 4).unwrap_or(body)
}
