//! Binding the address first of all, and saying who has it when it is taken.

use std::fmt;
use std::fs;
use std::net::{TcpListener, ToSocketAddrs as _};

use super::StartError;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 2048;

/// Binds `host:port`.
///
/// # Errors
/// `Listen`, naming the process that has the port where that can be known.
pub fn bind(host: &str, port: u16) -> Result<TcpListener, StartError> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let mut addresses = (bare, port).to_socket_addrs().map_err(|error| {
        StartError::Listen(format!(
            "the host {host:?} is not known: {error}; set server.host to an address of this machine"
        ))
    })?;
    let address =
        addresses.next().ok_or_else(|| StartError::Listen(format!("the host {host:?} has no address")))?;
    let bound = TcpListener::bind(address).and_then(|listener| {
        rustix::net::listen(&listener, BACKLOG)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    bound.map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            let owner = holder_of(port).map_or_else(|| "another process".to_owned(), |owner| format!("process {owner}"));
            StartError::Listen(format!(
                "port {port} on {host} is taken by {owner}; stop that, or choose another port with --port or WAYGATE_PORT"
            ))
        }
        std::io::ErrorKind::PermissionDenied => StartError::Listen(format!(
            "port {port} may not be bound by this user; choose one above 1023 with --port or WAYGATE_PORT"
        )),
        _ => StartError::Listen(format!("{host}:{port} cannot be bound: {error}; set server.host and server.port")),
    })
}

/// Makes a socket that somebody else has bound fit to be served.
///
/// # Errors
/// `Listen` when it does not listen.
pub fn adopt(listener: TcpListener) -> Result<TcpListener, StartError> {
    let adopted = listener.set_nonblocking(true).and_then(|()| listener.local_addr());
    adopted.map_err(|error| {
        StartError::Listen(format!("the socket from the service manager cannot be used: {error}"))
    })?;
    Ok(listener)
}

/// Whether `listener` is bound as `host` and `port` say; a port of 0 is any.
pub fn is_at(listener: &TcpListener, host: &str, port: u16) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let Ok(bound) = listener.local_addr() else { return false };
    let wanted = (bare, port).to_socket_addrs();
    wanted.is_ok_and(|mut wanted| {
        wanted.any(|wanted| wanted.ip() == bound.ip() && (port == 0 || port == bound.port()))
    })
}

/// A process that listens somewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its number.
    pub pid: i32,
    /// What the system calls it.
    pub name: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.pid, self.name)
    }
}

/// The process that listens on `port`, when this user may know. A process that was forked a moment ago holds what its parent
/// does until it runs its own program: the oldest of several is named.
pub fn holder_of(port: u16) -> Option<Holder> {
    let sockets = procfs::net::tcp().ok()?.into_iter().chain(procfs::net::tcp6().ok()?);
    let is_it = |entry: &procfs::net::TcpNetEntry| {
        entry.local_address.port() == port && entry.state == procfs::net::TcpState::Listen
    };
    let wanted = format!("socket:[{}]", sockets.into_iter().find(is_it)?.inode);
    let holds = |process: &procfs::process::Process| {
        fs::read_dir(format!("/proc/{}/fd", process.pid)).is_ok_and(|mut files| {
            files.any(|file| {
                let target = file.and_then(|file| fs::read_link(file.path()));
                target.is_ok_and(|target| target.as_os_str() == wanted.as_str())
            })
        })
    };
    let owners = procfs::process::all_processes().ok()?.flatten().filter(holds);
    let oldest =
        owners.filter_map(|process| process.stat().ok()).min_by_key(|stat| (stat.starttime, stat.pid))?;
    Some(Holder { pid: oldest.pid, name: oldest.comm })
}
