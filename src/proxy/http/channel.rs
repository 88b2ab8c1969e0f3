//! One side of an exchange, whatever its HTTP version: a body to read and a body to write. Moving
//! a body from one side to the other is the same code for all four pairs of versions.

use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{RecvStream, SendStream};

use super::head2;
use crate::cache::Pending;
use crate::health::Outcome;
use crate::model::Fields;
use crate::net::http1::{Conn, Frame, ReadError};

/// A side.
#[derive(Debug)]
pub(super) enum Channel {
    /// An HTTP/1.1 connection.
    Http1(Rc<Conn>),
    /// A stream of an HTTP/2 connection.
    Http2(Http2Stream),
}

/// A stream of an HTTP/2 connection, with one piece of body at most on its way out.
#[derive(Debug, Default)]
pub(super) struct Http2Stream {
    recv: Option<RecvStream>,
    /// Bytes handed on, for which the sender has not got its window back yet.
    unreleased: usize,
    data_ended: bool,
    send: Option<SendStream<Bytes>>,
    queued: Bytes,
    end: Option<Option<Box<Fields>>>,
    moved: u64,
}

/// Why a body did not get through.
#[derive(Debug, thiserror::Error)]
pub(super) enum PumpError {
    /// The side that sends it failed.
    #[error("cannot read the body")]
    Read(#[source] ReadError),
    /// The side that receives it failed.
    #[error("cannot write the body")]
    Write(#[source] io::Error),
    /// It is larger than it may be.
    #[error("the body is too large")]
    TooLarge,
}

/// Moves one body.
#[derive(Debug, Default)]
pub(super) struct Pump {
    /// Bytes moved so far.
    pub(super) moved: u64,
    /// The most bytes to move.
    pub(super) limit: Option<u64>,
    /// Whether it waits for the side that sends the body, rather than for the one that receives it.
    pub(super) starved: bool,
    ended: bool,
    /// What trailers said of a call of gRPC.
    pub(super) grpc: Option<Outcome>,
    /// What was moved, while it may have to be moved again.
    kept: Option<Kept>,
    /// What was moved to somebody else before and comes first.
    again: Kept,
    /// What it is stored in as well.
    stored: Option<Box<Pending>>,
}

/// The beginning of a body, or all of it.
#[derive(Debug, Default)]
pub(super) struct Kept {
    data: VecDeque<Bytes>,
    len: usize,
    /// The most bytes to keep.
    most: usize,
    end: Option<Option<Box<Fields>>>,
}

impl Kept {
    /// Takes in `frame`; whether there was room.
    fn keep(&mut self, frame: &Frame) -> bool {
        match frame {
            Frame::Data(data) => {
                self.len += data.len();
                self.data.push_back(data.clone());
            }
            Frame::End(trailers) => self.end = Some(trailers.clone()),
        }
        self.len <= self.most
    }

    fn next(&mut self) -> Option<Frame> {
        self.data.pop_front().map(Frame::Data).or_else(|| self.end.take().map(Frame::End))
    }

    fn is_empty(&self) -> bool {
        self.data.is_empty() && self.end.is_none()
    }
}

impl Pump {
    /// Moves as much as can be moved now. Ready when all of the body is written, which leaves the
    /// end of the stream to the caller where that is what ends the body.
    ///
    /// # Errors
    /// When either side fails, or the body exceeds the limit.
    pub(super) fn poll(
        &mut self,
        from: &mut Channel,
        to: &mut Channel,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), PumpError>> {
        loop {
            self.fill(from, to, cx)?;
            ready!(to.poll_flush(cx)).map_err(PumpError::Write)?;
            if self.ended {
                return Poll::Ready(Ok(()));
            }
            if self.starved {
                return Poll::Pending;
            }
        }
    }

    /// Keeps what is moved from now on, as long as that is at most so many bytes.
    pub(super) fn keep(&mut self, most: usize) {
        self.kept = Some(Kept { most, ..Kept::default() });
    }

    /// Has what is moved stored as well, once it is whole and if it is not too large.
    #[must_use]
    pub(super) fn storing(pending: Option<Box<Pending>>) -> Self {
        Self { stored: pending, ..Self::default() }
    }

    /// Moves `kept` before anything else.
    pub(super) fn repeat(&mut self, kept: Option<Kept>) {
        self.again = kept.unwrap_or_default();
    }

    /// What was kept, and what was to be moved again and was not yet; nothing is kept any more.
    pub(super) fn take_kept(&mut self) -> Option<Kept> {
        let again = std::mem::take(&mut self.again);
        let mut kept = self.kept.take()?;
        kept.data.extend(again.data);
        kept.end = kept.end.or(again.end);
        Some(kept)
    }

    /// Keeps nothing any more, as nothing will have to be moved again.
    pub(super) fn forget(&mut self) {
        self.kept = None;
    }

    /// Whether nothing was moved that could not be moved again.
    #[must_use]
    pub(super) fn is_repeatable(&self) -> bool {
        self.moved == 0 || self.kept.is_some()
    }

    /// Whether the whole body was read.
    #[must_use]
    pub(super) fn is_read_done(&self) -> bool {
        self.ended
    }

    /// Queues what there is, while there is room.
    ///
    /// # Errors
    /// When the body cannot be read, or exceeds the limit.
    pub(super) fn fill(
        &mut self,
        from: &mut Channel,
        to: &mut Channel,
        cx: &mut Context<'_>,
    ) -> Result<(), PumpError> {
        self.starved = false;
        while !self.ended && to.has_room() {
            if let Some(spliced) = self.splice(from, to, cx) {
                let Poll::Ready(n) = spliced else {
                    self.starved = true;
                    return Ok(());
                };
                self.count(n.map_err(PumpError::Read)?)?;
                if from.is_read_done() {
                    self.finish(to, None)?;
                }
                continue;
            }
            let Poll::Ready(frame) =
                self.again.next().map_or_else(|| from.poll_frame(cx), |f| Poll::Ready(Ok(f)))
            else {
                self.starved = true;
                return Ok(());
            };
            let frame = frame.map_err(PumpError::Read)?;
            if self.kept.as_mut().is_some_and(|kept| !kept.keep(&frame)) {
                self.kept = None;
            }
            match frame {
                Frame::Data(data) => {
                    if self.stored.as_mut().is_some_and(|stored| !stored.take(&data)) {
                        self.stored = None;
                    }
                    self.count(data.len() as u64)?;
                    to.push(data);
                    if self.again.is_empty() && from.is_read_done() && to.may_push_end() {
                        self.finish(to, None)?;
                    }
                }
                Frame::End(trailers) => self.finish(to, trailers)?,
            }
        }
        Ok(())
    }

    /// Moves bytes without a look at them, where both sides are plain sockets and nothing is kept.
    fn splice(
        &self,
        from: &Channel,
        to: &Channel,
        cx: &mut Context<'_>,
    ) -> Option<Poll<Result<u64, ReadError>>> {
        match (from, to) {
            (Channel::Http1(from), Channel::Http1(to))
                if self.kept.is_none() && self.again.is_empty() && self.stored.is_none() =>
            {
                from.poll_splice(to, cx)
            }
            _ => None,
        }
    }

    fn count(&mut self, bytes: u64) -> Result<(), PumpError> {
        self.moved += bytes;
        if self.limit.is_some_and(|limit| self.moved > limit) { Err(PumpError::TooLarge) } else { Ok(()) }
    }

    fn finish(&mut self, to: &mut Channel, trailers: Option<Box<Fields>>) -> Result<(), PumpError> {
        self.ended = true;
        if let Some(stored) = self.stored.take() {
            stored.complete();
        }
        self.grpc = trailers.as_deref().and_then(grpc_outcome);
        to.push_end(trailers).map_err(PumpError::Read)
    }
}

impl Channel {
    /// Whether the body that is received was read to its end.
    #[must_use]
    pub(super) fn is_read_done(&self) -> bool {
        match self {
            Self::Http1(conn) => conn.is_read_done(),
            Self::Http2(stream) => stream.recv.as_ref().is_none_or(RecvStream::is_end_stream),
        }
    }

    /// The next piece of the body that is received.
    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Result<Frame, ReadError>> {
        match self {
            Self::Http1(conn) => conn.poll_frame(cx),
            Self::Http2(stream) => stream.poll_frame(cx),
        }
    }

    /// Whether a piece of body may be queued before what is queued was written.
    fn has_room(&self) -> bool {
        match self {
            Self::Http1(conn) => !conn.is_outbox_full(),
            Self::Http2(stream) => stream.queued.is_empty(),
        }
    }

    /// Whether the end of the body may be queued before what is queued was written.
    fn may_push_end(&self) -> bool {
        match self {
            Self::Http1(conn) => conn.may_push_end(),
            Self::Http2(_) => true,
        }
    }

    /// Queues a piece of the body that is sent.
    pub(super) fn push(&mut self, data: Bytes) {
        match self {
            Self::Http1(conn) => conn.push_data(data),
            Self::Http2(stream) => stream.queued = data,
        }
    }

    /// Queues the end of the body that is sent.
    ///
    /// # Errors
    /// When the body is shorter than was stated.
    pub(super) fn push_end(&mut self, trailers: Option<Box<Fields>>) -> Result<(), ReadError> {
        match self {
            Self::Http1(conn) => conn.push_end(trailers.as_deref()),
            Self::Http2(stream) => {
                stream.end = Some(trailers);
                Ok(())
            }
        }
    }

    /// A number that grows with every byte that is moved.
    #[must_use]
    pub(super) fn progress(&self) -> u64 {
        match self {
            Self::Http1(conn) => conn.received() + conn.sent(),
            Self::Http2(stream) => stream.moved,
        }
    }

    /// Writes what is queued.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Http1(conn) => conn.poll_flush(cx),
            Self::Http2(stream) => stream.poll_flush(cx),
        }
    }
}

impl Http2Stream {
    /// A stream with the body that is received, and with the one that is sent, where there are any.
    #[must_use]
    pub(super) fn new(recv: Option<RecvStream>, send: Option<SendStream<Bytes>>) -> Self {
        Self { recv, send, ..Self::default() }
    }

    /// Takes the body that is received, once its head came.
    pub(super) fn begin_read(&mut self, recv: RecvStream) {
        self.recv = Some(recv);
    }

    /// Takes the body that is sent, once its head was.
    pub(super) fn begin_write(&mut self, send: Option<SendStream<Bytes>>) {
        self.send = send;
    }

    /// Ready when the peer has given up the stream on which we send.
    pub(super) fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<Result<h2::Reason, h2::Error>> {
        match &mut self.send {
            Some(send) => send.poll_reset(cx),
            None => Poll::Pending,
        }
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Result<Frame, ReadError>> {
        let Some(recv) = &mut self.recv else { return Poll::Ready(Ok(Frame::End(None))) };
        if self.unreleased > 0 {
            // Whoever asks for more has passed on what came before. A stream that is gone needs no window.
            let _ = recv.flow_control().release_capacity(std::mem::take(&mut self.unreleased));
        }
        while !self.data_ended {
            match ready!(recv.poll_data(cx)) {
                Some(Ok(data)) if data.is_empty() => {}
                Some(Ok(data)) => {
                    self.unreleased = data.len();
                    self.moved += data.len() as u64;
                    return Poll::Ready(Ok(Frame::Data(data)));
                }
                Some(Err(error)) => return Poll::Ready(Err(read_error(error))),
                None => self.data_ended = true,
            }
        }
        let trailers = ready!(recv.poll_trailers(cx)).map_err(read_error)?;
        Poll::Ready(Ok(Frame::End(trailers.map(|map| Box::new(head2::trailers_from(&map))))))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(send) = &mut self.send else {
            self.queued = Bytes::new();
            return Poll::Ready(Ok(()));
        };
        while !self.queued.is_empty() {
            send.reserve_capacity(self.queued.len());
            if send.capacity() == 0 {
                match ready!(send.poll_capacity(cx)) {
                    Some(assigned) => assigned.map_err(write_error)?,
                    None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
                };
                continue;
            }
            let piece = self.queued.split_to(send.capacity().min(self.queued.len()));
            self.moved += piece.len() as u64;
            let is_last = self.queued.is_empty() && matches!(self.end, Some(None));
            send.send_data(piece, is_last).map_err(write_error)?;
            if is_last {
                self.end = None;
                self.send = None;
                return Poll::Ready(Ok(()));
            }
        }
        match self.end.take() {
            Some(Some(trailers)) => send.send_trailers(head2::trailers_to(&trailers)).map_err(write_error)?,
            Some(None) => send.send_data(Bytes::new(), true).map_err(write_error)?,
            None => return Poll::Ready(Ok(())),
        }
        self.send = None;
        Poll::Ready(Ok(()))
    }
}

/// What fields, in a head or trailers, say of a call of gRPC; nothing if it is none.
#[must_use]
pub(super) fn grpc_outcome(fields: &Fields) -> Option<Outcome> {
    let status = fields.get_named(b"grpc-status").next()?;
    std::str::from_utf8(status).ok()?.trim().parse().ok().map(Outcome::of_grpc)
}

fn read_error(error: h2::Error) -> ReadError {
    ReadError::Io(write_error(error))
}

fn write_error(error: h2::Error) -> io::Error {
    if error.is_io() {
        error.into_io().unwrap_or_else(|| io::ErrorKind::ConnectionReset.into())
    } else {
        io::Error::new(io::ErrorKind::ConnectionReset, error)
    }
}
