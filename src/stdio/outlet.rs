//! To the client: one message a line, each written whole, no faster than the client reads. Must not know what is said.

use std::io::{self, Write};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

/// Messages that may wait to be written. Beyond, whoever has something to say waits, up to the plugin that says it.
const MESSAGES_MAX: usize = 64;

/// The way out.
#[derive(Debug, Clone)]
pub struct Outlet(mpsc::Sender<Bytes>);

/// The thread that writes.
#[derive(Debug)]
pub struct Writer(oneshot::Receiver<()>);

/// Writes on a thread of its own what the outlet and its clones are given.
///
/// # Errors
/// When no thread can be started.
pub fn open(mut output: impl Write + Send + 'static) -> io::Result<(Outlet, Writer)> {
    let (sender, mut messages) = mpsc::channel::<Bytes>(MESSAGES_MAX);
    let (ends, ended) = oneshot::channel();
    let work = move || {
        while let Some(message) = messages.blocking_recv() {
            if let Err(error) = output.write_all(&message).and_then(|()| output.flush()) {
                log::info!("stdout cannot be written any more: {error}");
                break;
            }
        }
        // Nobody may wait for it any more.
        ends.send(()).ok();
    };
    std::thread::Builder::new().name("stdout".to_owned()).spawn(work)?;
    Ok((Outlet(sender), Writer(ended)))
}

impl Outlet {
    /// Writes a message, waiting while the client does not read. After the client's end it goes nowhere.
    pub async fn say(&self, message: &[u8]) {
        drop(self.0.send(line(message)).await);
    }

    /// Returns when nobody can be written to any more.
    pub async fn closed(&self) {
        self.0.closed().await;
    }
}

impl Writer {
    /// Waits until all that was said is written, once the last outlet is gone.
    pub async fn finish(self, within: Duration) {
        drop(tokio::time::timeout(within, self.0).await);
    }
}

/// JSON has line breaks between tokens only, where a blank says the same.
fn line(message: &[u8]) -> Bytes {
    let mut line = Vec::with_capacity(message.len() + 1);
    line.extend(message.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }));
    line.push(b'\n');
    line.into()
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    /// Takes nothing until it is let, as a client that does not read.
    struct Stuck(std::sync::mpsc::Receiver<()>, Vec<u8>);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // Let go of when its test ends, too.
            self.0.recv().ok();
            self.1.extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn who_speaks_waits_for_a_client_that_does_not_read() {
        let (lets, let_go) = std::sync::mpsc::channel();
        let (outlet, writer) = open(Stuck(let_go, Vec::new())).unwrap();
        let said = (0..=MESSAGES_MAX * 2).take_while(|_| outlet.say(b"{}").now_or_never().is_some());
        // One may be in the writer's hand.
        assert!(said.count() <= MESSAGES_MAX + 1);
        drop(lets);
        outlet.say(b"{}").await;
        drop(outlet);
        writer.finish(Duration::from_secs(20)).await;
    }

    #[test]
    fn a_message_is_one_line() {
        assert_eq!(line(b"{\n\"a\":\r\n1}"), Bytes::from_static(b"{ \"a\":  1}\n"));
    }
}
