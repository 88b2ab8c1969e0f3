//! The endpoint with the fewest requests in flight per weight, of all; ties by lot, so that workers
//! and proxies do not all take the first.
//!
//! For few endpoints and requests that take long or differ much, where evenness counts: sessions,
//! uploads, connections. Not for large pools (it reads every gauge for every request) nor for many
//! proxies in front of the same endpoints, which then all choose the same one; there, `p2c`. An
//! endpoint that fails fast looks idle here, too.

use std::cell::RefCell;
use std::sync::Arc;

use super::cost::{Cost, cheapest};
use super::lots::Lots;
use super::{Gauge, Kind, Pick, Policy};

pub(super) const KIND: Kind = Kind {
    name: "least_requests",
    summary: "the fewest requests in flight per weight, of all",
    hashes: false,
    build: |_| Box::<LeastRequests>::default(),
};

#[derive(Default)]
struct LeastRequests(RefCell<Lots>);

impl Policy for LeastRequests {
    fn pick(&self, gauges: &[Arc<Gauge>], pick: &Pick<'_>) -> Option<usize> {
        let mut lots = self.0.borrow_mut();
        let first = lots.one(gauges, pick)?;
        let cost = |index: u32| Some((index, Cost::of_load(gauges.get(index as usize)?)));
        let all = pick.usable.iter().filter_map(|index| cost(*index));
        Some(cheapest(cost(first)?, all, lots.scale(pick), pick.draw) as usize)
    }
}
