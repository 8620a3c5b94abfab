//! Servers of this very program that are started to be measured: each in a folder of its own, on a port of its own, with nothing of
//! what another server of this machine is set to or keeps. They end with whoever started them, however that ends.
//!
//! Must not know what is measured.

use std::fs::{self, DirBuilder, File};
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use crate::loadtest::LoadError;

/// How long a server may take to start, and to end.
const START_WITHIN: Duration = Duration::from_secs(30);
const END_WITHIN: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Of what one says that does not start.
const SAYS_MAX_BYTES: u64 = 4096;
/// Of the settings in this environment, those that change what a call costs are the servers', too; no others, and above all not
/// where the data of another server lies.
const PASSED: [&str; 4] = ["WAYGATE_HISTORY_", "WAYGATE_LIMITS_", "WAYGATE_PLUGINS_", "WAYGATE_MCP_"];

/// The folder of all of them; gone with this.
pub struct Folder(PathBuf);

impl Folder {
    /// A new one, which nobody else may enter.
    ///
    /// # Errors
    /// When there can be none.
    pub fn new() -> Result<Self, LoadError> {
        let name = format!("waygate-loadtest-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        // A leftover of a process of the same number, which is gone since this one is here. What is another user's stays, and
        // then there is no making it.
        drop(fs::remove_dir_all(&path));
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|error| {
            LoadError::Machine(format!(
                "{} cannot be made: {error}; set TMPDIR to another folder",
                path.display()
            ))
        })?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed is left to the system, as all in such folders.
        drop(fs::remove_dir_all(&self.0));
    }
}

/// One that runs.
pub struct Server {
    child: Child,
    /// Its MCP endpoint.
    pub url: String,
}

impl Server {
    /// Starts one with so many workers.
    ///
    /// # Errors
    /// When it does not start, with what it said.
    pub fn start(folder: &Folder, workers: u32) -> Result<Self, LoadError> {
        let home = folder.0.join(workers.to_string());
        let log = folder.0.join(format!("{workers}.log"));
        let failed = |why: &str| {
            let says = said(&log);
            let says = if says.is_empty() { String::new() } else { format!("; it said: {says}") };
            LoadError::Machine(format!("a server with {workers} workers did not start: {why}{says}"))
        };
        let mut child = spawn(&home, &log, workers).map_err(|error| failed(&error.to_string()))?;
        let (tell, told) = sync_channel(1);
        let stdout = child.stdout.take();
        // Reads on for as long as the server lives: what it says must not fill the pipe.
        let reader = std::thread::Builder::new().name(format!("server-{workers}"));
        let reading = reader.spawn(move || {
            let lines =
                stdout.into_iter().flat_map(|stdout| BufReader::new(stdout).lines().map_while(Result::ok));
            let urls = lines.filter_map(|line| Some(line.get(line.find("http://")?..)?.trim().to_owned()));
            urls.for_each(|url| drop(tell.try_send(url)));
        });
        let url = reading.map_err(|error| error.to_string()).and_then(|_thread| {
            told.recv_timeout(START_WITHIN).map_err(|error| match error {
                RecvTimeoutError::Timeout => format!("it was not ready within {} s", START_WITHIN.as_secs()),
                RecvTimeoutError::Disconnected => "it ended".to_owned(),
            })
        });
        match url {
            Ok(url) => Ok(Self { child, url }),
            Err(why) => {
                drop(child.kill());
                drop(child.wait());
                Err(failed(&why))
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It stops when nobody holds its stdin any more.
        drop(self.child.stdin.take());
        let until = Instant::now() + END_WITHIN;
        while Instant::now() < until {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(LOOK_EVERY);
        }
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn spawn(home: &Path, log: &Path, workers: u32) -> std::io::Result<Child> {
    DirBuilder::new().mode(0o700).create(home)?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["serve", "--measured", "--host", "127.0.0.1", "--port", "0", "--log-level", "ERROR"]);
    command.args(["--workers", &workers.to_string()]).arg("--data-dir").arg(home);
    // An empty one, in place of that of the system.
    command.arg("--config-dir").arg(home);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let is_passed = PASSED.iter().any(|begin| text.starts_with(begin));
        if text.starts_with("WAYGATE_") && !is_passed {
            command.env_remove(&name);
        }
    }
    command.current_dir(home).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(File::create(log)?);
    // Ctrl-C is for the one who measures: a server that stops at once would be measured stopping.
    command.process_group(0);
    command.spawn()
}

/// What a server said that did not start.
fn said(log: &Path) -> String {
    let mut text = String::new();
    let read = File::open(log).and_then(|file| file.take(SAYS_MAX_BYTES).read_to_string(&mut text));
    drop(read);
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
