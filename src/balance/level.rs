//! Remembers that weights are equal, so that policies can take the short way without reading every
//! gauge. Knows nothing of turns or lots. What it remembers is checked against each endpoint that
//! is chosen, so a changed weight is noticed when that endpoint's turn comes.

use std::sync::Arc;

use super::Gauge;

/// The longest list seen whose weights are all equal, and that weight.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Level {
    weight: u32,
    len: usize,
}

impl Level {
    /// Reads the weights of `usable`, and remembers whether they are equal.
    pub(super) fn survey(&mut self, gauges: &[Arc<Gauge>], usable: &[u32]) -> bool {
        let mut weights = usable.iter().map(|i| weight_of(gauges, *i));
        let first = weights.next().unwrap_or_default();
        let level = weights.all(|weight| weight == first);
        *self = if level { Self { weight: first, len: usable.len() } } else { Self::default() };
        level
    }

    /// Whether `usable` is no longer than the list last found level. A shorter one is part of it,
    /// or differs in members that [`Self::holds`] will find.
    pub(super) fn covers(&self, usable: &[u32]) -> bool {
        usable.len() <= self.len
    }

    /// The weight that all had; 0 when they differed.
    pub(super) fn weight(&self) -> u32 {
        self.weight
    }

    /// Whether the endpoint at `index` still has the weight that all had.
    pub(super) fn holds(&self, gauges: &[Arc<Gauge>], index: u32) -> bool {
        weight_of(gauges, index) == self.weight
    }
}

/// The weight of the endpoint at `index`; 0 for one that does not exist.
pub(super) fn weight_of(gauges: &[Arc<Gauge>], index: u32) -> u32 {
    gauges.get(index as usize).map_or(0, |gauge| gauge.weight())
}
