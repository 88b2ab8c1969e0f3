//! The admin listener's sockets, over IP or a Unix path.

use std::fs;
use std::io;
use std::net;
use std::os::unix;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::net::{TcpListener, UnixListener};

use crate::model::Address;
use crate::net::stream::Socket;

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

/// The file of a Unix socket, removed when it is no longer listened on.
#[derive(Debug)]
pub(super) struct SocketFile(Arc<Path>);

impl Bound {
    /// Binds `address`, the file of a Unix socket with these permissions.
    pub(super) fn new(address: &Address, mode: Option<u32>) -> io::Result<Self> {
        match address {
            Address::Inet(address) => {
                let listener = net::TcpListener::bind(address)?;
                listener.set_nonblocking(true)?;
                Ok(Self::Inet(listener))
            }
            Address::Unix(path) => {
                let listener = bind_path(path)?;
                let file = SocketFile(Arc::clone(path));
                if let Some(mode) = mode {
                    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
                }
                listener.set_nonblocking(true)?;
                Ok(Self::Unix(listener, file))
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
    pub(super) fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<Socket>> {
        match self {
            Self::Inet(listener) => listener.poll_accept(cx).map_ok(|(stream, _)| Socket::Tcp(stream)),
            Self::Unix(listener, _) => listener.poll_accept(cx).map_ok(|(stream, _)| Socket::Unix(stream)),
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
