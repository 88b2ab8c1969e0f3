//! The admin listener's socket, over IP or a Unix path.

use std::fs;
use std::io;
use std::net;
use std::os::unix;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::model::Address;

/// A bound socket that belongs to no runtime yet.
#[derive(Debug)]
pub(super) enum Bound {
    Inet(net::TcpListener),
    Unix(unix::net::UnixListener, SocketFile),
}

/// A socket that accepts.
#[derive(Debug)]
pub(super) enum Listener {
    Inet(TcpListener),
    Unix(UnixListener, #[expect(dead_code, reason = "removes the file when dropped")] SocketFile),
}

/// An accepted connection.
#[derive(Debug)]
pub(super) enum Stream {
    Inet(TcpStream),
    Unix(UnixStream),
}

/// The file of a Unix socket, removed when it is no longer listened on.
#[derive(Debug)]
pub(super) struct SocketFile(Arc<Path>);

impl Bound {
    pub(super) fn new(address: &Address) -> io::Result<Self> {
        match address {
            Address::Inet(address) => {
                let listener = net::TcpListener::bind(address)?;
                listener.set_nonblocking(true)?;
                Ok(Self::Inet(listener))
            }
            Address::Unix(path) => {
                let listener = bind_path(path)?;
                listener.set_nonblocking(true)?;
                Ok(Self::Unix(listener, SocketFile(Arc::clone(path))))
            }
        }
    }

    pub(super) fn local_addr(&self) -> io::Result<Address> {
        match self {
            Self::Inet(listener) => listener.local_addr().map(Address::Inet),
            Self::Unix(_, SocketFile(path)) => Ok(Address::Unix(Arc::clone(path))),
        }
    }

    pub(super) fn listen(self) -> io::Result<Listener> {
        match self {
            Self::Inet(listener) => TcpListener::from_std(listener).map(Listener::Inet),
            Self::Unix(listener, file) => Ok(Listener::Unix(UnixListener::from_std(listener)?, file)),
        }
    }
}

/// Binds a Unix socket; in the place of one that a process left behind.
fn bind_path(path: &Path) -> io::Result<unix::net::UnixListener> {
    match unix::net::UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_abandoned(path) => {
            fs::remove_file(path)?;
            unix::net::UnixListener::bind(path)
        }
        bound => bound,
    }
}

fn is_abandoned(path: &Path) -> bool {
    let refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    // Connecting to a file of another kind is refused, too.
    fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket())
        && unix::net::UnixStream::connect(path).is_err_and(refused)
}

impl Listener {
    pub(super) async fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Inet(listener) => listener.accept().await.map(|(stream, _)| Stream::Inet(stream)),
            Self::Unix(listener, _) => listener.accept().await.map(|(stream, _)| Stream::Unix(stream)),
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            tracing::debug!(path = %self.0.display(), %error, "admin socket was not removed");
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Inet(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Inet(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Inet(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
