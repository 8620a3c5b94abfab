//! One place that lines go to: a queue with a limit, and the thread that empties it. Must not know what a line says.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use crate::config::LogFormat;

/// Lines that may wait; the next ones are lost.
const QUEUE_MAX: usize = 4096;

/// How often a sink is looked after when nothing is logged.
const TICK_SECONDS: u64 = 1;

/// How often a flush looks for room in a full queue.
const LOOK_FOR_ROOM_EVERY: Duration = Duration::from_millis(2);

/// Where lines are written.
pub trait Sink: Send {
    /// Writes one line; an error loses it.
    fn write(&mut self, line: &[u8]) -> io::Result<()>;
    /// Called about once a second when there is nothing to write.
    fn tick(&mut self);
}

enum Message {
    Line(Vec<u8>),
    Wake,
    Flush(SyncSender<()>),
}

/// The near end of a sink.
#[derive(Debug)]
pub struct Outlet {
    queue: SyncSender<Message>,
    lost: Arc<AtomicU64>,
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Line(_) => "Line",
            Self::Wake => "Wake",
            Self::Flush(_) => "Flush",
        })
    }
}

impl Outlet {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub fn start(name: &str, format: LogFormat, sink: Box<dyn Sink>) -> io::Result<Self> {
        let (queue, lines) = sync_channel(QUEUE_MAX);
        let lost = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&lost);
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || drain(&lines, format, sink, &counter))?;
        Ok(Self { queue, lost })
    }

    /// Another way in.
    pub fn writer(&self) -> Writer {
        Writer { queue: self.queue.clone(), lost: Arc::clone(&self.lost) }
    }

    /// Has the sink looked after now.
    pub fn wake(&self) {
        // When the queue is full, the sink is at work, and looks after itself with the next line.
        drop(self.queue.try_send(Message::Wake));
    }

    /// Waits until all lines so far are written, or `within` is over. Blocks its thread: for the end of the process.
    pub fn flush(&self, within: Duration) {
        let until = Instant::now() + within;
        let (done, wait) = sync_channel(1);
        let mut message = Message::Flush(done);
        // The queue may be full and yet move, so a place in it is waited for as well.
        while let Err(TrySendError::Full(back)) = self.queue.try_send(message) {
            if Instant::now() >= until {
                return;
            }
            message = back;
            std::thread::sleep(LOOK_FOR_ROOM_EVERY);
        }
        wait.recv_timeout(until.saturating_duration_since(Instant::now())).unwrap_or_default();
    }

    /// Lines that were lost.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

/// Takes one line with each write, and never waits.
pub struct Writer {
    queue: SyncSender<Message>,
    lost: Arc<AtomicU64>,
}

impl io::Write for Writer {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.queue.try_send(Message::Line(line.to_vec())).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn drain(lines: &Receiver<Message>, format: LogFormat, mut sink: Box<dyn Sink>, lost: &AtomicU64) {
    let mut told = 0;
    loop {
        match lines.recv_timeout(Duration::from_secs(TICK_SECONDS)) {
            Ok(Message::Line(line)) => match sink.write(&line) {
                Ok(()) => tell_losses(format, sink.as_mut(), lost, &mut told),
                Err(_full_or_gone) => {
                    lost.fetch_add(1, Ordering::Relaxed);
                }
            },
            Ok(Message::Wake) | Err(RecvTimeoutError::Timeout) => sink.tick(),
            // Whoever waited may have given up.
            Ok(Message::Flush(done)) => done.try_send(()).unwrap_or_default(),
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// Says once, as soon as anything can be said again, how much is missing.
fn tell_losses(format: LogFormat, sink: &mut dyn Sink, lost: &AtomicU64, told: &mut u64) {
    let now = lost.load(Ordering::Relaxed);
    if now > *told {
        let missing = now - *told;
        let level = log::Level::Warn;
        let args = format_args!(
            "{missing} log lines were lost before this one: too many at once, or nowhere to write"
        );
        let record = log::Record::builder().level(level).target("waygate_mcp::telemetry").args(args).build();
        let line = match format {
            LogFormat::Text => super::line::text(&record, env_logger::fmt::style::Style::new()),
            LogFormat::Json => Ok(super::line::json(&record)),
        };
        if line.is_ok_and(|line| sink.write(line.as_bytes()).is_ok()) {
            *told = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::sync::Mutex;
    use std::sync::mpsc::channel;

    use super::*;

    /// Holds each write until it is let go; fails while `broken`.
    struct Gate {
        written: Arc<Mutex<Vec<String>>>,
        let_go: Receiver<io::Result<()>>,
    }

    impl Sink for Gate {
        fn write(&mut self, line: &[u8]) -> io::Result<()> {
            self.let_go.recv().unwrap_or(Ok(()))?;
            self.written.lock().unwrap().push(String::from_utf8_lossy(line).into_owned());
            Ok(())
        }
        fn tick(&mut self) {}
    }

    #[test]
    fn a_sink_that_stands_still_costs_lines_and_never_time() {
        let (go, let_go) = channel();
        let written = Arc::new(Mutex::new(Vec::new()));
        let outlet =
            Outlet::start("test", LogFormat::Text, Box::new(Gate { written: Arc::clone(&written), let_go }))
                .unwrap();
        let mut writer = outlet.writer();
        for n in 0..QUEUE_MAX + 100 {
            writer.write_all(format!("{n}\n").as_bytes()).unwrap();
        }
        let lost = outlet.lost();
        assert!((99..=100).contains(&lost), "{lost}");
        drop(go);
        outlet.flush(Duration::from_secs(30));
        let written = written.lock().unwrap();
        assert!(written.len() as u64 == QUEUE_MAX as u64 + 100 - lost + 1, "{}", written.len());
        assert!(written.iter().any(|line| line.contains(&format!("{lost} log lines were lost"))));
    }

    #[test]
    fn a_full_disk_costs_lines_and_is_told_when_it_is_over() {
        let (go, let_go) = channel();
        let written = Arc::new(Mutex::new(Vec::new()));
        let outlet =
            Outlet::start("test", LogFormat::Text, Box::new(Gate { written: Arc::clone(&written), let_go }))
                .unwrap();
        go.send(Err(io::Error::from(io::ErrorKind::StorageFull))).unwrap();
        drop(go);
        let mut writer = outlet.writer();
        writer.write_all(b"lost\n").unwrap();
        writer.write_all(b"kept\n").unwrap();
        outlet.flush(Duration::from_secs(30));
        let written = written.lock().unwrap();
        assert!(
            matches!(written.as_slice(), [kept, told] if kept == "kept\n" && told.contains("1 log lines were lost"))
        );
        assert_eq!(outlet.lost(), 1);
    }
}
