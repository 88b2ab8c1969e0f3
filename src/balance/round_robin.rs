//! Turn by turn. Replaced below by the smooth weighted form.

use std::cell::Cell;
use std::sync::Arc;

use super::{Gauge, Kind, Pick, Policy};

pub(super) const KIND: Kind = Kind {
    name: "round_robin",
    summary: "turn by turn, in proportion to weight",
    build: || Box::<RoundRobin>::default(),
};

#[derive(Default)]
struct RoundRobin {
    turn: Cell<usize>,
}

impl Policy for RoundRobin {
    fn pick(&self, _gauges: &[Arc<Gauge>], pick: &Pick<'_>) -> Option<usize> {
        let turn = self.turn.get();
        self.turn.set(turn.wrapping_add(1));
        pick.usable.get(turn.checked_rem(pick.usable.len())?).map(|i| *i as usize)
    }
}
