//! The closed set of ways a request can fail, and the one value that carries such a failure to the door.
//!
//! Knows JSON-RPC numbers and words for people; must not know HTTP statuses (`http::reply` has that table) or rooms.

use std::borrow::Cow;

use serde_json::Value;

/// Every way a request can fail, from the caller's fault to ours.
///
/// Codes of MCP and JSON-RPC are used where they exist; ours lie outside the range that JSON-RPC reserves
/// (-32768 to -32000) and repeat the HTTP status they travel with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// The body is not JSON.
    ParseError,
    /// JSON, but not a JSON-RPC request that this endpoint takes.
    InvalidRequest,
    /// No such method in this revision, or not one that this server advertises.
    MethodNotFound,
    /// Bad parameters; unknown tool, prompt, resource or cursor; a `requestState` that cannot be trusted.
    InvalidParams,
    /// A header is missing, malformed or contradicts the body (MCP 2026-07-28, streamable HTTP).
    HeaderMismatch,
    /// The request needs a capability that the client did not declare on it.
    MissingCapability,
    /// The protocol revision is not served.
    UnsupportedVersion,
    /// The user must open a URL first (2025-11-25 alone).
    UrlElicitationRequired,
    /// There is no such resource (until 2025-11-25).
    ResourceNotFound,
    /// No key, or a wrong one.
    Unauthenticated,
    /// Origin, Host or policy forbids it.
    Forbidden,
    /// No such URL.
    NotFound,
    /// The URL exists, the HTTP method does not.
    MethodNotAllowed,
    /// The client accepts neither JSON nor an event stream, or not the one that the method needs.
    NotAcceptable,
    /// The body did not arrive in time.
    BodyTimeout,
    /// The body is larger than the limit.
    BodyTooLarge,
    /// The body is not declared as JSON.
    UnsupportedMediaType,
    /// More was asked than is let through; worth a retry later.
    RateLimited,
    /// Not now: starting, draining, or full. Worth a retry.
    Unavailable,
    /// The call did not end before its deadline.
    DeadlineExceeded,
    /// The client did not answer in time what it was asked during its call.
    InputTimeout,
    /// Our fault, or a plugin's.
    Internal,
}

impl ErrorCode {
    /// The number in the `code` member of a JSON-RPC error.
    pub const fn rpc(self) -> i32 {
        match self {
            Self::ParseError => -32700,
            Self::InvalidRequest => -32600,
            Self::MethodNotFound => -32601,
            Self::InvalidParams => -32602,
            Self::Internal => -32603,
            Self::HeaderMismatch => -32020,
            Self::MissingCapability => -32021,
            Self::UnsupportedVersion => -32022,
            Self::UrlElicitationRequired => -32042,
            Self::ResourceNotFound => -32002,
            Self::Unauthenticated => -31401,
            Self::Forbidden => -31403,
            Self::NotFound => -31404,
            Self::MethodNotAllowed => -31405,
            Self::NotAcceptable => -31406,
            Self::BodyTimeout => -31408,
            Self::BodyTooLarge => -31413,
            Self::UnsupportedMediaType => -31415,
            Self::RateLimited => -31429,
            Self::Unavailable => -31503,
            Self::DeadlineExceeded => -31504,
            Self::InputTimeout => -31408,
        }
    }

    /// The word for it in operations answers, metrics labels, logs and history.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ParseError => "parse_error",
            Self::InvalidRequest => "invalid_request",
            Self::MethodNotFound => "method_not_found",
            Self::InvalidParams => "invalid_params",
            Self::HeaderMismatch => "header_mismatch",
            Self::MissingCapability => "missing_capability",
            Self::UnsupportedVersion => "unsupported_version",
            Self::UrlElicitationRequired => "url_elicitation_required",
            Self::ResourceNotFound => "resource_not_found",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::NotAcceptable => "not_acceptable",
            Self::BodyTimeout => "body_timeout",
            Self::BodyTooLarge => "body_too_large",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::RateLimited => "rate_limited",
            Self::Unavailable => "unavailable",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::InputTimeout => "input_timeout",
            Self::Internal => "internal",
        }
    }

    /// Whether the operator should care: these are logged at ERROR and counted in `waygate_errors_total`.
    pub const fn is_ours(self) -> bool {
        matches!(self, Self::Unavailable | Self::DeadlineExceeded | Self::Internal)
    }
}

/// The member of an error's `data` that says in how many seconds it is worth coming back.
pub const RETRY_AFTER: &str = "retryAfterSeconds";

/// The member of an error's `data` that repeats the trace that the client said that its request is part of.
pub const TRACE_ID: &str = "traceId";

/// One refused or failed request: what happened, and what to do next.
#[derive(Debug, Clone, PartialEq)]
pub struct Fault {
    /// Which of the closed set.
    pub code: ErrorCode,
    /// What happened and where, for the caller. Never an inner error's text when the fault is ours.
    pub message: Cow<'static, str>,
    /// What to do next, in one sentence.
    pub advice: Cow<'static, str>,
    /// Members that the protocol wants in the error's `data`.
    pub data: Vec<(&'static str, Value)>,
    /// What really happened, for the log alone.
    pub cause: Option<String>,
    /// An error of a server behind a plugin, which keeps its own code and data.
    pub relayed: Option<Box<Relayed>>,
}

/// What a server behind a plugin answered with.
#[derive(Debug, Clone, PartialEq)]
pub struct Relayed {
    /// Its code.
    pub code: i64,
    /// The JSON of its `data`.
    pub data: Option<String>,
}

impl Fault {
    /// A fault with its two sentences.
    pub fn new(
        code: ErrorCode,
        message: impl Into<Cow<'static, str>>,
        advice: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            code,
            message: message.into(),
            advice: advice.into(),
            data: Vec::new(),
            cause: None,
            relayed: None,
        }
    }

    /// `InvalidParams` with its two sentences: by far the most frequent fault.
    pub fn invalid_params(
        message: impl Into<Cow<'static, str>>,
        advice: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::new(ErrorCode::InvalidParams, message, advice)
    }

    /// Our fault: a fixed sentence for the caller, `cause` for the log.
    pub fn internal(cause: impl Into<String>) -> Self {
        let mut fault = Self::new(
            ErrorCode::Internal,
            "something failed inside the server",
            "retry once; if it fails again, give the request id to the operator, whose log has the cause",
        );
        fault.cause = Some(cause.into());
        fault
    }

    /// Adds a member to `data`.
    pub fn with(mut self, key: &'static str, value: impl Into<Value>) -> Self {
        self.data.push((key, value.into()));
        self
    }

    /// Keeps the code and the data of a server behind a plugin.
    pub fn relayed(mut self, code: i64, data: Option<String>) -> Self {
        self.relayed = Some(Box::new(Relayed { code, data }));
        self
    }

    /// Says when it is worth coming back: in whole seconds, and never at once.
    pub fn retry_after(self, wait: std::time::Duration) -> Self {
        let seconds = wait.as_millis().div_ceil(1000).max(1);
        self.with(RETRY_AFTER, u64::try_from(seconds).unwrap_or(u64::MAX))
    }

    /// Says which trace of the client's it is part of, if it was not said yet.
    pub fn traced(self, trace_id: Option<&str>) -> Self {
        match trace_id.filter(|_| self.detail(TRACE_ID).is_none()) {
            Some(trace_id) => self.with(TRACE_ID, trace_id),
            None => self,
        }
    }

    /// A member of `data`.
    pub fn detail(&self, key: &str) -> Option<&Value> {
        self.data.iter().find(|(name, _)| *name == key).map(|(_, value)| value)
    }

    /// Adds the cause that only the log may show.
    pub fn because(mut self, cause: impl std::fmt::Display) -> Self {
        self.cause = Some(cause.to_string());
        self
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}; {}", self.code.name(), self.message, self.advice)
    }
}

impl std::error::Error for Fault {}
