//! How many requests and connections an endpoint may have at once, and its pool in all, over all
//! workers. A connection holds a [`Seat`] for as long as it is open. Who waits for a place, and in which
//! order, is the line's business.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::ambient;
use crate::limit::{Rejection, Room};
use crate::model::settings::Limits;
use crate::observe::metrics::Shard;

/// The places of one endpoint.
#[derive(Debug)]
pub struct Places {
    in_flight: Option<u32>,
    connections: Option<Connections>,
    line: Arc<Room>,
}

/// What the endpoints of a pool share: connections to all of them, and the line of requests for which
/// none has a place.
#[derive(Clone, Debug)]
pub struct Shared {
    connections: Arc<Seats>,
    line: Arc<Room>,
}

/// The right to have one connection open.
#[derive(Debug)]
pub struct Seat(Option<Connections>);

#[derive(Clone, Debug)]
struct Connections {
    own: Arc<Seats>,
    all: Arc<Seats>,
    line: Arc<Room>,
}

/// A bounded count of connections. Touched when one opens or closes, and not by those that are reused.
#[derive(Debug)]
struct Seats {
    limit: u32,
    taken: AtomicU32,
    /// The workers, a bit each, on which a request found no seat and no connection to use, while others
    /// may have some that are idle.
    wanted: AtomicU64,
}

impl Shared {
    /// Places of a pool with these limits, of which none is taken.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        Self {
            connections: Arc::new(Seats::new(limits.connections)),
            line: Arc::new(Room::new(limits.waiting, ambient::now)),
        }
    }

    /// Those who wait for a place at any endpoint.
    #[must_use]
    pub fn line(&self) -> &Arc<Room> {
        &self.line
    }
}

impl Places {
    /// The places of an endpoint in a pool with these limits, of which none is taken.
    #[must_use]
    pub fn new(limits: &Limits, shared: &Shared) -> Self {
        let line = Arc::clone(&shared.line);
        let bounded = limits.connections.is_some() || limits.endpoint_connections.is_some();
        let connections = bounded.then(|| Connections {
            own: Arc::new(Seats::new(limits.endpoint_connections)),
            all: Arc::clone(&shared.connections),
            line: Arc::clone(&line),
        });
        Self { in_flight: limits.endpoint_in_flight, connections, line }
    }

    /// The most requests that may be under way, if there is a limit.
    #[inline]
    #[must_use]
    pub fn in_flight(&self) -> Option<u32> {
        self.in_flight
    }

    /// Whether connections are limited.
    #[inline]
    #[must_use]
    pub fn limit_connections(&self) -> bool {
        self.connections.is_some()
    }

    /// Whether a worker may open another connection at present. If not, the others are asked for one.
    #[must_use]
    pub fn has_seat(&self, worker: Shard) -> bool {
        let Some(connections) = &self.connections else { return true };
        let full = [&connections.own, &connections.all].into_iter().find(|seats| seats.is_full());
        full.is_none_or(|seats| {
            seats.want(worker);
            false
        })
    }

    /// The right of a worker to open another connection.
    ///
    /// # Errors
    /// When there are as many as may be. Other workers are asked to close one that they do not need.
    pub fn seat(&self, worker: Shard) -> Result<Seat, Rejection> {
        let Some(connections) = &self.connections else { return Ok(Seat(None)) };
        // Looked at first, because what is taken and given back may be missed by somebody meanwhile.
        if !self.has_seat(worker) || !connections.own.take() {
            return Err(Rejection::Connections);
        }
        if !connections.all.take() {
            connections.own.give_back();
            connections.line.made();
            return Err(Rejection::Connections);
        }
        Ok(Seat(Some(connections.clone())))
    }

    /// Whether a worker is to close a connection that it does not need, for another that found no seat.
    /// Says so once.
    #[must_use]
    pub fn take_wanted(&self, worker: Shard) -> bool {
        let others = !worker.bit();
        let taken = |seats: &Seats| {
            seats.wanted.load(Ordering::Relaxed) & others != 0
                && seats.wanted.swap(0, Ordering::AcqRel) & others != 0
        };
        self.connections.as_ref().is_some_and(|seats| taken(&seats.own) || taken(&seats.all))
    }

    /// A request of `worker` left the endpoint, so that another may come. Whether that is one of another
    /// worker which has to open a connection and may not, as long as this one keeps what it has.
    #[inline]
    #[must_use]
    pub fn left(&self, worker: Shard) -> bool {
        if self.in_flight.is_none() && self.connections.is_none() {
            return false;
        }
        let next = self.line.made();
        next.is_some_and(|group| group != worker.bit()) && self.is_crowded()
    }

    fn is_crowded(&self) -> bool {
        self.connections.as_ref().is_some_and(|seats| seats.own.is_full() || seats.all.is_full())
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(connections) = &self.0 {
            connections.own.give_back();
            connections.all.give_back();
            connections.line.made();
        }
    }
}

impl Seats {
    fn new(limit: Option<u32>) -> Self {
        let limit = limit.unwrap_or(u32::MAX);
        Self { limit, taken: AtomicU32::new(0), wanted: AtomicU64::new(0) }
    }

    fn take(&self) -> bool {
        let one_more = |taken| (taken < self.limit).then_some(taken + 1);
        self.taken.fetch_update(Ordering::AcqRel, Ordering::Relaxed, one_more).is_ok()
    }

    fn give_back(&self) {
        self.taken.fetch_sub(1, Ordering::AcqRel);
    }

    fn want(&self, worker: Shard) {
        self.wanted.fetch_or(worker.bit(), Ordering::AcqRel);
    }

    fn is_full(&self) -> bool {
        self.taken.load(Ordering::Relaxed) >= self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats_are_bounded_for_each_endpoint_and_in_all() {
        let limits = Limits { connections: Some(3), endpoint_connections: Some(2), ..Limits::default() };
        let shared = Shared::new(&limits);
        let (one, other) = (Places::new(&limits, &shared), Places::new(&limits, &shared));
        let [here, there] = [0, 1].map(Shard::worker);
        let held = [one.seat(here), one.seat(here)];
        assert!(held.iter().all(Result::is_ok) && !one.take_wanted(there));
        assert!(one.seat(here).is_err() && !one.has_seat(here) && other.has_seat(here));
        assert!(!one.take_wanted(here), "who wants one has none to give");
        assert!(one.take_wanted(there) && !one.take_wanted(there));
        let last = other.seat(here);
        assert!(last.is_ok() && other.seat(here).is_err() && !other.has_seat(here));
        // Any connection of the pool would do.
        assert!(one.take_wanted(there) && !other.take_wanted(there));
        drop(held);
        assert!(other.seat(here).is_ok() && one.seat(here).is_ok());
    }

    #[test]
    fn without_limits_there_is_always_a_seat() {
        let limits = Limits::default();
        let places = Places::new(&limits, &Shared::new(&limits));
        let worker = Shard::worker(0);
        let seats: Vec<_> = (0..10).map(|_| places.seat(worker)).collect();
        assert!(seats.iter().all(Result::is_ok) && places.has_seat(worker) && !places.take_wanted(worker));
    }
}
