//! Which endpoints have series of their own, and which are shown together because a scrape may not hold
//! more. Decided once for each, so that no series comes and goes while its endpoint stays. Does not know
//! what is shown of an endpoint.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::endpoint::EndpointLabels;

/// The seats of all endpoints. There are as many as there are endpoints, which the configuration and
/// discovery bound.
#[derive(Debug)]
pub(super) struct Seats {
    /// Endpoints with series of their own.
    taken: Arc<AtomicUsize>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// How many endpoints may have series of their own.
    most: usize,
    given: BTreeMap<EndpointLabels, Weak<Seat>>,
}

/// How an endpoint is shown, for as long as anything is counted of it.
#[derive(Debug)]
pub(super) struct Seat {
    /// Where it counts, if it has series of its own.
    own: Option<Arc<AtomicUsize>>,
}

impl Default for Seats {
    fn default() -> Self {
        let state = State { most: usize::MAX, given: BTreeMap::new() };
        Self { taken: Arc::default(), state: Mutex::new(state) }
    }
}

impl Seats {
    /// Up to so many endpoints have series of their own from now on. Those that have them keep them.
    pub(super) fn allow(&self, most: usize) {
        self.state().most = most;
    }

    /// The seat of an endpoint: the one that it has, or else a new one.
    pub(super) fn of(&self, endpoint: &EndpointLabels) -> Arc<Seat> {
        let mut state = self.state();
        if let Some(seat) = state.given.get(endpoint).and_then(Weak::upgrade) {
            return seat;
        }
        let is_own = self.taken.load(Ordering::Relaxed) < state.most;
        if is_own {
            self.taken.fetch_add(1, Ordering::Relaxed);
        }
        let seat = Arc::new(Seat { own: is_own.then(|| Arc::clone(&self.taken)) });
        state.given.insert(endpoint.clone(), Arc::downgrade(&seat));
        seat
    }

    /// Forgets those who have left.
    pub(super) fn tidy(&self) {
        self.state().given.retain(|_, seat| seat.strong_count() > 0);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// Whether the endpoint has series of its own.
    pub(super) fn is_own(&self) -> bool {
        self.own.is_some()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(taken) = &self.own {
            taken.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Name;

    #[test]
    fn who_has_a_seat_keeps_it() {
        let of = |endpoint: &str| EndpointLabels {
            pool: Name::new("app").unwrap(),
            endpoint: endpoint.to_owned(),
        };
        let seats = Seats::default();
        seats.allow(2);
        let (a, b, c) = (seats.of(&of("a")), seats.of(&of("b")), seats.of(&of("c")));
        assert_eq!([&a, &b, &c].map(|seat| seat.is_own()), [true, true, false]);
        seats.allow(1);
        assert!(Arc::ptr_eq(&b, &seats.of(&of("b"))), "b still has its own");
        drop(a);
        seats.tidy();
        assert!(!seats.of(&of("a")).is_own(), "b has the only one");
        drop(b);
        assert!(seats.of(&of("a")).is_own());
        assert!(!seats.of(&of("c")).is_own(), "c was shown with others and is so as long as it is there");
    }
}
