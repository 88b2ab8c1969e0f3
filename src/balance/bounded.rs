//! A bound on load for policies that hash: an endpoint that has more than its share of the requests
//! in flight is passed over, so that a key in much demand does not overwhelm one endpoint (V.
//! Mirrokni, M. Thorup and M. Zadimoghaddam 2016, "Consistent Hashing with Bounded Loads"). Knows no
//! hash.

use std::sync::Arc;
use std::time::Instant;

use super::level::weight_of;
use super::{Gauge, Pick};

/// What is remembered of the load of a list of endpoints.
#[derive(Clone, Copy)]
pub(super) struct Bounded {
    factor: f64,
    /// Requests in flight on all of the list, with those since it was looked at.
    in_flight: u64,
    weight: u64,
    len: usize,
    /// How many more choices this serves.
    left: usize,
    at: Option<Instant>,
}

impl Bounded {
    /// With a factor of at least 1: what an endpoint may have, as a multiple of its share.
    pub(super) fn new(factor: f64) -> Self {
        Self { factor: factor.max(1.0), in_flight: 0, weight: 0, len: 0, left: 0, at: None }
    }

    /// To be called once for each choice. Looks at all endpoints unless that was done a moment ago: the
    /// larger the pool, the less a single request matters.
    pub(super) fn prepare(&mut self, gauges: &[Arc<Gauge>], pick: &Pick<'_>) {
        let fresh = self.at.is_some_and(|at| pick.now.saturating_duration_since(at).as_millis() < STALE);
        if fresh && self.left > 0 && self.len == pick.usable.len() {
            self.left -= 1;
            self.in_flight += 1;
            return;
        }
        let usable = pick.usable.iter().filter_map(|index| gauges.get(*index as usize));
        self.in_flight = usable.map(|gauge| u64::from(gauge.in_flight())).sum();
        self.weight = pick.usable.iter().map(|index| u64::from(weight_of(gauges, *index))).sum();
        self.len = pick.usable.len();
        self.left = self.len / PER_LOOK;
        self.at = Some(pick.now);
    }

    /// Whether the endpoint may take one more: its share of all, this one included, times the factor,
    /// rounded up.
    pub(super) fn admits(&self, gauge: &Gauge) -> bool {
        let share = f64::from(gauge.weight()) / self.weight.max(1) as f64;
        let most = (self.factor * (self.in_flight + 1) as f64 * share).ceil();
        f64::from(gauge.in_flight()) < most
    }
}

/// How many endpoints are looked at for one choice, on average.
const PER_LOOK: usize = 64;
/// After how many milliseconds they are looked at in any case.
const STALE: u128 = 5;
