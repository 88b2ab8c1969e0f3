//! The first that may be used, in the order of the configuration: one endpoint is filled before the
//! next is touched, as far as health and limits let it. Weights and slow start mean nothing here. For
//! a primary with standbys that must not share the work, or to keep few machines awake.

use std::sync::Arc;

use super::{Gauge, Kind, Pick, Policy};

pub(super) const KIND: Kind = Kind {
    name: "first",
    summary: "the first that may be used, in the order of the file",
    hashes: false,
    build: |_| Box::new(First),
};

struct First;

impl Policy for First {
    fn pick(&self, gauges: &[Arc<Gauge>], pick: &Pick<'_>) -> Option<usize> {
        pick.usable.first().map(|index| *index as usize).filter(|index| *index < gauges.len())
    }
}
