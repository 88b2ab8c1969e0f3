//! An HTTP/1.1 connection to an endpoint, counted while it is open.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::owner::{Owned, Private};
use super::places::Seat;
use super::{Endpoint, Lease};
use crate::net::connect::{DialError, DialTimeouts, Onward, dial};
use crate::net::http1::Conn;
use crate::observe::metrics::Shard;

/// An open connection.
#[derive(Debug)]
pub struct Http1Connection {
    /// The bytes.
    pub conn: Rc<Conn>,
    /// Requests that it carried, the present one included.
    pub requests: u64,
    /// When it was last given back.
    pub idle_since: Option<Instant>,
    /// Who may use it.
    pub owned: Owned,
    counted: Cell<(u64, u64)>,
    open: OpenConnection,
}

/// Counts a connection as open for as long as it lives.
#[derive(Debug)]
pub struct OpenConnection {
    endpoint: Arc<Endpoint>,
    shard: Shard,
    /// Held for as long.
    _seat: Seat,
}

impl OpenConnection {
    /// Counts a connection to `endpoint` as opened, which has the right to be.
    #[must_use]
    pub fn new(endpoint: Arc<Endpoint>, shard: Shard, seat: Seat) -> Self {
        endpoint.metrics.opened(shard);
        Self { endpoint, shard, _seat: seat }
    }

    /// Adds bytes that went over the connection to the endpoint's counters.
    pub fn count_bytes(&self, received: u64, sent: u64) {
        self.endpoint.metrics.received(self.shard, received);
        self.endpoint.metrics.sent(self.shard, sent);
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.endpoint.metrics.closed(self.shard);
    }
}

impl Http1Connection {
    /// Opens a connection for the request under `lease`, to which `seat` is the right.
    ///
    /// # Errors
    /// When it cannot be opened in time.
    pub async fn open(
        lease: &Lease,
        shard: Shard,
        timeouts: DialTimeouts,
        private: Private<'_>,
        seat: Seat,
    ) -> Result<Self, DialError> {
        let endpoint = &lease.endpoint().shared;
        let preface = private.preface();
        let onward = Onward { preface: &preface, source: None };
        let stream = dial(&endpoint.dial, timeouts, &onward, &lease.connects()).await?;
        let open = OpenConnection::new(Arc::clone(endpoint), shard, seat);
        let conn = Rc::new(Conn::new(stream, Bytes::new()));
        Ok(Self {
            conn,
            requests: 1,
            idle_since: None,
            owned: Owned::by(private.owner),
            counted: Cell::default(),
            open,
        })
    }

    /// Whether it has carried a request before.
    #[must_use]
    pub fn is_reused(&self) -> bool {
        self.requests > 1
    }

    /// How long it has been idle at `now`.
    #[must_use]
    pub fn idle_for(&self, now: Instant) -> Duration {
        self.idle_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// Adds what went over the connection since this was last called to the endpoint's counters.
    pub fn count_bytes(&self) {
        let now = (self.conn.received(), self.conn.sent());
        let before = self.counted.replace(now);
        self.open.count_bytes(now.0.saturating_sub(before.0), now.1.saturating_sub(before.1));
    }
}

impl Drop for Http1Connection {
    fn drop(&mut self) {
        self.count_bytes();
    }
}
