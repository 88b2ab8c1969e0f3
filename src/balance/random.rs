//! By lot, in proportion to weight. The policy to compare others with; better ones know the load.
//! Use it where workers or proxies are so many that turns mean nothing and loads are all alike.

use std::cell::RefCell;
use std::sync::Arc;

use super::lots::Lots;
use super::{Gauge, Kind, Pick, Policy};

pub(super) const KIND: Kind = Kind {
    name: "random",
    summary: "by lot, in proportion to weight",
    hashes: false,
    build: |_| Box::<Random>::default(),
};

#[derive(Default)]
struct Random(RefCell<Lots>);

impl Policy for Random {
    fn pick(&self, gauges: &[Arc<Gauge>], pick: &Pick<'_>) -> Option<usize> {
        self.0.borrow_mut().one(gauges, pick).map(|index| index as usize)
    }
}
