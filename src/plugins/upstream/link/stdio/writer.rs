//! What is said to a program's stdin: whatever waits goes out in one write, one message a line.
//!
//! Must not know what is said.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::routes::Routes;

/// A program that takes not one byte for so long does not read.
pub(super) const STUCK_AFTER: Duration = Duration::from_secs(30);
/// Messages taken at once.
const BATCH_MAX: usize = 256;
/// Written at once, unless one message is longer.
const WRITE_BYTES: usize = 256 * 1024;

/// Writes until the queue is at its end, `closing` trips (then what waits is still written), or it cannot. Dropping the
/// pipe is the program's end of file.
///
/// # Errors
/// Why it cannot, about the program.
pub(super) async fn write(
    mut pipe: impl AsyncWrite + Unpin,
    mut queue: mpsc::Receiver<Bytes>,
    closing: CancellationToken,
    routes: &Routes,
) -> Result<(), String> {
    let mut batch = Vec::with_capacity(BATCH_MAX);
    let mut out = Vec::with_capacity(WRITE_BYTES);
    loop {
        let count = tokio::select! {
            biased;
            count = queue.recv_many(&mut batch, BATCH_MAX) => count,
            () = closing.cancelled(), if !queue.is_closed() => {
                queue.close();
                continue;
            }
        };
        if count == 0 {
            return Ok(());
        }
        for message in batch.drain(..) {
            if !out.is_empty() && out.len() + message.len() > WRITE_BYTES {
                put(&mut pipe, &mut out, routes).await?;
            }
            append(&mut out, &message);
        }
        put(&mut pipe, &mut out, routes).await?;
    }
}

/// A message is one line. In JSON, a line break stands only where a blank may, too.
fn append(out: &mut Vec<u8>, message: &[u8]) {
    let start = out.len();
    out.extend_from_slice(message);
    let added = out.get_mut(start..).unwrap_or_default();
    for byte in added.iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')) {
        *byte = b' ';
    }
    out.push(b'\n');
}

async fn put(pipe: &mut (impl AsyncWrite + Unpin), out: &mut Vec<u8>, routes: &Routes) -> Result<(), String> {
    let mut rest = out.as_slice();
    while !rest.is_empty() {
        let written = timeout(STUCK_AFTER, pipe.write(rest)).await;
        let written = written.map_err(|_elapsed| {
            format!("it has read nothing from its stdin for {} s", STUCK_AFTER.as_secs())
        })?;
        match written {
            Ok(0) => return Err("it closed its stdin".to_owned()),
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {
                return Err("it closed its stdin".to_owned());
            }
            Err(error) => return Err(format!("its stdin cannot be written: {error}")),
            Ok(count) => {
                routes.counts.bytes_out.fetch_add(count as u64, Ordering::Relaxed);
                rest = rest.get(count..).unwrap_or_default();
            }
        }
    }
    out.clear();
    // One large message should not be paid for ever after.
    out.shrink_to(WRITE_BYTES);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line_however_it_was_written() {
        let mut out = Vec::new();
        append(&mut out, b"{\r\n \"a\": \"b\\nc\"\n}");
        append(&mut out, b"{}");
        assert_eq!(out, b"{   \"a\": \"b\\nc\" }\n{}\n");
    }

    #[tokio::test(start_paused = true)]
    async fn a_program_that_does_not_read_is_given_up() {
        let (pipe, _unread) = tokio::io::duplex(8);
        let (sender, queue) = mpsc::channel(4);
        sender.send(Bytes::from_static(b"{\"more than eight bytes\":1}")).await.unwrap();
        let routes = Routes::new("files".into(), std::sync::Arc::default(), 100);
        let why = write(pipe, queue, CancellationToken::new(), &routes).await.unwrap_err();
        assert!(why.contains("read nothing from its stdin for 30 s"), "{why}");
    }

    #[tokio::test]
    async fn what_waits_when_it_is_closed_is_still_written() {
        let (pipe, mut read) = tokio::io::duplex(1000);
        let (sender, queue) = mpsc::channel(4);
        sender.send(Bytes::from_static(b"1")).await.unwrap();
        let closing = CancellationToken::new();
        closing.cancel();
        let routes = Routes::new("files".into(), std::sync::Arc::default(), 100);
        assert_eq!(write(pipe, queue, closing, &routes).await, Ok(()));
        let mut said = String::new();
        tokio::io::AsyncReadExt::read_to_string(&mut read, &mut said).await.unwrap();
        assert_eq!(said, "1\n");
        assert!(sender.send(Bytes::new()).await.is_err());
    }
}
