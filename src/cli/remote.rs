//! A client of a running server: MCP 2026-07-28 over HTTP, one request at a time. Must not know verbs or terminals.

use std::cell::Cell;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine as _;
use serde_json::{Map, Value, json};

use super::whereabouts::Whereabouts;
use super::{Exit, local, pinned};
use crate::config::{Config, Secret};
use crate::telemetry::trust;

/// The revision that is spoken.
pub const REVISION: &str = "2026-07-28";

const CONNECT_SECONDS: u64 = 5;
/// Beyond the server's own deadline, so that its answer is heard.
const PATIENCE_SECONDS: u64 = 10;
const ANSWER_MAX_BYTES: u64 = 256 << 20;
/// A server that pages forever is not followed forever.
const PAGES_MAX: usize = 1000;

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody is there.
    #[error("no server answers at {url} ({why}); start one with `waygate-mcp`, or name another with --url")]
    Unreachable {
        /// Where nobody is.
        url: String,
        /// What the network says.
        why: String,
    },
    /// None runs on the data folder, nor is one where the configuration says.
    #[error("no server runs on {root}{tried}; start one with `waygate-mcp`, or name another with --url")]
    Absent {
        /// The data folder.
        root: String,
        /// Where it was looked for beside, and what the network says; empty when nowhere.
        tried: String,
    },
    /// It took too long.
    #[error("the server at {0} did not answer in time; try again, or look at its log")]
    TooSlow(String),
    /// The server said no.
    #[error("{message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// What it said, with its advice.
        message: String,
    },
    /// It is no MCP server, or not one that speaks this revision.
    #[error("{url} does not answer as an MCP server of revision {REVISION} does: {what}")]
    Strange {
        /// Who does not.
        url: String,
        /// What it did.
        what: String,
    },
}

impl ClientError {
    /// The exit code for it.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Unreachable { .. } | Self::Absent { .. } => Exit::Unreachable,
            Self::TooSlow(_) | Self::Refused { status: 408 | 429 | 503 | 504, .. } => Exit::Temporary,
            Self::Refused { status: 401 | 403, .. } => Exit::NotPermitted,
            Self::Refused { .. } | Self::Strange { .. } => Exit::Failure,
        }
    }
}

/// A request.
#[derive(Debug, Default)]
pub struct Ask<'a> {
    /// `tools/call` and its like.
    pub method: &'a str,
    /// What `Mcp-Name` says, for methods that have it.
    pub name: Option<&'a str>,
    /// The parameters without `_meta`.
    pub params: Map<String, Value>,
    /// `Mcp-Param-…` and their values.
    pub headers: Vec<(String, String)>,
    /// Whether to hear what happens meanwhile.
    pub listens: bool,
}

/// The way to one server.
pub struct Client {
    agent: ureq::Agent,
    /// Where requests go.
    to: String,
    /// What people are told of where.
    url: String,
    /// The data folder that no server runs on, where it was looked for there first.
    root: Option<String>,
    key: Option<Secret>,
    last_id: Cell<u64>,
}

impl Client {
    /// To the server at `url`, or to that of this configuration: at the address that is typed, else the one that runs on the data
    /// folder, else the one at the configured address. That of the folder is asked over the socket in it, which needs no key; with a
    /// key that shall be shown it is asked where others ask it, if that is the configured address and does not speak TLS: this
    /// client does not know who signed that certificate, and no key goes where nobody said.
    ///
    /// # Errors
    /// When a server owns the data folder and does not answer; when none runs there, and no address is configured that it could be
    /// reached at.
    pub fn of(config: &Config, url: Option<&str>) -> Result<Self, ClientError> {
        let patience = Duration::from_secs(config.server.timeout_seconds.saturating_add(PATIENCE_SECONDS));
        if let Some(url) = url {
            return Ok(Self::at(patience, config, url));
        }
        let root = config.server.data_dir.display().to_string();
        match Whereabouts::of(config)? {
            Whereabouts::Named(url) => Ok(Self::at(patience, config, &url)),
            Whereabouts::Here(url) if config.access.api_key.is_some() && !url.starts_with("https://") => {
                Ok(Self::at(patience, config, &url))
            }
            Whereabouts::Here(_) | Whereabouts::Elsewhere(_) => Ok(Self::over_socket(patience, config)),
            Whereabouts::Perhaps(Some(url)) if config.tls.cert.is_none() => {
                Ok(Self { root: Some(root), ..Self::at(patience, config, &url) })
            }
            Whereabouts::Perhaps(_) => Err(ClientError::Absent { root, tried: String::new() }),
        }
    }

    /// To the server at `url`, for who waits no longer than this.
    pub fn at(patience: Duration, config: &Config, url: &str) -> Self {
        let agent = manners(patience, url).new_agent();
        Self::by(agent, config, url, url.to_owned())
    }

    /// The same for a name that was looked up before: no other address is connected to, whatever it stands for by now.
    pub fn at_addresses(patience: Duration, config: &Config, url: &str, known: &[SocketAddr]) -> Self {
        let agent = pinned::agent(manners(patience, url), known.to_vec());
        Self::by(agent, config, url, url.to_owned())
    }

    fn over_socket(patience: Duration, config: &Config) -> Self {
        let root = &config.server.data_dir;
        let agent = local::agent(manners(patience, local::URL), root.join("data"));
        Self::by(agent, config, local::URL, format!("the socket in {}", root.display()))
    }

    fn by(agent: ureq::Agent, config: &Config, to: &str, url: String) -> Self {
        let (to, key) = (to.to_owned(), config.access.api_key.clone());
        Self { agent, to, url, root: None, key, last_id: Cell::new(0) }
    }

    /// Sends a request and waits for its result; `hear` is told every notification meanwhile.
    ///
    /// # Errors
    /// When nobody answers, or with an error.
    pub fn ask(&self, ask: Ask<'_>, hear: &mut dyn FnMut(&Value)) -> Result<Value, ClientError> {
        let id = self.last_id.get() + 1;
        self.last_id.set(id);
        let mut request = self.agent.post(&self.to).header("Content-Type", "application/json");
        request = request.header("Accept", "application/json, text/event-stream");
        request = request.header("MCP-Protocol-Version", REVISION).header("Mcp-Method", ask.method);
        for (name, value) in
            ask.name.map(|name| ("Mcp-Name".to_owned(), encode(name))).into_iter().chain(ask.headers)
        {
            request = request.header(name, value);
        }
        if let Some(key) = &self.key {
            request = request.header("Authorization", format!("Bearer {}", key.expose()));
        }
        let mut params = ask.params;
        params.insert("_meta".to_owned(), meta(id, ask.listens));
        let body = json!({"jsonrpc": "2.0", "id": id, "method": ask.method, "params": params});
        let mut response = request.send(body.to_string()).map_err(|error| self.failed(&error))?;
        let status = response.status().as_u16();
        let is_stream = response.body().mime_type() == Some("text/event-stream");
        let mut reader = response.body_mut().with_config().limit(ANSWER_MAX_BYTES).reader();
        let answer = if is_stream {
            last_event(BufReader::new(reader), hear)
        } else {
            let mut text = String::new();
            reader.read_to_string(&mut text).map(|_bytes| serde_json::from_str(&text).ok())
        };
        let answer = answer.map_err(|error| self.failed(&ureq::Error::from(error)))?;
        self.result_of(status, answer)
    }

    /// All tools, page by page.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub fn tools(&self) -> Result<Vec<Value>, ClientError> {
        let mut tools = Vec::new();
        let mut cursor: Option<Value> = None;
        for _ in 0..PAGES_MAX {
            let params = cursor.take().map(|cursor| ("cursor".to_owned(), cursor)).into_iter().collect();
            let mut page = self.ask(Ask { method: "tools/list", params, ..Ask::default() }, &mut |_| {})?;
            match page.get_mut("tools").map(Value::take) {
                Some(Value::Array(more)) => tools.extend(more),
                _ => return Err(self.strange("its list of tools is none")),
            }
            match page.get_mut("nextCursor").map(Value::take).filter(Value::is_string) {
                Some(next) => cursor = Some(next),
                None => return Ok(tools),
            }
        }
        Err(self.strange("its list of tools has no end"))
    }

    fn result_of(&self, status: u16, answer: Option<Value>) -> Result<Value, ClientError> {
        let Some(mut answer) = answer else {
            return Err(match status {
                200..=299 => self.strange("its answer has no result"),
                _ => ClientError::Refused {
                    status,
                    message: format!("{} answers with status {status}", self.url),
                },
            });
        };
        if let Some(result) = answer.get_mut("result").filter(|result| result.is_object()) {
            return Ok(result.take());
        }
        let error = answer.get("error").cloned().unwrap_or_default();
        let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
        match text(error.get("message")) {
            Some(message) => {
                let data = error.get("data");
                let advice =
                    text(data.and_then(|data| data.get("advice"))).or_else(|| text(error.get("advice")));
                let message = [Some(message), advice].into_iter().flatten().collect::<Vec<_>>().join("; ");
                Err(ClientError::Refused { status, message })
            }
            None => Err(self.strange("its answer has neither a result nor an error")),
        }
    }

    fn strange(&self, what: &str) -> ClientError {
        ClientError::Strange { url: self.url.clone(), what: what.to_owned() }
    }

    fn unreachable(&self, why: String) -> ClientError {
        let url = self.url.clone();
        match &self.root {
            Some(root) => {
                let tried = format!(", and none answers at {url} ({why})");
                ClientError::Absent { root: root.clone(), tried }
            }
            None => ClientError::Unreachable { url, why },
        }
    }

    fn failed(&self, error: &ureq::Error) -> ClientError {
        match error {
            ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve)
            | ureq::Error::HostNotFound
            | ureq::Error::ConnectionFailed => self.unreachable(error.to_string()),
            ureq::Error::Timeout(_) => ClientError::TooSlow(self.url.clone()),
            ureq::Error::Io(why) if why.kind() == std::io::ErrorKind::TimedOut => {
                ClientError::TooSlow(self.url.clone())
            }
            ureq::Error::Io(why) if why.kind() == std::io::ErrorKind::InvalidData => {
                self.strange(&why.to_string())
            }
            ureq::Error::Io(why) => self.unreachable(why.to_string()),
            ureq::Error::TlsRequired => {
                self.strange("this client speaks http:// only; name the server's own address")
            }
            other => self.strange(&other.to_string()),
        }
    }
}

fn manners(patience: Duration, to: &str) -> ureq::config::Config {
    ureq::Agent::config_builder()
        .tls_config(trust::of(to))
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(None)
        .timeout_connect(Some(Duration::from_secs(CONNECT_SECONDS)))
        .timeout_global(Some(patience))
        .build()
}

/// Where the server of this configuration is to listen, as seen from this machine.
pub fn url_of(config: &Config) -> String {
    format!("{}://{}:{}/mcp", config.scheme(), reachable(&config.server.host), config.server.port)
}

/// The host in a URL by which this machine reaches who listens there.
pub fn reachable(host: &str) -> String {
    match host {
        "0.0.0.0" => "127.0.0.1".to_owned(),
        "::" | "[::]" => "[::1]".to_owned(),
        v6 if v6.contains(':') && !v6.starts_with('[') => format!("[{v6}]"),
        host => host.to_owned(),
    }
}

/// Whether a URL leads to the server of this configuration: to its `public_url`, or to where on this machine it runs or is to run.
pub fn is_own(url: &str, config: &Config, runs_at: Option<&str>) -> bool {
    let Some(asked) = origin_of(url) else { return false };
    let configured = url_of(config);
    let near = [Some(&*configured), runs_at].into_iter().flatten().filter_map(origin_of).collect::<Vec<_>>();
    let is_near = |(scheme, host, port): (String, String, u16)| {
        let by_name = matches!(host.as_str(), "127.0.0.1" | "[::1]").then(|| "localhost".to_owned());
        [Some(host), by_name].into_iter().flatten().any(|host| asked == (scheme.clone(), host, port))
    };
    near.into_iter().any(is_near)
        || config.server.public_url.as_deref().and_then(origin_of).as_ref() == Some(&asked)
}

/// Scheme, host and port; none when a user stands before the host, whom people read for the host.
pub fn origin_of(url: &str) -> Option<(String, String, u16)> {
    let uri: ureq::http::Uri = url.parse().ok()?;
    let scheme = uri.scheme_str()?.to_ascii_lowercase();
    let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'))?;
    let port = authority.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
    Some((scheme, authority.host().to_ascii_lowercase(), port))
}

/// What a request says of its client.
pub fn meta(id: u64, listens: bool) -> Value {
    let mut meta = json!({
        "io.modelcontextprotocol/protocolVersion": REVISION,
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": {"name": "waygate-mcp-cli", "version": env!("CARGO_PKG_VERSION")},
    });
    if let (true, Some(members)) = (listens, meta.as_object_mut()) {
        members.insert("progressToken".to_owned(), id.into());
        members.insert("io.modelcontextprotocol/logLevel".to_owned(), "info".into());
    }
    meta
}

/// A header value: as it is where a header can carry it, else in the protocol's base64 form.
pub fn encode(value: &str) -> String {
    let carried = value.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) && value.trim() == value;
    let misread = value.starts_with("=?base64?") && value.ends_with("?=");
    if carried && !misread {
        return value.to_owned();
    }
    format!("=?base64?{}?=", base64::engine::general_purpose::STANDARD.encode(value))
}

/// Reads an event stream up to the answer; what comes before goes to `hear`.
fn last_event(stream: impl BufRead, hear: &mut dyn FnMut(&Value)) -> std::io::Result<Option<Value>> {
    let mut data = String::new();
    for line in stream.lines() {
        let line = line?;
        if let Some(more) = line.strip_prefix("data:") {
            if !data.is_empty() {
                data.push('\n');
            }
            data.push_str(more.strip_prefix(' ').unwrap_or(more));
        } else if line.is_empty() && !data.is_empty() {
            let message: Option<Value> = serde_json::from_str(&data).ok();
            data.clear();
            match message {
                Some(message) if message.get("method").is_some() => hear(&message),
                Some(answer) => return Ok(Some(answer)),
                None => {}
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: &str = "application/json";

    #[test]
    fn what_no_header_can_carry_is_encoded() {
        for plain in ["files__read_file", "", "a b", "=?base64?x", "=?BASE64?eA==?="] {
            assert_eq!(encode(plain), plain);
        }
        assert_eq!(encode("ä"), "=?base64?w6Q=?=");
        assert_eq!(encode(" x"), "=?base64?IHg=?=");
        assert_eq!(encode("a\nb"), "=?base64?YQpi?=");
        assert_eq!(encode("=?base64?eA==?="), "=?base64?PT9iYXNlNjQ/ZUE9PT89?=");
    }

    #[test]
    fn an_event_stream_is_read_up_to_its_answer() {
        let stream = ": hello\n\ndata: {\"method\":\"notifications/progress\"}\r\n\r\nevent: x\ndata:{\"id\":1,\ndata: \
                      \"result\":{}}\n\ndata: {}\n\n";
        let mut heard = 0;
        let answer = last_event(stream.as_bytes(), &mut |_| heard += 1).unwrap();
        assert_eq!((heard, answer), (1, Some(json!({"id": 1, "result": {}}))));
        assert_eq!(last_event(&b"data: {\"id\":1}"[..], &mut |_| {}).unwrap(), None, "cut off");
    }

    /// A server that gives these answers, one a connection, and hands back the requests.
    fn server(answers: &'static [[&'static str; 3]]) -> (String, std::thread::JoinHandle<Vec<String>>) {
        use std::io::Write as _;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap());
        let thread = std::thread::spawn(move || {
            let mut requests = Vec::new();
            for [status, kind, body] in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let mut request = String::new();
                while reader.read_line(&mut request).unwrap() > 2 {}
                let length = request.lines().find_map(|line| {
                    line.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned)
                });
                let mut sent = vec![0; length.unwrap().parse().unwrap()];
                reader.read_exact(&mut sent).unwrap();
                requests.push(request.to_ascii_lowercase() + &String::from_utf8(sent).unwrap());
                let length = body.len();
                write!(stream, "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}").unwrap();
            }
            requests
        });
        (url, thread)
    }

    fn client(url: &str) -> Client {
        Client::of(&config(), Some(url)).unwrap()
    }

    fn config() -> Config {
        let environment = vec![("WAYGATE_API_KEY".to_owned(), "the-key".to_owned())];
        let folder = std::path::PathBuf::from("/nowhere");
        let (home, working_folder, system_folder) = (Some(folder.clone()), folder.clone(), folder);
        let sources =
            crate::config::Sources { environment, home, working_folder, system_folder, ..Default::default() };
        crate::config::load(&sources).unwrap().config
    }

    #[test]
    fn a_url_is_our_own_by_its_scheme_host_and_port() {
        let folder = std::path::PathBuf::from("/nowhere");
        let environment = vec![("WAYGATE_PUBLIC_URL".to_owned(), "https://mcp.example.org".to_owned())];
        let (home, working_folder, system_folder) = (Some(folder.clone()), folder.clone(), folder);
        let sources =
            crate::config::Sources { environment, home, working_folder, system_folder, ..Default::default() };
        let config = crate::config::load(&sources).unwrap().config;
        for own in [
            "http://127.0.0.1:8000/mcp",
            "http://LOCALHOST:8000",
            "https://mcp.example.org/mcp",
            "https://MCP.example.org:443/",
        ] {
            assert!(is_own(own, &config, None), "{own}");
        }
        for foreign in [
            "http://mcp.example.org/mcp",
            "https://mcp.example.org:8443/mcp",
            "https://mcp.example.org.evil.test/mcp",
            "https://mcp.example.org@evil.test/mcp",
            "http://127.0.0.1:8000@evil.test/mcp",
            "https://evil.test\\@mcp.example.org/mcp",
            "http://127.0.0.1:9000/mcp",
            "https://127.0.0.1:8000/mcp",
            "/mcp",
        ] {
            assert!(!is_own(foreign, &config, None), "{foreign}");
        }
        // One that runs elsewhere than the configuration says.
        let runs_at = Some("http://127.0.0.1:9000/mcp");
        assert!(is_own("http://localhost:9000/mcp", &config, runs_at));
        assert!(!is_own("http://127.0.0.1:9001/mcp", &config, runs_at));
    }

    #[test]
    fn pages_are_followed_to_the_last_with_the_headers_of_the_revision() {
        let (url, server) = server(&[
            ["200 OK", JSON, r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"a"}],"nextCursor":""}}"#],
            ["200 OK", JSON, r#"{"jsonrpc":"2.0","id":2,"result":{"tools":[{"name":"b"}]}}"#],
        ]);
        assert_eq!(client(&url).tools().unwrap(), [json!({"name": "a"}), json!({"name": "b"})]);
        let requests = server.join().unwrap();
        for header in
            ["mcp-protocol-version: 2026-07-28", "mcp-method: tools/list", "authorization: bearer the-key"]
        {
            assert!(requests.iter().all(|request| request.contains(header)), "{header} in {requests:?}");
        }
        assert!(requests[1].contains(
            r#""params":{"cursor":"","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28""#
        ));
    }

    #[test]
    fn where_addresses_are_known_no_name_is_looked_up() {
        let (url, server) =
            server(&[["200 OK", JSON, r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"a"}]}}"#]]);
        let address: SocketAddr = url.trim_start_matches("http://").trim_end_matches("/mcp").parse().unwrap();
        let named = format!("http://nowhere.invalid:{}/mcp", address.port());
        let client = Client::at_addresses(Duration::from_secs(5), &config(), &named, &[address]);
        assert_eq!(client.tools().unwrap(), [json!({"name": "a"})]);
        assert!(server.join().unwrap()[0].contains("host: nowhere.invalid"));
    }

    #[test]
    fn each_failure_says_what_to_do_and_has_its_exit_code() {
        let (url, server) = server(&[
            [
                "401 Unauthorized",
                JSON,
                r#"{"jsonrpc":"2.0","error":{"code":-31401,"message":"no key","data":{"advice":"send one"}}}"#,
            ],
            ["503 Service Unavailable", "text/plain", "later"],
            ["200 OK", "text/html", "<html>"],
            ["200 OK", "text/event-stream", "data: {\"method\":\"x\"}\n\n"],
        ]);
        let client = client(&url);
        let wanted = [Exit::NotPermitted, Exit::Temporary, Exit::Failure, Exit::Failure, Exit::Unreachable];
        let mut errors: Vec<ClientError> = (0..4).map(|_| client.tools().unwrap_err()).collect();
        server.join().unwrap();
        errors.push(client.tools().unwrap_err());
        assert_eq!(errors.iter().map(ClientError::exit).collect::<Vec<_>>(), wanted, "{errors:?}");
        assert_eq!(errors[0].to_string(), "no key; send one");
        assert!(errors[4].to_string().contains("start one with `waygate-mcp`"), "{}", errors[4]);
    }
}
