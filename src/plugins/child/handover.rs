//! Open files, handed from one process to the next over a socket that is the next one's stdin.
//!
//! Must not know what the files are for.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use rustix::stdio::{dup2_stdin, stdin};

/// No more are handed over at once: three streams, a folder and a lock.
const FILES_MAX: usize = 5;

/// Puts files into a socket: they wait there for whoever has its other end.
pub(super) fn hand_over(socket: &UnixStream, files: &[&OwnedFd]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES_MAX))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let files: Vec<BorrowedFd> = files.iter().map(|file| file.as_fd()).collect();
    if !ancillary.push(SendAncillaryMessage::ScmRights(&files)) {
        return Err(io::ErrorKind::OutOfMemory.into());
    }
    sendmsg(socket, &[IoSlice::new(b"!")], &mut ancillary, SendFlags::empty())?;
    Ok(())
}

/// Takes over the socket on stdin, and the files that wait in it, of which the last one need not be there. What is read from stdin
/// next is nothing.
pub(super) fn receive<const N: usize>() -> Result<(UnixStream, [OwnedFd; N], Option<OwnedFd>), String> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES_MAX))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(stdin(), &mut [IoSliceMut::new(&mut byte)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)
        .map_err(|error| error.to_string())?;
    let mut files = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            files.extend(rights);
        }
    }
    let further = (files.len() > N).then(|| files.pop()).flatten();
    let files = <[OwnedFd; N]>::try_from(files).map_err(|files| format!("{} files came", files.len()))?;
    let socket = stdin().try_clone_to_owned().map_err(|error| error.to_string())?;
    // From now on nobody but this process holds the socket: its end is this process's end.
    let nothing = File::open("/dev/null").map_err(|error| error.to_string())?;
    dup2_stdin(nothing).map_err(|error| error.to_string())?;
    Ok((socket.into(), files, further))
}
