//! Waiting while the house is not built yet: for a database server that is not there, and for callers, who are told to come
//! back, since the socket is bound.
//!
//! A thread of its own accepts one connection at a time and answers it before it looks for the next, so that nobody who
//! was accepted is left without an answer when the server takes over.

use std::future::Future;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::config;
use crate::storage::{self, Storage, StorageError};

/// A start that is quicker than this needs no doorman …
const PATIENCE: Duration = Duration::from_millis(200);
/// … and where somebody keeps the socket over restarts, so that none fails a request, callers are meant to wait.
const PATIENCE_KEPT: Duration = Duration::from_secs(5);
/// How long one caller may take to say what it wants, and to hear the answer.
const CALLER_WITHIN: Duration = Duration::from_millis(250);
/// Between two looks for callers.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// The most that is read of a request.
const REQUEST_MAX_BYTES: usize = 64 * 1024;

const BODY: &str = r#"{"error":{"code":"unavailable","message":"the server is starting","advice":"retry after a moment"},"status":"starting","ready":false}"#;

/// Between two attempts at a database server, at first and at most.
const ATTEMPT_MIN: Duration = Duration::from_millis(100);
const ATTEMPT_MAX: Duration = Duration::from_secs(2);
/// Between two log lines about it.
const SAY_EVERY: Duration = Duration::from_secs(5);

/// Opens the database; a server that is away or full is waited for, `database.wait_seconds` long. Blocks.
///
/// # Errors
/// What `open` says last.
pub fn until_present(
    database: &config::Database,
    open: impl Fn() -> Result<Storage, StorageError>,
) -> Result<Storage, StorageError> {
    let began = Instant::now();
    let patience = Duration::from_secs(database.wait_seconds);
    let (mut pause, mut said) = (ATTEMPT_MIN, None::<Instant>);
    loop {
        match open() {
            Err(error)
                if storage::is_server(database) && error.is_absence() && began.elapsed() < patience =>
            {
                if said.is_none_or(|at| at.elapsed() >= SAY_EVERY) {
                    let left = patience.saturating_sub(began.elapsed()).as_secs();
                    log::warn!("the start waits for the database, {left} s more at most: {error}");
                    said = Some(Instant::now());
                }
            }
            opened => {
                if opened.is_ok() && said.is_some() {
                    log::info!(waited_ms = began.elapsed().as_millis() as u64; "the database is there");
                }
                return opened;
            }
        }
        std::thread::sleep(pause.min(patience.saturating_sub(began.elapsed())));
        pause = (pause * 2).min(ATTEMPT_MAX);
    }
}

/// Where callers come in while the server starts.
pub struct Doorstep<'a> {
    /// What they connect to.
    pub listener: &'a TcpListener,
    /// Whether somebody else keeps it over restarts.
    pub is_kept: bool,
    /// With it, TLS is spoken.
    pub tls: Option<Arc<ServerConfig>>,
}

/// Waits for `work`; when it takes long, answers 503 on the doorstep meanwhile.
pub async fn serve_while<T>(work: impl Future<Output = T>, doorstep: Doorstep<'_>) -> T {
    let mut work = std::pin::pin!(work);
    let patience = if doorstep.is_kept { PATIENCE_KEPT } else { PATIENCE };
    if let Ok(done) = tokio::time::timeout(patience, &mut work).await {
        return done;
    }
    let ends = Arc::new(AtomicBool::new(false));
    let Doorstep { listener, tls, .. } = doorstep;
    let doorman = listener.try_clone().ok().and_then(|listener| {
        let ends = Arc::clone(&ends);
        let stand = move || stand(&listener, tls.as_ref(), &ends);
        std::thread::Builder::new().name("doorman".to_owned()).spawn(stand).ok()
    });
    let done = work.await;
    ends.store(true, Ordering::Release);
    if let Some(doorman) = doorman {
        // Not long: it is answering one caller at most. A panic of it is in the log, and harms no more.
        drop(actix_web::web::block(move || doorman.join().is_ok()).await);
    }
    done
}

fn stand(listener: &TcpListener, tls: Option<&Arc<ServerConfig>>, ends: &AtomicBool) {
    while !ends.load(Ordering::Acquire) {
        match listener.accept() {
            // Who hangs up has no need of an answer.
            Ok((caller, _)) => drop(answer(&caller, tls)),
            // Nobody there, or no file for another one.
            Err(_) => std::thread::sleep(LOOK_EVERY),
        }
    }
}

/// A caller, whom nothing is waited for past its time: TLS reads as often as it likes for what is one reading to us.
struct Caller<'a> {
    stream: &'a TcpStream,
    heard_until: Instant,
    told_until: Instant,
}

/// What is left until then.
fn left(until: Instant) -> std::io::Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}

impl Read for Caller<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        self.stream.set_read_timeout(Some(left(self.heard_until)?))?;
        self.stream.read(into)
    }
}

impl Write for Caller<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.stream.set_write_timeout(Some(left(self.told_until)?))?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.stream.flush()
    }
}

fn answer(stream: &TcpStream, tls: Option<&Arc<ServerConfig>>) -> std::io::Result<()> {
    stream.set_nonblocking(false)?;
    let heard_until = Instant::now() + CALLER_WITHIN;
    let mut caller = Caller { stream, heard_until, told_until: heard_until + CALLER_WITHIN };
    match tls {
        None => say(&mut caller)?,
        Some(tls) => {
            let link = ServerConnection::new(Arc::clone(tls)).map_err(std::io::Error::other)?;
            let mut secure = StreamOwned::new(link, &mut caller);
            say(&mut secure)?;
            secure.conn.send_close_notify();
            secure.flush()?;
        }
    }
    stream.shutdown(Shutdown::Write)?;
    hear(&mut caller, |_| false)
}

/// Hears the request out, since closing a connection with something unread would cut off the answer, and answers.
fn say(stream: &mut (impl Read + Write)) -> std::io::Result<()> {
    hear(stream, |heard| heard.windows(4).any(|end| end == b"\r\n\r\n"))?;
    let length = BODY.len();
    write!(
        stream,
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
         Retry-After: 1\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n{BODY}"
    )?;
    stream.flush()
}

/// Reads until `enough`, the end, the limit, or the time.
fn hear(stream: &mut impl Read, enough: impl Fn(&[u8]) -> bool) -> std::io::Result<()> {
    let mut heard = Vec::new();
    let mut part = [0; 4096];
    while heard.len() < REQUEST_MAX_BYTES && !enough(&heard) {
        match stream.read(&mut part) {
            Ok(0) => break,
            Ok(count) => heard.extend_from_slice(part.get(..count).unwrap_or_default()),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tls() -> Arc<ServerConfig> {
        let rcgen::CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config =
            ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        Arc::new(config.with_no_client_auth().with_single_cert(vec![cert.into()], key).unwrap())
    }

    #[test]
    fn who_lets_a_handshake_drip_is_left_when_its_time_is_over() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let (tls, (left, is_left)) = (tls(), std::sync::mpsc::channel());
        std::thread::spawn(move || left.send(answer(&accepted, Some(&tls)).is_err()));
        // The head of a message of 16 KiB, which then comes byte by byte.
        client.write_all(&[0x16, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc]).unwrap();
        let until = Instant::now() + CALLER_WITHIN * 20;
        let told = loop {
            match is_left.recv_timeout(CALLER_WITHIN / 5) {
                Ok(told) => break told,
                Err(_) => assert!(Instant::now() < until, "it is waited for as long as bytes come"),
            }
            drop(client.write_all(&[0]));
        };
        assert!(told, "it has heard nothing that could be answered");
    }
}
