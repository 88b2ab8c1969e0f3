//! Two by lot, and of these the one where a request is likely to take less time: the peak of its recent
//! times to the first byte (see `estimate`), times the requests that it is busy with. Requests that
//! wait for an answer count with their age, so that an endpoint that hangs does not look idle.
//! Constant time for any pool. The choice for most services; for very long streams `p2c` will do.

use std::sync::Arc;

use super::lot::Lookout;
use super::{Gauge, Kind, Pick, Policy};

pub(super) const KIND: Kind = Kind {
    name: "peak_ewma",
    summary: "of two by lot, the one with the lower peak of recent latency times requests under way",
    hashes: false,
    build: |_| Box::<PeakEwma>::default(),
};

#[derive(Default)]
struct PeakEwma(Lookout);

impl Policy for PeakEwma {
    fn pick(&self, gauges: &[Arc<Gauge>], pick: &Pick<'_>) -> Option<usize> {
        let seen = self.0.look(gauges, pick);
        let (first, second) = seen.two(gauges, pick)?;
        let cost = |index: u32| gauges.get(index as usize).map_or(f64::MAX, |g| seen.cost(g, pick.now));
        let better = second.filter(|second| cost(*second) * SAME < cost(first));
        Some(better.unwrap_or(first) as usize)
    }
}

/// By how much costs have to differ to matter. Less is noise, and would give all the traffic to whoever
/// was lucky last.
const SAME: f64 = 1.2;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::balance::estimate::{observe, penalise};
    use crate::balance::tests::{START, at, at_rest, draws};

    const MS: Duration = Duration::from_millis(1);

    /// Shares of 1000 picks at `now`, with nothing under way.
    fn shares(gauges: &[Arc<Gauge>], now: std::time::Instant) -> Vec<u32> {
        let usable: Vec<u32> = (0..gauges.len() as u32).collect();
        let policy = PeakEwma::default();
        let mut counts = vec![0; gauges.len()];
        for draw in draws(5).take(1000) {
            counts[policy.pick(gauges, &Pick { now, ..at(&usable, draw) }).unwrap()] += 1;
        }
        counts
    }

    #[test]
    fn a_hung_endpoint_attracts_nobody_while_requests_wait_there() {
        let gauges = at_rest(&[1; 4]);
        gauges.iter().for_each(|gauge| observe(gauge, 5 * MS, *START));
        gauges[1].begin(*START);
        assert_eq!(shares(&gauges, *START + 50 * MS)[1], 0);
    }

    #[test]
    fn failing_fast_is_not_being_quick() {
        let gauges = at_rest(&[1; 4]);
        gauges.iter().for_each(|gauge| observe(gauge, 5 * MS, *START));
        penalise(&gauges[2], *START);
        assert_eq!(shares(&gauges, *START + 100 * MS)[2], 0);
        let later = *START + Duration::from_secs(120);
        gauges.iter().zip([true, true, false, true]).filter(|(_, fed)| *fed).for_each(|(gauge, _)| {
            observe(gauge, 5 * MS, later);
        });
        assert!(shares(&gauges, later)[2] > 200, "it is forgotten");
    }

    #[test]
    fn a_slow_endpoint_gets_little_and_is_tried_again() {
        let gauges = at_rest(&[1, 1]);
        observe(&gauges[0], 100 * MS, *START);
        observe(&gauges[1], 5 * MS, *START);
        assert_eq!(shares(&gauges, *START)[0], 0);
        // The others are refreshed all the time.
        let later = *START + Duration::from_secs(60);
        observe(&gauges[1], 5 * MS, later);
        assert!(shares(&gauges, later)[0] > 0);
    }

    #[test]
    fn what_is_unmeasured_starts_from_the_median() {
        let gauges = at_rest(&[1; 5]);
        for (gauge, ms) in gauges.iter().zip([4, 5, 6, 7]) {
            observe(gauge, ms * MS, *START);
        }
        let unmeasured = shares(&gauges, *START)[4];
        assert!((50..400).contains(&unmeasured), "{unmeasured} of 1000");
    }

    #[test]
    fn noise_does_not_decide() {
        let gauges = at_rest(&[1; 4]);
        for (gauge, micros) in gauges.iter().zip([5000, 5200, 5400, 5500]) {
            observe(gauge, Duration::from_micros(micros), *START);
        }
        let shares = shares(&gauges, *START);
        assert!(shares.iter().all(|share| (200..300).contains(share)), "{shares:?}");
    }
}
