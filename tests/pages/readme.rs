//! The README does not lie: its commands are run on an empty home as they stand there, and answer as is shown.
//!
//! A block ```` ```sh start ```` starts a server, ```` ```sh run ```` runs in one shell with those before it; the block
//! right after shows what is written.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use crate::blocks::{Block, agrees, blocks, compare, read, shown};
use crate::support::{PATIENCE, eventually, program};

const ADDRESS: &str = "127.0.0.1:8000";

/// A server that a reader started by hand: on their home, with no setting but a free port.
struct Server {
    child: Child,
    address: String,
    says: String,
}

impl Server {
    fn start(name: &str, home: &Path) -> Self {
        let mut command = Command::new(program(name));
        command.args(["--port", "0"]).env_clear().env("HOME", home).current_dir(home);
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut says = String::new();
        for line in lines.by_ref().map_while(Result::ok) {
            says += &format!("{line}\n");
            if line.starts_with("Stop it:") {
                break;
            }
        }
        assert!(says.contains("http://"), "{name} does not start: {says}");
        let url = says.split_once("http://").unwrap().1;
        let address = url.split_once("/mcp").unwrap().0.to_owned();
        Self { child, address, says }
    }

    /// Runs commands in one shell; what each wrote.
    fn run(&self, commands: &[&Block], home: &Path) -> Vec<String> {
        let port = self.address.rsplit_once(':').unwrap().1;
        let mut script = String::from("set -eu\n");
        for (number, command) in commands.iter().enumerate() {
            script += &format!("{{\n{}\n}} >out-{number} 2>&1\n", command.text);
        }
        let (binary, example) = (program("waygate-mcp"), program("echo"));
        let script = script
            .replace(ADDRESS, &self.address)
            .replace("target/release/waygate-mcp", binary.to_str().unwrap())
            .replace("$PWD/target/release/examples/echo", example.to_str().unwrap());
        let mut shell = Command::new("bash");
        shell.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", home);
        shell.env("WAYGATE_PORT", port).args(["-c", &script]).current_dir(home);
        let ended = shell.status().unwrap();
        let seen = |number| fs::read_to_string(home.join(format!("out-{number}"))).unwrap_or_default();
        let seen: Vec<String> = (0..commands.len()).map(seen).collect();
        assert!(ended.success(), "a command of the README fails: {seen:#?}");
        seen
    }

    /// As Ctrl-C or a service manager would.
    fn stop(mut self) {
        let sent = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        assert!(sent.unwrap().success());
        let code = eventually("the server ends", || self.child.try_wait().unwrap()).code();
        assert_eq!(code, Some(0), "a clean stop");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn its_commands_answer_as_it_shows() {
    let blocks = blocks(&read("README.md"));
    let home = tempfile::tempdir().unwrap();
    let starts: Vec<usize> = (0..blocks.len()).filter(|&at| blocks[at].kind == "sh start").collect();
    assert!(!starts.is_empty(), "the README starts no server");
    let mut compared = 0;
    for (turn, &start) in starts.iter().enumerate() {
        let end = starts.get(turn + 1).copied().unwrap_or(blocks.len());
        let name =
            blocks[start].text.trim().rsplit_once("--example ").map_or("waygate-mcp", |(_, name)| name);
        let server = Server::start(name, home.path());
        if let Some(shown) = shown(&blocks, start).filter(|_| name == "waygate-mcp") {
            compare("README.md", &blocks[start], shown, &server.says.replace(&server.address, ADDRESS));
        }
        let runs: Vec<usize> = (start..end).filter(|&at| blocks[at].kind == "sh run").collect();
        let commands: Vec<&Block> = runs.iter().map(|&at| &blocks[at]).collect();
        for (&at, mut seen) in runs.iter().zip(server.run(&commands, home.path())) {
            let (command, shown) = (&blocks[at], shown(&blocks, at).unwrap());
            // Calls stand in the history a moment after they were answered: whoever reads it too early looks again.
            let until = Instant::now() + PATIENCE;
            while command.text.contains(" history list") && Instant::now() < until {
                if agrees(shown, &seen) {
                    break;
                }
                seen = server.run(&[command], home.path()).remove(0);
            }
            compare("README.md", command, shown, &seen);
            compared += 1;
        }
        server.stop();
    }
    assert!(compared >= 5, "only {compared} commands are held");
}

#[test]
fn its_first_plugin_is_the_example() {
    let example = read("examples/echo.rs");
    let code = example.split("#[cfg(test)]").next().unwrap().trim_end();
    let blocks = blocks(&read("README.md"));
    let shown = blocks.iter().find(|block| block.kind == "rust").unwrap();
    assert!(shown.text.trim_end() == code, "README.md:{} differs from examples/echo.rs", shown.line);
}
