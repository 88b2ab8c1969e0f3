//! Listening sockets. Each worker has its own socket for an IP address (`SO_REUSEPORT`), so that
//! the kernel spreads connections; a Unix socket is one, shared by all workers.

use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::Path;

use socket2::{Domain, Protocol, Socket as RawSocket, Type};
use tokio::net::{TcpListener, UnixListener};

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
    Tcp(std::net::TcpListener),
    /// Unix.
    Unix(StdUnixListener),
}

/// A listening socket on a worker.
#[derive(Debug)]
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// Unix.
    Unix(UnixListener),
}

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
            let mut sockets = vec![BoundSocket::Tcp(first)];
            for _ in 1..workers {
                sockets.push(BoundSocket::Tcp(bind_tcp(got, Port::Shared)?));
            }
            Ok(Bound { address: Address::Inet(got), sockets })
        }
        Address::Unix(path) => {
            let first = bind_unix(path)?;
            let mut sockets = Vec::with_capacity(workers);
            for _ in 1..workers {
                sockets.push(BoundSocket::Unix(first.try_clone()?));
            }
            sockets.push(BoundSocket::Unix(first));
            Ok(Bound { address: address.clone(), sockets })
        }
    }
}

impl BoundSocket {
    /// Makes the socket part of the current runtime.
    ///
    /// # Errors
    /// When the runtime cannot register it.
    pub fn listen(self) -> io::Result<Listener> {
        match self {
            Self::Tcp(socket) => Ok(Listener::Tcp(TcpListener::from_std(socket)?)),
            Self::Unix(socket) => Ok(Listener::Unix(UnixListener::from_std(socket)?)),
        }
    }
}

impl Listener {
    /// The next connection, with the client's address where it has one.
    ///
    /// # Errors
    /// Those of `accept(2)`.
    pub async fn accept(&self) -> io::Result<(Socket, Option<SocketAddr>)> {
        match self {
            Self::Tcp(listener) => {
                let (socket, peer) = listener.accept().await?;
                socket.set_nodelay(true)?;
                Ok((Socket::Tcp(socket), Some(peer)))
            }
            Self::Unix(listener) => Ok((Socket::Unix(listener.accept().await?.0), None)),
        }
    }
}

/// `SO_REUSEPORT` would also let a second process of the same user in, unnoticed; so the port is
/// first bound alone, which fails when anybody has it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Port {
    Alone,
    Shared,
}

fn bind_tcp(address: SocketAddr, port: Port) -> io::Result<std::net::TcpListener> {
    let socket = RawSocket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(port == Port::Shared)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    if port == Port::Shared {
        socket.listen(BACKLOG)?;
    }
    Ok(socket.into())
}

/// A leftover socket file is replaced; one that somebody listens on is not.
fn bind_unix(path: &Path) -> io::Result<StdUnixListener> {
    let bound = match StdUnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            if std::os::unix::net::UnixStream::connect(path).is_ok() {
                return Err(error);
            }
            std::fs::remove_file(path)?;
            StdUnixListener::bind(path)
        }
        other => other,
    }?;
    bound.set_nonblocking(true)?;
    Ok(bound)
}

/// Connections that may wait to be accepted; the kernel lowers it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;
