//! What a service manager and a server tell each other: systemd's sockets, notices and watchdog. Without one, nothing.
//!
//! Must not know how the server is.

use std::net::TcpListener;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use listenfd::ListenFd;
use sd_notify::NotifyState;

/// What is asked for at a time while the start takes long: from the last asking on, the rest of the start has as much.
const MORE_TIME: Duration = Duration::from_secs(120);
/// Between two askings, of which some may come late.
const ASK_EVERY: Duration = Duration::from_secs(20);

/// The socket that the service manager has bound for this process, if it did. To be called before threads are started,
/// since it takes the manager's variables away from the programs that this process starts.
///
/// # Errors
/// A sentence, when it gave something else.
pub fn socket() -> Result<Option<TcpListener>, String> {
    let mut given = ListenFd::from_env();
    if given.len() > 1 {
        return Err(format!(
            "the service manager gave {} sockets, and one is served; name one address in the .socket file",
            given.len()
        ));
    }
    given.take_tcp_listener(0).map_err(|error| {
        format!(
            "the service manager gave a socket that is none of TCP: {error}; use ListenStream= with a port"
        )
    })
}

/// Tells it that requests are served.
pub fn ready(url: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(&format!("serving {url}/mcp"))]);
}

/// Tells it that the end has begun.
pub fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("calls in flight have their time to finish")]);
}

/// Tells it that every part gave a sign of life lately; it restarts a process that does not say so in time.
pub fn alive() {
    tell(&[NotifyState::Watchdog]);
}

/// Does what may take longer than the service manager waits for a start, as long as it goes on: what `work` says of itself is passed
/// on, with the request for more time, which is made again and again until `work` is done.
pub fn patiently<T>(work: impl FnOnce(&dyn Fn(&str)) -> T) -> T {
    let (sender, said) = mpsc::channel();
    thread::scope(|scope| {
        let asking = thread::Builder::new().name("service-manager".to_owned());
        let asking = asking.spawn_scoped(scope, move || ask_again(&said, ASK_EVERY, ask_for_time));
        if let Err(error) = asking {
            log::warn!("the service manager is not asked for more time, should the start take long: {error}");
        }
        let done = work(&|what| drop(sender.send(what.to_owned())));
        drop(sender);
        done
    })
}

fn ask_for_time(what: &str) {
    let micros = u32::try_from(MORE_TIME.as_micros()).unwrap_or(u32::MAX);
    tell(&[NotifyState::ExtendTimeoutUsec(micros), NotifyState::Status(what)]);
}

/// Asks at once for what is said last, and from then on every so often, until nothing more will be said.
fn ask_again(said: &Receiver<String>, every: Duration, ask: impl Fn(&str)) {
    let mut last = None;
    loop {
        match said.recv_timeout(every) {
            Ok(what) => last = Some(what),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if let Some(what) = &last {
            ask(what);
        }
    }
}

fn tell(what: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(what) {
        log::debug!("the service manager did not take a notice: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_asked_for_as_long_as_something_takes_long_and_for_what_it_says_last() {
        let (sender, said) = mpsc::channel();
        let (ask, asked) = mpsc::channel();
        let asking = thread::spawn(move || {
            ask_again(&said, Duration::from_millis(1), |what| drop(ask.send(what.to_owned())));
        });
        let hear = || asked.recv_timeout(Duration::from_secs(30));
        sender.send("one".to_owned()).unwrap();
        assert_eq!(
            [hear(), hear(), hear()],
            [Ok("one".to_owned()), Ok("one".to_owned()), Ok("one".to_owned())]
        );
        sender.send("two".to_owned()).unwrap();
        while hear().unwrap() != "two" {}
        assert_eq!(hear().unwrap(), "two");
        // What is done needs no time.
        drop(sender);
        asking.join().unwrap();
        assert!(asked.iter().all(|what| what == "two"));
    }
}
