//! Which endpoint gets the next request. Policies are pure: they see weights, gauges, a draw and
//! the time, never sockets or health. To add one: one file, and one line in [`KINDS`].

pub mod bands;
mod bounded;
mod cost;
pub mod estimate;
mod first;
mod gauge;
mod hashed;
mod key;
mod least_requests;
mod least_time;
mod level;
mod lots;
mod maglev;
mod p2c;
mod peak_ewma;
mod random;
mod ring_hash;
mod round_robin;

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

pub use bands::{Availability, Band, Bands, FailOpen, Member};
pub use gauge::{FULL, Gauge, UNIT, Waiting};
pub use key::{HashKey, Origin};

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
    /// Hash of what binds a request to an endpoint, for policies that hash; a draw if nothing does.
    pub key: u64,
    /// A uniformly distributed random number.
    pub draw: u64,
    /// The time.
    pub now: Instant,
}

/// A kind of policy: its row in [`KINDS`].
#[derive(Debug)]
pub struct Kind {
    /// The name in the configuration.
    pub name: &'static str,
    /// One line for help and reference.
    pub summary: &'static str,
    /// Whether choices depend on [`Pick::key`], so that it is worth computing.
    pub hashes: bool,
    /// Makes an instance for one pool on one worker.
    pub build: fn(&Setup<'_>) -> Box<dyn Policy>,
}

/// What an instance of a policy is made for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Setup<'a> {
    /// What tells each endpoint from all others, in the order of the gauges: a hash of its address.
    /// It stays the same when others come and go.
    pub identities: &'a [u64],
    /// The most requests in flight that an endpoint may have, as a multiple of its fair share, before
    /// a policy that hashes passes it over; at least 1. Unbounded when unset.
    pub balance_factor: Option<f64>,
}

/// Every policy there is. The first is the default.
pub const KINDS: &[Kind] = &[
    peak_ewma::KIND,
    p2c::KIND,
    least_requests::KIND,
    least_time::KIND,
    round_robin::KIND,
    random::KIND,
    ring_hash::KIND,
    maglev::KIND,
    first::KIND,
];

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

    /// Whether choices depend on [`Pick::key`].
    #[must_use]
    pub fn hashes(self) -> bool {
        self.0.hashes
    }

    /// Makes an instance for one pool on one worker.
    #[must_use]
    pub fn build(self, setup: &Setup<'_>) -> Box<dyn Policy> {
        (self.0.build)(setup)
    }
}

impl Default for Choice {
    fn default() -> Self {
        Self(KINDS.first().expect("the table is not empty"))
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
