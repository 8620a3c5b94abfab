//! A client on standard streams: a real `stdio` process, written to and read from line by line.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{PATIENCE, code_of, database_of, eventually, message, program};

/// A running `stdio` process; dropping it kills it.
pub struct Client {
    pub child: Child,
    pub folder: PathBuf,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    /// What came while something else was waited for.
    kept: Vec<Value>,
    says: Arc<Mutex<String>>,
    ids: i64,
    _own: Option<TempDir>,
}

impl Client {
    /// `name` on a fresh data folder, where it must serve by itself.
    pub fn start(name: &str, settings: &[(&str, &str)]) -> Self {
        let own = tempfile::tempdir().expect("a temporary folder");
        let mut client = Self::on(name, own.path(), settings);
        client._own = Some(own);
        client
    }

    /// The same on a data folder that is there.
    pub fn on(name: &str, folder: &Path, settings: &[(&str, &str)]) -> Self {
        let mut child = Self::command(name, folder, settings).spawn().expect("it starts");
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            stdout.split(b'\n').map_while(Result::ok).for_each(|line| {
                drop(sender.send(String::from_utf8(line).unwrap_or_else(|_| "no UTF-8".to_owned())));
            });
        });
        let says = Arc::new(Mutex::new(String::new()));
        let mut stderr = child.stderr.take().expect("piped");
        let hears = Arc::clone(&says);
        std::thread::spawn(move || {
            let mut part = [0; 4096];
            while let Ok(count @ 1..) = stderr.read(&mut part) {
                hears.lock().expect("nobody panics").push_str(&String::from_utf8_lossy(&part[..count]));
            }
        });
        let kept = Vec::new();
        Self { child, folder: folder.to_owned(), stdin, lines, kept, says, ids: 1000, _own: None }
    }

    /// The command that starts it, with pipes.
    pub fn command(name: &str, folder: &Path, settings: &[(&str, &str)]) -> Command {
        let mut command = Command::new(program(name));
        command.args(["stdio", "--env", "test", "--data-dir"]).arg(folder);
        command.env_clear().envs(database_of(folder)).env("HOME", folder);
        command.envs(settings.iter().copied()).current_dir(folder);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// What it said on stderr so far.
    pub fn stderr(&self) -> String {
        self.says.lock().expect("nobody panics").clone()
    }

    /// Writes bytes as they are.
    pub fn write(&mut self, bytes: &[u8]) {
        let stdin = self.stdin.as_mut().expect("stdin is open");
        stdin.write_all(bytes).and_then(|()| stdin.flush()).expect("it reads");
    }

    /// Writes a message as a line.
    pub fn send(&mut self, message: &Value) {
        self.write(format!("{message}\n").as_bytes());
    }

    /// Stdin, for somebody else to write to.
    pub fn take_stdin(&mut self) -> ChildStdin {
        self.stdin.take().expect("stdin is open")
    }

    /// Sends a modern request under a fresh id.
    pub fn ask(&mut self, method: &str, params: Value) -> i64 {
        self.ids += 1;
        let mut message = message(method, params);
        message["id"] = self.ids.into();
        self.send(&message);
        self.ids
    }

    /// The same, and its answer.
    pub fn call(&mut self, method: &str, params: Value) -> Value {
        let id = self.ask(method, params);
        self.answer(id)
    }

    /// A modern tool call that must give a result.
    pub fn tool(&mut self, name: &str, arguments: Value) -> Value {
        let answer = self.call("tools/call", json!({"name": name, "arguments": arguments}));
        assert!(answer["result"].is_object(), "{answer}");
        answer["result"].clone()
    }

    /// Sends a request of a session under a fresh id.
    pub fn ask_in_session(&mut self, method: &str, params: Value) -> i64 {
        self.ids += 1;
        self.send(&json!({"jsonrpc": "2.0", "id": self.ids, "method": method, "params": params}));
        self.ids
    }

    /// The same, and its answer.
    pub fn call_in_session(&mut self, method: &str, params: Value) -> Value {
        let id = self.ask_in_session(method, params);
        self.answer(id)
    }

    /// Sends a notification.
    pub fn notify(&mut self, method: &str, params: Value) {
        self.send(&json!({"jsonrpc": "2.0", "method": method, "params": params}));
    }

    /// The handshake of a revision with sessions, by a client that can be asked for everything.
    pub fn initialize(&mut self, version: &str) -> Value {
        let capabilities = json!({"elicitation": {}, "sampling": {}, "roots": {"listChanged": true}});
        let client = json!({"name": "tests", "version": "1"});
        let hello = json!({"protocolVersion": version, "capabilities": capabilities, "clientInfo": client});
        let answer = self.call_in_session("initialize", hello);
        self.notify("notifications/initialized", json!({}));
        answer["result"].clone()
    }

    /// The next message that `fits`; others are kept for later.
    pub fn wait_for(&mut self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        if let Some(at) = self.kept.iter().position(&fits) {
            return self.kept.remove(at);
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            let line = match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => line,
                Err(RecvTimeoutError::Timeout) => {
                    panic!("not within {PATIENCE:?}: {what}; but {:?}\n{}", self.kept, self.stderr())
                }
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("it ended before {what}; it said {:?}\n{}", self.kept, self.stderr())
                }
            };
            let message = read(&line);
            if fits(&message) {
                return message;
            }
            self.kept.push(message);
        }
    }

    /// The answer to the request of this id.
    pub fn answer(&mut self, id: impl Into<Value>) -> Value {
        let id = id.into();
        self.wait_for(&format!("an answer to {id}"), |message| {
            message["id"] == id && message.get("method").is_none()
        })
    }

    /// The next notification of this method.
    pub fn notice(&mut self, method: &str) -> Value {
        self.wait_for(method, |message| message["method"] == method)
    }

    /// What came so far and was not waited for.
    pub fn kept(&mut self) -> &[Value] {
        self.kept.extend(self.lines.try_iter().map(|line| read(&line)));
        &self.kept
    }

    /// Waits for its end: the exit code, and all that was said and not waited for.
    pub fn ended(&mut self) -> (Option<i32>, Vec<Value>) {
        let child = &mut self.child;
        let status = eventually("it ends", || child.try_wait().expect("a child can be waited for"));
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            self.kept.push(read(&line));
        }
        (code_of(status), std::mem::take(&mut self.kept))
    }

    /// Closes stdin and waits for the end.
    pub fn end(&mut self) -> (Option<i32>, Vec<Value>) {
        drop(self.stdin.take());
        self.ended()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(sent.expect("kill runs").success());
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Nothing but JSON-RPC may ever be on stdout.
fn read(line: &str) -> Value {
    let message: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON on stdout: {line:?}"));
    assert_eq!(message["jsonrpc"], "2.0", "no message on stdout: {line:?}");
    message
}
