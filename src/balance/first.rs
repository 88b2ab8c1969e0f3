//! The first usable endpoint in the order of the configuration. As an endpoint that is full is not
//! usable, endpoints with a limit are filled one after another, and those at the end can be switched
//! off while they idle.
//!
//! For a primary with stand-ins, or to run as few endpoints as will do. Weights and slow start mean
//! nothing here.

use std::sync::Arc;

use super::{Gauge, Kind, Pick, Policy};

pub(super) const KIND: Kind = Kind {
    name: "first",
    summary: "the first that is usable, in the order of the configuration",
    hashes: false,
    build: |_| Box::new(First),
};

struct First;

impl Policy for First {
    fn pick(&self, _: &[Arc<Gauge>], pick: &Pick<'_>) -> Option<usize> {
        pick.usable.first().map(|index| *index as usize)
    }
}
