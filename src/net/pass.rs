//! Messages with descriptors from one process of this machine to another, over a Unix socket that keeps
//! messages apart (`SOCK_SEQPACKET`, unix(7)). Everything here blocks, and nothing for longer than its
//! limit. Does not know what messages mean.

use std::fs::{self, Permissions};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::cmsg_space;
use rustix::net::sockopt::{Timeout, set_socket_timeout, socket_peercred};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, recvmsg,
    sendmsg, socket_with,
};
use rustix::process::geteuid;
use tokio::net::UnixListener;

use super::listen::{LivesOn, SocketFile};

/// Where other processes come in.
#[derive(Debug)]
pub struct Door {
    socket: OwnedFd,
    lives_on: LivesOn,
    _file: SocketFile,
}

/// The same, where tasks can wait for them. What tokio takes for a stream keeps messages apart here as well.
#[derive(Debug)]
pub struct Entrance(UnixListener);

/// A connection to another process.
#[derive(Debug)]
pub struct Link(OwnedFd);

/// One message.
#[derive(Debug, Default)]
pub struct Message {
    /// Its text.
    pub text: Vec<u8>,
    /// What came with it.
    pub descriptors: Vec<OwnedFd>,
}

impl Door {
    /// Listens at `path`, for processes of the same user only. A file that nobody listens on any more is
    /// replaced.
    ///
    /// # Errors
    /// What the system says, such as that somebody listens there.
    pub fn open(path: &Arc<Path>) -> io::Result<Self> {
        let socket = socket_of()?;
        let address = SocketAddrUnix::new(&**path)?;
        match bind(&socket, &address) {
            Err(rustix::io::Errno::ADDRINUSE) if is_abandoned(path) => {
                fs::remove_file(path)?;
                bind(&socket, &address)?;
            }
            bound => bound?,
        }
        // Nobody gets in before this: connections begin with `listen`.
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
        listen(&socket, BACKLOG)?;
        Self::adopt(socket, path)
    }

    /// Takes over a door that another process has opened.
    ///
    /// # Errors
    /// When its file is gone.
    pub fn adopt(socket: OwnedFd, path: &Arc<Path>) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        let lives_on = LivesOn::default();
        let file = SocketFile::new(Arc::clone(path), lives_on.clone())?;
        Ok(Self { socket, lives_on, _file: file })
    }

    /// The door on the current runtime.
    ///
    /// # Errors
    /// When the runtime does not take it.
    pub fn entrance(&self) -> io::Result<Entrance> {
        UnixListener::from_std(self.socket.try_clone()?.into()).map(Entrance)
    }

    /// Whether another process has it, too.
    #[must_use]
    pub fn lives_on(&self) -> &LivesOn {
        &self.lives_on
    }
}

impl Entrance {
    /// The next process that comes in; not of another user, but the superuser's.
    ///
    /// # Errors
    /// `PermissionDenied` for another user's.
    pub async fn accept(&self) -> io::Result<Link> {
        let (connection, _) = self.0.accept().await?;
        let connection = connection.into_std()?;
        connection.set_nonblocking(false)?;
        let link = Link(connection.into());
        link.check_peer()?;
        Ok(link)
    }
}

impl Link {
    /// Connects to the process that listens at `path`; `None` when there is none.
    ///
    /// # Errors
    /// What the system says, such as that it is not permitted.
    pub fn to(path: &Path) -> io::Result<Option<Self>> {
        let socket = socket_of()?;
        match connect(&socket, &SocketAddrUnix::new(path)?) {
            Ok(()) => {}
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::CONNREFUSED) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        let link = Self(socket);
        link.check_peer()?;
        Ok(Some(link))
    }

    /// Two that are connected to each other.
    ///
    /// # Errors
    /// When there are no descriptors to be had.
    #[cfg(test)]
    pub(crate) fn pair() -> io::Result<(Self, Self)> {
        let kind = (AddressFamily::UNIX, SocketType::SEQPACKET);
        let (one, other) = rustix::net::socketpair(kind.0, kind.1, SocketFlags::CLOEXEC, None)?;
        Ok((Self(one), Self(other)))
    }

    /// Sends one message.
    ///
    /// # Errors
    /// When the other process is gone, or does not take it within `limit`.
    pub fn send(&self, text: &[u8], descriptors: &[BorrowedFd<'_>], limit: Duration) -> io::Result<()> {
        set_socket_timeout(&self.0, Timeout::Send, Some(limit))?;
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors for one message"));
        }
        sendmsg(&self.0, &[IoSlice::new(text)], &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// The next message.
    ///
    /// # Errors
    /// `UnexpectedEof` when the other process has closed the connection, `WouldBlock` when none comes
    /// within `limit`.
    pub fn receive(&self, limit: Duration) -> io::Result<Message> {
        set_socket_timeout(&self.0, Timeout::Recv, Some(limit))?;
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut text = vec![0; LONGEST];
        let mut get =
            || recvmsg(&self.0, &mut [IoSliceMut::new(&mut text)], &mut control, RecvFlags::CMSG_CLOEXEC);
        // Told once when the other process closed without having read everything. What it said before
        // is still to be had.
        let got = match get() {
            Err(rustix::io::Errno::CONNRESET) => get(),
            other => other,
        }?;
        if got.bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if got.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a message was cut short"));
        }
        text.truncate(got.bytes);
        let mut descriptors = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = message {
                descriptors.extend(received);
            }
        }
        Ok(Message { text, descriptors })
    }

    /// Whose process is at the other end: the same user's, or the superuser's.
    fn check_peer(&self) -> io::Result<()> {
        let peer = socket_peercred(&self.0)?.uid;
        if peer == geteuid() || peer.is_root() {
            return Ok(());
        }
        let fault = format!("the process there is of user {}", peer.as_raw());
        Err(io::Error::new(io::ErrorKind::PermissionDenied, fault))
    }
}

impl AsFd for Door {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn socket_of() -> io::Result<OwnedFd> {
    Ok(socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

fn is_abandoned(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket())
        && Link::to(path).is_ok_and(|link| link.is_none())
}

/// Descriptors in one message, below the 253 of the kernel (`SCM_MAX_FD`).
pub const MOST_DESCRIPTORS: usize = 128;
/// The longest text of a message, in bytes.
const LONGEST: usize = 16 * 1024;
/// Processes that may wait to come in.
const BACKLOG: i32 = 8;

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    fn door() -> (tempfile::TempDir, Arc<Path>, Door) {
        let folder = tempfile::tempdir().unwrap();
        let path: Arc<Path> = folder.path().join("s").into();
        let door = Door::open(&path).unwrap();
        (folder, path, door)
    }

    #[test]
    fn a_descriptor_arrives_with_its_message() {
        let (near, far) = Link::pair().unwrap();
        let (mut kept, passed) = UnixStream::pair().unwrap();
        near.send(b"one", &[passed.as_fd()], LIMIT).unwrap();
        near.send(b"two", &[], LIMIT).unwrap();
        drop((near, passed));
        let one = far.receive(LIMIT).unwrap();
        assert_eq!((&*one.text, one.descriptors.len()), (&b"one"[..], 1));
        let mut received = UnixStream::from(one.descriptors.into_iter().next().unwrap());
        received.write_all(b"x").unwrap();
        drop(received);
        let mut text = String::new();
        kept.read_to_string(&mut text).unwrap();
        assert_eq!(text, "x");
        assert_eq!(far.receive(LIMIT).unwrap().text, b"two");
        assert_eq!(far.receive(LIMIT).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn the_last_word_of_who_did_not_listen_is_heard() {
        let (near, far) = Link::pair().unwrap();
        near.send(b"ready", &[], LIMIT).unwrap();
        far.send(b"too late", &[], LIMIT).unwrap();
        drop(far);
        assert_eq!(near.receive(LIMIT).unwrap().text, b"too late");
        assert_eq!(near.receive(LIMIT).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_wait_has_a_limit() {
        let (near, _far) = Link::pair().unwrap();
        let error = near.receive(Duration::from_millis(1)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }

    #[tokio::test]
    async fn a_door_is_its_users_alone_and_gone_with_its_process() {
        let (_folder, path, door) = door();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let _link = Link::to(&path).unwrap().expect("somebody listens");
        door.entrance().unwrap().accept().await.unwrap();
        assert_eq!(Door::open(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(door);
        assert!(!path.exists() && Link::to(&path).unwrap().is_none());
    }

    #[test]
    fn a_file_that_was_left_behind_is_replaced_and_one_passed_on_stays() {
        let (_folder, path, door) = door();
        door.lives_on().set(true);
        drop(door);
        assert!(path.exists() && Link::to(&path).unwrap().is_none());
        drop(Door::open(&path).unwrap());
        assert!(!path.exists());
    }
}
