//! A server that is a child process: messages as lines on its stdin and stdout, many at once, told apart by their ids.
//!
//! Reading order: here, the process from its start to its end; `routes`, whom a message belongs to; `lines`, `writer` and
//! `stderr`, its three streams; `answers`, what can be told of a line that cannot be read; `environment`, what it finds.
//! Must not know what messages mean, nor why a process is started again.

mod answers;
mod environment;
mod inbox;
mod lines;
mod routes;
mod stderr;
mod veil;
mod writer;

use std::ffi::OsString;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use rustix::fs::{CWD, Mode, OFlags, openat};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Flow, Link, LinkError, Outgoing};
use crate::config::plugin::{Sandbox, StdioReach};
use crate::plugins::child::lock::Lock;
use crate::plugins::child::{
    Child, ChildError, Confined, Confinement, ENDS_WITHIN, Ended, Guard, Life, Order, Started, Tree,
};
use lines::{Lines, Piece};
use routes::Routes;
pub use stderr::Heard;
use stderr::Said;
use veil::Veil;
use writer::STUCK_AFTER;

/// How long a program may take to end once its stdin is closed; and then again, once it got SIGTERM.
const GRACE: Duration = Duration::from_secs(2);
/// How long a process may take to become the program: it may have to look through large folders first.
const STARTS_WITHIN: Duration = Duration::from_secs(10);
/// How long what was said last may take to come out of the pipes.
const DRAINS_WITHIN: Duration = Duration::from_millis(500);
/// Messages that wait to be written.
const QUEUE_MAX: usize = 256;

/// A server that is a child process. Dropping it ends the process and everything it started.
#[derive(Debug)]
pub struct StdioLink {
    shared: Arc<Shared>,
    queue: mpsc::Sender<Bytes>,
    strays_taken: AtomicBool,
    closing: CancellationToken,
    over: watch::Receiver<bool>,
    _ends: DropGuard,
}

/// What its tasks and its holder both know.
#[derive(Debug)]
struct Shared {
    /// The program's path, without what it was given.
    command: String,
    started: Started,
    tree: Option<Tree>,
    started_at: jiff::Timestamp,
    sandbox: Value,
    /// Why its walls do not stand that were asked for.
    unwalled: Option<String>,
    routes: Arc<Routes>,
    said: Said,
    last_exit: Mutex<Option<String>>,
}

impl StdioLink {
    /// Starts the program of the plugin whose programs say what is kept in `heard`. Its variables are `environment`, which is `reach.env` resolved, and few of
    /// Waygate's own. It works in `folder`, which is made when it is the plugin's private one, and may use nothing in the
    /// `denied` folders. A `lock` is held for as long as anything of it is there.
    ///
    /// # Errors
    /// Why it does not run; nothing of it is left then.
    pub async fn start(
        heard: &Arc<Heard>,
        reach: &StdioReach,
        environment: Vec<(OsString, OsString)>,
        folder: PathBuf,
        (guard, lock): (&Guard, Option<Lock>),
        denied: &[PathBuf],
        response_max_bytes: usize,
    ) -> Result<Self, LinkError> {
        let unreachable = |why: String| LinkError::Unreachable(format!("the server does not run: {why}"));
        let veil = Arc::new(Veil::new(environment::secrets(reach, &environment)));
        let (wanted, guard, denied) = (reach.clone(), guard.clone(), denied.to_vec());
        // Looking for a program, opening folders and starting a process block.
        let starts = move || {
            let order = Order { lock, ..order(&wanted, environment, &folder, &denied)? };
            let command = order.program.display().to_string();
            let child = guard.start(order).map_err(|error| error.to_string())?;
            Ok((command, child))
        };
        // The pipes belong to the runtime that this runs on.
        let started: Result<(String, Child), String> =
            tokio::task::spawn_blocking(starts).await.map_err(|error| unreachable(error.to_string()))?;
        let (command, child) = started.map_err(unreachable)?;
        let Child { stdin, stdout, stderr, mut life } = child;
        let begun = timeout(STARTS_WITHIN, life.started()).await;
        let started = match begun {
            Ok(Ok(started)) => started,
            Ok(Err(error)) => return Err(unreachable(error.to_string())),
            Err(_elapsed) => {
                let why = format!("it has not started within {} s", STARTS_WITHIN.as_secs());
                return Err(unreachable(why));
            }
        };
        let plugin = Arc::clone(heard.plugin());
        let unwalled = warn_of_walls(&plugin, &reach.sandbox, &started);
        let shared = Arc::new(Shared {
            command,
            tree: life.tree(),
            started_at: jiff::Timestamp::now(),
            sandbox: sandbox(&reach.sandbox, &started),
            started,
            unwalled,
            routes: Routes::new(Arc::clone(&plugin), Arc::clone(&veil), response_max_bytes),
            said: Said::new(Arc::clone(heard), veil),
            last_exit: Mutex::default(),
        });
        let (queue, messages) = mpsc::channel(QUEUE_MAX);
        let closing = CancellationToken::new();
        let (ended, over) = watch::channel(false);
        let (of_reader, of_stderr, of_writer) =
            (Arc::clone(&shared), Arc::clone(&shared), Arc::clone(&shared));
        let told = closing.clone();
        let streams = Streams {
            reader: Task::of(
                async move { read(Lines::new(stdout, response_max_bytes), &of_reader.routes).await },
            ),
            stderr: Task::of(async move { of_stderr.said.hear(stderr).await }),
            writer: Task::of(async move {
                let Some(pipe) = stdin else { return Ok(()) };
                writer::write(pipe, messages, told, &of_writer.routes).await
            }),
        };
        let (watched, told) = (Arc::clone(&shared), closing.clone());
        tokio::spawn(async move {
            see_through(life, streams, &watched, &told).await;
            ended.send_replace(true);
        });
        let _ends = closing.clone().drop_guard();
        Ok(Self { shared, queue, strays_taken: AtomicBool::new(false), closing, over, _ends })
    }

    /// Puts a message into the queue, in its turn.
    fn send(&self, message: Bytes) -> BoxFuture<'static, Result<(), LinkError>> {
        let routes = Arc::clone(&self.shared.routes);
        let gone = move || {
            let why = routes.broken().unwrap_or_else(|| "it takes no messages any more".to_owned());
            LinkError::Unreachable(why)
        };
        match self.queue.try_send(message) {
            Ok(()) => Box::pin(std::future::ready(Ok(()))),
            Err(mpsc::error::TrySendError::Closed(_)) => Box::pin(std::future::ready(Err(gone()))),
            Err(mpsc::error::TrySendError::Full(message)) => {
                let queue = self.queue.clone();
                Box::pin(async move {
                    match timeout(STUCK_AFTER, queue.send(message)).await {
                        Ok(sent) => sent.map_err(|_closed| gone()),
                        Err(_elapsed) => Err(LinkError::Unreachable(format!(
                            "{QUEUE_MAX} messages wait to be read by the server, and none was for {} s",
                            STUCK_AFTER.as_secs()
                        ))),
                    }
                })
            }
        }
    }
}

impl Link for StdioLink {
    fn ask(&self, request: Outgoing) -> BoxFuture<'static, Result<Flow, LinkError>> {
        // Before it is sent, for an answer may be quick.
        let flow = match self.shared.routes.wait_for(request.id) {
            Ok(flow) => flow,
            Err(error) => return Box::pin(std::future::ready(Err(error))),
        };
        let sent = self.send(request.body);
        Box::pin(async move { sent.await.map(|()| flow) })
    }

    fn tell(
        &self,
        message: Bytes,
        _version: Option<&'static str>,
    ) -> BoxFuture<'static, Result<(), LinkError>> {
        self.send(message)
    }

    fn strays(&self) -> Flow {
        if self.strays_taken.swap(true, Ordering::Relaxed) {
            return Flow::none();
        }
        self.shared.routes.strays()
    }

    fn cancels_by_closing(&self) -> bool {
        false
    }

    fn close(&self) -> BoxFuture<'static, ()> {
        self.closing.cancel();
        let mut over = self.over.clone();
        Box::pin(async move {
            // An error is the end of the task that would say so, and of the process with it.
            let _over = over.wait_for(|over| *over).await;
        })
    }

    fn trouble(&self) -> Option<String> {
        self.shared.unwalled.clone()
    }

    fn veiled(&self, text: &str) -> String {
        self.shared.routes.veiled(text)
    }

    fn report(&self) -> Value {
        let Shared { command, started, tree, started_at, sandbox, routes, last_exit, .. } = &*self.shared;
        let counts = &routes.counts;
        let count = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
        let mut report = json!({
            "transport": "stdio",
            "command": command,
            "pid": started.pid,
            "startedAt": started_at.to_string(),
            "bytesIn": count(&counts.bytes_in),
            "bytesOut": count(&counts.bytes_out),
            "pending": routes.pending(),
            "noise": count(&counts.noise),
            "late": count(&counts.late),
            "dropped": count(&counts.dropped),
            "sandbox": sandbox,
        });
        let last_exit = last_exit.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // A guard that is gone may have given its number to another process.
        let usage =
            if *self.over.borrow() || last_exit.is_some() { None } else { tree.and_then(Tree::usage) };
        if let Some(members) = report.as_object_mut() {
            if let Some(usage) = usage {
                members.insert("cpuSeconds".to_owned(), json!(usage.cpu_seconds));
                members.insert("rssBytes".to_owned(), json!(usage.rss_bytes));
                members.insert("processes".to_owned(), json!(usage.processes));
            }
            if let Some(exit) = last_exit {
                members.insert("lastExit".to_owned(), exit.into());
            }
        }
        report
    }
}

/// What is to be run, or why it cannot be.
fn order(
    reach: &StdioReach,
    resolved: Vec<(OsString, OsString)>,
    folder: &Path,
    denied: &[PathBuf],
) -> Result<Order, String> {
    if reach.args.iter().any(|argument| argument.contains('\0')) {
        return Err("an argument holds a NUL, which no program can be given; remove it".to_owned());
    }
    let mut variables = environment::variables(reach, resolved, |name| std::env::var_os(name));
    let unusable = |error: std::io::Error| format!("its folder {} cannot be used: {error}", folder.display());
    if reach.cwd.is_none() {
        std::fs::create_dir_all(folder).map_err(unusable)?;
        environment::make_at_home(&mut variables, reach, denied, folder);
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = openat(CWD, folder, flags, Mode::empty()).map_err(|errno| unusable(errno.into()))?;
    Ok(Order {
        program: environment::program(&reach.command, &variables)?,
        arguments: reach.args.iter().map(OsString::from).collect(),
        environment: variables,
        folder: opened,
        feeds: true,
        grace: GRACE,
        confinement: Some(Confinement::of(&reach.sandbox, denied)),
        lock: None,
    })
}

fn sandbox(asked: &Sandbox, started: &Started) -> Value {
    json!({
        "noNewPrivileges": true,
        "memoryMaxBytes": asked.memory_max_bytes,
        "filesMax": asked.files_max,
        "cpuSecondsMax": asked.cpu_seconds_max,
        "folders": asked.folders.as_ref().map(Vec::len),
        "network": !asked.no_network,
        "required": asked.required,
        "landlock": started.confined.as_str(),
        "landlockLacks": started.why,
    })
}

/// The same as [`unwalled`], told in the log, too, as is that nobody's walls stand.
fn warn_of_walls(plugin: &str, asked: &Sandbox, started: &Started) -> Option<String> {
    let unwalled = unwalled(asked, started);
    if let Some(why) = unwalled.clone().or_else(|| exposed(started)) {
        log::warn!(plugin = plugin; "plugin {plugin}: {why}");
    }
    unwalled
}

/// What is kept from every program, if it is not kept from this one.
fn exposed(started: &Started) -> Option<String> {
    let why = started.why.as_deref().unwrap_or("this kernel's Landlock cannot be used");
    (started.confined == Confined::NotAvailable).then(|| {
        format!("its program may read all that its user may, Waygate's data and keys included ({why})")
    })
}

/// What an operator must know whose walls do not stand: the program runs all the same.
fn unwalled(asked: &Sandbox, started: &Started) -> Option<String> {
    let how = match started.confined {
        Confined::Unasked | Confined::Enforced => return None,
        Confined::Partly => "hold only in part",
        Confined::NotAvailable => "do not hold",
    };
    let why = started.why.as_deref().unwrap_or("this kernel's Landlock cannot be used");
    (asked.folders.is_some() || asked.no_network).then(|| {
        format!(
            "its program runs, but the walls of `sandbox` {how} ({why}): run it where they do, trust it and take them out \
             of its file, or set sandbox.required"
        )
    })
}

/// A task that ends with this value, and whose result is fetched once.
struct Task<T> {
    handle: JoinHandle<T>,
    done: bool,
}

impl<T: Send + 'static> Task<T> {
    fn of(work: impl Future<Output = T> + Send + 'static) -> Self {
        Self { handle: tokio::spawn(work), done: false }
    }

    /// Waits for its end. After that it waits for ever.
    async fn end(&mut self) -> Option<T> {
        if self.done {
            return std::future::pending().await;
        }
        let result = (&mut self.handle).await;
        self.done = true;
        result.ok()
    }

    /// Gives it a little while to end.
    async fn end_within(&mut self, while_: Duration) {
        if !self.done {
            let _late = timeout(while_, self.end()).await;
        }
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

struct Streams {
    reader: Task<Result<(), String>>,
    stderr: Task<()>,
    writer: Task<Result<(), String>>,
}

/// Reads messages to the end of stdout.
async fn read(mut lines: Lines<impl tokio::io::AsyncRead + Unpin>, routes: &Routes) -> Result<(), String> {
    let mut tail_tells = false;
    let count = |bytes: usize| {
        routes.counts.bytes_in.fetch_add(bytes as u64, Ordering::Relaxed);
    };
    while let Some(piece) = lines.next(count).await.map_err(|error| error.to_string())? {
        match piece {
            Piece::Line(line) => routes.line(&line)?,
            Piece::Cut(head) => tail_tells = routes.cut(&head),
            Piece::Rest(tail) if std::mem::take(&mut tail_tells) => routes.rest(&tail)?,
            Piece::Rest(_) => {}
            Piece::Endless => return Err("it sent a line without end".to_owned()),
        }
        if !lines.has_more() {
            // A flood must not hold up the others on this thread.
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}

/// Sees a program through to its end, by itself or because it shall. Nothing of it is left then.
async fn see_through(mut life: Life, mut streams: Streams, shared: &Shared, closing: &CancellationToken) {
    let mut deadline = None;
    let mut why = None;
    let mut ended = tokio::select! {
        ended = life.ended() => Some(ended),
        over = streams.reader.end() => {
            why = over.and_then(Result::err).or_else(|| Some("it closed its stdout".to_owned()));
            None
        }
        over = streams.writer.end() => {
            why = over.and_then(Result::err);
            None
        }
        () = closing.cancelled() => None,
    };
    if ended.is_none() && !closing.is_cancelled() {
        // It may just be ending; then how it did is more to the point.
        ended = timeout(DRAINS_WITHIN, life.ended()).await.ok();
    }
    let by_itself = ended.is_some();
    if ended.is_none() {
        streams.writer.end_within(DRAINS_WITHIN).await;
        streams.writer.handle.abort();
        let polite = closing.is_cancelled();
        ended = if polite { timeout(GRACE, life.ended()).await.ok() } else { None };
        if ended.is_none() {
            life.end();
            let until = Instant::now() + GRACE.saturating_add(ENDS_WITHIN);
            deadline = Some(until);
            ended = timeout_at(until, life.ended()).await.ok();
        }
    }
    // What it said before it ended is still an answer. Whoever it left behind may hold the pipes.
    streams.reader.end_within(DRAINS_WITHIN).await;
    streams.stderr.end_within(DRAINS_WITHIN).await;
    let exit = exit(ended.as_ref(), &shared.said);
    shared.said.heard().note_exit(&exit);
    *shared.last_exit.lock().unwrap_or_else(PoisonError::into_inner) = Some(exit.clone());
    let (sentence, closed) = match why {
        _ if closing.is_cancelled() => ("the server was told to end".to_owned(), true),
        Some(why) if !by_itself => (format!("the server was ended, because {why}"), false),
        _ => (format!("the server ended before it answered: {exit}"), false),
    };
    shared.routes.end(&sentence, closed);
    let deadline = deadline.unwrap_or_else(|| Instant::now() + GRACE.saturating_add(ENDS_WITHIN));
    life.gone_by(deadline).await;
}

/// How a program ended, and what it said last.
fn exit(ended: Option<&Result<Ended, ChildError>>, said: &Said) -> String {
    let how = match ended {
        Some(Ok(Ended::Exited(code))) => format!("it exited with code {code}"),
        Some(Ok(Ended::Signaled(signal))) => format!("it was killed by signal {signal}"),
        Some(Err(error)) => error.to_string(),
        None => ChildError::GuardSilent.to_string(),
    };
    let last = said.last().map(|line| format!("; it last said on stderr: {line}"));
    how + &last.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operator_hears_of_walls_that_were_asked_for_and_do_not_hold() {
        let (none, walled) = (Sandbox::default(), Sandbox { no_network: true, ..Sandbox::default() });
        let started = |confined| Started { pid: 1, confined, why: Some("it is off".to_owned()) };
        for confined in [Confined::Partly, Confined::NotAvailable] {
            let says = unwalled(&walled, &started(confined)).unwrap();
            assert!(says.contains("it is off") && unwalled(&none, &started(confined)).is_none(), "{says}");
            assert_eq!(exposed(&started(confined)).is_some(), confined == Confined::NotAvailable);
        }
        assert_eq!(unwalled(&walled, &started(Confined::Enforced)), None);
    }
}
