//! What a service manager and a server tell each other: systemd's sockets, notices and watchdog. Without one, nothing.
//!
//! Must not know how the server is.

use std::net::TcpListener;

use listenfd::ListenFd;
use sd_notify::NotifyState;

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

fn tell(what: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(what) {
        log::debug!("the service manager did not take a notice: {error}");
    }
}
