//! The least loaded of all: by requests under way for the weight, or by how long a request is likely to
//! take. Reads every endpoint for each pick, so for pools of up to some hundreds. Clients that choose
//! the best at the same time flock to it; where there are many proxies, `p2c` and `peak_ewma` do better.

use std::sync::Arc;

use super::level::weight_of;
use super::lot::{Lookout, Lots, Seen};
use super::random::scaled;
use super::{Gauge, Kind, Pick, Policy};

pub(super) const REQUESTS: Kind = Kind {
    name: "least_requests",
    summary: "the one with the fewest requests under way",
    hashes: false,
    build: |_| Box::new(Least { lookout: Lookout::default(), score: |seen, gauge, _| seen.load(gauge) }),
};

pub(super) const TIME: Kind = Kind {
    name: "least_time",
    summary: "the one with the least recent latency times requests under way",
    hashes: false,
    build: |_| {
        Box::new(Least { lookout: Lookout::default(), score: |seen, gauge, pick| seen.cost(gauge, pick.now) })
    },
};

struct Least {
    lookout: Lookout,
    score: fn(&Seen, &Gauge, &Pick<'_>) -> f64,
}

impl Policy for Least {
    /// Ties are drawn by weight, in one pass.
    fn pick(&self, gauges: &[Arc<Gauge>], pick: &Pick<'_>) -> Option<usize> {
        let seen = self.lookout.look(gauges, pick);
        let mut lots = Lots(pick.draw);
        let mut best: Option<(u32, f64, u64)> = None;
        for index in pick.usable {
            let Some(gauge) = gauges.get(*index as usize) else { continue };
            let score = (self.score)(&seen, gauge, pick);
            let weight = u64::from(weight_of(gauges, *index));
            best = match best {
                Some((leader, least, tied)) if score == least => {
                    let tied = tied + weight;
                    let takes = scaled(lots.next(), tied) < weight;
                    Some((if takes { *index } else { leader }, least, tied))
                }
                Some(kept) if score > kept.1 => Some(kept),
                _ => Some((*index, score, weight)),
            };
        }
        best.map(|(index, ..)| index as usize)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::balance::estimate::observe;
    use crate::balance::tests::{START, at_rest, shares};
    use crate::balance::{Choice, Setup};

    #[test]
    fn the_least_is_found_among_all() {
        let gauges = at_rest(&[2, 1, 1, 2]);
        for (gauge, busy) in gauges.iter().zip([4, 2, 3, 3]) {
            (0..busy).for_each(|_| gauge.begin(*START));
        }
        let policy = Choice::named("least_requests").unwrap().build(&Setup::default());
        assert_eq!(shares(&*policy, &gauges, &[0, 1, 2, 3], 100), [0, 0, 0, 100], "1.5 for its weight");
    }

    #[test]
    fn time_counts_as_much_as_requests() {
        let gauges = at_rest(&[1, 1]);
        observe(&gauges[0], Duration::from_millis(10), *START);
        observe(&gauges[1], Duration::from_millis(25), *START);
        let policy = Choice::named("least_time").unwrap().build(&Setup::default());
        assert_eq!(shares(&*policy, &gauges, &[0, 1], 10), [10, 0]);
        (0..2).for_each(|_| gauges[0].begin(*START));
        assert_eq!(shares(&*policy, &gauges, &[0, 1], 10), [0, 10], "30 against 25");
    }
}
