//! One place that answers requests, as all workers share it. It outlives reloads: its identity is
//! its pool's name and its address, and its gauge and counters go on. Only how it is connected to may
//! make another value of it, which shares all the rest.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use super::Valve;
use super::places::Places;
use super::pool::Alarm;
use crate::balance::Gauge;
use crate::health::State;
use crate::net::connect::Dial;
use crate::observe::metrics::EndpointMetrics;
use crate::observe::tally::Tally;

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
    /// Its state, for those who show it.
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

/// The state of an endpoint as the control plane last found it. Nothing is decided by it.
#[derive(Debug)]
pub struct ShownState(AtomicU8);

impl ShownState {
    /// The state.
    #[must_use]
    pub fn get(&self) -> State {
        State::ALL.get(usize::from(self.0.load(Ordering::Relaxed))).copied().unwrap_or(State::Up)
    }

    /// Takes a new state. One writer: the control plane.
    pub fn set(&self, state: State) {
        self.0.store(state as u8, Ordering::Relaxed);
    }
}

impl Default for ShownState {
    fn default() -> Self {
        Self(AtomicU8::new(State::Up as u8))
    }
}
