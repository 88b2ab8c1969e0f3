//! Idle HTTP/1.1 connections of one worker to one endpoint, the last used first. It learns how
//! long the endpoint keeps idle connections, so that a request that must not be sent twice is not
//! risked on one that is about to be closed.

use std::cell::{Cell, RefCell};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use super::connection::Http1Connection;
use super::owner::Owner;

/// Idle connections.
#[derive(Debug)]
pub struct Http1Pool {
    idle: RefCell<Vec<Http1Connection>>,
    /// How long the endpoint keeps an idle connection, as far as is known: grows when one is found
    /// open for longer, falls when one is found closed.
    kept: Cell<Duration>,
    swept: Cell<Option<Instant>>,
    /// Whether the endpoint is not used any more, except by requests that began before.
    retired: Cell<bool>,
}

/// What a connection is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// A request that can be sent again.
    Repeatable,
    /// A request that must reach the endpoint once.
    Once,
}

impl Default for Http1Pool {
    fn default() -> Self {
        Self {
            idle: RefCell::default(),
            kept: Cell::new(PRESUMED),
            swept: Cell::default(),
            retired: Cell::default(),
        }
    }
}

impl Http1Pool {
    /// Takes the connection that was used last of those that `owner` may use, if one is still open as far
    /// as can be seen without asking the kernel: the runtime has already been told of what was closed.
    #[must_use]
    pub fn take(&self, purpose: Use, owner: Option<&Owner>, now: Instant) -> Option<Http1Connection> {
        let mut idle = self.idle.borrow_mut();
        loop {
            let place = idle.iter().rposition(|connection| connection.owned.is_of(owner))?;
            let last = idle.get(place)?;
            let closed = is_closed(last);
            if !closed && purpose == Use::Once && last.idle_for(now) >= self.safe_age() {
                // Those below have been idle for longer.
                return None;
            }
            let mut connection = idle.remove(place);
            if !closed {
                connection.requests += 1;
                return Some(connection);
            }
            self.found_closed(&connection);
        }
    }

    /// Takes a connection back, unless there are `limit` already.
    pub fn put(&self, mut connection: Http1Connection, limit: usize, now: Instant) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() < limit && !self.retired.get() {
            connection.conn.rest();
            connection.idle_since = Some(now);
            idle.push(connection);
        }
    }

    /// Whether there is any.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.idle.borrow().is_empty()
    }

    /// Closes the connection that has been idle for longest; whether there was one.
    pub fn close_oldest(&self) -> bool {
        let mut idle = self.idle.borrow_mut();
        let oldest = if idle.is_empty() { None } else { Some(idle.remove(0)) };
        oldest.is_some()
    }

    /// Closes all that are idle, and keeps none that become so.
    pub fn retire(&self) {
        self.retired.set(true);
        self.idle.take();
    }

    /// Closes connections that were idle for `keep_alive`, that the endpoint has closed, or whose owner is
    /// gone.
    pub fn sweep(&self, now: Instant, keep_alive: Duration) {
        let mut open_for = Duration::ZERO;
        self.idle.borrow_mut().retain(|connection| {
            let closed = is_closed(connection);
            let idle = connection.idle_for(now);
            if closed {
                self.found_closed(connection);
            } else {
                open_for = open_for.max(idle);
            }
            !closed && idle < keep_alive && !connection.owned.is_orphaned()
        });
        self.kept.set(self.kept.get().max(open_for.saturating_sub(UNDER_WAY)));
        self.swept.set(Some(now));
    }

    /// Learns from a connection that the endpoint has closed while it was idle, or as it was used
    /// again. It was open at the last sweep, so that long at least the endpoint had kept it.
    pub fn found_closed(&self, connection: &Http1Connection) {
        let Some(since) = connection.idle_since else { return };
        let kept = self.swept.get().map_or(Duration::ZERO, |swept| swept.saturating_duration_since(since));
        self.kept.set(self.kept.get().min(kept));
    }

    /// How long a connection may have been idle to be used for a request that is sent once. Half of
    /// what is known leaves room for clocks that are off and for what is under way on the network.
    fn safe_age(&self) -> Duration {
        self.kept.get() / 2
    }
}

/// Whether the endpoint has closed the connection, or sent something that nobody asked for.
fn is_closed(connection: &Http1Connection) -> bool {
    let mut cx = Context::from_waker(Waker::noop());
    connection.conn.poll_fill(&mut cx).is_ready()
}

/// How long an endpoint is taken to keep idle connections until more is known.
const PRESUMED: Duration = Duration::from_millis(500);
/// How long the news of a closed connection may take to get here: one found open after less than
/// that says nothing.
const UNDER_WAY: Duration = Duration::from_millis(100);
