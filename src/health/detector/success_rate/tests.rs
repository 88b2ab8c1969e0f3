use super::super::tests::{Lots, Story, TICK, sample};
use crate::health::Sample;

/// Ticks of 200 ms from the first failure until the first endpoint is found, when it fails a share
/// of `rate` requests a second, as the others do of theirs; `None` if it is not within a minute.
/// Panics if another is found.
fn ticks_to_find(shares: &[f64], rate: f64, seed: u64) -> Option<u32> {
    let mut story = Story::of("success_rate", &[]);
    let mut lots = Lots::new(seed);
    let mut first = None;
    for tick in 0..350_u32 {
        let samples: Vec<Sample> = shares
            .iter()
            .map(|share| {
                let requests = lots.poisson(rate * TICK.as_secs_f64());
                let failed = lots.binomial(requests, if tick < 50 { 0.0 } else { *share });
                sample(requests - failed, failed)
            })
            .collect();
        if samples[0].failed() > 0 {
            first.get_or_insert(tick);
        }
        for finding in story.tick(&samples) {
            assert!(shares[finding.endpoint] > 0.05, "seed {seed}: {finding:?}");
            if finding.endpoint == 0 {
                return Some(tick - first.unwrap_or_default());
            }
        }
    }
    None
}

fn quantiles(shares: &[f64], rate: f64) -> (u32, u32) {
    let mut all: Vec<_> = (0..50).map(|seed| ticks_to_find(shares, rate, seed).unwrap_or(u32::MAX)).collect();
    all.sort_unstable();
    (all[25], all[48])
}

#[test]
fn one_of_a_few_that_fails_a_third_is_found_in_a_second_or_two() {
    for (of, rate, median, most) in [(4, 25.0, 6, 15), (4, 100.0, 2, 6), (3, 25.0, 6, 15), (2, 25.0, 6, 15)] {
        let mut shares = vec![0.0; of];
        shares[0] = 0.3;
        let found = quantiles(&shares, rate);
        assert!(found.0 <= median && found.1 <= most, "{of} at {rate}/s: {found:?}");
    }
}

#[test]
fn half_of_a_pool_may_fail() {
    let found = quantiles(&[0.3, 0.3, 0.0, 0.0], 50.0);
    assert!(found.0 <= 4 && found.1 <= 10, "{found:?}");
    let third: Vec<f64> = (0..21).map(|index| if index % 3 == 0 { 0.3 } else { 0.0 }).collect();
    let found = quantiles(&third, 25.0);
    assert!(found.0 <= 6 && found.1 <= 15, "{found:?}");
}

#[test]
fn a_little_worse_is_no_outlier() {
    for seed in 0..40 {
        let mut shares = vec![0.001; 20];
        shares[0] = 0.01;
        assert_eq!(ticks_to_find(&shares, 25.0, seed), None, "seed {seed}");
        assert_eq!(ticks_to_find(&[0.02, 0.0], 25.0, seed), None, "seed {seed}");
    }
}

#[test]
fn where_all_fail_nobody_stands_out() {
    for seed in 0..30 {
        for of in [2, 4, 20] {
            let mut story = Story::of("success_rate", &[]);
            let mut lots = Lots::new(seed);
            for tick in 0..100 {
                let share = if tick < 50 { 0.0 } else { 0.3 };
                let samples: Vec<_> = (0..of)
                    .map(|_| {
                        let requests = lots.poisson(5.0);
                        let failed = lots.binomial(requests, share);
                        sample(requests - failed, failed)
                    })
                    .collect();
                let found = story.tick(&samples);
                assert!(found.is_empty(), "seed {seed}, {of} endpoints, tick {tick}: {found:?}");
            }
        }
    }
}

#[test]
fn an_endpoint_alone_is_compared_with_nobody() {
    let mut story = Story::of("success_rate", &[]);
    for _ in 0..100 {
        assert_eq!(story.tick(&[sample(0, 20)]), []);
    }
}

#[test]
fn evidence_has_its_inputs() {
    let mut story = Story::of("success_rate", &[]);
    for _ in 0..50 {
        assert_eq!(story.tick(&[sample(5, 0), sample(5, 0), sample(5, 0), sample(5, 0)]), []);
    }
    let mut found = Vec::new();
    while found.is_empty() {
        found = story.tick(&[sample(2, 3), sample(5, 0), sample(5, 0), sample(5, 0)]);
    }
    assert_eq!(
        found[0].evidence.words,
        "36 % of 25 requests in 1.0 s failed; the median of 3 others is 0 % (MAD 0 %), \
         the threshold 10 points above it"
    );
    let share = found[0].evidence.values.iter().find(|(name, _)| *name == "failure_share");
    assert_eq!(share, Some(&("failure_share", 0.36)));
}

#[test]
fn one_that_comes_back_has_less_benefit_of_the_doubt() {
    let mut story = Story::of("success_rate", &[]);
    let others = || [sample(5, 0), sample(5, 0), sample(5, 0)];
    let tick = |story: &mut Story, first| {
        let [b, c, d] = others();
        story.tick(&[first, b, c, d])
    };
    let failures = |story: &mut Story| (1..).find(|_| !tick(story, sample(2, 1)).is_empty());
    for _ in 0..60 {
        assert_eq!(tick(&mut story, sample(5, 0)), []);
    }
    assert!(failures(&mut story) > Some(4));
    story.forget(0);
    assert_eq!(tick(&mut story, sample(2, 1)), [], "one says nothing");
    story.forget(0);
    assert_eq!(failures(&mut story), Some(3));
    story.forget(0);
    for _ in 0..100 {
        assert_eq!(tick(&mut story, sample(5, 0)), []);
    }
    assert!(failures(&mut story) > Some(4));
}
