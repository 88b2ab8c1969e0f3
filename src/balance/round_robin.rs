//! Turn by turn, in proportion to weight, spread out rather than in bursts. Equal weights go round
//! a ring in constant time; unequal ones by smooth weighted round-robin as nginx describes it:
//! each endpoint gains its weight as credit, the richest is chosen and pays what all have gained.

use std::cell::RefCell;
use std::sync::Arc;

use super::level::{Level, weight_of};
use super::lots::{by_weight, evenly};
use super::{Gauge, Kind, Pick, Policy};

pub(super) const KIND: Kind = Kind {
    name: "round_robin",
    summary: "turn by turn, in proportion to weight",
    hashes: false,
    build: |_| Box::<RoundRobin>::default(),
};

#[derive(Default)]
struct RoundRobin(RefCell<Turns>);

impl Policy for RoundRobin {
    fn pick(&self, gauges: &[Arc<Gauge>], pick: &Pick<'_>) -> Option<usize> {
        self.0.borrow_mut().next(gauges, pick).map(|index| index as usize)
    }
}

#[derive(Default)]
struct Turns {
    level: Level,
    ring: Ring,
    credits: Credits,
}

impl Turns {
    fn next(&mut self, gauges: &[Arc<Gauge>], pick: &Pick<'_>) -> Option<u32> {
        if self.level.covers(pick.usable) {
            let step = self.ring.step(pick)?;
            if self.level.holds(gauges, step.index) {
                return Some(self.ring.take(step));
            }
        }
        if self.level.survey(gauges, pick.usable) {
            let step = self.ring.step(pick)?;
            return Some(self.ring.take(step));
        }
        self.credits.next(gauges, pick)
    }
}

/// Where a round of equals has got to.
#[derive(Clone, Copy, Default)]
struct Ring {
    /// The endpoint whose turn was last.
    last: Option<u32>,
    /// Where it stood in its list.
    place: usize,
    /// The length of the list of the last pick.
    len: usize,
}

/// The ring's next choice, not yet made.
struct Step {
    index: u32,
    next: Ring,
}

impl Ring {
    /// Who is next. The first turn is drawn by lot, so that workers do not begin with the same
    /// endpoint. So is the first pick from a list that became shorter, which as a rule is a second
    /// attempt: it costs nobody a turn, and a failing endpoint's load does not all fall on its
    /// neighbour.
    fn step(&self, pick: &Pick<'_>) -> Option<Step> {
        let usable = pick.usable;
        let len = usable.len();
        let last = match self.last {
            Some(last) if len >= self.len => last,
            kept => {
                let index = evenly(usable, pick.draw)?;
                return Some(Step { index, next: Self { last: kept.or(Some(index)), len, ..*self } });
            }
        };
        let after = if usable.get(self.place) == Some(&last) {
            self.place + 1
        } else {
            usable.partition_point(|index| *index <= last)
        };
        let place = if after < len { after } else { 0 };
        let index = *usable.get(place)?;
        Some(Step { index, next: Self { last: Some(index), place, len } })
    }

    fn take(&mut self, step: Step) -> u32 {
        *self = step.next;
        step.index
    }
}

/// Smooth weighted round-robin. Takes time in proportion to the usable endpoints.
#[derive(Default)]
struct Credits(Vec<Credit>);

#[derive(Clone, Copy, Default)]
struct Credit {
    /// What the endpoint is owed, in units of weight: within plus or minus the sum of all weights.
    owed: i64,
    /// Its weight when last looked at.
    weight: u32,
}

impl Credits {
    fn next(&mut self, gauges: &[Arc<Gauge>], pick: &Pick<'_>) -> Option<u32> {
        // As for the ring, the first turn is drawn by lot.
        let mut chosen = if self.0.is_empty() { by_weight(gauges, pick.usable, pick.draw) } else { None };
        self.0.resize(gauges.len(), Credit::default());

        let (mut total, mut most, mut changed) = (0, i64::MIN, false);
        let drawn = chosen.is_some();
        for index in pick.usable {
            let Some(credit) = self.0.get_mut(*index as usize) else { continue };
            let weight = weight_of(gauges, *index);
            changed |= std::mem::replace(&mut credit.weight, weight) != weight;
            total += i64::from(weight);
            credit.owed += i64::from(weight);
            if credit.owed > most && !drawn {
                (most, chosen) = (credit.owed, Some(*index));
            }
        }
        let chosen = chosen?;
        self.0.get_mut(chosen as usize)?.owed -= total;
        if changed {
            self.settle(gauges);
        }
        Some(chosen)
    }

    /// Forgives what is owed beyond one round under the weights of now. Otherwise an endpoint that
    /// paid for its turn when the others weighed a thousand would wait a thousand turns once they
    /// weigh one.
    fn settle(&mut self, gauges: &[Arc<Gauge>]) {
        let total = gauges.iter().map(|gauge| i64::from(gauge.weight())).sum::<i64>();
        for credit in &mut self.0 {
            credit.owed = credit.owed.clamp(-total, total);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::tests::{at_rest, picks, shares};

    #[test]
    fn unequal_weights_are_interleaved_as_nginx_shows() {
        let policy = RoundRobin::default();
        assert_eq!(
            picks(&policy, &at_rest(&[5, 1, 1]), &[0, 1, 2], 14),
            [0, 0, 1, 0, 2, 0, 0, 0, 0, 1, 0, 2, 0, 0]
        );
    }

    #[test]
    fn equals_go_round_in_order() {
        let policy = RoundRobin::default();
        assert_eq!(picks(&policy, &at_rest(&[7; 3]), &[0, 1, 2], 7), [0, 1, 2, 0, 1, 2, 0]);
        assert_eq!(picks(&policy, &at_rest(&[7; 4]), &[0, 1, 2, 3], 3), [1, 2, 3], "one more came");
    }

    #[test]
    fn workers_begin_apart() {
        for weights in [[1, 1], [1, 2]] {
            let gauges = at_rest(&weights);
            let first = |draw| RoundRobin::default().pick(&gauges, &Pick { draw, ..at(&[0, 1]) });
            assert_eq!((first(0), first(u64::MAX)), (Some(0), Some(1)), "{weights:?}");
        }
    }

    #[test]
    fn a_second_attempt_costs_nobody_a_turn() {
        // Endpoint 0 fails every request that it gets, which then goes to one of the others.
        for weights in [[1, 1, 1], [2, 2, 1]] {
            let policy = RoundRobin::default();
            let gauges = at_rest(&weights);
            let mut first = [0u32; 3];
            for draw in draws(3000) {
                let chosen = policy.pick(&gauges, &Pick { draw, ..at(&[0, 1, 2]) }).unwrap();
                first[chosen] += 1;
                if chosen == 0 {
                    policy.pick(&gauges, &Pick { draw, ..at(&[1, 2]) }).unwrap();
                }
            }
            let whole: u32 = weights.iter().sum();
            for (index, count) in first.into_iter().enumerate() {
                let due = 3000 * weights[index] / whole;
                assert!(count.abs_diff(due) < 300, "{weights:?}: {first:?}");
            }
        }
    }

    #[test]
    fn lists_that_take_turns_starve_nobody() {
        let policy = RoundRobin::default();
        let gauges = at_rest(&[1; 3]);
        let mut seen = [0; 3];
        for draw in draws(300) {
            seen[policy.pick(&gauges, &Pick { draw, ..at(&[0, 1, 2]) }).unwrap()] += 1;
            policy.pick(&gauges, &Pick { draw, ..at(&[0, 1]) }).unwrap();
        }
        assert_eq!(seen, [100; 3]);
    }

    #[test]
    fn a_changed_weight_counts_within_a_round() {
        let policy = RoundRobin::default();
        let gauges = at_rest(&[1, 1, 1]);
        picks(&policy, &gauges, &[0, 1, 2], 50);
        gauges[1].set_weight(8);
        picks(&policy, &gauges, &[0, 1, 2], 3);
        let heavier = shares(&policy, &gauges, &[0, 1, 2], 1000);
        gauges[1].set_weight(1);
        picks(&policy, &gauges, &[0, 1, 2], 3);
        let even = shares(&policy, &gauges, &[0, 1, 2], 300);
        for (counts, due) in [(heavier, [100, 800, 100]), (even, [100; 3])] {
            assert!(counts.iter().zip(due).all(|(n, due)| n.abs_diff(due) <= 1), "{counts:?}");
        }
    }

    #[test]
    fn old_debts_do_not_outlive_the_weights_that_made_them() {
        let policy = RoundRobin::default();
        let gauges = at_rest(&[1, 1000, 1000]);
        let until_paid = |policy: &RoundRobin| {
            let taken = (0..3000).position(|_| picks(policy, &gauges, &[0, 1, 2], 1) == [0]);
            assert!(taken.is_some());
        };
        until_paid(&policy);
        gauges[1].set_weight(2);
        gauges[2].set_weight(2);
        let after = picks(&policy, &gauges, &[0, 1, 2], 20);
        assert!(after.contains(&0), "{after:?}");
    }

    fn at(usable: &[u32]) -> Pick<'_> {
        crate::balance::tests::at(usable, 0)
    }

    fn draws(n: usize) -> impl Iterator<Item = u64> {
        crate::balance::tests::draws(1).take(n)
    }
}
