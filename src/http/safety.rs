//! What every reply says to browsers, and what pages of other origins may do here (CORS; MCP alone, for the origins that the
//! operator lists).
//!
//! Which origins may call at all is the gate's to say, before this. Must not know what is answered.

use actix_web::HttpResponse;
use actix_web::dev::RequestHead;
use actix_web::http::Method;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// On every reply: it is what it says it is, is shown in nobody's frame, loads nothing, and leads nobody's address on.
const ALWAYS: [(HeaderName, HeaderValue); 3] = [
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
];
/// Where the reply itself does not say it: whatever is told here is for its caller alone.
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
/// For a year this host is not to be spoken to without TLS.
const TLS_ONLY: HeaderValue = HeaderValue::from_static("max-age=31536000");

/// What a page may send along; of MCP's own, all that begin with `mcp-`, since tools name parameters of their own.
const SENT: &str = "authorization, content-type, accept, x-api-key, last-event-id, mcp-protocol-version, mcp-session-id, \
                    mcp-method, mcp-name, traceparent, tracestate, baggage";
/// What a page may read of an answer beside its body.
const READ: HeaderValue = HeaderValue::from_static(
    "Mcp-Session-Id, MCP-Protocol-Version, WWW-Authenticate, Retry-After, RateLimit, RateLimit-Policy, Allow",
);
const METHODS: HeaderValue = HeaderValue::from_static("GET, POST, DELETE");
const BY_ORIGIN: HeaderValue = HeaderValue::from_static("Origin");
const BY_ALL_THREE: HeaderValue =
    HeaderValue::from_static("Origin, Access-Control-Request-Method, Access-Control-Request-Headers");
/// How long a browser may remember what it was allowed, in seconds.
const REMEMBERED: HeaderValue = HeaderValue::from_static("600");
/// More names than this are of no client.
const NAMES_MAX: usize = 100;

/// What is said, from the configuration.
#[derive(Debug, Clone)]
pub struct Safety {
    /// Whether browsers are told to come over TLS from now on.
    tls_only: bool,
    /// Whose pages may speak MCP; with none, nothing is said of it.
    origins: Vec<String>,
}

/// What a reply says to the page that asked.
pub struct Said(Option<HeaderValue>);

impl Safety {
    /// With `tls_only`, browsers are told to come over TLS from now on; pages of `origins` may speak MCP.
    pub fn new(tls_only: bool, origins: &[String]) -> Self {
        let origins = origins.iter().map(|origin| origin.trim_end_matches('/').to_owned()).collect();
        Self { tls_only, origins }
    }

    /// Adds what every reply says.
    pub fn protect(&self, headers: &mut HeaderMap) {
        for (name, value) in ALWAYS {
            drop(headers.insert(name, value));
        }
        if !headers.contains_key(header::CACHE_CONTROL) {
            drop(headers.insert(header::CACHE_CONTROL, NO_STORE));
        }
        if self.tls_only {
            drop(headers.insert(header::STRICT_TRANSPORT_SECURITY, TLS_ONLY));
        }
    }

    /// What is to be said to the page that sends `request`; none where no page of another origin may speak.
    pub fn page(&self, request: &RequestHead) -> Option<Said> {
        if self.origins.is_empty() || !is_mcp(request.uri.path()) {
            return None;
        }
        let origin = request.headers.get(header::ORIGIN).filter(|origin| {
            let origin = origin.to_str().unwrap_or_default();
            self.origins.iter().any(|listed| listed.eq_ignore_ascii_case(origin))
        });
        // A copy: the request's own would keep all that was read with it.
        Some(Said(origin.and_then(|origin| HeaderValue::from_bytes(origin.as_bytes()).ok())))
    }
}

impl Said {
    /// The answer to a browser that asks what the page may send, if it does.
    pub fn preflight(&self, request: &RequestHead) -> Option<HttpResponse> {
        let asks = request.method == Method::OPTIONS
            && request.headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        if !asks || self.0.is_none() {
            return None;
        }
        let mut answer = HttpResponse::NoContent();
        answer
            .insert_header((header::ACCESS_CONTROL_ALLOW_METHODS, METHODS))
            .insert_header((header::ACCESS_CONTROL_ALLOW_HEADERS, sendable(&request.headers)))
            .insert_header((header::ACCESS_CONTROL_MAX_AGE, REMEMBERED))
            .insert_header((header::VARY, BY_ALL_THREE));
        Some(answer.finish())
    }

    /// Says it.
    pub fn say(self, headers: &mut HeaderMap) {
        if !headers.contains_key(header::VARY) {
            drop(headers.insert(header::VARY, BY_ORIGIN));
        }
        if let Some(origin) = self.0 {
            drop(headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin));
            drop(headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, READ));
        }
    }
}

/// Whether MCP is spoken there, in any revision.
fn is_mcp(path: &str) -> bool {
    matches!(path, super::MCP | "/sse" | "/messages")
        || path.strip_prefix(super::MCP).is_some_and(|rest| rest.starts_with('/'))
}

/// The names of headers that a page may send, those among them that it asks for and that are MCP's.
fn sendable(headers: &HeaderMap) -> HeaderValue {
    let asked = headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS);
    let asked = asked.and_then(|asked| asked.to_str().ok()).unwrap_or_default();
    let mut all = SENT.to_owned();
    for name in asked.split(',').take(NAMES_MAX).map(str::trim) {
        let is_ours = name.get(..4).is_some_and(|begin| begin.eq_ignore_ascii_case("mcp-"));
        if is_ours && HeaderName::from_bytes(name.as_bytes()).is_ok() {
            all.push_str(", ");
            all.push_str(name);
        }
    }
    HeaderValue::from_str(&all).unwrap_or_else(|_not_a_value| HeaderValue::from_static(SENT))
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn asked(path: &str, origin: &'static str) -> Option<Option<String>> {
        let safety =
            Safety::new(false, &["https://app.example.org".to_owned(), "http://localhost:5173/".to_owned()]);
        let request = TestRequest::with_uri(path).insert_header((header::ORIGIN, origin)).to_http_request();
        safety.page(request.head()).map(|said| said.0.map(|origin| origin.to_str().unwrap().to_owned()))
    }

    #[test]
    fn listed_origins_may_speak_where_mcp_is_spoken_and_nowhere_else() {
        let listed = Some(Some("https://app.example.org".to_owned()));
        for path in ["/mcp", "/mcp/work", "/sse", "/messages"] {
            assert_eq!(asked(path, "https://app.example.org"), listed, "{path}");
        }
        assert!(asked("/mcp", "http://localhost:5173").unwrap().is_some());
        for other in [
            "https://app.example.org.evil.test",
            "http://app.example.org",
            "https://app.example.org:444",
            "null",
        ] {
            assert_eq!(asked("/mcp", other), Some(None), "{other}");
        }
        for path in ["/", "/health", "/mcpx", "/admin/api/keys"] {
            assert_eq!(asked(path, "https://app.example.org"), None, "{path}");
        }
    }

    #[test]
    fn of_the_headers_that_a_page_wants_to_send_only_mcp_s_own_are_added() {
        let request = TestRequest::default()
            .insert_header((
                header::ACCESS_CONTROL_REQUEST_HEADERS,
                "Mcp-Param-City, x-evil,mcp-bad name, cookie",
            ))
            .to_http_request();
        let names = sendable(request.headers());
        let names = names.to_str().unwrap();
        assert!(names.ends_with("baggage, Mcp-Param-City"), "{names}");
    }
}
