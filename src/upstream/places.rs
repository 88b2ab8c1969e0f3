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
    /// 0 for no limit.
    in_flight: AtomicU32,
    connections: Connections,
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
pub struct Seat(Connections);

#[derive(Clone, Debug)]
struct Connections {
    own: Arc<Seats>,
    all: Arc<Seats>,
    line: Arc<Room>,
}

/// A count of connections, bounded or not, so that a limit may come at any time. Touched when one opens
/// or closes, and not by those that are reused.
#[derive(Debug)]
struct Seats {
    limit: AtomicU32,
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

    /// Takes new limits. Connections and requests that are past them stay, and so do those who wait; they
    /// are to look again once every endpoint has its limits.
    pub fn adjust(&self, limits: &Limits) {
        self.connections.set_limit(limits.connections);
        self.line.set_waiting(limits.waiting);
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
        let connections = Connections {
            own: Arc::new(Seats::new(limits.endpoint_connections)),
            all: Arc::clone(&shared.connections),
            line: Arc::clone(&shared.line),
        };
        Self { in_flight: AtomicU32::new(limits.endpoint_in_flight.unwrap_or(0)), connections }
    }

    /// Takes new limits, as [`Shared::adjust`] does.
    pub fn adjust(&self, limits: &Limits) {
        self.in_flight.store(limits.endpoint_in_flight.unwrap_or(0), Ordering::Relaxed);
        self.connections.own.set_limit(limits.endpoint_connections);
    }

    /// The most requests that may be under way, if there is a limit.
    #[inline]
    #[must_use]
    pub fn in_flight(&self) -> Option<u32> {
        Some(self.in_flight.load(Ordering::Relaxed)).filter(|limit| *limit != 0)
    }

    /// Whether connections are limited.
    #[inline]
    #[must_use]
    pub fn limit_connections(&self) -> bool {
        self.connections.own.is_limited() || self.connections.all.is_limited()
    }

    /// Whether a worker may open another connection at present. If not, the others are asked for one.
    #[must_use]
    pub fn has_seat(&self, worker: Shard) -> bool {
        let Connections { own, all, .. } = &self.connections;
        let full = [own, all].into_iter().find(|seats| seats.is_full());
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
        let Connections { own, all, line } = &self.connections;
        // Looked at first, because what is taken and given back may be missed by somebody meanwhile.
        if !self.has_seat(worker) || !own.take() {
            return Err(Rejection::Connections);
        }
        if !all.take() {
            own.give_back();
            line.made();
            return Err(Rejection::Connections);
        }
        Ok(Seat(self.connections.clone()))
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
        taken(&self.connections.own) || taken(&self.connections.all)
    }

    /// A request of `worker` left the endpoint, so that another may come. Whether that is one of another
    /// worker which has to open a connection and may not, as long as this one keeps what it has.
    #[inline]
    #[must_use]
    pub fn left(&self, worker: Shard) -> bool {
        let Connections { own, all, line } = &self.connections;
        if self.in_flight().is_none() && !self.limit_connections() {
            return false;
        }
        let next = line.made();
        next.is_some_and(|group| group != worker.bit()) && (own.is_full() || all.is_full())
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let Connections { own, all, line } = &self.0;
        own.give_back();
        all.give_back();
        line.made();
    }
}

impl Seats {
    fn new(limit: Option<u32>) -> Self {
        let limit = AtomicU32::new(limit.unwrap_or(UNLIMITED));
        Self { limit, taken: AtomicU32::new(0), wanted: AtomicU64::new(0) }
    }

    fn set_limit(&self, limit: Option<u32>) {
        self.limit.store(limit.unwrap_or(UNLIMITED), Ordering::Relaxed);
    }

    fn limit(&self) -> u32 {
        self.limit.load(Ordering::Relaxed)
    }

    fn is_limited(&self) -> bool {
        self.limit() != UNLIMITED
    }

    fn take(&self) -> bool {
        let limit = self.limit();
        let one_more = |taken| (taken < limit).then_some(taken + 1);
        self.taken.fetch_update(Ordering::AcqRel, Ordering::Relaxed, one_more).is_ok()
    }

    fn give_back(&self) {
        self.taken.fetch_sub(1, Ordering::AcqRel);
    }

    fn want(&self, worker: Shard) {
        self.wanted.fetch_or(worker.bit(), Ordering::AcqRel);
    }

    fn is_full(&self) -> bool {
        self.taken.load(Ordering::Relaxed) >= self.limit()
    }
}

const UNLIMITED: u32 = u32::MAX;

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

    #[test]
    fn a_limit_that_comes_later_counts_what_was_there_before() {
        let limits = Limits::default();
        let shared = Shared::new(&limits);
        let (places, worker) = (Places::new(&limits, &shared), Shard::worker(0));
        let mut seats: Vec<_> = (0..3).map(|_| places.seat(worker)).collect();
        assert!(!places.limit_connections() && places.in_flight().is_none());
        let limits = Limits { connections: Some(2), endpoint_in_flight: Some(7), ..limits };
        shared.adjust(&limits);
        places.adjust(&limits);
        assert_eq!((places.limit_connections(), places.in_flight()), (true, Some(7)));
        seats.pop();
        assert!(places.seat(worker).is_err(), "two of them are left");
        seats.pop();
        assert!(places.seat(worker).is_ok());
        shared.adjust(&Limits::default());
        assert!(places.seat(worker).is_ok() && !places.limit_connections());
    }
}
