//! Two by lot, and of these the one with fewer requests under way for its weight ("the power of two
//! choices", Mitzenmacher 2001). Constant time for any pool. For services whose latency says nothing
//! of their load; else `peak_ewma` knows more.

use std::sync::Arc;

use super::lot::Lookout;
use super::{Gauge, Kind, Pick, Policy};

pub(super) const KIND: Kind = Kind {
    name: "p2c",
    summary: "of two by lot, the one with fewer requests under way",
    hashes: false,
    build: |_| Box::<P2c>::default(),
};

#[derive(Default)]
struct P2c(Lookout);

impl Policy for P2c {
    fn pick(&self, gauges: &[Arc<Gauge>], pick: &Pick<'_>) -> Option<usize> {
        let seen = self.0.look(gauges, pick);
        let (first, second) = seen.two(gauges, pick)?;
        let load = |index: u32| gauges.get(index as usize).map_or(f64::MAX, |gauge| seen.load(gauge));
        let better = second.filter(|second| load(*second) < load(first));
        Some(better.unwrap_or(first) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::tests::{START, at_rest, shares};

    #[test]
    fn the_busier_of_two_gets_nothing() {
        let gauges = at_rest(&[1, 1]);
        gauges.first().unwrap().begin(*START);
        assert_eq!(shares(&P2c::default(), &gauges, &[0, 1], 1000), [0, 1000]);
    }

    #[test]
    fn busy_is_meant_for_its_weight() {
        let gauges = at_rest(&[4, 1]);
        (0..3).for_each(|_| gauges.first().unwrap().begin(*START));
        gauges.last().unwrap().begin(*START);
        assert_eq!(shares(&P2c::default(), &gauges, &[0, 1], 1000), [1000, 0]);
    }
}
