//! Idle HTTP/1.1 connections of one worker to one endpoint, the last used first. It learns how
//! long the endpoint keeps idle connections, so that a request that must not be sent twice is not
//! risked on one that is about to be closed.

use std::cell::{Cell, RefCell};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use super::connection::Http1Connection;

/// Idle connections.
#[derive(Debug, Default)]
pub struct Http1Pool {
    idle: RefCell<Vec<Http1Connection>>,
    /// The shortest time after which the endpoint was seen to have closed an idle connection.
    closes_after: Cell<Option<Duration>>,
    swept: Cell<Option<Instant>>,
}

/// What a connection is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// A request that can be sent again.
    Repeatable,
    /// A request that must reach the endpoint once.
    Once,
}

impl Http1Pool {
    /// Takes the connection that was used last, if one is still open as far as can be seen
    /// without asking the kernel: the runtime has already been told of what was closed.
    #[must_use]
    pub fn take(&self, purpose: Use, now: Instant) -> Option<Http1Connection> {
        loop {
            let mut connection = self.idle.borrow_mut().pop()?;
            let idle =
                connection.idle_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
            if is_closed(&connection) {
                self.learn(idle);
            } else if purpose == Use::Repeatable || idle < self.safe_age() {
                connection.requests += 1;
                return Some(connection);
            }
        }
    }

    /// Takes a connection back, unless there are `limit` already.
    pub fn put(&self, mut connection: Http1Connection, limit: usize, now: Instant) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() < limit {
            connection.conn.rest();
            connection.idle_since = Some(now);
            idle.push(connection);
        }
    }

    /// Closes connections that were idle for `keep_alive` or that the endpoint has closed.
    pub fn sweep(&self, now: Instant, keep_alive: Duration) {
        let last_sweep = self.swept.replace(Some(now)).unwrap_or(now);
        self.idle.borrow_mut().retain(|connection| {
            let since = connection.idle_since.unwrap_or(now);
            if is_closed(connection) {
                // It was open at the last sweep, so that long at least the endpoint keeps it.
                self.learn(last_sweep.saturating_duration_since(since));
                return false;
            }
            now.saturating_duration_since(since) < keep_alive
        });
    }

    /// The number of idle connections.
    #[must_use]
    pub fn len(&self) -> usize {
        self.idle.borrow().len()
    }

    /// Whether there is no idle connection.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn learn(&self, idle: Duration) {
        let shortest = self.closes_after.get().map_or(idle, |known| known.min(idle));
        self.closes_after.set(Some(shortest));
    }

    /// How long a connection may have been idle to be used for a request that is sent once. Half of
    /// what was learnt leaves room for what is under way on the network.
    fn safe_age(&self) -> Duration {
        self.closes_after.get().map_or(Duration::MAX, |shortest| shortest / 2)
    }
}

/// Whether the endpoint has closed the connection, or sent something that nobody asked for.
fn is_closed(connection: &Http1Connection) -> bool {
    let mut cx = Context::from_waker(Waker::noop());
    connection.conn.poll_fill(&mut cx).is_ready()
}
