//! Lots: one endpoint or two distinct ones, drawn evenly or in proportion to weight, in constant time
//! at any size of pool. Knows no load. What it remembers of weights is checked against each endpoint
//! that is drawn, and looked at anew ten times a second, so a changed weight is noticed soon.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cost::Scale;
use super::level::{Level, weight_of};
use super::{Gauge, Pick};
use crate::model::{self, mix::STEP};

/// What is remembered of a list's weights.
#[derive(Default)]
pub(super) struct Lots {
    level: Level,
    table: Table,
    /// When all weights are looked at again.
    due: Option<Instant>,
}

/// Two endpoints; one when there is only one.
pub(super) struct Two {
    /// Drawn in proportion to weight.
    pub(super) first: u32,
    /// Drawn so too, from the others.
    pub(super) second: Option<u32>,
}

impl Lots {
    /// One of `pick.usable`, as likely as its weight says.
    pub(super) fn one(&mut self, gauges: &[Arc<Gauge>], pick: &Pick<'_>) -> Option<u32> {
        self.refresh(gauges, pick);
        self.draw(gauges, pick, pick.draw)
    }

    /// Two distinct ones of `pick.usable`, the first as likely as its weight says.
    pub(super) fn two(&mut self, gauges: &[Arc<Gauge>], pick: &Pick<'_>) -> Option<Two> {
        self.refresh(gauges, pick);
        let usable = pick.usable;
        let first = self.draw(gauges, pick, pick.draw)?;
        if usable.len() < 3 {
            return Some(Two { first, second: usable.iter().copied().find(|index| *index != first) });
        }
        // Where one endpoint has nearly all the weight, it would be drawn again and again.
        let mut draw = pick.draw;
        for _ in 0..TRIES {
            draw = mix(draw);
            let second = self.draw(gauges, pick, draw)?;
            if second != first {
                return Some(Two { first, second: Some(second) });
            }
        }
        let place = usable.binary_search(&first).unwrap_or_default();
        let step = 1 + scaled(mix(draw), usable.len() as u64 - 1) as usize;
        Some(Two { first, second: usable.get((place + step) % usable.len()).copied() })
    }

    /// The weights of the usable endpoints, as last looked at.
    pub(super) fn scale(&self, pick: &Pick<'_>) -> Scale {
        let mean = if self.level.weight() > 0 { f64::from(self.level.weight()) } else { self.table.mean };
        Scale { mean, total: mean * pick.usable.len() as f64 }
    }

    fn draw(&mut self, gauges: &[Arc<Gauge>], pick: &Pick<'_>, draw: u64) -> Option<u32> {
        if let Some(index) = self.known(gauges, pick.usable, draw) {
            return Some(index);
        }
        if !self.level.covers(pick.usable) && pick.usable.len() < self.table.columns.len() {
            // As a rule a second attempt: not worth a table of its own before the next look.
            return by_weight(gauges, pick.usable, draw);
        }
        self.look(gauges, pick);
        self.known(gauges, pick.usable, draw).or_else(|| by_weight(gauges, pick.usable, draw))
    }

    /// The endpoint drawn by what is remembered; `None` when that is no longer right.
    fn known(&self, gauges: &[Arc<Gauge>], usable: &[u32], draw: u64) -> Option<u32> {
        if self.level.covers(usable) {
            return evenly(usable, draw).filter(|index| self.level.holds(gauges, *index));
        }
        let place = self.table.place(usable.len(), draw)?;
        let index = *usable.get(place)?;
        (self.table.columns.get(place)?.weight == weight_of(gauges, index)).then_some(index)
    }

    fn refresh(&mut self, gauges: &[Arc<Gauge>], pick: &Pick<'_>) {
        if self.due.is_none_or(|due| pick.now >= due) {
            self.look(gauges, pick);
        }
    }

    fn look(&mut self, gauges: &[Arc<Gauge>], pick: &Pick<'_>) {
        self.due = Some(pick.now + REFRESH);
        if self.level.survey(gauges, pick.usable) {
            self.table.columns.clear();
        } else {
            self.table.fill(pick.usable.iter().map(|index| weight_of(gauges, *index)));
        }
    }
}

/// An alias table (A. J. Walker 1977; filled as by M. D. Vose 1991): columns of equal height, each
/// shared by at most two places, so that a draw by weight takes one column and one comparison.
#[derive(Default)]
struct Table {
    columns: Vec<Column>,
    /// The mean of the weights.
    mean: f64,
}

struct Column {
    /// The weight that the place of this column had.
    weight: u32,
    /// The part of the column that is the place's own: below it in the lower 64 bits of the draw.
    own: u64,
    /// Whose the rest is.
    other: u32,
}

impl Table {
    fn fill(&mut self, weights: impl Iterator<Item = u32>) {
        self.columns.clear();
        self.columns.extend((0..).zip(weights).map(|(other, weight)| Column {
            weight,
            own: u64::MAX,
            other,
        }));
        let places = self.columns.len();
        let total: u64 = self.columns.iter().map(|column| u64::from(column.weight)).sum();
        self.mean = total as f64 / places.max(1) as f64;

        // Heights are multiplied by the number of places, so that each column is `total` high.
        let mut heights: Vec<u64> =
            self.columns.iter().map(|column| u64::from(column.weight) * places as u64).collect();
        let (mut low, mut high): (Vec<usize>, Vec<usize>) =
            (0..places).partition(|place| heights.get(*place).is_some_and(|height| *height < total));
        while let (Some(poor), Some(rich)) = (low.pop(), high.last().copied()) {
            let height = heights.get(poor).copied().unwrap_or_default();
            if let Some(column) = self.columns.get_mut(poor) {
                column.own = (height as f64 / total as f64 * TWO_TO_64) as u64;
                column.other = u32::try_from(rich).unwrap_or(u32::MAX);
            }
            if let Some(left) = heights.get_mut(rich) {
                *left = left.saturating_sub(total - height);
                if *left < total {
                    high.pop();
                    low.push(rich);
                }
            }
        }
    }

    /// The place drawn, for a list of the length that this was filled for.
    fn place(&self, len: usize, draw: u64) -> Option<usize> {
        if len != self.columns.len() {
            return None;
        }
        let wide = u128::from(draw) * len as u128;
        let place = usize::try_from(wide >> 64).ok()?;
        let column = self.columns.get(place)?;
        Some(if (wide as u64) < column.own { place } else { column.other as usize })
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

/// Maps a draw from all of `u64` onto 0 to 1, above 0.
pub(super) fn part(draw: u64) -> f64 {
    (draw as f64 + 1.0) / TWO_TO_64
}

/// Another draw out of a draw, or a hash out of a number: every bit depends on all bits (the
/// generator `SplitMix64` of Steele, Lea and Flood 2014).
pub(super) fn mix(bits: u64) -> u64 {
    model::mix::mix(bits.wrapping_add(STEP))
}

/// How often all weights are looked at.
pub(super) const REFRESH: Duration = Duration::from_millis(100);
/// How often a second endpoint is drawn that may be the first.
const TRIES: usize = 3;
const TWO_TO_64: f64 = 18_446_744_073_709_551_616.0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::tests::{START, at, at_rest, draws};

    #[test]
    fn the_ends_of_the_draw_are_the_ends_of_the_list() {
        let gauges = at_rest(&[1, 2, 3]);
        for choose in [evenly, |usable: &[u32], draw| by_weight(&[], usable, draw)] {
            assert_eq!(choose(&[], 7), None);
        }
        assert_eq!((evenly(&[4, 5, 6], 0), evenly(&[4, 5, 6], u64::MAX)), (Some(4), Some(6)));
        let lot = |draw| by_weight(&gauges, &[0, 1, 2], draw);
        assert_eq!((lot(0), lot(u64::MAX)), (Some(0), Some(2)));
        let sixth = u64::MAX / 6 + 1;
        assert_eq!((lot(sixth - 1), lot(sixth), lot(3 * sixth)), (Some(0), Some(1), Some(2)));
    }

    #[test]
    fn a_table_deals_exactly_by_weight() {
        for seed in 0..50 {
            let weights: Vec<u32> =
                draws(seed).take(1 + seed as usize).map(|n| 1 + (n % 1000) as u32).collect();
            let mut table = Table::default();
            table.fill(weights.iter().copied());
            let mut parts = vec![0.0; weights.len()];
            for (place, column) in table.columns.iter().enumerate() {
                let own = column.own as f64 / TWO_TO_64;
                parts[place] += own;
                parts[column.other as usize] += 1.0 - own;
            }
            let total: f64 = weights.iter().copied().map(f64::from).sum();
            for (part, weight) in parts.into_iter().zip(&weights) {
                let (part, due) = (part / weights.len() as f64, f64::from(*weight) / total);
                assert!((part - due).abs() < 1e-9, "{part} for {due}, seed {seed}");
            }
        }
    }

    #[test]
    fn two_are_distinct_whatever_the_weights() {
        for weights in [&[1, 1][..], &[1000, 1], &[1, 1, 1], &[1000, 1, 1], &[1, 1000, 1000, 1], &[5; 40]] {
            let (gauges, mut lots) = (at_rest(weights), Lots::default());
            let usable: Vec<u32> = (0..weights.len() as u32).collect();
            let mut seconds = vec![0; weights.len()];
            for draw in draws(3).take(5000) {
                let two = lots.two(&gauges, &at(&usable, draw)).unwrap();
                assert_ne!(Some(two.first), two.second);
                seconds[two.second.unwrap() as usize] += 1;
            }
            assert!(seconds.iter().all(|count| *count > 0), "{weights:?}: {seconds:?}");
        }
        let alone = Lots::default().two(&at_rest(&[1, 1]), &at(&[1], 7)).unwrap();
        assert_eq!((alone.first, alone.second), (1, None));
    }

    #[test]
    fn a_risen_weight_is_noticed_though_its_endpoint_is_hardly_drawn() {
        let (gauges, mut lots) = (at_rest(&[1000, 1000, 1]), Lots::default());
        lots.one(&gauges, &at(&[0, 1, 2], 0));
        gauges[2].set_weight(1000);
        let later = |draw| Pick { now: *START + REFRESH, ..at(&[0, 1, 2], draw) };
        let risen = draws(5).take(300).filter(|draw| lots.one(&gauges, &later(*draw)) == Some(2)).count();
        assert!((60..140).contains(&risen), "{risen} of 300");
    }
}
