//! A restart without a gap: the server that starts takes the listening socket and the folder's lock over from the one that
//! runs, and says when it serves; from then on the other one serves only who is connected, each once more.
//!
//! The kernel's queue of connections is the same for both, so that nobody is refused in between. What is said on the
//! socket: the old one `waygate-handover 1` with the two files, and `k` where it asks for keys or `o` where it does not, which
//! servers of older versions neither say nor read; the new one a single byte once it serves. Whoever falls silent before
//! that is not waited for, and all stays as it was. Must not know how either serves.

use std::fs::File;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Write as _};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use tokio::io::AsyncReadExt as _;
use tokio::sync::watch;

use crate::storage::socket::{self, HANDOVER, Socket};
use crate::storage::{DataFolder, Owned, StorageError};

/// Comes with the files.
const GREETING: &[u8] = b"waygate-handover 1";
/// Behind it, from one that asks for keys.
const ASKS_FOR_KEYS: u8 = b'k';
/// Behind it, from one that lets everybody in.
const IS_OPEN: u8 = b'o';
/// Said by the one that takes over.
const SERVING: &[u8] = b"s";
/// The listening socket and the lock.
const FILES: usize = 2;
/// How long the running server may take to hand over; it does so beside everything else.
const HANDED_WITHIN: Duration = Duration::from_secs(10);
/// How long the new one may take from there to its first request; it may have to wait for a database.
const SERVING_WITHIN: Duration = Duration::from_secs(300);
/// After a caller that could not be accepted, as when no more files can be opened.
const PAUSE: Duration = Duration::from_secs(1);

/// What the running server hands over.
pub struct Handed {
    /// Its listening socket.
    pub listener: TcpListener,
    /// The data folder, which is both servers' until the old one has ended.
    pub folder: Owned,
    /// Whether the old one asks for keys; one of an older version does not say so.
    pub asks_for_keys: bool,
    /// Where the old one waits for the word.
    pub word: Word,
}

/// The old server waits for it; dropped without being said, the old one goes on.
pub struct Word(UnixStream);

impl Word {
    /// Says that requests are served here now.
    ///
    /// # Errors
    /// When the old one is gone.
    pub fn serving(mut self) -> io::Result<()> {
        self.0.write_all(SERVING)
    }
}

/// Asks the server that runs on `folder` to hand over; none when none runs. Blocks.
///
/// # Errors
/// `Taken` when another one takes over just now; `Folder` when it does not hand over, as one of another version may.
pub fn take(folder: &Path) -> Result<Option<Handed>, StorageError> {
    let refused = |error: io::Error| match error.kind() {
        // It hands over to one after the other, and ends once one of them serves.
        ErrorKind::ConnectionReset
        | ErrorKind::UnexpectedEof
        | ErrorKind::WouldBlock
        | ErrorKind::TimedOut => {
            let owner = "another one takes over from it at this moment: wait for that".to_owned();
            StorageError::Taken { folder: folder.to_owned(), owner }
        }
        _ => StorageError::Folder {
            path: folder.to_owned(),
            cause: format!(
                "the server that runs there does not hand over: {error}; stop it, then start this one"
            ),
        },
    };
    let stream = match socket::connect(folder, HANDOVER) {
        Ok(stream) => stream,
        Err(_) if !DataFolder::is_owned(folder) => return Ok(None),
        Err(error) => return Err(refused(error)),
    };
    let (listener, lock, asks_for_keys) = receive(&stream).map_err(refused)?;
    let (listener, folder) = (TcpListener::from(listener), DataFolder::inherit(folder, File::from(lock))?);
    Ok(Some(Handed { listener, folder, asks_for_keys, word: Word(stream) }))
}

fn receive(stream: &UnixStream) -> io::Result<(OwnedFd, OwnedFd, bool)> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(HANDED_WITHIN))?;
    let mut text = [0; GREETING.len() + 1];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let said = recvmsg(stream, &mut [IoSliceMut::new(&mut text)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    if said.bytes == 0 {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    let mut files = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            files.extend(received);
        }
    }
    let strange = || io::Error::new(ErrorKind::InvalidData, "it says something else");
    let asks_for_keys = match text.get(..said.bytes).and_then(|text| text.strip_prefix(GREETING)) {
        Some([ASKS_FOR_KEYS]) => true,
        Some([] | [IS_OPEN]) => false,
        _ => return Err(strange()),
    };
    let [listener, lock]: [OwnedFd; FILES] = files.try_into().map_err(|_| strange())?;
    Ok((listener, lock, asks_for_keys))
}

/// Stands ready to hand over for as long as it is kept.
pub struct Offer {
    handed: watch::Receiver<bool>,
    _socket: Socket,
}

impl Offer {
    /// Offers `listener` and the lock of `folder` to whoever starts on that folder next, and says whether keys are asked for
    /// at that moment.
    ///
    /// # Errors
    /// When there can be no socket there.
    pub fn make(
        listener: &TcpListener,
        folder: &Owned,
        asks_for_keys: impl Fn() -> bool + 'static,
    ) -> Result<Self, StorageError> {
        let unusable = |error: io::Error| StorageError::Folder {
            path: folder.path().to_owned(),
            cause: error.to_string(),
        };
        let given = Arc::new((listener.try_clone().map_err(unusable)?, folder.lock().map_err(unusable)?));
        let (entrance, socket) = socket::bind(folder.path(), HANDOVER)?;
        let (says, handed) = watch::channel(false);
        let entrance = tokio::net::UnixListener::from_std(entrance).map_err(unusable)?;
        actix_rt::spawn(async move {
            tokio::select! {
                () = attend(&entrance, &given, asks_for_keys) => drop(says.send(true)),
                () = says.closed() => {}
            }
        });
        Ok(Self { handed, _socket: socket })
    }

    /// Returns when another server has taken over, and never otherwise.
    pub fn taken(&self) -> impl Future<Output = ()> + use<> {
        let mut handed = self.handed.clone();
        async move {
            if handed.wait_for(|handed| *handed).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Whether another server has taken over.
    pub fn is_taken(&self) -> bool {
        *self.handed.borrow()
    }
}

/// Hands over to one after the other until one says that it serves.
async fn attend(
    entrance: &tokio::net::UnixListener,
    given: &(TcpListener, File),
    asks_for_keys: impl Fn() -> bool,
) {
    loop {
        match entrance.accept().await {
            Ok((caller, _)) => match hand(caller, given, asks_for_keys()).await {
                Ok(()) => return,
                Err(error) => log::warn!("another server wanted to take over and did not: {error}"),
            },
            Err(error) => {
                log::warn!("a server that takes over cannot be heard: {error}");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn hand(
    mut caller: tokio::net::UnixStream,
    (listener, lock): &(TcpListener, File),
    asks_for_keys: bool,
) -> io::Result<()> {
    let user = caller.peer_cred()?.uid();
    if user != rustix::process::geteuid().as_raw() && user != 0 {
        return Err(io::Error::new(ErrorKind::PermissionDenied, format!("user {user} is not this one")));
    }
    caller.writable().await?;
    let files = [listener.as_fd(), lock.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&files));
    let standing = [if asks_for_keys { ASKS_FOR_KEYS } else { IS_OPEN }];
    let said = [IoSlice::new(GREETING), IoSlice::new(&standing)];
    sendmsg(&caller, &said, &mut control, SendFlags::empty())?;
    let mut word = [0; SERVING.len()];
    tokio::time::timeout(SERVING_WITHIN, caller.read_exact(&mut word)).await??;
    if word == *SERVING {
        Ok(())
    } else {
        Err(io::Error::new(ErrorKind::InvalidData, "it says something else"))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::*;

    #[actix_rt::test]
    async fn what_is_offered_is_taken_once_the_other_one_serves() {
        let place = tempfile::tempdir().unwrap();
        assert!(take(place.path()).unwrap().is_none());
        let folder = DataFolder::own(place.path()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        // As at a server whose first key is made in between.
        let asks = Rc::new(Cell::new(false));
        let asking = Rc::clone(&asks);
        let offer = Offer::make(&listener, &folder, move || asking.get()).unwrap();
        let path = place.path().to_owned();
        let first = actix_web::web::block({
            let path = path.clone();
            move || take(&path)
        });
        // It gives up before it serves: everything stays as it was.
        assert!(!first.await.unwrap().unwrap().unwrap().asks_for_keys);
        asks.set(true);
        let handed = actix_web::web::block(move || take(&path)).await.unwrap().unwrap().unwrap();
        assert!(!offer.is_taken() && handed.asks_for_keys);
        assert_eq!(handed.listener.local_addr().unwrap(), address);
        handed.word.serving().unwrap();
        offer.taken().await;
        drop(folder);
        // The folder is still somebody's.
        assert!(matches!(DataFolder::own(place.path()), Err(StorageError::Taken { .. })));
        drop(handed.folder);
        assert!(DataFolder::own(place.path()).is_ok());
    }

    #[test]
    fn a_server_of_an_older_version_hands_over_without_a_word_on_keys() {
        let (old, new) = UnixStream::pair().unwrap();
        let (file, other) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        let files = [file.as_fd(), other.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&files));
        sendmsg(&old, &[IoSlice::new(GREETING)], &mut control, SendFlags::empty()).unwrap();
        assert!(!receive(&new).unwrap().2);
    }

    #[test]
    fn a_server_that_says_something_else_is_told_of() {
        let place = tempfile::tempdir().unwrap();
        let _folder = DataFolder::own(place.path()).unwrap();
        let (entrance, _socket) = socket::bind(place.path(), HANDOVER).unwrap();
        entrance.set_nonblocking(false).unwrap();
        // The second time it ends, as one does that another server has taken over from.
        let other = std::thread::spawn(move || {
            entrance.accept().unwrap().0.write_all(b"hello").unwrap();
            drop(entrance.accept().unwrap());
        });
        let error = take(place.path()).err().unwrap().to_string();
        assert!(error.contains("does not hand over") && error.contains("something else"), "{error}");
        let error = take(place.path()).err().unwrap();
        assert!(matches!(error, StorageError::Taken { .. }), "{error}");
        other.join().unwrap();
    }
}
