//! One HTTP/1.1 connection, of either side: bytes read and not yet used, bytes to be written, and
//! message bodies moving through it. Frames bodies by the rules of `wire`; knows no heads' meaning.
//!
//! Every method takes `&self`, because a connection is read for one direction of an exchange and
//! written for the other, by the same task. Reads go through one buffer per worker, so that an
//! idle connection holds none.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::AsyncWrite;
use tokio_util::io::poll_read_buf;

use super::splice::Pipe;
use super::stream::{Socket, Stream};
use crate::model::Fields;
use crate::wire::{Length, Malformed, chunked, encode};

/// A connection.
#[derive(Debug)]
pub struct Conn {
    stream: RefCell<Stream>,
    unread: RefCell<Bytes>,
    outbox: RefCell<Outbox>,
    decoding: RefCell<Decoding>,
    encoding: Cell<Encoding>,
    received: Cell<u64>,
    sent: Cell<u64>,
}

/// A piece of a body.
#[derive(Debug)]
pub enum Frame {
    /// Bytes; never empty.
    Data(Bytes),
    /// The end, with trailer fields if there were any.
    End(Option<Box<Fields>>),
}

/// How a body is read.
#[derive(Debug)]
enum Decoding {
    /// So many bytes are left.
    Exact(u64),
    /// Chunk by chunk.
    Chunked(Box<chunked::Decoder>),
    /// To the end of the connection.
    UntilClose,
    /// The end was reached.
    Done,
}

/// How a body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// So many bytes are left.
    Exact(u64),
    /// Each piece as a chunk.
    Chunked,
    /// As it is, ended by the end of the connection.
    Raw,
    /// Not at all: the body is dropped, as for a response to `HEAD`.
    Nothing,
}

/// Why a body could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The socket failed.
    #[error("cannot read")]
    Io(#[from] io::Error),
    /// The connection ended before the body did.
    #[error("the connection ended within a message")]
    Truncated,
    /// The body's framing is malformed.
    #[error("malformed body")]
    Malformed(#[from] Malformed),
}

impl Conn {
    /// A connection of which `unread` was read already.
    #[must_use]
    pub fn new(stream: Stream, unread: Bytes) -> Self {
        Self {
            stream: RefCell::new(stream),
            unread: RefCell::new(unread),
            outbox: RefCell::default(),
            decoding: RefCell::new(Decoding::Done),
            encoding: Cell::new(Encoding::Nothing),
            received: Cell::new(0),
            sent: Cell::new(0),
        }
    }

    /// Takes the connection apart: the stream and what was read from it and not used.
    #[must_use]
    pub fn into_parts(self) -> (Stream, Bytes) {
        (self.stream.into_inner(), self.unread.into_inner())
    }

    /// Reads more bytes behind the unread ones; `false` at the end of the stream.
    pub fn poll_fill(&self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        // A head is small, and what is read of a body along with it cannot be spliced any more.
        let most = if self.is_read_done() { READ_HEAD } else { READ_MAX };
        let more = ready!(poll_read(&mut self.stream.borrow_mut(), most, cx))?;
        if more.is_empty() {
            return Poll::Ready(Ok(false));
        }
        self.received.set(self.received.get() + more.len() as u64);
        let mut unread = self.unread.borrow_mut();
        *unread = if unread.is_empty() { more } else { join(&unread, &more) };
        Poll::Ready(Ok(true))
    }

    /// Looks at the unread bytes, of which `look` says how many it used.
    pub fn with_unread<T>(&self, look: impl FnOnce(&[u8]) -> (usize, T)) -> T {
        let mut unread = self.unread.borrow_mut();
        let (used, value) = look(&unread);
        let used = used.min(unread.len());
        unread.advance(used);
        if unread.is_empty() {
            *unread = Bytes::new();
        }
        value
    }

    /// The number of unread bytes.
    #[must_use]
    pub fn unread_len(&self) -> usize {
        self.unread.borrow().len()
    }

    /// Begins the body of a message that is received.
    pub fn begin_read(&self, length: Length) {
        *self.decoding.borrow_mut() = Decoding::of(length);
    }

    /// Whether the body that is received was read to its end.
    #[must_use]
    pub fn is_read_done(&self) -> bool {
        matches!(*self.decoding.borrow(), Decoding::Done)
    }

    /// The next piece of the body that is received.
    ///
    /// # Errors
    /// When the socket fails, ends early, or the framing is malformed.
    pub fn poll_frame(&self, cx: &mut Context<'_>) -> Poll<Result<Frame, ReadError>> {
        loop {
            if let Some(frame) = self.decoding.borrow_mut().next(&mut self.unread.borrow_mut())? {
                return Poll::Ready(Ok(frame));
            }
            if !ready!(self.poll_fill(cx))? {
                let decoding = self.decoding.replace(Decoding::Done);
                let may_end = matches!(decoding, Decoding::UntilClose);
                return Poll::Ready(if may_end { Ok(Frame::End(None)) } else { Err(ReadError::Truncated) });
            }
        }
    }

    /// Moves a part of the body that is received into `to`, whose body it is too, without a copy;
    /// gives the number of bytes. `None` where that cannot be done or is not worth while.
    pub fn poll_splice(&self, to: &Self, cx: &mut Context<'_>) -> Option<Poll<Result<u64, ReadError>>> {
        let left = match *self.decoding.borrow() {
            Decoding::Exact(left) if left >= SPLICE_MIN && self.unread_len() == 0 => left,
            _ => return None,
        };
        let Encoding::Exact(room) = to.encoding.get() else { return None };
        let stream = self.stream.borrow();
        let (Stream::Plain(Socket::Tcp(source)), Stream::Plain(Socket::Tcp(_))) =
            (&*stream, &*to.stream.borrow())
        else {
            return None;
        };
        let mut outbox = to.outbox.borrow_mut();
        let mut pipe = match outbox.pipe.take() {
            Some(pipe) => pipe,
            None => Pipe::take().ok()?,
        };
        let filled = pipe.poll_fill(source, usize::try_from(left.min(room)).unwrap_or(usize::MAX), cx);
        outbox.pipe = Some(pipe);
        Some(match filled {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => Poll::Ready(Err(ReadError::Io(error))),
            Poll::Ready(Ok(0)) => Poll::Ready(Err(ReadError::Truncated)),
            Poll::Ready(Ok(n)) => {
                let n = n as u64;
                self.received.set(self.received.get() + n);
                *self.decoding.borrow_mut() = Decoding::of(Length::Exact(left - n));
                to.encoding.set(Encoding::Exact(room - n));
                Poll::Ready(Ok(n))
            }
        })
    }

    /// Queues bytes that `write` appends, such as a head.
    pub fn push(&self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut outbox = self.outbox.borrow_mut();
        debug_assert!(outbox.chunk.is_empty(), "a large piece is flushed before more is queued");
        write(&mut outbox.copied);
    }

    /// Begins the body of a message that is sent.
    pub fn begin_write(&self, encoding: Encoding) {
        self.encoding.set(encoding);
    }

    /// Queues a piece of the body that is sent. What exceeds its stated length is cut off.
    pub fn push_data(&self, mut data: Bytes) {
        let mut outbox = self.outbox.borrow_mut();
        match self.encoding.get() {
            Encoding::Nothing => return,
            Encoding::Exact(left) => {
                data.truncate(usize::try_from(left).unwrap_or(usize::MAX));
                self.encoding.set(Encoding::Exact(left - data.len() as u64));
            }
            Encoding::Chunked => encode::chunk_size(&mut outbox.copied, data.len()),
            Encoding::Raw => {}
        }
        outbox.put(data, self.encoding.get() == Encoding::Chunked);
    }

    /// Queues the end of the body that is sent.
    ///
    /// # Errors
    /// When fewer bytes were queued than had been stated.
    pub fn push_end(&self, trailers: Option<&Fields>) -> Result<(), ReadError> {
        match self.encoding.replace(Encoding::Nothing) {
            Encoding::Chunked => encode::last_chunk(&mut self.outbox.borrow_mut().copied, trailers),
            Encoding::Exact(1..) => return Err(ReadError::Truncated),
            Encoding::Exact(0) | Encoding::Raw | Encoding::Nothing => {}
        }
        Ok(())
    }

    /// Whether enough is queued that it should be written before more is.
    #[must_use]
    pub fn is_outbox_full(&self) -> bool {
        let outbox = self.outbox.borrow();
        !outbox.chunk.is_empty()
            || !outbox.tail.is_empty()
            || outbox.piped() > 0
            || outbox.copied.len() >= COPIED_MAX
    }

    /// Whether the end of the body may be queued: what marks it must not overtake a large piece.
    #[must_use]
    pub fn may_push_end(&self) -> bool {
        self.encoding.get() != Encoding::Chunked || !self.is_outbox_full()
    }

    /// Writes what is queued.
    pub fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut outbox = self.outbox.borrow_mut();
        let mut stream = self.stream.borrow_mut();
        while !outbox.is_empty() {
            let n = ready!(outbox.poll_write(&mut stream, cx))?;
            self.sent.set(self.sent.get() + n as u64);
        }
        if matches!(*stream, Stream::Plain(_)) {
            Poll::Ready(Ok(()))
        } else {
            Pin::new(&mut *stream).poll_flush(cx)
        }
    }

    /// Whether closing the socket is all that the end of the stream takes, as without TLS.
    #[must_use]
    pub fn closes_by_itself(&self) -> bool {
        matches!(*self.stream.borrow(), Stream::Plain(_))
    }

    /// Ends our direction of the stream.
    pub fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream.borrow_mut()).poll_shutdown(cx)
    }

    /// Whether a body is unfinished that would look whole if the connection ended in an orderly way;
    /// if so, the connection will end in a reset.
    #[must_use]
    pub fn breaks_off(&self) -> bool {
        let unfinished = self.encoding.get() == Encoding::Raw;
        if unfinished {
            self.stream.borrow().reset_on_drop();
        }
        unfinished
    }

    /// Gives up buffers that an idle connection does not need.
    pub fn rest(&self) {
        self.outbox.borrow_mut().pipe = None;
        self.outbox.borrow_mut().copied.shrink_to(IDLE_KEPT);
    }

    /// The address of our end; `None` for Unix sockets.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.stream.borrow().socket().local_addr()
    }

    /// Bytes received so far, payload of TLS.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received.get()
    }

    /// Bytes sent so far, payload of TLS.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent.get()
    }
}

impl Decoding {
    fn of(length: Length) -> Self {
        match length {
            Length::Exact(0) => Self::Done,
            Length::Exact(n) => Self::Exact(n),
            Length::Chunked => Self::Chunked(Box::default()),
            Length::UntilClose => Self::UntilClose,
        }
    }

    fn next(&mut self, unread: &mut Bytes) -> Result<Option<Frame>, Malformed> {
        match self {
            Self::Done => return Ok(Some(Frame::End(None))),
            _ if unread.is_empty() => return Ok(None),
            Self::UntilClose => return Ok(Some(Frame::Data(std::mem::take(unread)))),
            Self::Exact(left) => {
                let n = usize::try_from(*left).unwrap_or(usize::MAX).min(unread.len());
                *left -= n as u64;
                if *left == 0 {
                    *self = Self::Done;
                }
                return Ok(Some(Frame::Data(take_front(unread, n))));
            }
            Self::Chunked(decoder) => match decoder.decode(unread)? {
                Some(chunked::Event::Data(data)) => return Ok(Some(Frame::Data(data))),
                Some(chunked::Event::End(trailers)) => {
                    *self = Self::Done;
                    return Ok(Some(Frame::End(trailers)));
                }
                None => {}
            },
        }
        Ok(None)
    }
}

impl Encoding {
    /// The encoding of a body of this length.
    #[must_use]
    pub fn of(length: Length) -> Self {
        match length {
            Length::Exact(n) => Self::Exact(n),
            Length::Chunked => Self::Chunked,
            Length::UntilClose => Self::Raw,
        }
    }
}

/// Bytes to be written: small ones copied together, then at most one large piece as it is, or in a
/// pipe.
#[derive(Debug, Default)]
struct Outbox {
    copied: Vec<u8>,
    written: usize,
    chunk: Bytes,
    tail: &'static [u8],
    pipe: Option<Pipe>,
}

impl Outbox {
    fn is_empty(&self) -> bool {
        self.copied.is_empty() && self.chunk.is_empty() && self.tail.is_empty() && self.piped() == 0
    }

    fn piped(&self) -> usize {
        self.pipe.as_ref().map_or(0, Pipe::filled)
    }

    fn put(&mut self, data: Bytes, is_chunk: bool) {
        let tail: &'static [u8] = if is_chunk { b"\r\n" } else { b"" };
        if data.len() + self.copied.len() <= COPIED_MAX {
            self.copied.extend_from_slice(&data);
            self.copied.extend_from_slice(tail);
        } else {
            self.chunk = data;
            self.tail = tail;
        }
    }

    fn poll_write(&mut self, stream: &mut Stream, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let copied = self.copied.get(self.written..).unwrap_or_default();
        if let (true, Some(pipe), Stream::Plain(Socket::Tcp(socket))) =
            (copied.is_empty(), &mut self.pipe, &*stream)
            && pipe.filled() > 0
        {
            return pipe.poll_drain(socket, cx);
        }
        let stream = Pin::new(stream);
        let n = ready!(if self.chunk.is_empty() && self.tail.is_empty() {
            stream.poll_write(cx, copied)
        } else {
            let parts = [IoSlice::new(copied), IoSlice::new(&self.chunk), IoSlice::new(self.tail)];
            stream.poll_write_vectored(cx, parts.get(usize::from(copied.is_empty())..).unwrap_or_default())
        })?;
        if n == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.advance(n);
        Poll::Ready(Ok(n))
    }

    fn advance(&mut self, n: usize) {
        let of_copied = n.min(self.copied.len() - self.written);
        let of_chunk = (n - of_copied).min(self.chunk.len());
        let of_tail = n - of_copied - of_chunk;
        self.written += of_copied;
        if self.written == self.copied.len() {
            self.copied.clear();
            self.written = 0;
        }
        self.chunk.advance(of_chunk);
        if self.chunk.is_empty() {
            self.chunk = Bytes::new();
        }
        self.tail = self.tail.get(of_tail..).unwrap_or_default();
    }
}

/// Reads once through the worker's buffer. Empty at the end of the stream.
fn poll_read(stream: &mut Stream, most: usize, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
    READ_BUFFER.with_borrow_mut(|buffer| {
        // Starting over from the front, when nobody holds a piece any more, keeps the memory in cache.
        if !buffer.try_reclaim(READ_MAX) && buffer.capacity() < READ_MIN {
            buffer.reserve(READ_MAX);
        }
        ready!(poll_read_buf(Pin::new(stream), cx, &mut (&mut *buffer).limit(most)))?;
        Poll::Ready(Ok(buffer.split().freeze()))
    })
}

fn take_front(unread: &mut Bytes, n: usize) -> Bytes {
    if n == unread.len() { std::mem::take(unread) } else { unread.split_to(n) }
}

fn join(first: &Bytes, second: &Bytes) -> Bytes {
    let mut joined = BytesMut::with_capacity(first.len() + second.len());
    joined.extend_from_slice(first);
    joined.extend_from_slice(second);
    joined.freeze()
}

thread_local! {
    /// What this worker reads into. Pieces of it travel as `Bytes`; when all of them are gone, the
    /// same memory is used again.
    static READ_BUFFER: RefCell<BytesMut> = RefCell::new(BytesMut::new());
}

/// Bytes offered to a read, at the least.
const READ_MIN: usize = 16 * 1024;
/// Size of the read buffer: as much as one read can bring, and as a client that takes nothing can hold.
const READ_MAX: usize = 128 * 1024;
/// Bytes offered to a read that waits for a head.
const READ_HEAD: usize = 32 * 1024;
/// Bytes that are copied together for one write; a larger piece is written from where it is.
const COPIED_MAX: usize = 16 * 1024;
/// Bytes of a body from which on moving them through a pipe is cheaper than copying them.
const SPLICE_MIN: u64 = 128 * 1024;
/// Bytes of write buffer that an idle connection keeps.
const IDLE_KEPT: usize = 0;
