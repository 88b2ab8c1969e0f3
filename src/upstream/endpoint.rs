//! One place that answers requests, as all workers share it. It outlives reloads: its identity is
//! its pool's name and its address, and its gauge and counters go on. Only how it is connected to may
//! make another value of it, which shares all the rest.

use std::num::NonZeroU128;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use super::Valve;
use super::places::Places;
use super::pool::Alarm;
use crate::balance::Gauge;
use crate::health::State;
use crate::net::connect::Dial;
use crate::observe::metrics::EndpointMetrics;
use crate::observe::tally::Tally;
use crate::trace::TraceId;

/// An endpoint.
#[derive(Debug)]
pub struct Endpoint {
    /// The address as it is shown and as it is labelled in metrics.
    pub name: String,
    /// A hash of the address, for policies that hash.
    pub identity: u64,
    /// What a sticky session's cookie calls it.
    pub sticky_id: Box<str>,
    /// How to connect to it. As long as this is the same, so are its connections.
    pub dial: Arc<Dial>,
    /// What policies see of it.
    pub gauge: Arc<Gauge>,
    /// What is counted of it.
    pub metrics: Arc<EndpointMetrics>,
    /// What its health is judged by.
    pub tally: Arc<Tally>,
    /// Tells the control plane that something failed here.
    pub alarm: Arc<Alarm>,
    /// How many requests and connections it may have.
    pub places: Arc<Places>,
    /// Its breaker.
    pub breaker: Arc<Valve>,
    /// What is shown of it, to those who look into it.
    pub shown: Arc<ShownState>,
}

impl Endpoint {
    /// The same endpoint, with all that is known and counted of it, connected to in another way.
    #[must_use]
    pub fn redialled(&self, dial: Dial) -> Self {
        Self {
            name: self.name.clone(),
            identity: self.identity,
            sticky_id: self.sticky_id.clone(),
            dial: Arc::new(dial),
            gauge: Arc::clone(&self.gauge),
            metrics: Arc::clone(&self.metrics),
            tally: Arc::clone(&self.tally),
            alarm: Arc::clone(&self.alarm),
            places: Arc::clone(&self.places),
            breaker: Arc::clone(&self.breaker),
            shown: Arc::clone(&self.shown),
        }
    }
}

/// What the planes tell each other of an endpoint for those who look into it. Nothing is decided by it.
#[derive(Debug, Default)]
pub struct ShownState {
    /// Its state as the control plane last found it.
    state: AtomicU8,
    /// One more than the number of the journal's newest entry about it; 0 without one.
    entry: AtomicU64,
    /// The trace that failed here last of those that are kept: its halves, and both combined, by which
    /// halves of different traces are told from a whole.
    failed: [AtomicU64; 3],
}

impl ShownState {
    /// The state.
    #[must_use]
    pub fn get(&self) -> State {
        State::ALL.get(usize::from(self.state.load(Ordering::Relaxed))).copied().unwrap_or(State::Up)
    }

    /// Takes a new state. One writer: the control plane.
    pub fn set(&self, state: State) {
        self.state.store(state as u8, Ordering::Relaxed);
    }

    /// The number of the journal's newest entry about the endpoint.
    #[must_use]
    pub fn entry(&self) -> Option<u64> {
        self.entry.load(Ordering::Relaxed).checked_sub(1)
    }

    /// Takes the number of a new entry. One writer: the control plane.
    pub fn set_entry(&self, number: u64) {
        self.entry.store(number + 1, Ordering::Relaxed);
    }

    /// The trace that failed here last, of those that are kept. `None` too while it is being replaced.
    #[must_use]
    pub fn failed_trace(&self) -> Option<TraceId> {
        let [high, low, both] = &self.failed;
        let (high, low) = (high.load(Ordering::Relaxed), low.load(Ordering::Relaxed));
        let is_whole = both.load(Ordering::Relaxed) == combined(high, low);
        NonZeroU128::new(u128::from(high) << 64 | u128::from(low)).filter(|_| is_whole).map(TraceId)
    }

    /// Takes note of a trace that failed here and is kept.
    pub fn failed_in(&self, trace: TraceId) {
        let (high, low) = ((trace.0.get() >> 64) as u64, trace.0.get() as u64);
        let [first, second, both] = &self.failed;
        first.store(high, Ordering::Relaxed);
        second.store(low, Ordering::Relaxed);
        both.store(combined(high, low), Ordering::Relaxed);
    }
}

fn combined(high: u64, low: u64) -> u64 {
    high.rotate_left(32) ^ low
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_of_two_traces_are_none() {
        let shown = ShownState::default();
        assert_eq!((shown.failed_trace(), shown.entry()), (None, None));
        shown.failed_in(TraceId::of(1, 2));
        assert_eq!(shown.failed_trace(), Some(TraceId::of(1, 2)));
        shown.failed[1].store(3, Ordering::Relaxed);
        assert_eq!(shown.failed_trace(), None);
        shown.set_entry(0);
        assert_eq!(shown.entry(), Some(0));
    }
}
