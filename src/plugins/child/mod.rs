//! Child processes: a program is run under a guard, and with its [`Life`] end the program and everything it started.
//!
//! Reading order: here, how Waygate starts a program and hears of it; `guard`, the process between the two; `confine`,
//! what a program may use; `lock`, how it is the only one; `descendants`, how none is overlooked; `usage`, what they use. Must not know what a program is
//! run for.

pub mod confine;
mod descendants;
pub mod guard;
mod handover;
pub mod lock;
mod report;
pub mod strays;
mod usage;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use rustix::net::{Shutdown, shutdown};
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::process::{Child as GuardProcess, Command};
use tokio::time::{Instant, timeout, timeout_at};

pub use confine::Confinement;
use handover::hand_over;
use lock::Lock;
use report::Report;
pub use report::{Confined, Ended};
pub use usage::{Tree, Usage};

/// How long a guard may take to end everything, once it was told to and the grace of its order is over.
pub const ENDS_WITHIN: Duration = guard::GONE_WITHIN.saturating_add(Duration::from_secs(2));
/// How long a guard that was killed may take to be buried.
const BURIED_WITHIN: Duration = Duration::from_millis(500);

/// Where the hidden verb `guard` is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guard {
    program: PathBuf,
}

/// What is to be run.
#[derive(Debug)]
pub struct Order {
    /// The program's whole path.
    pub program: PathBuf,
    /// What it gets, without its own name.
    pub arguments: Vec<OsString>,
    /// All that stands in its environment.
    pub environment: Vec<(OsString, OsString)>,
    /// The folder that it works in, open.
    pub folder: OwnedFd,
    /// Whether something will be written to its stdin; else there is nothing to read.
    pub feeds: bool,
    /// How long its processes may take to end once they are asked to; then they are killed.
    pub grace: Duration,
    /// What it may use; without one, what Waygate may, but never more rights.
    pub confinement: Option<Confinement>,
    /// What is held for as long as anything of it is there, where no other may run then.
    pub lock: Option<Lock>,
}

/// A program that was started: what goes in, what comes out, and its life.
#[derive(Debug)]
pub struct Child {
    /// Its stdin; dropping it is its end of file. None when nothing is fed.
    pub stdin: Option<pipe::Sender>,
    /// Its stdout.
    pub stdout: pipe::Receiver,
    /// Its stderr.
    pub stderr: pipe::Receiver,
    /// Whoever drops this ends the program and everything it started.
    pub life: Life,
}

/// Why a program does not run.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    /// Waygate could not start the guard.
    #[error("no process could be started: {0}")]
    Start(#[from] io::Error),
    /// The guard could not start the program.
    #[error("the program could not be started: {0}")]
    Program(String),
    /// The guard is gone and has not said how the program ended.
    #[error("the guard of the program was killed before the program ended, and the program with it")]
    GuardLost,
    /// The guard did not do what it was told to, as one that is stopped.
    #[error(
        "the program could not be ended: its guard did nothing in time; both were killed, but look for what is left"
    )]
    GuardSilent,
}

impl Guard {
    /// The verb of this very program, which goes through `cli::main`; also after its file was replaced by a newer one.
    pub fn of_this_program() -> Self {
        Self::at("/proc/self/exe")
    }

    /// The verb of the program at this path.
    pub fn at(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into() }
    }

    /// Starts a program under a guard. Blocks for about a millisecond; needs a tokio runtime around it.
    ///
    /// # Errors
    /// When no process or pipe can be made, as where the arguments are too long for the system. A program that cannot
    /// be started is told by [`Life::ended`].
    pub fn start(&self, order: Order) -> Result<Child, ChildError> {
        let (ours, theirs) = StdStream::pair()?;
        let (input, feed) = input(order.feeds)?;
        let (stdout, output) = io::pipe()?;
        let (stderr, errors) = io::pipe()?;
        let (output, errors) = (OwnedFd::from(output), OwnedFd::from(errors));
        let mut files = vec![&input, &output, &errors, &order.folder];
        files.extend(order.lock.as_ref().map(Lock::file));
        hand_over(&ours, &files)?;
        // What the program writes to is its own: the end of it is the end of the pipe.
        drop((input, output, errors));
        ours.set_nonblocking(true)?;
        let mut command = std::process::Command::new(&self.program);
        // Its name in lists of processes, where it would be `/proc/self/exe`.
        command.arg0("waygate-mcp");
        command.arg("guard").arg("--grace-ms").arg(order.grace.as_millis().to_string());
        command.arg(strays::SERVER).arg(std::process::id().to_string());
        if let Some(confinement) = &order.confinement {
            command.arg("--confine").arg(confinement.written()?);
        }
        command.arg("--").arg(&order.program).args(&order.arguments);
        command.env_clear().envs(order.environment);
        command.stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).stderr(Stdio::inherit());
        let process = Command::from(command).spawn()?;
        let reader = |pipe: PipeReader| pipe::Receiver::from_owned_fd(pipe.into());
        Ok(Child {
            stdin: feed.map(|pipe: PipeWriter| pipe::Sender::from_owned_fd(pipe.into())).transpose()?,
            stdout: reader(stdout)?,
            stderr: reader(stderr)?,
            life: Life {
                control: UnixStream::from_std(ours)?,
                process,
                heard: Vec::new(),
                confined: (Confined::Unasked, None),
                over: false,
                _lock: order.lock,
            },
        })
    }
}

/// The end that the program reads from, and the end that is written to.
fn input(feeds: bool) -> io::Result<(OwnedFd, Option<PipeWriter>)> {
    if feeds {
        let (reader, writer) = io::pipe()?;
        Ok((reader.into(), Some(writer)))
    } else {
        Ok((File::open("/dev/null")?.into(), None))
    }
}

/// The life of a program and all that it started. It lasts no longer than this value.
#[derive(Debug)]
pub struct Life {
    control: UnixStream,
    process: GuardProcess,
    /// What the guard said and nobody has read yet.
    heard: Vec<u8>,
    /// How far it is walled in, and why no further.
    confined: (Confined, Option<String>),
    /// Whether the guard has nothing more to say or do.
    over: bool,
    /// The guard has it, too.
    _lock: Option<Lock>,
}

/// A program that runs.
#[derive(Debug, Clone)]
pub struct Started {
    /// Its process.
    pub pid: i32,
    /// How far it is walled in.
    pub confined: Confined,
    /// Why no further, where it is not as far as was asked for.
    pub why: Option<String>,
}

impl Life {
    /// Returns when the program runs. Need not be asked, but only once, and before [`Self::ended`]; may be dropped and asked
    /// again until it has answered.
    ///
    /// # Errors
    /// When it could not be started, or its guard was killed.
    pub async fn started(&mut self) -> Result<Started, ChildError> {
        loop {
            match self.hear().await? {
                Report::Started(pid) => {
                    let (confined, why) = self.confined.clone();
                    return Ok(Started { pid, confined, why });
                }
                Report::Failed(why) => return Err(ChildError::Program(why)),
                Report::Confined(how, why) => self.confined = (how, why),
                Report::Ended(_) | Report::Gone => return Err(ChildError::GuardLost),
            }
        }
    }

    /// Where to ask what its processes use.
    pub fn tree(&self) -> Option<Tree> {
        let guard = self.process.id().and_then(|pid| i32::try_from(pid).ok())?;
        Some(Tree { guard })
    }

    /// How the program ended; waits for it. What it left behind is ended next: see [`Self::gone`]. May be dropped and
    /// asked again, but not after it has answered.
    ///
    /// # Errors
    /// When it could not be started, or its guard was killed.
    pub async fn ended(&mut self) -> Result<Ended, ChildError> {
        loop {
            match self.hear().await? {
                Report::Started(_) | Report::Confined(..) => {}
                Report::Failed(why) => return Err(ChildError::Program(why)),
                Report::Ended(ended) => return Ok(ended),
                Report::Gone => return Err(ChildError::GuardLost),
            }
        }
    }

    /// Has the guard end everything. [`Self::ended`] and [`Self::gone`] tell when that is done.
    pub fn end(&self) {
        // It fails only where the guard is gone already.
        let _gone = shutdown(&self.control, Shutdown::Write);
    }

    /// Returns when what the program left behind is ended, too; or when the guard was killed, and with it all that
    /// could be found. May be dropped and asked again, but only after [`Self::ended`] has answered.
    pub async fn over(&mut self) {
        while !self.over && self.hear().await.is_ok() {}
    }

    /// Ends everything and returns when the guard is gone: then nothing is left but what the system cannot kill. Waits
    /// little longer than the order's `grace` and [`ENDS_WITHIN`]; then the guard is killed, and all below it.
    pub async fn gone(self, grace: Duration) {
        self.gone_by(Instant::now() + grace.saturating_add(ENDS_WITHIN)).await;
    }

    /// The same as [`Self::gone`], but waits until `deadline`, for who told it to end before.
    pub async fn gone_by(mut self, deadline: Instant) {
        self.end();
        let ends = async {
            self.over().await;
            drop(self.process.wait().await);
        };
        if timeout_at(deadline, ends).await.is_err() {
            self.avenge();
            // Should it take longer, dropping the rest is all that can be done: the runtime reaps the guard then.
            drop(timeout(BURIED_WITHIN, self.process.wait()).await);
        }
    }

    /// The guard's next word.
    async fn hear(&mut self) -> Result<Report, ChildError> {
        loop {
            if let Some(end) = self.heard.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.heard.drain(..=end).collect();
                if let Some(report) = Report::parse(String::from_utf8_lossy(&line).trim_end()) {
                    self.over |= matches!(report, Report::Gone | Report::Failed(_));
                    return Ok(report);
                }
                continue;
            }
            let mut bytes = [0; 512];
            match self.control.read(&mut bytes).await {
                Ok(count @ 1..) => self.heard.extend(bytes.iter().take(count)),
                _ => {
                    self.over = true;
                    self.avenge();
                    return Err(ChildError::GuardLost);
                }
            }
        }
    }

    /// Kills what a guard leaves that was killed itself, which is all that stayed in its session; or a guard that does
    /// nothing, and all below it.
    fn avenge(&self) {
        // Not waited for yet, so that its number is nobody else's.
        if let Some(session) = self.process.id().and_then(|pid| i32::try_from(pid).ok()) {
            descendants::kill_session(session);
        }
    }
}
