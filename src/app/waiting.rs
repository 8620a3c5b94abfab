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

/// A start that is quicker than this needs no doorman.
const PATIENCE: Duration = Duration::from_millis(200);
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

/// Waits for `work`; when it takes long, answers 503 on `listener` meanwhile, over TLS where that is spoken.
pub async fn serve_while<T>(
    work: impl Future<Output = T>,
    listener: &TcpListener,
    tls: Option<Arc<ServerConfig>>,
) -> T {
    let mut work = std::pin::pin!(work);
    if let Ok(done) = tokio::time::timeout(PATIENCE, &mut work).await {
        return done;
    }
    let ends = Arc::new(AtomicBool::new(false));
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

fn answer(caller: &TcpStream, tls: Option<&Arc<ServerConfig>>) -> std::io::Result<()> {
    caller.set_nonblocking(false)?;
    caller.set_write_timeout(Some(CALLER_WITHIN))?;
    let until = Instant::now() + CALLER_WITHIN;
    let mut stream = caller;
    match tls {
        None => say(&mut stream, caller, until)?,
        Some(tls) => {
            let link = ServerConnection::new(Arc::clone(tls)).map_err(std::io::Error::other)?;
            let mut secure = StreamOwned::new(link, caller);
            say(&mut secure, caller, until)?;
            secure.conn.send_close_notify();
            secure.flush()?;
        }
    }
    caller.shutdown(Shutdown::Write)?;
    hear(&mut stream, caller, until, |_| false)
}

/// Hears the request out, since closing a connection with something unread would cut off the answer, and answers.
fn say(stream: &mut (impl Read + Write), caller: &TcpStream, until: Instant) -> std::io::Result<()> {
    hear(stream, caller, until, |heard| heard.windows(4).any(|end| end == b"\r\n\r\n"))?;
    let length = BODY.len();
    write!(
        stream,
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
         Retry-After: 1\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n{BODY}"
    )?;
    stream.flush()
}

/// Reads until `enough`, the end, the limit, or the time.
fn hear(
    stream: &mut impl Read,
    caller: &TcpStream,
    until: Instant,
    enough: impl Fn(&[u8]) -> bool,
) -> std::io::Result<()> {
    let mut heard = Vec::new();
    let mut part = [0; 4096];
    while heard.len() < REQUEST_MAX_BYTES && !enough(&heard) {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        caller.set_read_timeout(Some(left))?;
        match stream.read(&mut part) {
            Ok(0) => break,
            Ok(count) => heard.extend_from_slice(part.get(..count).unwrap_or_default()),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
