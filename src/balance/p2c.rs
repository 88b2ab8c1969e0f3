//! The power of two choices: of two endpoints drawn by weight, the one with fewer requests in flight
//! per weight (M. Mitzenmacher 2001). Costs the same at any size of pool, and no herd of workers or
//! proxies descends on the one that looks best.
//!
//! For requests that are alike on endpoints that differ in nothing but their weight, or where times
//! to the first byte say nothing, as with long polling. Not where an endpoint may fail fast: that
//! looks idle here. `peak_ewma` sees it.

use std::cell::RefCell;
use std::sync::Arc;

use super::cost::{Cost, gives_way};
use super::lots::Lots;
use super::{Gauge, Kind, Pick, Policy};

pub(super) const KIND: Kind = Kind {
    name: "p2c",
    summary: "of two by lot, the one with fewer requests in flight per weight",
    hashes: false,
    build: |_| Box::<TwoChoices>::default(),
};

#[derive(Default)]
struct TwoChoices(RefCell<Lots>);

impl Policy for TwoChoices {
    fn pick(&self, gauges: &[Arc<Gauge>], pick: &Pick<'_>) -> Option<usize> {
        let mut lots = self.0.borrow_mut();
        let two = lots.two(gauges, pick)?;
        let first = two.first as usize;
        let Some(second) = two.second.map(|second| second as usize) else { return Some(first) };
        let (one, other) = (Cost::of_load(gauges.get(first)?), Cost::of_load(gauges.get(second)?));
        Some(if gives_way(&one, &other, lots.scale(pick), pick.draw) { second } else { first })
    }
}
