//! Listening sockets. Each worker has its own socket for an IP address (`SO_REUSEPORT`), so that
//! the kernel spreads connections; a Unix socket is one, shared by all workers.

use std::fs;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use rustix::net::sockopt::socket_reuseport;
use socket2::{Domain, Protocol, Socket as RawSocket, Type};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::stream::Socket;
use crate::model::Address;

/// A bound address with one socket for each worker.
#[derive(Debug)]
pub struct Bound {
    /// The address, with the port that was given out for port 0.
    pub address: Address,
    /// As many as there are workers.
    pub sockets: Vec<BoundSocket>,
}

/// A listening socket that is not yet part of a runtime.
#[derive(Debug)]
pub enum BoundSocket {
    /// TCP.
    Tcp(std::net::TcpListener, LivesOn),
    /// Unix, with its file.
    Unix(StdUnixListener, Arc<SocketFile>),
    /// UDP, which receives rather than listens.
    Udp(UdpSocket, LivesOn),
}

/// A listening socket on a worker.
#[derive(Debug)]
pub enum Listener {
    /// TCP.
    Tcp(TcpListener, LivesOn),
    /// Unix, with its file.
    Unix(UnixListener, Arc<SocketFile>),
}

/// The file of a Unix socket, removed with the last of its listeners.
#[derive(Debug)]
pub struct SocketFile {
    path: Arc<Path>,
    /// Device and inode, because by the end the path may be another process's.
    identity: (u64, u64),
    /// Set once it was removed: the next file of that path may get the same inode.
    removed: AtomicBool,
    lives_on: LivesOn,
}

/// Whether another process listens on the same socket, so that whoever waits in its backlog is served
/// there. Then no connection is held off when ours is closed, and a file stays where it is.
#[derive(Clone, Debug, Default)]
pub struct LivesOn(Arc<AtomicBool>);

/// Binds `address` once for each of `workers`.
///
/// # Errors
/// When the address is in use, not this machine's, or not permitted.
pub fn bind(address: &Address, workers: usize) -> io::Result<Bound> {
    match address {
        Address::Inet(wanted) => {
            drop(bind_tcp(*wanted, Port::Alone)?);
            let first = bind_tcp(*wanted, Port::Shared)?;
            let got = first.local_addr()?;
            let mut sockets = vec![BoundSocket::Tcp(first, LivesOn::default())];
            for _ in 1..workers {
                sockets.push(BoundSocket::Tcp(bind_tcp(got, Port::Shared)?, LivesOn::default()));
            }
            Ok(Bound { address: Address::Inet(got), sockets })
        }
        Address::Unix(path) => {
            let first = bind_unix(path)?;
            let file = Arc::new(SocketFile::new(Arc::clone(path), LivesOn::default())?);
            let mut sockets = Vec::with_capacity(workers);
            for _ in 1..workers {
                sockets.push(BoundSocket::Unix(first.try_clone()?, Arc::clone(&file)));
            }
            sockets.push(BoundSocket::Unix(first, file));
            Ok(Bound { address: address.clone(), sockets })
        }
        Address::Udp(wanted) => {
            drop(bind_udp(*wanted, Port::Alone)?);
            let first = bind_udp(*wanted, Port::Shared)?;
            let got = first.local_addr()?;
            let mut sockets = vec![BoundSocket::Udp(first, LivesOn::default())];
            for _ in 1..workers {
                sockets.push(BoundSocket::Udp(bind_udp(got, Port::Shared)?, LivesOn::default()));
            }
            Ok(Bound { address: Address::Udp(got), sockets })
        }
    }
}

impl BoundSocket {
    /// The same socket once more: who waits in its backlog is kept until all of them are closed.
    ///
    /// # Errors
    /// When there are no descriptors to be had.
    pub fn try_clone(&self) -> io::Result<Self> {
        match self {
            Self::Tcp(socket, lives_on) => Ok(Self::Tcp(socket.try_clone()?, lives_on.clone())),
            Self::Unix(socket, file) => Ok(Self::Unix(socket.try_clone()?, Arc::clone(file))),
            Self::Udp(socket, lives_on) => Ok(Self::Udp(socket.try_clone()?, lives_on.clone())),
        }
    }

    /// One more socket for the same address: it lets connections begin only when it is told to
    /// `listen`. Where it cannot be had, or has no need to be, it is the same socket once more.
    ///
    /// # Errors
    /// When there are no descriptors to be had.
    pub(super) fn beside(&self) -> io::Result<Self> {
        if let Self::Tcp(socket, _) = self
            && socket_reuseport(socket).unwrap_or(false)
            && let Ok(more) = socket.local_addr().and_then(|address| bind_tcp(address, Port::Reserved))
        {
            return Ok(Self::Tcp(more, LivesOn::default()));
        }
        self.try_clone()
    }

    /// Whether another process listens on it as well.
    #[must_use]
    pub fn lives_on(&self) -> &LivesOn {
        match self {
            Self::Tcp(_, lives_on) | Self::Udp(_, lives_on) => lives_on,
            Self::Unix(_, file) => &file.lives_on,
        }
    }

    /// Whether each worker has one of its own, rather than the same one.
    #[must_use]
    pub fn is_one_of_many(&self) -> bool {
        match self {
            Self::Tcp(socket, _) => socket_reuseport(socket).unwrap_or(false),
            Self::Udp(socket, _) => socket_reuseport(socket).unwrap_or(false),
            Self::Unix(..) => false,
        }
    }

    /// Makes the socket part of the current runtime.
    ///
    /// # Errors
    /// When the runtime cannot register it, or it is one for datagrams.
    pub fn listen(self) -> io::Result<Listener> {
        match self {
            Self::Tcp(socket, lives_on) => {
                // For one that was only reserved; to all others it says what they know.
                rustix::net::listen(&socket, BACKLOG)?;
                Ok(Listener::Tcp(TcpListener::from_std(socket)?, lives_on))
            }
            Self::Unix(socket, file) => Ok(Listener::Unix(UnixListener::from_std(socket)?, file)),
            Self::Udp(..) => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

impl AsFd for BoundSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(socket, _) => socket.as_fd(),
            Self::Unix(socket, _) => socket.as_fd(),
            Self::Udp(socket, _) => socket.as_fd(),
        }
    }
}

impl LivesOn {
    /// Whether it does.
    #[must_use]
    pub fn get(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// From now on it does, or does not.
    pub fn set(&self, lives_on: bool) {
        self.0.store(lives_on, Ordering::Release);
    }
}

impl Listener {
    /// The next connection, with the client's address where it has one.
    ///
    /// # Errors
    /// Those of `accept(2)`.
    pub async fn accept(&self) -> io::Result<(Socket, Option<SocketAddr>)> {
        match self {
            Self::Tcp(listener, _) => {
                let (socket, peer) = listener.accept().await?;
                Ok((Socket::Tcp(socket), Some(peer)))
            }
            Self::Unix(listener, _) => Ok((Socket::Unix(listener.accept().await?.0), None)),
        }
    }

    /// As [`Self::accept`].
    ///
    /// # Errors
    /// Those of `accept(2)`.
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Socket, Option<SocketAddr>)>> {
        match self {
            Self::Tcp(listener, _) => {
                listener.poll_accept(cx).map_ok(|(socket, peer)| (Socket::Tcp(socket), Some(peer)))
            }
            Self::Unix(listener, _) => {
                listener.poll_accept(cx).map_ok(|(socket, _)| (Socket::Unix(socket), None))
            }
        }
    }

    /// Lets no new connection begin; those of which the handshake has begun still come through
    /// `accept`. Where the kernel does not support it, nothing changes.
    pub fn refuse_new(&self) {
        match self {
            Self::Tcp(_, lives_on) if lives_on.get() => {}
            Self::Tcp(listener, _) => {
                if let Err(error) = drop_handshakes(listener) {
                    tracing::debug!(%error, "new connections are not held off before the socket is closed");
                }
            }
            Self::Unix(_, file) => file.remove(),
        }
    }

    /// Stops listening. Gives the connections that the kernel had accepted for us, which it would
    /// reset otherwise; none when they are another process's as well.
    pub fn close(self) -> Vec<(Socket, Option<SocketAddr>)> {
        let mut left = Vec::new();
        match self {
            Self::Tcp(_, lives_on) if lives_on.get() => {}
            Self::Unix(_, file) if file.lives_on.get() => {}
            Self::Tcp(listener, _) => {
                let Ok(listener) = listener.into_std() else { return left };
                while let Ok((socket, peer)) = listener.accept() {
                    let socket = socket.set_nonblocking(true).and_then(|()| TcpStream::from_std(socket));
                    left.extend(socket.map(|socket| (Socket::Tcp(socket), Some(peer))));
                }
            }
            Self::Unix(listener, _) => {
                let Ok(listener) = listener.into_std() else { return left };
                while let Ok((socket, _)) = listener.accept() {
                    let socket = socket.set_nonblocking(true).and_then(|()| UnixStream::from_std(socket));
                    left.extend(socket.map(|socket| (Socket::Unix(socket), None)));
                }
            }
        }
        left
    }
}

impl SocketFile {
    /// The file at `path`, as it is now.
    pub(super) fn new(path: Arc<Path>, lives_on: LivesOn) -> io::Result<Self> {
        Ok(Self { identity: identity(&path)?, path, removed: AtomicBool::new(false), lives_on })
    }

    fn remove(&self) {
        if !self.lives_on.get()
            && !self.removed.swap(true, Ordering::Relaxed)
            && identity(&self.path).is_ok_and(|found| found == self.identity)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::debug!(path = %self.path.display(), %error, "socket file was not removed");
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        self.remove();
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|file| (file.dev(), file.ino()))
}

/// Drops segments that open a connection (SYN without ACK), and lets all others through: a filter
/// for a listening socket, of which the segments begin with the TCP header (RFC 9293 §3.1).
#[cfg(target_os = "linux")]
fn drop_handshakes(listener: &TcpListener) -> io::Result<()> {
    use socket2::SockFilter;
    const LOAD_BYTE: u16 = 0x30;
    const AND: u16 = 0x54;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    const FLAGS_AT: u32 = 13;
    const SYN: u32 = 0x02;
    const ACK: u32 = 0x10;
    socket2::SockRef::from(listener).attach_filter(&[
        SockFilter::new(LOAD_BYTE, 0, 0, FLAGS_AT),
        SockFilter::new(AND, 0, 0, SYN | ACK),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, SYN),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ])
}

#[cfg(not(target_os = "linux"))]
fn drop_handshakes(_: &TcpListener) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// `SO_REUSEPORT` would also let a second process of the same user in, unnoticed; so the port is
/// first bound alone, which fails when anybody has it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Port {
    Alone,
    Shared,
    /// Shared, but not listening yet.
    Reserved,
}

fn bind_tcp(address: SocketAddr, port: Port) -> io::Result<std::net::TcpListener> {
    let socket = RawSocket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(port != Port::Alone)?;
    // Accepted sockets inherit it.
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    if port == Port::Shared {
        socket.listen(BACKLOG)?;
    }
    Ok(socket.into())
}

fn bind_udp(address: SocketAddr, port: Port) -> io::Result<UdpSocket> {
    let socket = RawSocket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_port(port != Port::Alone)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// A leftover socket file is replaced; one that somebody listens on is not, nor any other file.
fn bind_unix(path: &Path) -> io::Result<StdUnixListener> {
    let bound = match StdUnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let is_socket = fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
            if !is_socket || std::os::unix::net::UnixStream::connect(path).is_ok() {
                return Err(error);
            }
            fs::remove_file(path)?;
            StdUnixListener::bind(path)
        }
        other => other,
    }?;
    bound.set_nonblocking(true)?;
    Ok(bound)
}

/// Connections that may wait to be accepted; the kernel lowers it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_removed_once_even_if_the_next_one_has_its_inode() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("a.sock"), folder.path().join("other"));
        fs::write(&path, "").unwrap();
        let file = SocketFile::new(path.as_path().into(), LivesOn::default()).unwrap();
        fs::hard_link(&path, &other).unwrap();
        file.remove();
        assert!(!path.exists());
        fs::hard_link(&other, &path).unwrap();
        drop(file);
        assert!(path.exists());
    }
}
