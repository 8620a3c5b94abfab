//! The guard: a small process between Waygate and a program it runs. It sees to it that nothing of the program is left
//! when the program ends, when Waygate says so, and when Waygate dies, even by `kill -9`.
//!
//! It is the subreaper of the program and watches a socket to Waygate: when that ends, so do all descendants. Runs
//! behind the hidden verb `guard`. Must not know configuration, database, logs, nor what the program is for.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as StdStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{SendFlags, send};
use rustix::process::{
    Pid, Signal, WaitOptions, WaitStatus, fchdir, getpid, kill_process_group, set_child_subreaper, setsid,
    wait,
};
use rustix::thread::set_no_new_privs;
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tokio::signal::unix::{Signal as Signals, SignalKind, signal};
use tokio::time::{Instant, timeout, timeout_at};

use super::descendants::signal_all;
use super::handover::{hand_over, receive};
use super::report::{Confined, Ended, Report};

/// How long killed processes may take to be gone.
pub(super) const GONE_WITHIN: Duration = Duration::from_secs(10);
/// How often the rest is looked at while it ends, should a signal be missed.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// The same for those that should be gone already.
const LOOK_SELDOM: Duration = Duration::from_secs(1);
/// How long a process that is about to become the program may take to say why it cannot, once it has ended.
const LAST_WORD_WITHIN: Duration = Duration::from_secs(1);
/// What a shell says of a program that cannot be started.
const NOT_STARTED: u8 = 127;

/// Runs `command`, as handed over on stdin, until it and all it started have ended; gives its exit status. With a
/// `confinement`, as Waygate wrote it, the program may use no more than that.
///
/// # Errors
/// Why there is nothing to guard, in one sentence.
pub fn keep(command: &[OsString], grace: Duration, confinement: Option<&OsStr>) -> Result<u8, String> {
    let (control, [input, output, errors, folder], lock) = receive().map_err(|why| {
        format!("`guard` is started by Waygate itself, which hands it what to run over a socket: {why}")
    })?;
    let handed = Handed { control, streams: [input, output, errors], folder, lock };
    // A runtime of one thread: signals, the socket and deadlines at once, without `unsafe` and without threads.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime
        .and_then(|runtime| runtime.block_on(watch(handed, command, grace, confinement)))
        .map_err(|error| error.to_string())
}

/// What Waygate hands over.
struct Handed {
    control: StdStream,
    /// stdin, stdout, stderr.
    streams: [OwnedFd; 3],
    folder: OwnedFd,
    /// Of a program that bears no twin.
    lock: Option<OwnedFd>,
}

async fn watch(
    handed: Handed,
    command: &[OsString],
    grace: Duration,
    confinement: Option<&OsStr>,
) -> std::io::Result<u8> {
    // Until nothing of the program is left, and never the program's: it could let go of it, or keep it.
    let _held = handed.lock;
    // Before the program is there, so that its end is not missed.
    let mut births_and_deaths = signal(SignalKind::child())?;
    let [mut terminate, mut interrupt, mut hangup] =
        [signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?, signal(SignalKind::hangup())?];
    let control = handed.control;
    let (child, mut entry) = match start(handed.streams, &handed.folder, command, confinement) {
        Ok(started) => started,
        Err(why) => {
            tell(&control, &Report::Failed(why.to_string()));
            return Ok(NOT_STARTED);
        }
    };
    drop(handed.folder);
    control.set_nonblocking(true)?;
    let mut control = UnixStream::from_std(control)?;
    let mut brood = Brood { child, ended: None };
    let mut nothing = [0; 64];
    loop {
        brood.reap();
        if brood.ended.is_some() {
            break;
        }
        tokio::select! {
            _ = births_and_deaths.recv() => {}
            () = entry.over(), if !entry.told => if !entry.tell(&control, child) { break },
            heard = control.read(&mut nothing) => if !matches!(heard, Ok(1..)) { break },
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => break,
        }
    }
    if brood.ended.is_some() && !entry.told {
        // It has ended, and so has its side of the socket.
        let _said_all = timeout(LAST_WORD_WITHIN, entry.over()).await;
        entry.tell(&control, child);
    }
    if entry.failed {
        brood.end_all(&mut births_and_deaths, grace).await;
        return Ok(NOT_STARTED);
    }
    // By itself, or not: its end is told as soon as it is known, and what is left of its kin ends after it.
    if let Some(ended) = brood.ended {
        tell(&control, &Report::Ended(ended));
    }
    let told = brood.ended.is_some();
    brood.end_all(&mut births_and_deaths, grace).await;
    if let (Some(ended), false) = (brood.ended, told) {
        tell(&control, &Report::Ended(ended));
    }
    tell(&control, &Report::Gone);
    Ok(brood.ended.map_or(NOT_STARTED, Ended::status))
}

/// Makes this process a guard, and starts the program as the leader of a process group of its own.
fn start(
    streams: [OwnedFd; 3],
    folder: &OwnedFd,
    command: &[OsString],
    confinement: Option<&OsStr>,
) -> std::io::Result<(Pid, Entry)> {
    // A session of its own has no terminal, and no key pressed there reaches it. It fails where it is one already.
    let _has_one = setsid();
    set_child_subreaper(Some(getpid()))?;
    // No program gets rights that its guard has not: what is started here can always be killed from here.
    set_no_new_privs(true)?;
    fchdir(folder)?;
    let (program, arguments) = command.split_first().ok_or(std::io::ErrorKind::InvalidInput)?;
    let [input, output, errors] = streams;
    let (mut starts, input, entry) = match confinement {
        None => {
            let mut starts = Command::new(program);
            starts.args(arguments);
            (starts, input, None)
        }
        Some(confinement) => {
            // This very program, which confines itself and becomes the other one: the guard stays free.
            let (ours, theirs) = StdStream::pair()?;
            hand_over(&ours, &[&input])?;
            ours.set_nonblocking(true)?;
            let mut starts = Command::new("/proc/self/exe");
            starts.arg0("waygate-mcp").arg("guard").arg("--enter").arg(confinement).arg("--").args(command);
            (starts, theirs.into(), Some(UnixStream::from_std(ours)?))
        }
    };
    let child = starts
        .stdin(Stdio::from(input))
        .stdout(Stdio::from(output))
        .stderr(Stdio::from(errors))
        // Not the guard's group: a program may well signal its whole group.
        .process_group(0)
        .spawn()?;
    // Holds the other end of `entry` otherwise.
    drop(starts);
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    // The guard itself holds no folder.
    std::env::set_current_dir("/")?;
    let pid = pid.ok_or(std::io::ErrorKind::InvalidData)?;
    Ok((pid, Entry { socket: entry, said: Vec::new(), told: false, failed: false }))
}

/// How the program is entered: at once, or by a process that confines itself before it becomes the program.
struct Entry {
    /// Ends when the program runs; until then, what that process has to say.
    socket: Option<UnixStream>,
    said: Vec<u8>,
    /// Whether Waygate knows.
    told: bool,
    /// Whether there is no program.
    failed: bool,
}

impl Entry {
    /// Waits until the program runs, or will not. May be dropped and called again.
    async fn over(&mut self) {
        let Some(socket) = &mut self.socket else { return };
        let mut bytes = [0; 512];
        while let Ok(count @ 1..) = socket.read(&mut bytes).await {
            self.said.extend(bytes.iter().take(count));
        }
    }

    /// Tells Waygate how it went; gives whether the program runs.
    fn tell(&mut self, control: impl AsFd, child: Pid) -> bool {
        self.told = true;
        let mut confined = Report::Confined(Confined::Unasked, None);
        for report in String::from_utf8_lossy(&self.said).lines().filter_map(Report::parse) {
            match report {
                Report::Confined(..) => confined = report,
                Report::Failed(_) => {
                    self.failed = true;
                    tell(&control, &report);
                    return false;
                }
                _ => {}
            }
        }
        tell(&control, &confined);
        tell(&control, &Report::Started(child.as_raw_nonzero().get()));
        true
    }
}

/// Tells Waygate. Who does not listen any more is not there any more: the guard notices next.
fn tell(control: impl AsFd, report: &Report) {
    // Past the runtime, which would first wait to hear that it may write: a few bytes fit.
    let _nobody_listens = send(control, report.line().as_bytes(), SendFlags::NOSIGNAL);
}

/// The program and all that came from it.
struct Brood {
    child: Pid,
    ended: Option<Ended>,
}

impl Brood {
    /// Takes note of everyone who ended; says whether anybody is left. Whoever descends from the guard is its child, or
    /// has an ancestor that is.
    fn reap(&mut self) -> bool {
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if pid == self.child => self.ended = ended(status).or(self.ended),
                Ok(Some(_)) | Err(Errno::INTR) => {}
                Ok(None) => return true,
                Err(_nobody) => return false,
            }
        }
    }

    /// Asks everyone to end, and kills who has not after `grace`.
    async fn end_all(&mut self, deaths: &mut Signals, grace: Duration) {
        if !self.reap() {
            return;
        }
        // One that was stopped hears nothing before it goes on.
        self.signal(&[Signal::TERM, Signal::CONT]);
        let deadline = Instant::now() + grace;
        while Instant::now() < deadline {
            if !self.reap() {
                return;
            }
            let _look_again = timeout_at(deadline, timeout(LOOK_EVERY, deaths.recv())).await;
        }
        let soon = Instant::now() + GONE_WITHIN;
        // Again and again, for who was born while the others were killed. There is no end to this but theirs: whom the
        // system cannot kill now, as one that waits for a broken disk, would be left to nobody.
        while self.reap() {
            self.signal(&[Signal::KILL]);
            let pause = if Instant::now() < soon { LOOK_EVERY } else { LOOK_SELDOM };
            let _look_again = timeout(pause, deaths.recv()).await;
        }
    }

    fn signal(&self, signals: &[Signal]) {
        if !signal_all(signals) {
            // Without /proc, the program's group is all that can be reached.
            for &signal in signals {
                let _gone = kill_process_group(self.child, signal);
            }
        }
    }
}

fn ended(status: WaitStatus) -> Option<Ended> {
    let exited = status.exit_status().map(Ended::Exited);
    exited.or_else(|| status.terminating_signal().map(Ended::Signaled))
}
