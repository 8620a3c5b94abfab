//! `stdio`: the server for one client on stdin and stdout: by the server that runs on the data folder, or by a stack of
//! its own. Must not know the protocol.

use std::cell::RefCell;
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_util::future::LocalBoxFuture;
use rustix::io::fcntl_dupfd_cloexec;
use tokio::net::UnixStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::serve::{exit_of, fail};
use super::{Exit, output};
use crate::app::{App, Builder, Ended, StartError};
use crate::config::{Config, Loaded};
use crate::stdio::{self, Manners, Way};
use crate::storage::{DataFolder, socket};
use crate::telemetry::logging::{self, LogHandle};

pub const ABOUT: &str = "\
Serve one client on stdin and stdout, as desktop clients want it: one JSON-RPC message a line.

Where a server runs on the data folder, everything is forwarded to it over the socket in that folder, which needs no
key: the folder's permissions are the key. Where none runs, this process serves by itself, with the same configuration,
plugins and history, until its client leaves; several such processes may run at once.

On stdout is MCP and nothing else; the log goes to stderr and to the log file. It ends when stdin ends: requests in
flight have server.drain_seconds to finish.";

pub const EXAMPLES: &str = r#"Examples:
  waygate-mcp stdio
  waygate-mcp stdio --data-dir /srv/waygate

  In the configuration of a desktop client:
  {"mcpServers": {"waygate": {"command": "waygate-mcp", "args": ["stdio"]}}}

  By hand:
  echo '{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"by-hand","version":"1"}}}' | waygate-mcp stdio
"#;

/// How long a server that starts or stops on the data folder is waited for.
const SERVER_WITHIN: Duration = Duration::from_secs(10);
/// Between two looks for it.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// After an own stack could not be started for a reason that waiting does not mend, until it is tried again.
const TRY_EVERY: Duration = Duration::from_secs(5);
/// Beyond the longest call, until a server that says nothing is given up.
const SILENCE_MORE: Duration = Duration::from_secs(60);

/// Serves until the client leaves.
pub fn run(builder: Builder, loaded: &Loaded) -> ExitCode {
    let config = &loaded.config;
    let streams = match take_streams() {
        Ok(streams) => streams,
        Err(error) => return fail(&format!("stdin and stdout cannot be used: {error}"), Exit::CannotCreate),
    };
    let logs = config.server.data_dir.join("logs");
    let log = match logging::start(&config.log, config.log.file.then_some(&*logs), false) {
        Ok(log) => log,
        Err(error) => return fail(&error.to_string(), Exit::CannotCreate),
    };
    for note in &loaded.notes {
        log::info!("{note}");
    }
    let exit = actix_rt::System::new().block_on(live(builder, config, streams, &log));
    log.flush();
    // A blocked thread of a plugin, or the one that reads stdin, would hold it.
    std::process::exit(i32::from(exit.code()))
}

/// Takes stdin and stdout for MCP alone: whoever else in this process reads or prints, reads nothing and prints to stderr.
fn take_streams() -> std::io::Result<(File, File)> {
    let input = File::from(fcntl_dupfd_cloexec(std::io::stdin(), 3)?);
    let output = File::from(fcntl_dupfd_cloexec(std::io::stdout(), 3)?);
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    rustix::stdio::dup2_stdout(std::io::stderr())?;
    Ok((input, output))
}

async fn live(builder: Builder, config: &Config, streams: (File, File), log: &LogHandle) -> Exit {
    let signals = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::user_defined1()].map(signal);
    let [Ok(mut terminate), Ok(mut interrupt), Ok(mut reopen)] = signals else {
        output::say("waygate-mcp: signals cannot be received");
        return Exit::Internal;
    };
    let backing = Backing::new(builder, config);
    let mut signalled = async || {
        loop {
            tokio::select! {
                _ = terminate.recv() => return,
                _ = interrupt.recv() => return,
                _ = reopen.recv() => log.reopen(),
            }
        }
    };
    // Before anything is read: what keeps a server from starting is better said by an exit code than to each request.
    let reached = tokio::select! {
        // A connection that nobody speaks over would only count as one.
        reached = backing.reach() => reached.map(drop),
        () = signalled() => return Exit::Ok,
    };
    if let Err(error) = reached {
        fail(&error.to_string(), exit_of(&error));
        return exit_of(&error);
    }
    let server = &config.server;
    let longest = [config.system.timeout_seconds, config.mcp.input_timeout_seconds];
    let longest = longest.into_iter().fold(server.timeout_seconds, u64::saturating_add);
    let manners = Manners {
        line_max_bytes: server.body_max_bytes,
        silence: Duration::from_secs(longest) + SILENCE_MORE,
        drain: Duration::from_secs(server.drain_seconds),
    };
    let stop = async || {
        tokio::select! {
            () = signalled() => {}
            () = backing.doom.cancelled() => {}
        }
    };
    let translated = stdio::translate(streams, Box::new(Rc::clone(&backing)), manners, stop).await;
    if let Err(error) = translated {
        fail(&format!("stdin and stdout cannot be used: {error}"), Exit::CannotCreate);
        return Exit::CannotCreate;
    }
    tokio::select! {
        exit = backing.stop() => exit,
        () = signalled() => Exit::Internal,
    }
}

/// The server behind: the one that runs on the data folder, or an own one.
struct Backing {
    builder: Builder,
    config: Config,
    folder: PathBuf,
    own: Mutex<Option<Own>>,
    /// Tripped when the own stack is not live any more.
    doom: CancellationToken,
    /// Why the own stack could not be started, and when that was tried.
    failed: RefCell<Option<(Instant, Rc<StartError>)>>,
    /// Whom the client was last connected with, for the log.
    told: RefCell<&'static str>,
}

/// A stack of this process, and who watches it.
struct Own {
    app: App,
    watch: AbortOnDropHandle<()>,
}

impl Backing {
    fn new(builder: Builder, config: &Config) -> Rc<Self> {
        let folder = config.server.data_dir.join("data");
        Rc::new(Self {
            builder,
            config: config.clone(),
            folder,
            own: Mutex::default(),
            doom: CancellationToken::new(),
            failed: RefCell::default(),
            told: RefCell::default(),
        })
    }

    /// A connection to the server; an own one is started where none runs.
    async fn reach(&self) -> Result<std::os::unix::net::UnixStream, Rc<StartError>> {
        let mut own = self.own.lock().await;
        if own.is_none() {
            if let Some(stream) = self.reach_running().await {
                self.tell("the server that runs on the data folder");
                return Ok(stream);
            }
            let app = self.start_own().await?;
            *own = Some(Own { watch: self.watch(&app), app });
            self.tell("a stack of its own, for no server runs on the data folder");
        }
        let place = own.as_ref().map_or(&*self.folder, |own| own.app.place());
        let connected = connect(place, || false).await;
        connected.map_err(|error| Rc::new(StartError::Part(error.to_string())))
    }

    /// Starts an own stack. What nobody but the operator can mend is not tried again for each request.
    async fn start_own(&self) -> Result<App, Rc<StartError>> {
        let failed = self.failed.borrow().clone();
        if let Some((when, error)) = failed
            && when.elapsed() < TRY_EVERY
        {
            return Err(error);
        }
        let started = App::start_beside(self.builder.clone(), &self.config).await.map_err(Rc::new);
        let failed = started.as_ref().err().filter(|error| exit_of(error) != Exit::Temporary);
        *self.failed.borrow_mut() = failed.map(|error| (Instant::now(), Rc::clone(error)));
        started
    }

    /// The server that owns the data folder. One that has just got it, or is about to let it go, is waited for.
    async fn reach_running(&self) -> Option<std::os::unix::net::UnixStream> {
        let is_owned = || DataFolder::is_owned(&self.folder);
        let connected = connect(&self.folder, is_owned).await;
        if let Err(error) = &connected
            && is_owned()
        {
            log::warn!("the server on the data folder cannot be reached: {error}");
        }
        connected.ok()
    }

    /// Ends this process when something vital in its own stack was given up: its client starts it again.
    fn watch(&self, app: &App) -> AbortOnDropHandle<()> {
        let (doomed, doom) = (app.doomed(), self.doom.clone());
        AbortOnDropHandle::new(tokio::task::spawn_local(async move {
            let why = doomed.await;
            log::error!("not live any more, so this process ends: {why}");
            doom.cancel();
        }))
    }

    fn tell(&self, by: &'static str) {
        if self.told.replace(by) != by {
            log::info!("serving one client on stdin and stdout by {by}");
        }
    }

    async fn stop(&self) -> Exit {
        let Some(own) = self.own.lock().await.take() else { return Exit::Ok };
        // Its end is no news now.
        drop(own.watch);
        match own.app.stop().await {
            _ if self.doom.is_cancelled() => Exit::Internal,
            Ended::Clean => Exit::Ok,
            Ended::Cut(why) => {
                log::error!("stopped, but {why}");
                Exit::Internal
            }
        }
    }
}

/// Connects to the server in `folder`, for as long as it is busy or `is_coming`.
async fn connect(
    folder: &Path,
    is_coming: impl Fn() -> bool,
) -> std::io::Result<std::os::unix::net::UnixStream> {
    let until = Instant::now() + SERVER_WITHIN;
    loop {
        match socket::connect(folder, socket::SERVER) {
            // No wait makes it another user's.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => return Err(error),
            Err(error)
                if Instant::now() < until && (error.kind() == ErrorKind::WouldBlock || is_coming()) =>
            {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            connected => return connected,
        }
    }
}

impl Way for Rc<Backing> {
    fn connect(&self) -> LocalBoxFuture<'_, Result<UnixStream, String>> {
        Box::pin(async {
            let stream = self.reach().await.map_err(|error| error.to_string())?;
            UnixStream::from_std(stream).map_err(|error| error.to_string())
        })
    }
}
