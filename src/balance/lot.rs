//! Draws endpoints by weight in constant time as a rule, and scores them by load. Weights are looked
//! through now and then only; what changed since makes shares a little off, never wrong.

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::level::weight_of;
use super::random::{by_weight, evenly, scaled};
use super::{Gauge, Pick};

/// What was seen when the usable endpoints were last looked through.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    at: Instant,
    len: usize,
    /// The greatest weight among them.
    pub(super) heaviest: u32,
    /// The median of what is known of their times to the first byte, in microseconds.
    pub(super) median: f64,
}

/// Looks through endpoints when it is time to.
#[derive(Debug, Default)]
pub(super) struct Lookout(Cell<Option<Seen>>);

impl Lookout {
    /// What was seen last, or now if that was long ago or the list has grown. Second attempts shorten
    /// it for one pick.
    pub(super) fn look(&self, gauges: &[Arc<Gauge>], pick: &Pick<'_>) -> Seen {
        if let Some(seen) = self.0.get()
            && pick.usable.len() <= seen.len
            && pick.now.saturating_duration_since(seen.at) < FRESH
        {
            return seen;
        }
        let usable = || pick.usable.iter().filter_map(|index| gauges.get(*index as usize));
        let mut known: Vec<f64> = usable().filter_map(|gauge| faded(gauge, pick.now)).collect();
        let middle = known.len() / 2;
        let median = match known.as_mut_slice() {
            [] => UNKNOWN,
            known => *known.select_nth_unstable_by(middle, f64::total_cmp).1,
        };
        let heaviest = usable().map(|gauge| gauge.weight()).max().unwrap_or(1);
        let seen = Seen { at: pick.now, len: pick.usable.len(), heaviest, median };
        self.0.set(Some(seen));
        seen
    }
}

impl Seen {
    /// Two different endpoints drawn by weight, the second `None` where there is but one.
    pub(super) fn two(&self, gauges: &[Arc<Gauge>], pick: &Pick<'_>) -> Option<(u32, Option<u32>)> {
        let mut lots = Lots(pick.draw);
        let first = self.one(gauges, pick.usable, &mut lots)?;
        if pick.usable.len() == 1 {
            return Some((first, None));
        }
        let drawn = (0..TRIES).filter_map(|_| self.one(gauges, pick.usable, &mut lots));
        let other = drawn.into_iter().find(|second| *second != first).or_else(|| {
            // A heavy endpoint is drawn again and again: any other.
            let place = pick.usable.partition_point(|index| *index <= first);
            pick.usable.get(place).or(pick.usable.first()).copied()
        });
        Some((first, other))
    }

    /// By rejection: one of all as likely as any other, kept as often as its weight says.
    fn one(&self, gauges: &[Arc<Gauge>], usable: &[u32], lots: &mut Lots) -> Option<u32> {
        for _ in 0..TRIES {
            let index = evenly(usable, lots.next())?;
            let weight = weight_of(gauges, index);
            if weight >= self.heaviest || scaled(lots.next(), self.heaviest.into()) < u64::from(weight) {
                return Some(index);
            }
        }
        by_weight(gauges, usable, lots.next())
    }

    /// How long a request is likely to take at the endpoint: what it takes, times the requests that
    /// share it, each as heavy as the endpoint is light.
    pub(super) fn cost(&self, gauge: &Gauge, now: Instant) -> f64 {
        let known = faded(gauge, now).unwrap_or(self.median);
        let waited = gauge.waiting(now).age.as_secs_f64() * 1e6;
        (known.max(waited) + GRAIN) * (self.load(gauge) + 1.0)
    }

    /// The requests under way, each counted as if the endpoint were as heavy as the heaviest.
    pub(super) fn load(&self, gauge: &Gauge) -> f64 {
        let weight = f64::from(gauge.weight());
        f64::from(gauge.in_flight()) * f64::from(self.heaviest).max(weight) / weight
    }
}

/// The estimate of an endpoint's time to the first byte in microseconds, the less the longer nobody
/// has refreshed it: an endpoint that was slow once is tried again. `None` when nothing is known.
fn faded(gauge: &Gauge, now: Instant) -> Option<f64> {
    let (estimate, at) = gauge.estimate()?;
    let age = now.saturating_duration_since(at).as_secs_f64() / super::estimate::DECAY.as_secs_f64();
    // The reciprocal of the first terms of exp(age): near enough, and much cheaper.
    let kept = 1.0 / (1.0 + age + age * age / 2.0 + age * age * age / 6.0);
    Some(estimate.as_nanos() as f64 / 1e3 * kept)
}

/// Draws that follow from a first one (the `SplitMix64` generator).
pub(super) struct Lots(pub(super) u64);

impl Lots {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mixed(self.0)
    }
}

/// The finaliser of `SplitMix64`: every bit depends on every other.
pub(super) fn mixed(bits: u64) -> u64 {
    let z = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// What every request costs besides, in microseconds: below it, differences of time are chance rather
/// than the endpoint's doing.
const GRAIN: f64 = 1000.0;
/// How long what was seen is good for.
const FRESH: Duration = Duration::from_millis(100);
/// Draws before a slower way is taken.
const TRIES: usize = 8;
/// What a time is taken to be when none is known, in microseconds.
const UNKNOWN: f64 = 1000.0;
