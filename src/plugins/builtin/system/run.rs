//! One program's run: fed, read, told about, and ended when its time is up or nobody waits for it any more.
//!
//! Must not know what the program is, nor how its run is shown.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::capture::{Capture, Shown};
use super::progress::Progress;
use crate::plugins::Context;
use crate::plugins::child::{Child, ChildError, ENDS_WITHIN, Ended};

/// A pipe holds no more at once.
const READ_MAX_BYTES: usize = 64 * 1024;
/// Between two reads of what will not be shown: a program that floods us waits, and not the other calls of this thread.
const FLOOD_REST: Duration = Duration::from_millis(1);

/// What a run may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// From its start.
    pub(super) timeout: Duration,
    /// From the wish that it ends to its being killed.
    pub(super) grace: Duration,
    /// Shown of each stream.
    pub(super) output_max_bytes: usize,
}

/// A run, as it was.
#[derive(Debug)]
pub(super) struct Ran {
    /// How the program ended.
    pub(super) ended: Result<Ended, ChildError>,
    /// Whether it was ended because its time was up.
    pub(super) timed_out: bool,
    pub(super) stdout: Shown,
    pub(super) stderr: Shown,
    pub(super) took: Duration,
}

/// Sees a program through to its end. Nothing of it is left then.
pub(super) async fn run(
    child: Child,
    stdin: Option<String>,
    limits: Limits,
    context: &Context,
    left: &CancellationToken,
) -> Ran {
    let began = Instant::now();
    let Child { stdin: pipe, stdout, stderr, mut life } = child;
    let mut output = Stream::new(stdout, limits.output_max_bytes);
    let mut errors = Stream::new(stderr, limits.output_max_bytes);
    let mut progress = Progress::new();
    let feed = feed(pipe, stdin);
    tokio::pin!(feed);
    let (mut fed, mut ended, mut over, mut ending, mut timed_out) = (false, None, false, false, false);
    // When it is told to end; then, when it is not waited for any longer.
    let mut deadline = began + limits.timeout;
    // Whoever holds a pipe is of the program's kin, and ends soon after it.
    while ended.is_none() || output.open || errors.open {
        let known = ended.is_some();
        let news = async {
            if known {
                life.over().await;
                return None;
            }
            Some(life.ended().await)
        };
        tokio::select! {
            count = output.read(), if output.open => progress.note(output.newest(count)),
            count = errors.read(), if errors.open => progress.note(errors.newest(count)),
            () = &mut feed, if !fed => fed = true,
            how = news, if !over => {
                let Some(how) = how else {
                    over = true;
                    continue;
                };
                if !ending {
                    ending = true;
                    deadline = Instant::now() + limits.grace + ENDS_WITHIN;
                }
                let lost = how.is_err();
                ended = Some(how);
                if lost {
                    break;
                }
            }
            () = progress.due() => progress.tell(context),
            () = tokio::time::sleep_until(deadline) => {
                if ending {
                    break;
                }
                (ending, timed_out) = (true, true);
                life.end();
                deadline = Instant::now() + limits.grace + ENDS_WITHIN;
            }
            () = left.cancelled(), if !ending => {
                ending = true;
                life.end();
                deadline = Instant::now() + limits.grace + ENDS_WITHIN;
            }
        }
    }
    let took = began.elapsed();
    life.gone_by(deadline).await;
    let ended = ended.unwrap_or(Err(ChildError::GuardSilent));
    Ran { ended, timed_out, stdout: output.capture.show(), stderr: errors.capture.show(), took }
}

/// Writes all that there is to say to the program, and closes its stdin.
async fn feed(pipe: Option<pipe::Sender>, says: Option<String>) {
    if let (Some(mut pipe), Some(says)) = (pipe, says) {
        // A program need not read all of it.
        drop(pipe.write_all(says.as_bytes()).await);
    }
}

/// One stream out of the program.
struct Stream {
    pipe: pipe::Receiver,
    buffer: Vec<u8>,
    capture: Capture,
    open: bool,
    rests_until: Option<Instant>,
}

impl Stream {
    fn new(pipe: pipe::Receiver, max_bytes: usize) -> Self {
        let buffer = vec![0; READ_MAX_BYTES];
        Self { pipe, buffer, capture: Capture::new(max_bytes), open: true, rests_until: None }
    }

    /// Reads on; gives how many bytes came. Dropped before it is done, it has read nothing.
    async fn read(&mut self) -> usize {
        if let Some(until) = self.rests_until {
            tokio::time::sleep_until(until).await;
        }
        let count = loop {
            match self.pipe.read(&mut self.buffer).await {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read.unwrap_or(0),
            }
        };
        self.open = count > 0;
        self.capture.push(self.buffer.get(..count).unwrap_or_default());
        self.rests_until = self.capture.overflows().then(|| Instant::now() + FLOOD_REST);
        count
    }

    fn newest(&self, count: usize) -> &[u8] {
        self.buffer.get(..count).unwrap_or_default()
    }
}
