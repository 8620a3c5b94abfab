//! Private Redis servers for tests, each run by `scripts/redis`, which ends it and cleans up when the test process ends, in
//! whichever way. Must not know what is tested.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// The password in every URL here.
pub const PASSWORD: &str = "a-secret-of-the-test";

/// A Redis of a test's own.
pub struct Redis {
    script: Child,
    words: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// `redis://:password@127.0.0.1:port/0`
    pub url: String,
}

impl Redis {
    /// Starts one; none, having said so, when there is no Redis on this machine.
    pub fn start() -> Option<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/redis");
        let mut script = Command::new(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("scripts/redis runs");
        let words = script.stdin.take().expect("piped");
        let mut answers = BufReader::new(script.stdout.take().expect("piped"));
        let url = line(&mut answers);
        if url.is_empty() {
            let code = script.wait().expect("it ended").code();
            assert_eq!(code, Some(3), "scripts/redis failed, see above");
            // Past the harness, which would keep it to itself.
            drop(std::io::stderr().write_all(b"NOT RUN with Redis, which this machine lacks\n"));
            return None;
        }
        Some(Self { script, words, answers, url })
    }

    /// Says one of the words that `scripts/redis` knows, and waits until it is done.
    pub fn tell(&mut self, word: &str) {
        writeln!(self.words, "{word}").expect("the script listens");
        assert_eq!(line(&mut self.answers), word, "scripts/redis failed, see above");
    }

    /// Every name and value that lies there, as the bytes of Redis' own answers.
    pub fn contents(&self) -> String {
        let names = self.ask(&["KEYS *"]);
        let names: Vec<&str> = names.lines().filter(|line| line.contains(':')).collect();
        let values = names.iter().map(|name| format!("GET {name}")).collect::<Vec<_>>();
        let values = self.ask(&values.iter().map(String::as_str).collect::<Vec<_>>());
        format!("{}\n{values}", names.join("\n"))
    }

    /// Sends commands past the server that is tested, and gives all that is answered.
    fn ask(&self, commands: &[&str]) -> String {
        let place = self.url.split('@').nth(1).and_then(|rest| rest.split('/').next()).expect("a place");
        let mut stream = TcpStream::connect(place).expect("Redis accepts");
        let mut all = format!("AUTH {PASSWORD}\r\n");
        for command in commands {
            all += &format!("{command}\r\n");
        }
        stream.write_all(format!("{all}QUIT\r\n").as_bytes()).expect("the commands are taken");
        let mut said = Vec::new();
        stream.read_to_end(&mut said).expect("it answers and closes");
        String::from_utf8_lossy(&said).into_owned()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // The end of its standard input would do, but nobody would wait for it.
        drop(Command::new("kill").args(["-TERM", &self.script.id().to_string()]).status());
        drop(self.script.wait());
    }
}

fn line(answers: &mut BufReader<ChildStdout>) -> String {
    let mut line = String::new();
    answers.read_line(&mut line).expect("text");
    line.trim_end().to_owned()
}
