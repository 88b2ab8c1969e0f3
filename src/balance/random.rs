//! By lot, in proportion to weight. Takes the lot as a value; where it comes from is not known here.

use std::cell::Cell;
use std::sync::Arc;

use super::level::{Level, weight_of};
use super::{Gauge, Kind, Pick, Policy};

pub(super) const KIND: Kind = Kind {
    name: "random",
    summary: "by lot, in proportion to weight",
    hashes: false,
    build: |_| Box::<Random>::default(),
};

#[derive(Default)]
struct Random {
    level: Cell<Level>,
}

impl Policy for Random {
    fn pick(&self, gauges: &[Arc<Gauge>], pick: &Pick<'_>) -> Option<usize> {
        let mut level = self.level.get();
        if level.covers(pick.usable) {
            let index = evenly(pick.usable, pick.draw)?;
            if level.holds(gauges, index) {
                return Some(index as usize);
            }
        }
        let even = level.survey(gauges, pick.usable);
        self.level.set(level);
        let index =
            if even { evenly(pick.usable, pick.draw) } else { by_weight(gauges, pick.usable, pick.draw) };
        index.map(|index| index as usize)
    }
}

/// One of `usable`, each as likely as any other.
pub(super) fn evenly(usable: &[u32], draw: u64) -> Option<u32> {
    let place = scaled(draw, u64::try_from(usable.len()).ok()?);
    usable.get(usize::try_from(place).ok()?).copied()
}

/// One of `usable`, each as likely as its weight says. Reads every weight twice.
pub(super) fn by_weight(gauges: &[Arc<Gauge>], usable: &[u32], draw: u64) -> Option<u32> {
    let total = usable.iter().map(|i| u64::from(weight_of(gauges, *i))).sum();
    let mut left = scaled(draw, total);
    for index in usable {
        let weight = u64::from(weight_of(gauges, *index));
        if left < weight {
            return Some(*index);
        }
        left -= weight;
    }
    // Only when a weight shrank between the two readings.
    usable.last().copied()
}

/// Maps a draw from all of `u64` onto `0..n`, without the division of a remainder.
pub(super) fn scaled(draw: u64, n: u64) -> u64 {
    u64::try_from((u128::from(draw) * u128::from(n)) >> 64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::tests::START;

    #[test]
    fn the_ends_of_the_draw_are_the_ends_of_the_list() {
        let gauges: Vec<_> = [1, 2, 3].map(|w| Arc::new(Gauge::new(w, *START))).into();
        for choose in [evenly, |usable: &[u32], draw| by_weight(&[], usable, draw)] {
            assert_eq!(choose(&[], 7), None);
        }
        assert_eq!((evenly(&[4, 5, 6], 0), evenly(&[4, 5, 6], u64::MAX)), (Some(4), Some(6)));
        let lot = |draw| by_weight(&gauges, &[0, 1, 2], draw);
        assert_eq!((lot(0), lot(u64::MAX)), (Some(0), Some(2)));
        let sixth = u64::MAX / 6 + 1;
        assert_eq!((lot(sixth - 1), lot(sixth), lot(3 * sixth)), (Some(0), Some(1), Some(2)));
    }
}
