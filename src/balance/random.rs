//! By lot, in proportion to weight.

use std::sync::Arc;

use super::{Gauge, Kind, Pick, Policy};

pub(super) const KIND: Kind =
    Kind { name: "random", summary: "by lot, in proportion to weight", build: || Box::new(Random) };

struct Random;

impl Policy for Random {
    fn pick(&self, _gauges: &[Arc<Gauge>], pick: &Pick<'_>) -> Option<usize> {
        let n = u64::try_from(pick.usable.len()).ok()?;
        let place = usize::try_from(pick.draw.checked_rem(n)?).ok()?;
        pick.usable.get(place).map(|i| *i as usize)
    }
}
