//! The server that runs on the data folder, asked over the socket in it: the folder's permissions are the key.
//!
//! Must not know verbs, or what is asked.

use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Uri};
use hyper_util::rt::TokioIo;
use serde_json::Value;

use super::remote::ClientError;
use crate::config::Config;
use crate::storage::{DataFolder, socket};

/// How long a server that starts on the data folder is waited for.
const SERVER_WITHIN: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// A reload waits for servers to start, each within its own deadline; the server gives up after 120 s and says so, which must
/// be heard.
const ANSWER_WITHIN: Duration = Duration::from_secs(130);
/// What a server shows of itself is at hand: who waits longer wants to know that it does not work.
const SHOWN_WITHIN: Duration = Duration::from_secs(10);
const ANSWER_MAX_BYTES: usize = 64 << 20;

/// The way to it.
pub struct Running {
    root: PathBuf,
    answer_within: Duration,
}

impl Running {
    /// That of this configuration.
    pub fn of(config: &Config) -> Self {
        Self::at(&config.server.data_dir)
    }

    /// That of this data root.
    pub fn at(root: &Path) -> Self {
        Self { root: root.to_owned(), answer_within: ANSWER_WITHIN }
    }

    /// The same for who asks only for what a server shows of itself.
    pub fn at_hand(self) -> Self {
        Self { answer_within: SHOWN_WITHIN, ..self }
    }

    /// Reads what it shows at `path`; none when no server runs.
    ///
    /// # Errors
    /// When it does not answer, or with an error.
    pub fn get(&self, path: &str) -> Result<Option<Value>, ClientError> {
        self.ask(&Method::GET, path)
    }

    /// Bids it to do what `path` says; none when no server runs.
    ///
    /// # Errors
    /// As [`Running::get`].
    pub fn post(&self, path: &str) -> Result<Option<Value>, ClientError> {
        self.ask(&Method::POST, path)
    }

    /// That none runs, and where.
    pub fn none(&self) -> String {
        format!("no server runs on {}", self.root.display())
    }

    fn ask(&self, method: &Method, path: &str) -> Result<Option<Value>, ClientError> {
        let Some(stream) = self.connect()? else { return Ok(None) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| self.strange(&error.to_string()))?;
        let exchanged = runtime.block_on(async {
            tokio::time::timeout(self.answer_within, exchange(stream, method.clone(), path)).await
        });
        let (status, answer) = exchanged
            .map_err(|_elapsed| ClientError::TooSlow(self.root.display().to_string()))?
            .map_err(|error| self.strange(&error.to_string()))?;
        let answer: Value = serde_json::from_slice(&answer).unwrap_or_default();
        // One that is not well says so with 503, and not as a refusal.
        let is_told = (200..300).contains(&status) || status == 503 && answer.get("error").is_none();
        if is_told && answer.is_object() {
            return Ok(Some(answer));
        }
        let error = answer.get("error").unwrap_or(&Value::Null);
        let member = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
        let advice = member(error.get("data").and_then(|data| data.get("advice")))
            .or_else(|| member(error.get("advice")));
        let message = member(error.get("message"))
            .unwrap_or_else(|| format!("the server answers with status {status}"));
        let message = [Some(message), advice].into_iter().flatten().collect::<Vec<_>>().join("; ");
        Err(ClientError::Refused { status, message })
    }

    fn connect(&self) -> Result<Option<UnixStream>, ClientError> {
        let folder = self.root.join("data");
        let until = Instant::now() + SERVER_WITHIN;
        loop {
            match socket::connect(&folder, socket::SERVER) {
                Ok(stream) => return Ok(Some(stream)),
                Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                    return Err(ClientError::Refused { status: 403, message: error.to_string() });
                }
                // It owns the folder before it listens.
                Err(error) if error.kind() == ErrorKind::WouldBlock || DataFolder::is_owned(&folder) => {
                    if Instant::now() >= until {
                        return Err(self.strange(&error.to_string()));
                    }
                    std::thread::sleep(LOOK_EVERY);
                }
                Err(_nobody) => return Ok(None),
            }
        }
    }

    fn strange(&self, what: &str) -> ClientError {
        ClientError::Strange { url: format!("the server on {}", self.root.display()), what: what.to_owned() }
    }
}

async fn exchange(stream: UnixStream, method: Method, path: &str) -> anyhow::Result<(u16, Bytes)> {
    let stream = tokio::net::UnixStream::from_std(stream)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(async move {
        // What breaks shows at the answer.
        drop(connection.await);
    });
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.method_mut() = method;
    *request.uri_mut() = path.parse::<Uri>()?;
    request.headers_mut().insert(header::HOST, HeaderValue::from_static("localhost"));
    let response = sender.send_request(request).await?;
    let status = response.status().as_u16();
    let body = Limited::new(response.into_body(), ANSWER_MAX_BYTES).collect().await;
    connection.abort();
    body.map(|body| (status, body.to_bytes())).map_err(|error| anyhow::anyhow!(error))
}
