//! Of two endpoints drawn by weight, the one that is likely to answer sooner: its estimated time to
//! the first byte, times its requests in flight with this one, per weight (as Finagle and Linkerd
//! do; the estimate is in `estimate`). A slow endpoint loses its share with its second slow response,
//! and sooner: while requests wait for longer than the estimate, their age counts instead. One that
//! fails is avoided from the second failure in a row on, and tried again within half a minute.
//!
//! The default: good for most HTTP traffic. Not where an endpoint answers some requests much more
//! slowly than others by nature (a few slow calls then repel traffic for seconds), nor for
//! connections that say nothing about time; there, `p2c` or `least_requests`.

use std::cell::RefCell;
use std::sync::Arc;

use super::cost::{Cost, gives_way};
use super::estimate::{Typical, outlook};
use super::lots::Lots;
use super::{Gauge, Kind, Pick, Policy};

pub(super) const KIND: Kind = Kind {
    name: "peak_ewma",
    summary: "of two by lot, the one that is likely to answer sooner, by its latest times and load",
    hashes: false,
    build: |_| Box::<PeakEwma>::default(),
};

#[derive(Default)]
struct PeakEwma {
    lots: RefCell<Lots>,
    typical: Typical,
}

impl Policy for PeakEwma {
    fn pick(&self, gauges: &[Arc<Gauge>], pick: &Pick<'_>) -> Option<usize> {
        let mut lots = self.lots.borrow_mut();
        let two = lots.two(gauges, pick)?;
        let first = two.first as usize;
        let Some(second) = two.second.map(|second| second as usize) else { return Some(first) };
        let typical = self.typical.of(gauges, pick);
        let cost = |gauge: &Gauge| Cost::of_load(gauge).timed(outlook(gauge, typical, pick.now));
        let (one, other) = (cost(gauges.get(first)?), cost(gauges.get(second)?));
        Some(if gives_way(&one, &other, lots.scale(pick), pick.draw) { second } else { first })
    }
}

#[cfg(test)]
mod tests;
