//! Opening connections to endpoints, each step under its own time limit.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rustls_pki_types::ServerName;
use thiserror::Error;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::options;
use super::stream::{Socket, Stream};
use crate::ambient;
use crate::model::Address;
use crate::model::settings::UpstreamSocket;

/// What to connect to and how.
#[derive(Debug, Clone)]
pub struct Dial {
    /// Where.
    pub address: Address,
    /// TLS and the name to verify, if any.
    pub tls: Option<(Arc<rustls::ClientConfig>, ServerName<'static>)>,
    /// What is set of the socket, where it is not the default.
    pub socket: Option<Arc<UpstreamSocket>>,
}

impl Dial {
    /// Whether connections come from the client's address.
    #[must_use]
    pub fn is_transparent(&self) -> bool {
        self.socket.as_ref().is_some_and(|socket| socket.options.transparent)
    }
}

/// What a connection is opened with, for the one client that it is for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Onward<'a> {
    /// Bytes to write as soon as the socket is connected, before TLS.
    pub preface: &'a [u8],
    /// The client, from whose address it is connected where the sockets are transparent.
    pub source: Option<IpAddr>,
}

/// How long each step may take.
#[derive(Debug, Clone, Copy)]
pub struct DialTimeouts {
    /// Until the socket is connected.
    pub connect: Duration,
    /// From then until TLS is established.
    pub tls_handshake: Duration,
}

/// Why there is no connection.
#[derive(Debug, Error)]
pub enum DialError {
    /// The socket could not be connected.
    #[error("cannot connect")]
    Connect(#[source] io::Error),
    /// The socket was not connected in time.
    #[error("connect timed out after {0:?} (timeouts.connect)")]
    ConnectTimeout(Duration),
    /// The TLS handshake failed.
    #[error("TLS handshake failed")]
    Tls(#[source] io::Error),
    /// The TLS handshake did not end in time.
    #[error("TLS handshake timed out after {0:?} (timeouts.tls_handshake)")]
    TlsTimeout(Duration),
}

/// How far the opening of a connection has come, for whoever looks at it meanwhile or afterwards.
#[derive(Debug)]
pub struct Steps {
    /// When it began.
    pub began: Instant,
    /// When the socket was connected.
    pub connected: OnceLock<Instant>,
    /// When TLS was established.
    pub secured: OnceLock<Instant>,
}

impl Steps {
    /// Those of a connection that begins to be opened `now`.
    #[must_use]
    pub fn begin(now: Instant) -> Self {
        Self { began: now, connected: OnceLock::new(), secured: OnceLock::new() }
    }
}

/// Opens a connection, and notes how far it is in `steps`.
///
/// # Errors
/// Which step failed, and why.
pub async fn dial(
    dial: &Dial,
    timeouts: DialTimeouts,
    onward: &Onward<'_>,
    steps: &Steps,
) -> Result<Stream, DialError> {
    let socket = match timeout(timeouts.connect, open(dial, onward)).await {
        Ok(opened) => opened.map_err(DialError::Connect)?,
        Err(_) => return Err(DialError::ConnectTimeout(timeouts.connect)),
    };
    steps.connected.get_or_init(ambient::now);
    let Some((config, name)) = &dial.tls else { return Ok(Stream::Plain(socket)) };
    let handshake = TlsConnector::from(Arc::clone(config)).connect(name.clone(), socket);
    match timeout(timeouts.tls_handshake, handshake).await {
        Ok(done) => {
            let stream = done.map_err(DialError::Tls)?;
            steps.secured.get_or_init(ambient::now);
            Ok(Stream::ClientTls(Box::new(stream)))
        }
        Err(_) => Err(DialError::TlsTimeout(timeouts.tls_handshake)),
    }
}

async fn open(dial: &Dial, onward: &Onward<'_>) -> io::Result<Socket> {
    let mut socket = match &dial.address {
        Address::Inet(address) => {
            Socket::Tcp(connect(*address, dial.socket.as_deref(), onward.source).await?)
        }
        Address::Unix(path) => Socket::Unix(UnixStream::connect(path).await?),
        // Nothing is connected to by it.
        Address::Udp(_) => return Err(io::ErrorKind::Unsupported.into()),
    };
    if !onward.preface.is_empty() {
        socket.write_all(onward.preface).await?;
    }
    Ok(socket)
}

async fn connect(
    address: SocketAddr,
    wanted: Option<&UpstreamSocket>,
    client: Option<IpAddr>,
) -> io::Result<TcpStream> {
    if let Some(wanted) = wanted {
        let socket = options::stream_to(address, wanted, client)?;
        return socket.connect(address).await;
    }
    let socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    Ok(socket)
}
