//! What the hashing policies have in common. A key has an order of preference over all endpoints, which
//! only the membership and the weights of the configuration change; of these it gets the first that
//! may be used now. So when an endpoint is lost its keys move, and no others; when it returns they
//! come back. Slow start and bounded load pass some keys on to the next in order.

use std::cell::{Ref, RefCell};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::gauge::FULL;
use super::level::weight_of;
use super::lot::mixed;
use super::random::scaled;
use super::{Gauge, Pick, Setup};

/// What tells endpoints apart, for hashing.
#[derive(Clone, Debug)]
pub(super) struct Hashing {
    identities: Vec<u64>,
    balance_factor: Option<f64>,
}

/// A table that is made anew when the weights of the configuration have changed.
#[derive(Debug)]
pub(super) struct Table<T>(RefCell<Option<Made<T>>>);

#[derive(Debug)]
struct Made<T> {
    table: T,
    weights: Vec<u32>,
    looked: Instant,
}

impl Hashing {
    pub(super) fn new(setup: &Setup<'_>) -> Self {
        Self { identities: setup.identities.to_vec(), balance_factor: setup.balance_factor }
    }

    /// What tells the endpoint at `index` from all others.
    pub(super) fn identity(&self, index: u32) -> u64 {
        self.identities.get(index as usize).copied().unwrap_or_else(|| mixed(u64::from(index) + 1))
    }

    /// The first of `preferred` that may be used and takes the key. Where too many are passed over, the
    /// rest of the order is that of rendezvous hashing.
    pub(super) fn settle(
        &self,
        preferred: impl Iterator<Item = u32>,
        gauges: &[Arc<Gauge>],
        pick: &Pick<'_>,
    ) -> Option<usize> {
        let bound = self.balance_factor.map(|factor| Bound::new(factor, gauges, pick));
        let mut first = None;
        for index in preferred {
            if pick.usable.binary_search(&index).is_err() {
                continue;
            }
            if self.takes(index, bound.as_ref(), gauges, pick) {
                return Some(index as usize);
            }
            first = first.or(Some(index));
        }
        let takers = pick.usable.iter().filter(|index| self.takes(**index, bound.as_ref(), gauges, pick));
        let chosen = takers.max_by(|left, right| {
            let score = |index| self.rendezvous(index, gauges, pick.key);
            score(**left).total_cmp(&score(**right))
        });
        chosen.copied().or(first).or_else(|| pick.usable.first().copied()).map(|index| index as usize)
    }

    /// Whether the endpoint takes the key: it has room, and if it starts slowly the key is among those
    /// that it begins with.
    fn takes(&self, index: u32, bound: Option<&Bound>, gauges: &[Arc<Gauge>], pick: &Pick<'_>) -> bool {
        let Some(gauge) = gauges.get(index as usize) else { return false };
        if bound.is_some_and(|bound| !bound.has_room(gauge)) {
            return false;
        }
        let factor = gauge.factor();
        factor >= FULL
            || scaled(mixed(pick.key ^ self.identity(index).rotate_left(17)), FULL.into()) < u64::from(factor)
    }

    /// The weight of an endpoint for a key: the endpoint with the greatest wins as often as its share
    /// is (Schindelhauer and Schomaker, "Weighted Distributed Hash Tables", 2005).
    fn rendezvous(&self, index: u32, gauges: &[Arc<Gauge>], key: u64) -> f64 {
        let uniform = (mixed(key ^ self.identity(index)) >> 11) as f64 / (1_u64 << 53) as f64;
        -f64::from(weight_of(gauges, index)) / uniform.max(f64::MIN_POSITIVE).ln()
    }
}

/// How many requests an endpoint may have under way: consistent hashing with bounded loads (Mirrokni,
/// Thorup and Zadimoghaddam, 2016), with weights.
struct Bound {
    /// Requests for each unit of weight.
    room: f64,
}

impl Bound {
    fn new(factor: f64, gauges: &[Arc<Gauge>], pick: &Pick<'_>) -> Self {
        let usable = pick.usable.iter().filter_map(|index| gauges.get(*index as usize));
        let (mut requests, mut weight) = (1.0, 0.0);
        for gauge in usable {
            requests += f64::from(gauge.in_flight());
            weight += f64::from(gauge.weight());
        }
        Self { room: factor.max(1.0) * requests / weight }
    }

    fn has_room(&self, gauge: &Gauge) -> bool {
        // What is a whole number but for rounding is that number.
        f64::from(gauge.in_flight()) < (self.room * f64::from(gauge.weight()) - 1e-9).ceil()
    }
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self(RefCell::default())
    }
}

impl<T> Table<T> {
    /// The table for the weights of now, which `make` makes when there is none yet. Weights are looked
    /// at now and then only.
    pub(super) fn get(
        &self,
        gauges: &[Arc<Gauge>],
        now: Instant,
        make: impl FnOnce(&[u32]) -> T,
    ) -> Option<Ref<'_, T>> {
        let is_fresh = |made: &Made<T>| {
            made.weights.len() == gauges.len() && now.saturating_duration_since(made.looked) < LOOK
        };
        if !self.0.borrow().as_ref().is_some_and(is_fresh) {
            self.review(gauges, now, make);
        }
        Ref::filter_map(self.0.borrow(), |made| made.as_ref().map(|made| &made.table)).ok()
    }

    fn review(&self, gauges: &[Arc<Gauge>], now: Instant, make: impl FnOnce(&[u32]) -> T) {
        let weights = || gauges.iter().map(|gauge| gauge.base_weight());
        let mut kept = self.0.borrow_mut();
        match kept.as_mut() {
            Some(made) if made.weights.iter().copied().eq(weights()) => made.looked = now,
            _ => {
                let weights: Vec<u32> = weights().collect();
                *kept = Some(Made { table: make(&weights), weights, looked: now });
            }
        }
    }
}

/// How often weights are looked at.
const LOOK: Duration = Duration::from_millis(500);
