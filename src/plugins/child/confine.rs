//! What a program may use, put on by the process that then becomes the program: its guard stays free to end it.
//!
//! A guard runs this binary once more (`guard --enter`), which limits itself and turns into the program: limits, the
//! ban on more rights and Landlock all outlive that. Reading order: [`Confinement`], what is asked for; [`enter`], the
//! process between the two; [`landlock`], folders and network; [`rights`], what of root's it loses. Must not know what the program is for.

mod landlock;
mod rights;

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::net::{SendFlags, send};
use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::stdio::dup2_stdin;
use rustix::thread::set_no_new_privs;
use serde::{Deserialize, Serialize};

use super::handover::receive;
use super::report::{Confined, Report};
use crate::config::plugin::Sandbox;

/// What a program may use; nothing is limited by default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confinement {
    /// Of address space, each process.
    pub memory_max_bytes: Option<u64>,
    /// Open files, each process.
    pub files_max: Option<u64>,
    /// Processor time, each process.
    pub cpu_seconds_max: Option<u64>,
    /// The only folders that it may use besides the system's, which it may read, and the one that it works in; each with
    /// whether it may write there.
    pub folders: Option<Vec<(PathBuf, bool)>>,
    /// Folders that it may not use although they lie in one that it may; one that it works in, or that is named itself,
    /// is stronger.
    pub denied: Vec<PathBuf>,
    /// Whether TCP is denied.
    pub no_network: bool,
    /// Whether nothing is run where the walls do not stand.
    #[serde(default)]
    pub required: bool,
}

impl Confinement {
    /// What the operator asks for, and the folders that are nobody's business but Waygate's.
    pub fn of(sandbox: &Sandbox, denied: &[PathBuf]) -> Self {
        Self {
            memory_max_bytes: sandbox.memory_max_bytes,
            files_max: sandbox.files_max,
            cpu_seconds_max: sandbox.cpu_seconds_max,
            folders: sandbox.folders.clone(),
            denied: denied.to_vec(),
            no_network: sandbox.no_network,
            required: sandbox.required,
        }
    }

    /// Whether Landlock has anything to do.
    fn walls(&self) -> bool {
        self.folders.is_some() || !self.denied.is_empty() || self.no_network
    }

    /// As the guard hands it on.
    pub(super) fn written(&self) -> std::io::Result<String> {
        serde_json::to_string(self).map_err(std::io::Error::other)
    }
}

/// Becomes the program, confined. Returns only when it cannot; the guard is told why.
pub fn enter(confinement: &OsStr, command: &[OsString]) -> String {
    match receive::<1>() {
        Err(why) => format!("`guard --enter` is started by a guard: {why}"),
        Ok((guard, [input], _)) => {
            let tell = |report: &Report| {
                // A guard that is gone hears nothing; this process is about to be killed then.
                let _nobody_listens = send(&guard, report.line().as_bytes(), SendFlags::NOSIGNAL);
            };
            let why = match dup2_stdin(input) {
                Ok(()) => become_program(confinement, command, &tell),
                Err(error) => error.to_string(),
            };
            tell(&Report::Failed(why.clone()));
            why
        }
    }
}

fn become_program(confinement: &OsStr, command: &[OsString], tell: &dyn Fn(&Report)) -> String {
    let confinement = confinement.to_str().ok_or("it is no text".to_owned());
    let read = confinement.and_then(|text| serde_json::from_str(text).map_err(|error| error.to_string()));
    let confinement: Confinement = match read {
        Ok(confinement) => confinement,
        Err(why) => return format!("its confinement cannot be read: {why}"),
    };
    let Some((program, arguments)) = command.split_first() else { return "there is no program".to_owned() };
    // Set by the guard already; Landlock cannot do without.
    if let Err(error) = set_no_new_privs(true) {
        return format!("it could gain more rights: {error}");
    }
    let mut command = Command::new(program);
    command.args(arguments);
    let (confined, why) = landlock::raise(&confinement, Path::new(program));
    if confinement.required && confinement.walls() && confined != Confined::Enforced {
        return format!(
            "`sandbox.required` is set, and it cannot be held where it shall be: {}",
            why.unwrap_or_else(|| confined.as_str().to_owned())
        );
    }
    tell(&Report::Confined(confined, why));
    // After Landlock, which may be put on by who has the right to, whatever else holds.
    if let Err(error) = rights::take() {
        return format!("rights of root cannot be taken from it: {error}");
    }
    // Last, for they hold for this process, too.
    if let Err(why) = limit(&confinement) {
        return why;
    }
    command.exec().to_string()
}

/// Sets the limits, soft and hard. One that is above what this process may have stays what it is.
fn limit(confinement: &Confinement) -> Result<(), String> {
    let wanted = [
        ("open files", Resource::Nofile, confinement.files_max),
        ("processor time", Resource::Cpu, confinement.cpu_seconds_max),
        ("memory", Resource::As, confinement.memory_max_bytes),
    ];
    for (what, resource, most) in wanted {
        let Some(most) = most.filter(|most| *most > 0) else { continue };
        let most = rustix::process::getrlimit(resource).maximum.map_or(most, |maximum| maximum.min(most));
        setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })
            .map_err(|error| format!("its {what} cannot be limited: {error}"))?;
    }
    Ok(())
}
