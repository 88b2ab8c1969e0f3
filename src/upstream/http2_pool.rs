//! HTTP/2 connections of one worker to one endpoint. Requests share a connection until it has as
//! many streams as it may; then another is opened, by one request while the others wait for it.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::SendRequest;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::connection::OpenConnection;
use super::owner::{Owned, Owner, Private};
use super::places::Seat;
use super::{Lease, LocalEndpoint};
use crate::ambient;
use crate::limit::Rejection;
use crate::net::connect::{DialError, DialTimeouts, Onward, dial};
use crate::net::stream::Rewound;
use crate::observe::panics::{Place, contain};

/// Open connections.
#[derive(Debug, Default)]
pub struct Http2Pool {
    open: RefCell<Vec<Rc<Http2Connection>>>,
    opening: Mutex<()>,
    opened: Cell<u64>,
    /// Counts attempts to connect that failed.
    failed: Cell<u64>,
    /// Whether the endpoint is not used any more, except by requests that began before.
    retired: Cell<bool>,
}

/// A connection, while any request or the pool holds it.
#[derive(Debug)]
struct Http2Connection {
    number: u64,
    send: SendRequest<Bytes>,
    streams: Cell<usize>,
    requests: Cell<u64>,
    /// Since when it was seen to carry no stream.
    unused_since: Cell<Option<Instant>>,
    /// Bytes that came from the endpoint.
    received: Rc<Cell<u64>>,
    closed: Rc<Cell<bool>>,
    /// Streams that we reset lately, and since when they are counted.
    resets: Cell<(u32, Instant)>,
    /// Who may use it.
    owned: Owned,
}

/// The right to one stream on a connection, given back when dropped.
#[derive(Debug)]
pub struct StreamPermit {
    connection: Rc<Http2Connection>,
    reused: bool,
    received_before: u64,
    /// Whether the stream ended by itself. If not, it is reset when the permit is dropped.
    ended: Cell<bool>,
}

/// Why there is no stream.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// No connection.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The endpoint does not speak HTTP/2.
    #[error("HTTP/2 handshake failed")]
    Handshake(#[source] h2::Error),
    /// The endpoint did not answer the HTTP/2 preface in time.
    #[error("HTTP/2 handshake timed out after {0:?}")]
    HandshakeTimeout(Duration),
    /// There are as many connections as there may be.
    #[error("{}", .0.words())]
    Full(Rejection),
}

impl Http2Pool {
    /// The number of connections opened so far, which is the number of the next one.
    #[must_use]
    pub fn opened(&self) -> u64 {
        self.opened.get()
    }

    /// Whether a request may hope for a stream without that a connection is opened for it.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open.borrow().iter().any(|connection| !connection.closed.get())
            || self.opening.try_lock().is_err()
    }

    /// The right to a stream for a request under `lease`, on an open connection if one has room, whose
    /// number is at least `from` and that the owner may use: whoever has met a dead connection wants none
    /// of its age. Where no more connections may be opened, those that are there take more streams than
    /// `limit`.
    ///
    /// # Errors
    /// When a connection had to be opened and could not be.
    pub async fn stream(
        &self,
        lease: &Lease,
        (limit, from): (usize, u64),
        private: Private<'_>,
        timeouts: DialTimeouts,
    ) -> Result<StreamPermit, OpenError> {
        if let Some(permit) = self.room(limit, from, private.owner) {
            lease.needs_no_seat();
            return Ok(permit);
        }
        let failed = self.failed.get();
        let turn = private.owner.map_or(&self.opening, Owner::opening).lock().await;
        if let Some(permit) = self.room(limit, from, private.owner) {
            lease.needs_no_seat();
            return Ok(permit);
        }
        let seat = match lease.seat() {
            Ok(seat) => seat,
            Err(rejection) => return self.crowded(from, private.owner).ok_or(OpenError::Full(rejection)),
        };
        // Whoever waited for an attempt that failed does not queue for the next: with many waiting
        // for an endpoint that is gone, the last would wait for as many time limits.
        let _turn = (self.failed.get() == failed).then_some(turn);
        let opened = self.fresh(lease, seat, private, timeouts).await;
        if opened.is_err() {
            self.failed.set(self.failed.get() + 1);
        }
        opened
    }

    /// Lets go of a connection for another worker: of one that carries no stream, or of one that is
    /// to carry no more. Whether there was one.
    pub fn close_one(&self) -> bool {
        let mut open = self.open.borrow_mut();
        open.retain(|connection| !connection.closed.get());
        let fewest = open.iter().enumerate().min_by_key(|(_, connection)| connection.streams.get());
        let Some((place, _)) = fewest else { return false };
        // Those streams that it has keep it open until they end.
        open.remove(place).closed.set(true);
        true
    }

    /// Lets go of all connections, which end with their last streams, and keeps none that are opened.
    pub fn retire(&self) {
        self.retired.set(true);
        for connection in self.open.take() {
            connection.closed.set(true);
        }
    }

    /// Closes connections that have carried no stream for `keep_alive`, or whose owner is gone.
    pub fn sweep(&self, now: Instant, keep_alive: Duration) {
        self.open.borrow_mut().retain(|connection| {
            if connection.streams.get() > 0 {
                return true;
            }
            let since = connection.unused_since.get().unwrap_or(now);
            connection.unused_since.set(Some(since));
            !connection.closed.get()
                && !connection.owned.is_orphaned()
                && now.saturating_duration_since(since) < keep_alive
        });
    }

    async fn fresh(
        &self,
        lease: &Lease,
        seat: Seat,
        private: Private<'_>,
        timeouts: DialTimeouts,
    ) -> Result<StreamPermit, OpenError> {
        // Boxed, because most requests do not open a connection and need no room for it.
        let mut connection = Box::pin(connect(lease, seat, private, timeouts)).await?;
        connection.number = self.opened.replace(self.opened.get() + 1);
        let connection = Rc::new(connection);
        if !self.retired.get() {
            self.open.borrow_mut().push(Rc::clone(&connection));
        }
        Ok(StreamPermit::new(connection, false))
    }

    fn room(&self, limit: usize, from: u64, owner: Option<&Owner>) -> Option<StreamPermit> {
        let mut open = self.open.borrow_mut();
        open.retain(|connection| !connection.closed.get());
        let with_room =
            open.iter().find(|c| c.number >= from && c.owned.is_of(owner) && c.has_room(limit))?;
        Some(StreamPermit::new(Rc::clone(with_room), true))
    }

    /// A stream on a connection that has as many as it should: the one with the fewest. Past what the
    /// endpoint allows it waits for others to end.
    fn crowded(&self, from: u64, owner: Option<&Owner>) -> Option<StreamPermit> {
        let open = self.open.borrow();
        let usable = open.iter().filter(|c| c.number >= from && c.owned.is_of(owner) && !c.closed.get());
        let fewest = usable.min_by_key(|connection| connection.streams.get())?;
        Some(StreamPermit::new(Rc::clone(fewest), true))
    }
}

impl Http2Connection {
    /// Whether it may have another stream, as far as `limit` and the endpoint's settings say. A
    /// request past the latter would wait behind the streams that are there.
    fn has_room(&self, limit: usize) -> bool {
        self.streams.get() < limit.min(self.send.current_max_send_streams()).max(1)
    }

    /// One of its streams is reset by us. Endpoints that protect themselves against rapid resets
    /// (CVE-2023-44487) close connections on which many are, with all other streams: before that, new
    /// requests go on another.
    fn reset(&self, now: Instant) {
        let (count, since) = self.resets.get();
        let (count, since) =
            if now.saturating_duration_since(since) < RESET_SPAN { (count + 1, since) } else { (1, now) };
        self.resets.set((count, since));
        if count >= RESETS {
            self.closed.set(true);
        }
    }
}

impl StreamPermit {
    fn new(connection: Rc<Http2Connection>, reused: bool) -> Self {
        connection.streams.set(connection.streams.get() + 1);
        connection.requests.set(connection.requests.get() + 1);
        connection.unused_since.set(None);
        let received_before = connection.received.get();
        Self { connection, reused, received_before, ended: Cell::new(false) }
    }

    /// What sends a request on the connection.
    #[must_use]
    pub fn sender(&self) -> SendRequest<Bytes> {
        self.connection.send.clone()
    }

    /// Whether the connection was open before.
    #[must_use]
    pub fn is_reused(&self) -> bool {
        self.reused
    }

    /// Whether not a byte came over the connection since the permit was given.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.connection.received.get() == self.received_before
    }

    /// The number of the connection, from 0 in the order of opening.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.connection.number
    }

    /// Requests that the connection carried, the present one included.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.connection.requests.get()
    }

    /// The stream ended by itself, or the endpoint ended it.
    pub fn end(&self) {
        self.ended.set(true);
    }

    /// Lets no further request use the connection.
    pub fn retire(&self) {
        self.connection.closed.set(true);
    }
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        self.connection.streams.set(self.connection.streams.get().saturating_sub(1));
        if !self.ended.get() {
            self.connection.reset(ambient::now());
        }
    }
}

async fn connect(
    lease: &Lease,
    seat: Seat,
    private: Private<'_>,
    timeouts: DialTimeouts,
) -> Result<Http2Connection, OpenError> {
    let endpoint: &LocalEndpoint = lease.endpoint();
    let preface = private.preface();
    let onward = Onward { preface: &preface, source: None };
    let stream = dial(&endpoint.shared.dial, timeouts, &onward, &lease.connects()).await?;
    let stream = Rewound::new(Bytes::new(), stream);
    let open = OpenConnection::new(Arc::clone(&endpoint.shared), endpoint.shard, seat);
    let traffic = stream.traffic();
    let mut settings = h2::client::Builder::new();
    settings
        .enable_push(false)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(MAX_HEADER_LIST);
    let opening = async {
        let (send, mut connection) = settings.handshake::<_, Bytes>(stream).await?;
        // The first thing that an endpoint sends are its settings (RFC 9113 §3.4): after them it is
        // known to speak HTTP/2, and how many streams it takes.
        poll_fn(|cx| match Pin::new(&mut connection).poll(cx) {
            Poll::Ready(end) => Poll::Ready(end.and(Err(h2::Reason::CONNECT_ERROR.into()))),
            Poll::Pending if traffic.received() > 0 => Poll::Ready(Ok(())),
            Poll::Pending => Poll::Pending,
        })
        .await?;
        Ok((send, connection))
    };
    let (send, mut connection) = match timeout(timeouts.connect, opening).await {
        Ok(opened) => opened.map_err(OpenError::Handshake)?,
        Err(_) => return Err(OpenError::HandshakeTimeout(timeouts.connect)),
    };
    let closed = Rc::new(Cell::new(false));
    let ended = Rc::clone(&closed);
    let received = Rc::new(Cell::new(0));
    let total = Rc::clone(&received);
    let endpoint = endpoint.shared.name.clone();
    tokio::task::spawn_local(async move {
        let running = pin!(poll_fn(|cx| {
            let end = Pin::new(&mut connection).poll(cx);
            let (received, sent) = traffic.take();
            total.set(total.get() + received);
            open.count_bytes(received, sent);
            end
        }));
        // Whatever ends it, nobody is to wait for it any more.
        let end = contain(Place::Upstream, running).await;
        ended.set(true);
        // The endpoint is to know before another is opened in its place.
        drop(connection);
        drop(open);
        match end {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "HTTP/2 connection to an endpoint ended"),
            Err(panic) => tracing::error!(%panic, endpoint, "a panic ended a connection to an endpoint"),
        }
    });
    let (streams, requests, unused_since) = (Cell::new(0), Cell::new(0), Cell::new(None));
    let (resets, owned) = (Cell::new((0, ambient::now())), Owned::by(private.owner));
    Ok(Http2Connection { number: 0, send, streams, requests, unused_since, received, closed, resets, owned })
}

/// Streams of a connection that we reset within [`RESET_SPAN`] before it gets no new ones.
const RESETS: u32 = 10;
const RESET_SPAN: Duration = Duration::from_secs(1);
/// Bytes that an endpoint may send on one stream before we have passed them on.
const STREAM_WINDOW: u32 = 256 * 1024;
/// Bytes that an endpoint may send on all streams of a connection before we have passed them on.
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
/// Bytes of a response's header fields, uncompressed (RFC 9113 §6.5.2).
const MAX_HEADER_LIST: u32 = 128 * 1024;
