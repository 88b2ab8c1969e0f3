//! One type for every byte stream: TCP or Unix, plain or TLS, from clients or to endpoints.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::{client, server};

/// An open socket.
#[derive(Debug)]
pub enum Socket {
    /// TCP, with Nagle's algorithm off.
    Tcp(TcpStream),
    /// A Unix stream socket.
    Unix(UnixStream),
}

/// A byte stream.
#[derive(Debug)]
pub enum Stream {
    /// Bytes as they are.
    Plain(Socket),
    /// TLS, of which we are the server.
    ServerTls(Box<server::TlsStream<Socket>>),
    /// TLS, of which we are the client.
    ClientTls(Box<client::TlsStream<Socket>>),
}

impl Socket {
    /// The address of our end; `None` for Unix sockets.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(socket) => socket.local_addr().ok(),
            Self::Unix(_) => None,
        }
    }
}

impl Stream {
    /// The socket below it.
    #[must_use]
    pub fn socket(&self) -> &Socket {
        match self {
            Self::Plain(socket) => socket,
            Self::ServerTls(stream) => stream.get_ref().0,
            Self::ClientTls(stream) => stream.get_ref().0,
        }
    }

    /// Has the stream end in a reset when it is dropped, where the socket can.
    pub fn reset_on_drop(&self) {
        if let Socket::Tcp(tcp) = self.socket() {
            // A socket that cannot be told so is broken already.
            let _ = tcp.set_zero_linger();
        }
    }
}

/// A stream of which the first bytes were read already, and whose bytes are counted.
#[derive(Debug)]
pub struct Rewound {
    first: Bytes,
    rest: Rc<Traffic>,
}

/// A stream that something else reads and writes, and the bytes that went over it, payload of TLS, since
/// they were last asked for.
#[derive(Debug)]
pub struct Traffic {
    stream: RefCell<Stream>,
    received: Cell<u64>,
    sent: Cell<u64>,
}

impl Rewound {
    /// Reads `first`, then from `rest`.
    #[must_use]
    pub fn new(first: Bytes, rest: Stream) -> Self {
        let received = Cell::new(first.len() as u64);
        let rest = Traffic { stream: RefCell::new(rest), received, sent: Cell::default() };
        Self { first, rest: Rc::new(rest) }
    }

    /// What counts its bytes, to be kept beside whatever takes the stream. The socket is open for as long as
    /// either is kept.
    #[must_use]
    pub fn traffic(&self) -> Rc<Traffic> {
        Rc::clone(&self.rest)
    }
}

impl Traffic {
    /// The bytes received and sent since this was last called.
    #[must_use]
    pub fn take(&self) -> (u64, u64) {
        (self.received.take(), self.sent.take())
    }

    /// The bytes received since [`Self::take`] was last called.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received.get()
    }

    /// The address of our end; `None` for Unix sockets.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.stream.borrow().socket().local_addr()
    }

    /// Does something with the stream, which nothing else has borrowed: it is passed to nobody.
    fn with<T>(&self, act: impl FnOnce(Pin<&mut Stream>) -> T) -> T {
        act(Pin::new(&mut self.stream.borrow_mut()))
    }

    fn wrote(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(n)) = written {
            self.sent.set(self.sent.get() + n as u64);
        }
        written
    }
}

macro_rules! on {
    ($self:ident, $kind:ident: $($variant:ident)|+, $io:ident => $call:expr) => {
        match $self.get_mut() { $($kind::$variant($io) => { let $io = Pin::new($io); $call })+ }
    };
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        on!(self, Self: Tcp | Unix, io => io.poll_read(cx, buf))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        on!(self, Self: Tcp | Unix, io => io.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        on!(self, Self: Tcp | Unix, io => io.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on!(self, Self: Tcp | Unix, io => io.poll_shutdown(cx))
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        on!(self, Self: Plain | ServerTls | ClientTls, io => io.poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        on!(self, Self: Plain | ServerTls | ClientTls, io => io.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        on!(self, Self: Plain | ServerTls | ClientTls, io => io.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on!(self, Self: Plain | ServerTls | ClientTls, io => io.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on!(self, Self: Plain | ServerTls | ClientTls, io => io.poll_shutdown(cx))
    }
}

impl AsyncRead for Rewound {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            let before = buf.filled().len();
            let read = self.rest.with(|stream| stream.poll_read(cx, buf));
            let n = buf.filled().len().saturating_sub(before) as u64;
            self.rest.received.set(self.rest.received.get() + n);
            return read;
        }
        let n = self.first.len().min(buf.remaining());
        buf.put_slice(self.first.get(..n).unwrap_or_default());
        self.first.advance(n);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Rewound {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = self.rest.with(|stream| stream.poll_write(cx, buf));
        self.rest.wrote(written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.rest.with(|stream| stream.poll_write_vectored(cx, bufs));
        self.rest.wrote(written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.rest.with(|stream| stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.rest.with(|stream| stream.poll_shutdown(cx))
    }
}
