//! Which endpoint gets the next request. Policies are pure: they see weights, gauges, a draw and
//! the time, never sockets or health. To add one: one file, and one line in [`KINDS`].

mod level;
mod random;
mod round_robin;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

/// Chooses among endpoints. One instance serves one pool on one worker, so that its state is
/// shared with nobody; it is rebuilt when the pool's membership changes.
pub trait Policy {
    /// The index of the endpoint to use, out of `pick.usable`; `None` when nothing is usable.
    fn pick(&self, gauges: &[Arc<Gauge>], pick: &Pick<'_>) -> Option<usize>;
}

/// One choice to make.
#[derive(Clone, Copy, Debug)]
pub struct Pick<'a> {
    /// Indexes of the endpoints that may be used, ascending: neither unhealthy, full, draining nor
    /// tried before in this request.
    pub usable: &'a [u32],
    /// Hash of what binds a request to an endpoint, for policies that hash.
    pub key: u64,
    /// A uniformly distributed random number.
    pub draw: u64,
    /// The time.
    pub now: Instant,
}

/// All that a policy may know of an endpoint. Owned by the endpoint, shared by all workers.
#[derive(Debug)]
pub struct Gauge {
    weight: AtomicU32,
    in_flight: AtomicU32,
}

impl Gauge {
    /// A gauge at rest. `weight` is at least 1.
    #[must_use]
    pub fn new(weight: u32) -> Self {
        Self { weight: AtomicU32::new(weight.max(1)), in_flight: AtomicU32::new(0) }
    }

    /// The endpoint's share of traffic relative to its siblings'; at least 1.
    #[must_use]
    pub fn weight(&self) -> u32 {
        self.weight.load(Ordering::Relaxed)
    }

    /// Takes a new weight, as on reload.
    pub fn set_weight(&self, weight: u32) {
        self.weight.store(weight.max(1), Ordering::Relaxed);
    }

    /// Requests under way, on all workers.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// A request began.
    pub fn begin(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    /// A request ended, to its last byte.
    pub fn end(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A kind of policy: its row in [`KINDS`].
#[derive(Debug)]
pub struct Kind {
    /// The name in the configuration.
    pub name: &'static str,
    /// One line for help and reference.
    pub summary: &'static str,
    /// Makes an instance for one pool on one worker.
    pub build: fn() -> Box<dyn Policy>,
}

/// Every policy there is. The first is the default.
pub const KINDS: &[Kind] = &[round_robin::KIND, random::KIND];

/// A kind chosen for a pool.
#[derive(Clone, Copy)]
pub struct Choice(&'static Kind);

impl Choice {
    /// The kind of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        KINDS.iter().find(|kind| kind.name == name).map(Self)
    }

    /// The name of the kind.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// Makes an instance for one pool on one worker.
    #[must_use]
    pub fn build(self) -> Box<dyn Policy> {
        (self.0.build)()
    }
}

impl Default for Choice {
    fn default() -> Self {
        Self(&round_robin::KIND)
    }
}

impl PartialEq for Choice {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl fmt::Debug for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests;
