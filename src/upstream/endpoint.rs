//! One place that answers requests, as all workers share it. It outlives reloads: its identity is
//! its pool's name and its address, and its gauge and counters go on.

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
    /// How to connect to it.
    pub dial: Dial,
    /// What policies see of it.
    pub gauge: Arc<Gauge>,
    /// What is counted of it.
    pub metrics: Arc<EndpointMetrics>,
    /// What its health is judged by.
    pub tally: Tally,
    /// Tells the control plane that something failed here.
    pub alarm: Arc<Alarm>,
    /// How many requests and connections it may have.
    pub places: Places,
    /// Its breaker.
    pub breaker: Valve,
    /// Its state, for those who show it.
    pub shown: ShownState,
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
