//! The README does not lie: its commands are run on an empty home as they stand there, and answer as is shown.
//!
//! A block ```` ```sh start ```` starts a server, ```` ```sh run ```` runs in one shell with those before it; the block
//! right after shows what is written, `…` standing for what varies. JSON is compared without its white space.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

#[cfg(test)]
#[path = "support/mod.rs"]
mod support;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use support::{PATIENCE, eventually, program};

const ADDRESS: &str = "127.0.0.1:8000";

/// One fenced block.
#[derive(Debug, Clone)]
struct Block {
    /// What stands after the opening fence.
    kind: String,
    text: String,
    /// The line of its fence.
    line: usize,
}

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

fn blocks(text: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut open: Option<Block> = None;
    for (number, line) in text.lines().enumerate() {
        match (line.strip_prefix("```"), open.take()) {
            (Some(kind), None) => {
                open = Some(Block { kind: kind.to_owned(), text: String::new(), line: number + 1 })
            }
            (Some(_), Some(block)) => found.push(block),
            (None, Some(mut block)) => {
                block.text.push_str(line);
                block.text.push('\n');
                open = Some(block);
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "the last block is not closed");
    found
}

/// Takes out what does not matter: white space outside of strings in JSON, its amount elsewhere.
fn normal(text: &str, is_json: bool) -> String {
    if !is_json {
        let line = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        return text.lines().map(line).collect::<Vec<_>>().join("\n").trim().to_owned();
    }
    let (mut plain, mut quoted, mut escaped) = (String::new(), false, false);
    for char in text.chars() {
        if quoted || !char.is_whitespace() {
            plain.push(char);
        }
        quoted ^= char == '"' && !escaped;
        escaped = quoted && char == '\\' && !escaped;
    }
    plain
}

/// Whether `seen` is what is `shown`, where `…` stands for anything.
fn agrees(shown: &str, seen: &str) -> bool {
    let mut pieces = shown.split('…');
    let Some(mut rest) = pieces.next().and_then(|first| seen.strip_prefix(first)) else { return false };
    let mut pieces: Vec<&str> = pieces.collect();
    let Some(last) = pieces.pop() else { return rest.is_empty() };
    for piece in pieces {
        let Some(at) = rest.find(piece) else { return false };
        rest = &rest[at + piece.len()..];
    }
    rest.ends_with(last)
}

/// What is shown and what was seen, as far as it matters.
fn both(shown: &Block, seen: &str) -> (String, String) {
    let is_json = shown.kind == "json";
    (normal(&shown.text, is_json), normal(seen, is_json))
}

fn compare(command: &Block, shown: &Block, seen: &str) {
    let (wanted, found) = both(shown, seen);
    assert!(
        agrees(&wanted, &found),
        "README.md:{} shows what its command does not write.\n--- shown\n{wanted}\n--- written\n{found}\n",
        command.line
    );
}

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
        let shown = |at: usize| blocks.get(at + 1).filter(|next| !next.kind.starts_with("sh"));
        if let Some(shown) = shown(start).filter(|_| name == "waygate-mcp") {
            compare(&blocks[start], shown, &server.says.replace(&server.address, ADDRESS));
        }
        let runs: Vec<usize> = (start..end).filter(|&at| blocks[at].kind == "sh run").collect();
        let commands: Vec<&Block> = runs.iter().map(|&at| &blocks[at]).collect();
        for (&at, mut seen) in runs.iter().zip(server.run(&commands, home.path())) {
            let (command, shown) = (&blocks[at], shown(at).unwrap());
            // Calls stand in the history a moment after they were answered: whoever reads it too early looks again.
            let until = Instant::now() + PATIENCE;
            while command.text.contains(" history list") && Instant::now() < until {
                let (wanted, found) = both(shown, &seen);
                if agrees(&wanted, &found) {
                    break;
                }
                seen = server.run(&[command], home.path()).remove(0);
            }
            compare(command, shown, &seen);
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

#[test]
fn what_varies_is_passed_over_and_nothing_else() {
    for (shown, seen, same) in [
        ("{\"a\": …, \"b\": 1}", "{\"a\":12,\"b\":1}\n", true),
        ("{\"a\": …, \"b\": 1}", "{\"a\":12,\"b\":2}", false),
        ("{\"a\": \"x y\"}", "{\"a\":\"xy\"}", false),
        ("{\"a\": \"\\\" …\"}", "{\"a\":\"\\\" x\"}", true),
        ("{}", "{}{}", false),
    ] {
        assert_eq!(agrees(&normal(shown, true), &normal(seen, true)), same, "{shown} and {seen}");
    }
    assert!(agrees(&normal("a  …\nb\n", false), &normal("a 1\n b", false)));
}
