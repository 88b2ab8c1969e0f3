//! One direction: bytes from one stream to the other, then the end. Reads go through one buffer per
//! worker, so that a direction in which nothing is under way holds no memory; where reads are full
//! and both streams are plain TCP, bytes move by `splice` until they come in small pieces again.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::coop::has_budget_remaining;

use crate::net::splice::Pipe;
use crate::net::stream::{Socket, Stream};

/// One direction.
#[derive(Debug, Default)]
pub(super) struct Lane {
    held: Held,
    stage: Stage,
    /// Whether bytes come in such amounts that they are better not copied.
    is_bulk: bool,
    /// Whether the stream may have kept back some of what it was given, as TLS does.
    is_unflushed: bool,
    /// Whether the task is woken as soon as there is something to read, and has nothing to do before.
    is_waiting: bool,
    /// Whether nothing more comes the other way, so that both streams are closed when this one is over.
    is_last: bool,
}

/// What was read and could not be written yet.
#[derive(Debug, Default)]
enum Held {
    #[default]
    Nothing,
    Bytes(Bytes),
    Piped(Pipe),
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Bytes may come.
    #[default]
    Open,
    /// The end was read, and all that came before it is written.
    Ending,
    /// The end was passed on, or nothing can be written any more.
    Over,
}

/// Why a direction cannot go on.
#[derive(Debug)]
pub(super) enum Fault {
    /// The stream that is read failed.
    Reading(io::Error),
    /// The stream that is written failed.
    Writing(io::Error),
}

impl Lane {
    /// A direction in which `first` was read already.
    pub(super) fn new(first: Bytes) -> Self {
        let held = if first.is_empty() { Held::Nothing } else { Held::Bytes(first) };
        Self { held, ..Self::default() }
    }

    /// Nothing more comes the other way.
    pub(super) fn becomes_last(&mut self) {
        self.is_last = true;
    }

    /// Whether nothing more will be passed on.
    pub(super) fn is_over(&self) -> bool {
        self.stage == Stage::Over
    }

    /// Whether bytes were read that the other side does not have yet.
    pub(super) fn is_holding(&self) -> bool {
        !matches!(self.held, Held::Nothing)
    }

    /// Moves what can be moved and adds it to `moved`; ready once it is over. After so many turns
    /// other connections come first.
    pub(super) fn poll(
        &mut self,
        from: &mut Stream,
        to: &mut Stream,
        moved: &Cell<u64>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Fault>> {
        if self.is_waiting && plain(from).is_some_and(|source| !is_readable(source)) {
            return Poll::Pending;
        }
        self.is_waiting = false;
        for _ in 0..TURNS {
            if self.stage == Stage::Over {
                return Poll::Ready(Ok(()));
            }
            match ready!(self.poll_turn(from, to, moved, cx)) {
                Ok(stage) => self.stage = stage,
                Err(fault) => {
                    self.stage = Stage::Over;
                    self.held = Held::Nothing;
                    return Poll::Ready(Err(fault));
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_turn(
        &mut self,
        from: &mut Stream,
        to: &mut Stream,
        moved: &Cell<u64>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Stage, Fault>> {
        if self.stage == Stage::Ending {
            // Closing it says the same, and saves a call: all that came from there was read.
            if self.is_last && plain(to).is_some() {
                return Poll::Ready(Ok(Stage::Over));
            }
            let shut = ready!(Pin::new(to).poll_shutdown(cx));
            return Poll::Ready(shut.map(|()| Stage::Over).map_err(Fault::Writing));
        }
        ready!(self.poll_give(to, moved, cx)).map_err(Fault::Writing)?;
        let read = match (self.is_bulk, plain(from), plain(to)) {
            (true, Some(source), Some(sink)) => self.poll_splice(source, sink, moved, cx),
            _ => self.poll_copy(from, to, moved, cx),
        };
        // Out of budget, a socket answers without having noted whom to wake.
        self.is_waiting = read.is_pending() && has_budget_remaining();
        let read = ready!(read)?;
        Poll::Ready(Ok(if read == 0 { Stage::Ending } else { Stage::Open }))
    }

    /// Writes what is held.
    fn poll_give(
        &mut self,
        to: &mut Stream,
        moved: &Cell<u64>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while self.is_holding() {
            let n = match (&mut self.held, plain(to)) {
                (Held::Piped(pipe), Some(sink)) => {
                    let n = ready!(pipe.poll_drain(sink, cx))?;
                    if pipe.filled() == 0 {
                        self.held = Held::Nothing;
                    }
                    n
                }
                (Held::Bytes(bytes), _) => {
                    let n = ready!(Pin::new(&mut *to).poll_write(cx, bytes))?;
                    bytes.advance(n);
                    if bytes.is_empty() {
                        self.held = Held::Nothing;
                    }
                    self.is_unflushed = true;
                    n
                }
                (Held::Nothing | Held::Piped(_), _) => break,
            };
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            add(moved, n);
        }
        if self.is_unflushed {
            ready!(Pin::new(to).poll_flush(cx))?;
            self.is_unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Reads into the worker's buffer and writes from it; what the stream does not take is held.
    /// Gives the number of bytes read.
    fn poll_copy(
        &mut self,
        from: &mut Stream,
        to: &mut Stream,
        moved: &Cell<u64>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<usize, Fault>> {
        BUFFER.with_borrow_mut(|buffer| {
            let mut buffer = ReadBuf::new(buffer);
            match ready!(Pin::new(&mut *from).poll_read(cx, &mut buffer)) {
                Err(error) if !is_curt_end(from, &error) => return Poll::Ready(Err(Fault::Reading(error))),
                _ => {}
            }
            let read = buffer.filled();
            if read.is_empty() {
                return Poll::Ready(Ok(0));
            }
            self.is_bulk = read.len() == BUFFER_SIZE;
            let n = match Pin::new(to).poll_write(cx, read) {
                Poll::Ready(written) => written.map_err(Fault::Writing)?,
                Poll::Pending => 0,
            };
            add(moved, n);
            self.is_unflushed = true;
            let rest = read.get(n..).unwrap_or_default();
            if !rest.is_empty() {
                self.held = Held::Bytes(Bytes::copy_from_slice(rest));
            }
            Poll::Ready(Ok(read.len()))
        })
    }

    /// Moves bytes through a pipe; what the socket does not take stays in it. Gives the number of
    /// bytes read.
    fn poll_splice(
        &mut self,
        from: &TcpStream,
        to: &TcpStream,
        moved: &Cell<u64>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<usize, Fault>> {
        // Not before there is something to read: a direction that waits holds no pipe.
        ready!(from.poll_read_ready(cx)).map_err(Fault::Reading)?;
        let Ok(mut pipe) = Pipe::take() else {
            self.is_bulk = false;
            return Poll::Ready(Ok(1));
        };
        let read = ready!(pipe.poll_fill(from, usize::MAX, cx)).map_err(Fault::Reading)?;
        self.is_bulk = read >= BULK_MIN;
        while pipe.filled() > 0 {
            let Poll::Ready(written) = pipe.poll_drain(to, cx) else {
                self.held = Held::Piped(pipe);
                break;
            };
            let n = written.map_err(Fault::Writing)?;
            if n == 0 {
                return Poll::Ready(Err(Fault::Writing(io::ErrorKind::WriteZero.into())));
            }
            add(moved, n);
        }
        Poll::Ready(Ok(read))
    }
}

fn plain(stream: &Stream) -> Option<&TcpStream> {
    match stream {
        Stream::Plain(Socket::Tcp(tcp)) => Some(tcp),
        _ => None,
    }
}

/// Whether this is how a client of ours hangs up: many do without the goodbye of TLS (RFC 8446 §6.1).
/// What an endpoint says ends with one, or was cut off.
fn is_curt_end(from: &Stream, error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::UnexpectedEof && matches!(from, Stream::ServerTls(_))
}

/// Whether there may be something to read, as far as the runtime knows.
fn is_readable(source: &TcpStream) -> bool {
    source.try_io(Interest::READABLE, || Ok(())).is_ok()
}

fn add(moved: &Cell<u64>, n: usize) {
    moved.set(moved.get() + n as u64);
}

thread_local! {
    /// What this worker reads into. Nothing stays in it between two polls.
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; BUFFER_SIZE].into_boxed_slice());
}

/// Bytes offered to a read.
const BUFFER_SIZE: usize = 64 * 1024;
/// Bytes that a pipe brings at once, below which it is not worth its system calls.
const BULK_MIN: usize = 16 * 1024;
/// Pieces that are moved before other connections have their turn.
const TURNS: usize = 16;
