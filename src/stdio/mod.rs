//! MCP on standard streams: a translator between lines of JSON-RPC and HTTP to a server of this user.
//!
//! ```text
//! stdin ── lines ──▶ desk ── wire ──▶ POST /mcp            a request that stands for itself: alone
//!                     │  └ session    POST, GET, DELETE    one in a session, and the session's own stream
//! stdout ◀─ outlet ───┘ ◀────────────  JSON, event streams
//! ```
//!
//! What differs from HTTP is done here and nowhere else: one channel for all, so that requests are told apart by their
//! ids (`flights`); cancelling is a notification; a listen that ends says so. MCP 2026-07-28, basic/transports/stdio, and
//! 2024-11-05 to 2025-11-25, basic/transports. Must not know what methods do, nor who serves.

mod desk;
mod flights;
mod lines;
mod outlet;
mod session;
mod wire;

use std::fs::File;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio_util::task::TaskTracker;

use desk::Desk;
use lines::Line;
pub use wire::Way;

/// How long the last lines may take to be written.
const FLUSH_WITHIN: Duration = Duration::from_secs(2);

/// How the translator behaves, from the configuration.
#[derive(Debug, Clone, Copy)]
pub struct Manners {
    /// The longest line.
    pub line_max_bytes: usize,
    /// How long a server that is well may say nothing.
    pub silence: Duration,
    /// How long requests in flight may take once the client has no more to say.
    pub drain: Duration,
}

/// Translates until the client closes `input` or does not take `output` any more, or `stop` says so; then waits for what
/// is in flight. A second `stop` ends that, too.
///
/// # Errors
/// When no threads for the streams can be started.
pub async fn translate(
    (input, output): (File, File),
    way: Box<dyn Way>,
    manners: Manners,
    mut stop: impl AsyncFnMut(),
) -> io::Result<()> {
    let mut lines = lines::read(input, manners.line_max_bytes)?;
    let (outlet, writer) = outlet::open(output)?;
    let tasks = TaskTracker::new();
    let desk = Rc::new(Desk::new(way, outlet.clone(), manners, tasks.clone()));
    let work = async {
        while let Some(line) = lines.recv().await {
            match line {
                Line::Whole(line) => desk.take(line).await,
                Line::TooLong => desk.refuse_length().await,
            }
        }
    };
    tokio::select! {
        biased;
        () = stop() => {}
        () = outlet.closed() => {}
        () = work => {}
    }
    // Whoever has a lot to say waits for nobody now.
    drop(lines);
    let ending = async {
        desk.end_listens().await;
        tasks.close();
        tasks.wait().await;
    };
    let ended = tokio::select! {
        biased;
        () = stop() => false,
        () = outlet.closed() => false,
        () = ending => true,
        () = tokio::time::sleep(manners.drain) => false,
    };
    if !ended {
        drop(tokio::time::timeout(FLUSH_WITHIN, desk.give_up()).await);
    }
    desk.end_session().await;
    drop((desk, outlet));
    writer.finish(FLUSH_WITHIN).await;
    Ok(())
}
