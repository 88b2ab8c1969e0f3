//! Which endpoint is the better choice, for all policies that look at load. Knows not how a time is
//! estimated.
//!
//! A load is counted in requests in flight per weight, above a base: the load of an endpoint with one
//! request and the mean weight, so that times matter among idle ones. Idle endpoints that are alike
//! cost the same whatever they weigh, and the lot, drawn by weight, decides.

use super::Gauge;
use super::estimate::Outlook;
use super::lots::{mix, part, scaled};

/// What a request to an endpoint costs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cost {
    /// Requests in flight per weight.
    load: f64,
    /// What one more adds to that.
    step: f64,
    /// By which loads are multiplied.
    time: f64,
    /// The share of the latest requests that failed, 0 to 1.
    failing: f64,
}

/// The weights of those among which a choice is made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    /// The mean, in the units of [`Gauge::weight`].
    pub(super) mean: f64,
    /// The sum.
    pub(super) total: f64,
}

impl Cost {
    /// By requests in flight and weight only.
    pub(super) fn of_load(gauge: &Gauge) -> Self {
        let step = 1.0 / f64::from(gauge.weight());
        Self { load: f64::from(gauge.in_flight()) * step, step, time: 1.0, failing: 0.0 }
    }

    /// With the time that a request takes there.
    pub(super) fn timed(self, outlook: Outlook) -> Self {
        Self { time: outlook.time, failing: outlook.failing, ..self }
    }

    /// What this and `other` cost when the choice is between them.
    fn pair(&self, other: &Self, base: f64) -> (f64, f64) {
        let (ours, theirs) = self.times(other);
        (ours * (self.load_beside(other) + base), theirs * (other.load_beside(self) + base))
    }

    /// The times of this and `other`, which are equal as long as they differ by noise. Otherwise the
    /// least difference would decide among idle endpoints, always in favour of the same one.
    fn times(&self, other: &Self) -> (f64, f64) {
        let alike = self.time < other.time * NOISE && other.time < self.time * NOISE;
        if alike { (1.0, 1.0) } else { (self.time, other.time) }
    }

    /// As few requests in flight are no merit of an endpoint that sends them away, the more of its
    /// requests fail the less they count.
    fn load_beside(&self, other: &Self) -> f64 {
        self.load + self.failing * (other.load - self.load).max(0.0)
    }
}

/// Whether `first`, which was drawn by weight, gives way to `second`, drawn by weight from the others.
///
/// To the cheaper one, where weights are equal. Where they differ, costs that differ by mere noise
/// must not move shares: the light endpoint of two is drawn first less often, so the heavy one gives
/// way to it only with the chance that makes both flows equal (the rule of N. Metropolis et al.
/// 1953), times the ratio of their costs, which is 1 in noise and large where it matters.
pub(super) fn gives_way(first: &Cost, second: &Cost, scale: Scale, draw: u64) -> bool {
    let (cost, other) = first.pair(second, 1.0 / scale.mean);
    if other >= cost {
        return false;
    }
    if first.step >= second.step {
        return true;
    }
    let rest = |cost: &Cost| (scale.total - 1.0 / cost.step).max(0.0);
    part(mix(!draw)) * rest(second) * other < rest(first) * cost
}

/// The cheapest of `others` that is better than `first`, which was drawn by weight; otherwise
/// `first`. Ties are broken by lot.
///
/// Where weights differ, better means before and after the request is added: with it, the lightest
/// endpoint of an idle pool would never be chosen, and without, it would get a request whenever it
/// is idle.
pub(super) fn cheapest(
    first: (u32, Cost),
    others: impl Iterator<Item = (u32, Cost)>,
    scale: Scale,
    mut draw: u64,
) -> u32 {
    let better = |cost: &Cost| {
        let (before, drawn_before) = cost.pair(&first.1, 1.0 / scale.mean);
        let (time, drawn_time) = cost.times(&first.1);
        before < drawn_before && time * (cost.load + cost.step) < drawn_time * (first.1.load + first.1.step)
    };
    let (mut best, mut least, mut ties) = (first.0, f64::INFINITY, 0);
    for (index, cost) in others.filter(|(_, cost)| better(cost)) {
        let added = cost.time * (cost.load + cost.step);
        if added < least {
            (best, least, ties) = (index, added, 1);
        } else if added <= least {
            draw = mix(draw);
            ties += 1;
            if scaled(draw, ties) == 0 {
                best = index;
            }
        }
    }
    best
}

/// How many times longer one time has to be than another to tell them apart.
const NOISE: f64 = 1.25;
