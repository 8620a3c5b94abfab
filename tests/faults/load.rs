//! Threads that call the tool `echo` without pause, each call with a message of its own, and remember what became of it.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Http, PATIENCE, eventually};

/// What became of all calls, by their messages.
#[derive(Debug, Default)]
pub struct Tally {
    /// Those that gave their message back.
    pub answered: Vec<String>,
    /// Those that got an error: its status and body.
    pub refused: BTreeMap<String, (u16, String)>,
    /// Those whose connection broke, or was refused.
    pub broken: BTreeMap<String, String>,
}

impl Tally {
    /// Asserts that each call was answered: by its result, or by an error that asks for a retry.
    pub fn all_answered(&self) {
        assert!(self.broken.is_empty(), "without any answer: {:?}", self.broken);
        for (message, (status, body)) in &self.refused {
            assert_eq!(*status, 503, "{message}: {body}");
            let advice =
                serde_json::from_str::<Value>(body).expect("JSON")["error"]["data"]["advice"].clone();
            assert!(advice.as_str().is_some_and(|advice| advice.contains("retry")), "{message}: {body}");
        }
    }
}

/// Load that runs until it is finished.
pub struct Load {
    over: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<Tally>>,
}

impl Load {
    /// Begins `threads` threads; `name` tells the messages of this load from others.
    pub fn begin(address: SocketAddr, name: &str, threads: usize) -> Self {
        Self::paced(address, name, threads, Duration::ZERO)
    }

    /// The same with a pause after each call, where no more may be asked than can be written down: an unoptimised server
    /// answers faster than it records, and batched history then loses rows, as it should.
    pub fn paced(address: SocketAddr, name: &str, threads: usize, pause: Duration) -> Self {
        let (over, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let begin = |thread: usize| {
            let (over, answered) = (Arc::clone(&over), Arc::clone(&answered));
            let name = format!("{name}-{thread}");
            std::thread::spawn(move || run(address, &name, pause, &over, &answered))
        };
        Self { threads: (0..threads).map(begin).collect(), over, answered }
    }

    /// Waits until `more` further calls have their result.
    pub fn wait_for(&self, more: usize) {
        let wanted = self.answered.load(Ordering::Relaxed) + more;
        eventually("calls are answered under load", || {
            // What ended the load is told by `finish`: nothing more is answered.
            let is_over = self.over.load(Ordering::Relaxed);
            (is_over || self.answered.load(Ordering::Relaxed) >= wanted).then_some(())
        });
    }

    /// Ends the load and tells what became of it.
    pub fn finish(self) -> Tally {
        self.over.store(true, Ordering::Relaxed);
        let mut all = Tally::default();
        for thread in self.threads {
            let one = thread.join().expect("a thread of the load ends well");
            all.answered.extend(one.answered);
            all.refused.extend(one.refused);
            all.broken.extend(one.broken);
        }
        all
    }
}

fn run(address: SocketAddr, name: &str, pause: Duration, over: &AtomicBool, answered: &AtomicUsize) -> Tally {
    let mut tally = Tally::default();
    for number in 0.. {
        if over.load(Ordering::Relaxed) {
            break;
        }
        std::thread::park_timeout(pause);
        let message = format!("{name}-{number}");
        match echo(address, &message) {
            Ok((200, body)) => {
                let body: Value = serde_json::from_str(&body).expect("a result is JSON");
                assert_eq!(body["result"]["content"][0]["text"], message.as_str());
                tally.answered.push(message);
                answered.fetch_add(1, Ordering::Relaxed);
            }
            Ok(refused) => drop(tally.refused.insert(message, refused)),
            Err(error) => {
                // A server that is gone is found so at each try: once is enough.
                over.store(true, Ordering::Relaxed);
                tally.broken.insert(message, error.to_string());
            }
        }
    }
    tally
}

/// One call of `echo`: its status and body, or how the connection failed.
pub fn echo(address: SocketAddr, message: &str) -> std::io::Result<(u16, String)> {
    let params = json!({"name": "echo", "arguments": {"message": message}});
    let request = Http::modern("tools/call", params).header("Connection", "close");
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(&request.bytes(address))?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply)?;
    let broken = || std::io::Error::other(format!("half an answer: {reply:?}"));
    let (head, body) = reply.split_once("\r\n\r\n").ok_or_else(broken)?;
    let length = head.to_ascii_lowercase().lines().find_map(|line| {
        line.strip_prefix("content-length:").and_then(|length| length.trim().parse::<usize>().ok())
    });
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    match (status, length) {
        (Some(status), Some(length)) if body.len() == length => Ok((status, body.to_owned())),
        _ => Err(broken()),
    }
}
