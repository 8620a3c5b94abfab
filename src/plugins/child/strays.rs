//! Guards whose server is gone and that are there all the same, as one that was stopped when its server was killed: found, and
//! ended with all that they guard. Must not know whose plugins they were.
//!
//! A guard is the child of its server, whose number stands in its command line. One that has another parent has lost its server,
//! and should have ended by itself.

use std::time::{Duration, Instant};

use procfs::process::{Process, all_processes};
use rustix::process::Signal;

use super::descendants::{Kin, kill_session, send};

/// The flag of a guard that says whose it is.
pub(super) const SERVER: &str = "--server";
/// Between two looks at one that ends.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A guard that lost its server.
#[derive(Debug, Clone)]
pub struct Stray {
    kin: Kin,
    /// The name of the program that it guards.
    pub program: String,
}

impl Stray {
    /// Its number.
    pub fn pid(&self) -> i32 {
        self.kin.pid()
    }

    /// Ends it, with all that it guards; whether it is gone within this time, or once it was killed.
    pub fn end(&self, within: Duration) -> bool {
        // One that was stopped must go on to hear that it is to end.
        send(self.kin, &[Signal::TERM, Signal::CONT]);
        if self.ends(within) {
            return true;
        }
        kill_session(self.pid());
        self.ends(within)
    }

    /// Whether it ends by itself within this time.
    pub fn ends(&self, within: Duration) -> bool {
        let until = Instant::now() + within;
        while self.is_there() {
            if Instant::now() >= until {
                return false;
            }
            std::thread::sleep(LOOK_EVERY);
        }
        true
    }

    fn is_there(&self) -> bool {
        let now = Process::new(self.pid()).ok().as_ref().and_then(Kin::of);
        now.is_some_and(|now| now.is(self.kin) && !now.has_ended())
    }
}

/// The guards of this user that lost their servers; for root, those of all users.
pub fn strays() -> Vec<Stray> {
    let user = rustix::process::geteuid().as_raw();
    let found = all_processes().into_iter().flatten().flatten().filter_map(|process| {
        let (server, program) = guarded(&process.cmdline().ok()?).filter(|_| counts_as_we_do(&process))?;
        let kin = Kin::of(&process).filter(|kin| !kin.has_ended() && kin.parent() != server)?;
        let is_ours = user == 0 || process.uid().is_ok_and(|owner| owner == user);
        is_ours.then_some(Stray { kin, program })
    });
    found.collect()
}

/// Whether a number is the same process to it as to this one. In a container the server has another number, often 1, than it has
/// here, so that none of its guards would seem to have one.
fn counts_as_we_do(process: &Process) -> bool {
    let space = |of: &str| std::fs::read_link(format!("/proc/{of}/ns/pid")).ok();
    space("self").is_some_and(|own| space(&process.pid().to_string()) == Some(own))
}

/// Whose guard it is, and of what, as its command line says; none when it is no guard's.
fn guarded(line: &[String]) -> Option<(i32, String)> {
    let mut words = line.iter().map(String::as_str);
    if words.next() != Some("waygate-mcp") || words.next() != Some("guard") {
        return None;
    }
    let own = words.clone().take_while(|word| *word != "--");
    let server = own.skip_while(|word| *word != SERVER).nth(1)?.parse().ok()?;
    // Of what comes after its name nothing is told: it may be a secret.
    let program = words.skip_while(|word| *word != "--").nth(1)?;
    Some((server, program.rsplit('/').next().unwrap_or(program).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guard_says_whose_it_is_and_of_what_it_guards_the_name_is_told() {
        let line = |words: &[&str]| guarded(&words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>());
        let guard = [
            "waygate-mcp",
            "guard",
            "--grace-ms",
            "2000",
            "--server",
            "7",
            "--",
            "/usr/bin/npx",
            "--token",
            "x",
        ];
        assert_eq!(line(&guard), Some((7, "npx".to_owned())));
        for other in [
            &["waygate-mcp", "serve"][..],
            &["vim", "guard", "--server", "7", "--", "x"],
            &["waygate-mcp", "guard", "--", "x", "--server", "7"],
        ] {
            assert_eq!(line(other), None, "{other:?}");
        }
    }

    #[test]
    fn a_guard_in_a_container_has_not_lost_its_server_because_numbers_are_others_there() {
        // What looks like a guard, and ends with its input.
        let place = tempfile::tempdir().unwrap();
        std::fs::write(place.path().join("guard"), "read line").unwrap();
        let guard = "exec -a waygate-mcp sh guard --server 1 -- /usr/bin/npx";
        let begin = |before: &[&str]| {
            let words = [before, &["bash", "-c", guard]].concat();
            let mut command = std::process::Command::new(words[0]);
            command.args(&words[1..]).current_dir(place.path()).stdin(std::process::Stdio::piped());
            command.spawn().unwrap()
        };
        let children = |of: u32| {
            let all = all_processes().unwrap().flatten();
            all.filter_map(|process| Kin::of(&process)).filter(move |kin| kin.parent() == of.cast_signed())
        };
        let is_stray = |pid: i32| strays().iter().any(|stray| stray.pid() == pid);
        let looks_so = |pid: i32| {
            Process::new(pid).is_ok_and(|it| it.cmdline().is_ok_and(|line| guarded(&line).is_some()))
        };
        let until = Instant::now() + Duration::from_secs(20);
        let mut here = begin(&[]);
        while !is_stray(here.id().cast_signed()) {
            assert!(Instant::now() < until, "one that has another parent than its server has lost it");
            std::thread::yield_now();
        }
        let mut there = begin(&["unshare", "--pid", "--fork"]);
        let inner = loop {
            if let Some(inner) = children(there.id()).map(Kin::pid).find(|pid| looks_so(*pid)) {
                break Some(inner);
            }
            if there.try_wait().unwrap().is_some() {
                break None;
            }
            assert!(Instant::now() < until, "it begins");
            std::thread::yield_now();
        };
        match inner {
            Some(inner) => assert!(!is_stray(inner)),
            None => eprintln!("skipped: this user may make no namespace of processes"),
        }
        for child in [&mut here, &mut there] {
            drop(child.stdin.take());
            child.wait().unwrap();
        }
    }
}
