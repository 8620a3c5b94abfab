//! Two small things that requests carry for those who watch: the log level and the trace context.
//!
//! MCP 2026-07-28, server/utilities/logging; SEP-414 and W3C Trace Context. Must not know who reads them.

use serde::{Deserialize, Serialize};

use crate::telemetry::traces::Span;

/// The levels of RFC 5424, in rising gravity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// For those who debug.
    Debug,
    /// What is going on.
    Info,
    /// Normal but worth a look.
    Notice,
    /// Something may go wrong.
    Warning,
    /// Something went wrong.
    Error,
    /// A part does not work.
    Critical,
    /// Somebody must act now.
    Alert,
    /// Nothing works.
    Emergency,
}

/// W3C trace context as it came in `_meta`; handed on unchanged, unless this hop has a span of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trace {
    /// `traceparent`, checked.
    pub parent: Option<String>,
    /// `tracestate`.
    pub state: Option<String>,
    /// `baggage`.
    pub baggage: Option<String>,
}

impl Trace {
    /// The 32 hexadecimal digits of the trace id.
    pub fn id(&self) -> Option<&str> {
        self.parent.as_deref()?.split('-').nth(1)
    }

    /// The same within `span`, if that is anything: what is done there is told of it and not of what is above.
    #[must_use]
    pub fn under(self, span: &Span) -> Self {
        match span.onward() {
            Some((parent, state)) => {
                Self { parent: Some(parent.to_owned()), state: state.map(str::to_owned), ..self }
            }
            None => self,
        }
    }

    /// Whether `text` is a `traceparent`: `00-{32 hex}-{16 hex}-{2 hex}`, ids not all zero.
    pub fn is_parent(text: &str) -> bool {
        let fields: Vec<&str> = text.split('-').collect();
        let hex = |field: &str, digits: usize| {
            field.len() == digits && field.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        let set = |field: &str| field.bytes().any(|byte| byte != b'0');
        match fields.as_slice() {
            [version, trace, parent, flags, rest @ ..] => {
                hex(version, 2)
                    && *version != "ff"
                    && hex(trace, 32)
                    && set(trace)
                    && hex(parent, 16)
                    && set(parent)
                    && hex(flags, 2)
                    && (rest.is_empty() || *version != "00")
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_has_the_form_that_w3c_gives_it() {
        assert!(Trace::is_parent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"));
        for bad in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
        ] {
            assert!(!Trace::is_parent(bad), "{bad}");
        }
    }
}
