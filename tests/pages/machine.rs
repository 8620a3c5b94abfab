//! The machine of somebody who is paged: an empty home, the programs in the PATH, a shell that keeps what was said in it, and
//! no trace of it afterwards. Must not know what a page says.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use tempfile::TempDir;

use crate::blocks::path;
use crate::support::program;

/// The address that pages show.
const ADDRESS: &str = "127.0.0.1:8000";
/// How long the commands of one block may take.
const WITHIN: Duration = Duration::from_secs(120);
/// What the program is replaced by when the page upgrades it.
const NEWER: &str = "waygate-mcp.new";

pub struct Machine {
    place: TempDir,
    address: String,
    shell: Child,
    says: ChildStdin,
    ended: Receiver<String>,
}

impl Machine {
    pub fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        let (home, programs) = (place.path().join("home"), place.path().join("programs"));
        fs::create_dir_all(&home).unwrap();
        fs::create_dir_all(&programs).unwrap();
        symlink(program("waygate-mcp"), programs.join("waygate-mcp")).unwrap();
        symlink(program("waygate-mcp"), home.join(NEWER)).unwrap();
        for script in ["waygate-ctl", "backup.sh"] {
            symlink(path("scripts").join(script), programs.join(script)).unwrap();
        }
        let port = free_port();
        let known = std::env::var("PATH").unwrap();
        let mut command = Command::new("bash");
        command.args(["--norc", "--noprofile"]).env_clear().env("HOME", &home).current_dir(&home);
        command.env("PATH", format!("{}:{known}", programs.display())).env("WAYGATE_PORT", port.to_string());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut shell = command.spawn().unwrap();
        let lines = BufReader::new(shell.stdout.take().unwrap()).lines();
        let (tell, ended) = channel();
        std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| tell.send(line)));
        let says = shell.stdin.take().unwrap();
        Self { place, address: format!("127.0.0.1:{port}"), shell, says, ended }
    }

    /// Runs these commands after all those before; the exit code of the first that fails, else 0, and what they wrote.
    pub fn run(&mut self, commands: &str) -> (i32, String) {
        let out = self.place.path().join("out");
        let commands = commands.replace(ADDRESS, &self.address);
        // Read into the shell, which so keeps variables and functions; the first command that fails ends the reading alone.
        let script = self.place.path().join("block");
        fs::write(&script, format!("trap 'return $?' ERR\nset -u\n{commands}\ntrap - ERR\n")).unwrap();
        let line = format!(
            "code=0; source '{}' </dev/null >'{}' 2>&1 || code=$?; trap - ERR; set +u; echo \"$code\"\n",
            script.display(),
            out.display()
        );
        self.says.write_all(line.as_bytes()).unwrap();
        let ended = self.ended.recv_timeout(WITHIN);
        let wrote = String::from_utf8_lossy(&fs::read(&out).unwrap_or_default()).into_owned();
        let wrote = wrote.replace(&self.address, ADDRESS);
        let Ok(code) = ended else { panic!("the shell ended, or was not done within {WITHIN:?}: {wrote}") };
        (code.parse().unwrap(), wrote)
    }

    pub fn home(&self) -> PathBuf {
        self.place.path().join("home")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        drop(self.shell.kill());
        drop(self.shell.wait());
        // Whatever server the page left behind, of whatever version.
        let mut kill = Command::new(path("scripts/waygate-ctl"));
        kill.arg("kill").env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        kill.env("HOME", self.home()).env("WAYGATE_BIN", program("waygate-mcp")).current_dir(self.home());
        drop(kill.stdout(Stdio::null()).stderr(Stdio::null()).status());
    }
}

/// One that the kernel gives to nobody by itself, so that it stays free between two servers.
fn free_port() -> u16 {
    let from = u16::try_from(std::process::id() % 10_000).unwrap();
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    (0..10_000).map(|step| 20_000 + (from + step) % 10_000).find(is_free).unwrap()
}

#[test]
fn the_first_command_that_fails_ends_its_block_and_the_shell_keeps_what_was_said_in_it() {
    let mut machine = Machine::new();
    assert_eq!(machine.run("a=1\necho one\n(exit 7)\necho two\n"), (7, "one\n".to_owned()));
    assert_eq!(machine.run("echo $a \\\n  $PWD\n"), (0, format!("1 {}\n", machine.home().display())));
}
