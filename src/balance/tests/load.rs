//! A pool in virtual time: requests arrive, policies choose, endpoints answer, stall or fail.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::*;

/// How an endpoint treats a request that comes at this time, since the beginning.
pub(in crate::balance) type Endpoint = fn(Duration) -> Answer;

/// What becomes of a request.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::balance) enum Answer {
    /// A response begins after this time, which is its end, too.
    After(Duration),
    /// It fails after this time.
    Fails(Duration),
}

/// A policy in front of endpoints.
pub(in crate::balance) struct Pool {
    policy: Box<dyn Policy>,
    pub(in crate::balance) gauges: Vec<Arc<Gauge>>,
    endpoints: Vec<Endpoint>,
    under_way: BinaryHeap<Reverse<(Instant, usize, Instant, Answer)>>,
    lots: Box<dyn Iterator<Item = u64>>,
    now: Instant,
    /// Endpoints from this index on get no request.
    pub(in crate::balance) absent_from: usize,
}

impl Pool {
    pub(in crate::balance) fn new(kind: &str, seed: u64, weights: &[u32], endpoints: &[Endpoint]) -> Self {
        Self {
            policy: Choice::named(kind).unwrap().build(&Setup::default()),
            gauges: at_rest(weights),
            endpoints: endpoints.to_vec(),
            under_way: BinaryHeap::new(),
            lots: Box::new(draws(seed)),
            now: *START,
            absent_from: usize::MAX,
        }
    }

    /// Runs for a time at this many requests a second, at random intervals, and tells how many each
    /// endpoint got.
    pub(in crate::balance) fn run(&mut self, time: Duration, rate: f64) -> Vec<u32> {
        let mut counts = vec![0; self.gauges.len()];
        let usable: Vec<u32> = (0..self.gauges.len().min(self.absent_from) as u32).collect();
        let end = self.now + time;
        loop {
            let lot = (self.lot() >> 11) as f64 / (1_u64 << 53) as f64;
            let next = self.now + Duration::from_secs_f64(-(1.0 - lot).ln() / rate);
            self.settle(next.min(end));
            if next > end {
                self.now = end;
                return counts;
            }
            self.now = next;
            let pick = Pick { now: next, ..at(&usable, self.lot()) };
            let chosen = self.policy.pick(&self.gauges, &pick).unwrap();
            counts[chosen] += 1;
            self.gauges[chosen].begin(next);
            let answer = self.endpoints[chosen](next - *START);
            let (Answer::After(took) | Answer::Fails(took)) = answer;
            self.under_way.push(Reverse((next + took, chosen, next, answer)));
        }
    }

    fn settle(&mut self, upto: Instant) {
        while let Some(Reverse((at, index, began, answer))) = self.under_way.peek().copied()
            && at <= upto
        {
            self.under_way.pop();
            let gauge = &self.gauges[index];
            gauge.waited(began);
            gauge.end();
            match answer {
                Answer::After(took) => {
                    estimate::observe(gauge, took, at);
                    estimate::succeed(gauge);
                }
                Answer::Fails(_) => estimate::penalise(gauge, at),
            }
        }
    }

    fn lot(&mut self) -> u64 {
        self.lots.next().unwrap()
    }
}

pub(in crate::balance) const SECOND: Duration = Duration::from_secs(1);

pub(in crate::balance) fn after_ms(ms: u32) -> Answer {
    Answer::After(MS * ms)
}

/// Each endpoint's part of all, in per cent.
pub(in crate::balance) fn percent(counts: &[u32]) -> Vec<f64> {
    let whole = f64::from(counts.iter().sum::<u32>());
    counts.iter().map(|count| f64::from(*count) * 100.0 / whole).collect()
}

#[test]
fn shares_follow_weights_under_load_too() {
    let steady: Endpoint = |_| after_ms(20);
    for kind in ["peak_ewma", "p2c", "least_requests", "least_time"] {
        for rate in [20.0, 500.0, 5000.0] {
            for weights in [[1, 1, 1, 1], [1, 2, 3, 4], [10, 10, 1, 10]] {
                let mut pool = Pool::new(kind, 3, &weights, &[steady; 4]);
                let shares = percent(&pool.run(SECOND * (20_000.0 / rate) as u32, rate));
                let whole: u32 = weights.iter().sum();
                for (share, weight) in shares.iter().zip(weights) {
                    let due = f64::from(weight) * 100.0 / f64::from(whole);
                    assert!((share - due).abs() < 3.0, "{kind} {rate} {weights:?}: {shares:.1?}");
                }
            }
        }
    }
}

#[test]
fn those_that_see_load_spread_it_better_than_lots() {
    // One in ten requests takes 50 times as long.
    let uneven: Endpoint = |at| after_ms(if at.subsec_nanos() % 10 == 0 { 500 } else { 10 });
    let most = |kind: &str| {
        let mut pool = Pool::new(kind, 5, &[1; 10], &[uneven; 10]);
        let mut most = 0;
        for _ in 0..2000 {
            pool.run(10 * MS, 1000.0);
            most += pool.gauges.iter().map(|gauge| gauge.in_flight()).max().unwrap();
        }
        f64::from(most) / 2000.0
    };
    let (lots, two, all) = (most("random"), most("p2c"), most("least_requests"));
    assert!(all < two && two < lots * 0.75, "busiest of 10, mean: {all} {two} {lots}");
}
