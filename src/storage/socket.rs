//! The sockets in a data folder, over which the folder's user, and the next server, reach the one that runs on it.
//!
//! Must not know what is said over it.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, fchmod, open};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::StorageError;

/// The name of that for the user.
pub const SERVER: &str = "waygate.sock";
/// The name of that for the server that comes next.
pub const HANDOVER: &str = "handover.sock";
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 128;

/// A bound socket's name, taken away when dropped.
#[derive(Debug)]
pub struct Socket {
    path: PathBuf,
    /// What this process bound there: the name may be another's by now, who took over.
    identity: Option<Identity>,
}

/// Which file: a number that is free again is soon another file's, so the moment of its making counts, too.
type Identity = (u64, i64, i64);

impl Socket {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Whoever has the folder removed its files, perhaps.
        if identity_of(&self.path) == self.identity {
            drop(std::fs::remove_file(&self.path));
        }
    }
}

fn identity_of(path: &Path) -> Option<Identity> {
    std::fs::symlink_metadata(path).ok().map(|about| (about.ino(), about.ctime(), about.ctime_nsec()))
}

/// Listens at the socket `name` in `folder`, for its user alone (mode 0600). One that an earlier owner of the folder left
/// behind is removed: call it as the owner of the folder only.
///
/// # Errors
/// `Folder` when it cannot be made.
pub fn bind(folder: &Path, name: &str) -> Result<(UnixListener, Socket), StorageError> {
    let path = folder.join(name);
    let bound = try_bind(folder, name, &path);
    bound
        .map(|listener| (listener, Socket { identity: identity_of(&path), path: path.clone() }))
        .map_err(|error| StorageError::Folder { path, cause: error.to_string() })
}

fn try_bind(folder: &Path, name: &str, path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let socket = socket()?;
    // Before it has a name: there is no moment at which others could use it.
    fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    at(folder, name, |address| rustix::net::bind(&socket, address))?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(UnixListener::from(socket))
}

/// Connects to the server that listens at `name` in `folder`; the stream does not block.
///
/// # Errors
/// `NotFound` and `ConnectionRefused` when none does, `WouldBlock` when it has no time now, `PermissionDenied` when it is
/// the server of a user who is neither this one nor root.
pub fn connect(folder: &Path, name: &str) -> io::Result<UnixStream> {
    let socket = socket()?;
    at(folder, name, |address| rustix::net::connect(&socket, address))?;
    // Who called `listen`, says the kernel.
    let peer = rustix::net::sockopt::socket_peercred(&socket)?.uid.as_raw();
    judge(rustix::process::geteuid().as_raw(), peer)?;
    Ok(UnixStream::from(socket))
}

fn judge(user: u32, peer: u32) -> io::Result<()> {
    if peer == user || peer == 0 {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::PermissionDenied,
        format!(
            "user {peer} listens there, and this process runs as user {user}; run both as the same user, or use \
             another --data-dir"
        ),
    ))
}

fn socket() -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
}

/// Does something with the socket's address. The kernel takes 107 bytes of a path: a longer one goes by the folder's
/// open file.
fn at<T>(folder: &Path, name: &str, act: impl Fn(&SocketAddrUnix) -> Result<T, Errno>) -> io::Result<T> {
    match SocketAddrUnix::new(folder.join(name)) {
        Ok(address) => Ok(act(&address)?),
        Err(Errno::NAMETOOLONG) => {
            let folder = open(folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
            let short = format!("/proc/self/fd/{}/{name}", folder.as_raw_fd());
            Ok(act(&SocketAddrUnix::new(short)?)?)
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_socket_is_its_users_alone_and_goes_with_its_owner() {
        let place = tempfile::tempdir().unwrap();
        assert_eq!(connect(place.path(), SERVER).unwrap_err().kind(), io::ErrorKind::NotFound);
        let (listener, socket) = bind(place.path(), SERVER).unwrap();
        assert!(connect(place.path(), SERVER).is_ok());
        let mode = std::fs::metadata(socket.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        drop(listener);
        assert_eq!(connect(place.path(), SERVER).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        // One that was left behind is no hindrance.
        let (_listener, again) = bind(place.path(), SERVER).unwrap();
        // Who goes takes nothing from who came after it.
        drop(socket);
        assert!(connect(place.path(), SERVER).is_ok());
        drop(again);
        assert_eq!(connect(place.path(), SERVER).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn only_a_server_of_this_user_or_of_root_is_spoken_to() {
        for (user, peer, is_fine) in [(7, 7, true), (7, 0, true), (7, 8, false), (0, 7, false)] {
            assert_eq!(judge(user, peer).is_ok(), is_fine, "{user} to {peer}");
        }
        assert!(judge(7, 8).unwrap_err().to_string().contains("user 8 listens"));
    }

    #[test]
    fn a_long_path_is_no_hindrance() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("long".repeat(40));
        std::fs::create_dir(&folder).unwrap();
        let (_listener, _socket) = bind(&folder, SERVER).unwrap();
        assert!(connect(&folder, SERVER).is_ok());
    }
}
