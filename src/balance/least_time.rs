//! The endpoint that is likely to answer soonest, of all: the measure of `peak_ewma`, but every
//! endpoint is looked at.
//!
//! For few endpoints whose times differ for good, as in several regions, and one proxy. Not for
//! large pools (it reads every gauge for every request) nor for many proxies, which then all choose
//! the same one; there, `peak_ewma`.

use std::cell::RefCell;
use std::sync::Arc;

use super::cost::{Cost, cheapest};
use super::estimate::{Typical, outlook};
use super::lots::Lots;
use super::{Gauge, Kind, Pick, Policy};

pub(super) const KIND: Kind = Kind {
    name: "least_time",
    summary: "the one that is likely to answer soonest, of all, by its latest times and load",
    hashes: false,
    build: |_| Box::<LeastTime>::default(),
};

#[derive(Default)]
struct LeastTime {
    lots: RefCell<Lots>,
    typical: Typical,
}

impl Policy for LeastTime {
    fn pick(&self, gauges: &[Arc<Gauge>], pick: &Pick<'_>) -> Option<usize> {
        let mut lots = self.lots.borrow_mut();
        let first = lots.one(gauges, pick)?;
        let typical = self.typical.of(gauges, pick);
        let cost = |index: u32| {
            let gauge = gauges.get(index as usize)?;
            Some((index, Cost::of_load(gauge).timed(outlook(gauge, typical, pick.now))))
        };
        let all = pick.usable.iter().filter_map(|index| cost(*index));
        Some(cheapest(cost(first)?, all, lots.scale(pick), pick.draw) as usize)
    }
}
