use super::super::tests::{Lots, Story, TICK, latencies};
use super::*;
use crate::health::Sample;

const MS: Duration = Duration::from_millis(1);

/// One tick in which each endpoint answers so many requests a second with these medians, one in a
/// hundred of them ten times as slowly.
fn tick(story: &mut Story, lots: &mut Lots, endpoints: &[(f64, Duration)]) -> Vec<Finding> {
    let samples: Vec<Sample> = endpoints
        .iter()
        .map(|(rate, median)| {
            let requests = lots.poisson(rate * TICK.as_secs_f64());
            let times: Vec<_> = (0..requests)
                .map(|_| lots.time(*median, 0.5) * if lots.unit() < 0.01 { 10 } else { 1 })
                .collect();
            latencies(&times)
        })
        .collect();
    story.tick(&samples)
}

/// Seconds until the first endpoint is found, as slow as `median` while the others take 5 ms, and
/// until it is found again, at a tenth of its rate.
fn found_after(rate: f64, median: Duration, of: usize, seed: u64) -> (f64, f64) {
    let (mut story, mut lots) = (Story::of("latency", &[]), Lots::new(seed));
    let mut endpoints = vec![(rate, 5 * MS); of];
    for _ in 0..52 {
        assert_eq!(tick(&mut story, &mut lots, &endpoints), [], "seed {seed}");
    }
    endpoints[0].1 = median;
    let mut degraded = None;
    for ticks in 1..500 {
        let found = tick(&mut story, &mut lots, &endpoints);
        endpoints[0].0 = if found.is_empty() { rate } else { rate / 10.0 };
        for finding in found {
            assert_eq!(finding.endpoint, 0, "seed {seed}: {finding:?}");
            let seconds = f64::from(ticks) * TICK.as_secs_f64();
            let first = *degraded.get_or_insert(seconds);
            if finding.severity == Severity::Eject {
                return (first, seconds);
            }
        }
    }
    (degraded.unwrap_or(f64::INFINITY), f64::INFINITY)
}

#[test]
fn one_of_a_few_that_is_twenty_times_slower_is_out_within_ten_seconds() {
    for (rate, of, most) in [(25.0, 4, 10.0), (100.0, 4, 8.0), (25.0, 2, 10.0), (25.0, 3, 10.0)] {
        for seed in 0..40 {
            let (degraded, ejected) = found_after(rate, 100 * MS, of, seed);
            assert!(degraded <= 4.6, "{of} at {rate}/s, seed {seed}: degraded after {degraded} s");
            assert!(ejected <= most, "{of} at {rate}/s, seed {seed}: ejected after {ejected} s");
        }
    }
}

#[test]
fn three_times_slower_or_by_forty_milliseconds_is_no_outlier() {
    for seed in 0..20 {
        assert_eq!(found_after(50.0, 15 * MS, 4, seed).0, f64::INFINITY, "seed {seed}");
        let (mut story, mut lots) = (Story::of("latency", &[]), Lots::new(seed));
        for _ in 0..100 {
            let endpoints = [(50.0, 300 * MS), (50.0, 100 * MS), (50.0, 100 * MS)];
            assert_eq!(tick(&mut story, &mut lots, &endpoints), [], "seed {seed}");
        }
    }
}

#[test]
fn where_all_are_slow_nobody_stands_out() {
    for seed in 0..20 {
        for rate in [3.0, 10.0, 50.0] {
            let (mut story, mut lots) = (Story::of("latency", &[]), Lots::new(seed));
            for ticks in 0..150 {
                let median = if ticks < 70 { 5 * MS } else { 200 * MS };
                let found = tick(&mut story, &mut lots, &[(rate, median); 4]);
                assert_eq!(found, [], "seed {seed}, {rate}/s, tick {ticks}");
            }
        }
    }
}

#[test]
fn few_requests_are_gathered_for_longer() {
    for seed in 0..20 {
        let (degraded, ejected) = found_after(4.0, 300 * MS, 4, seed);
        assert!(degraded <= 16.0 && ejected <= 60.0, "seed {seed}: {degraded} {ejected}");
    }
}

#[test]
fn one_that_is_quick_again_is_let_go() {
    let (mut story, mut lots) = (Story::of("latency", &[]), Lots::new(1));
    let mut endpoints = [(50.0, 100 * MS), (50.0, 5 * MS), (50.0, 5 * MS)];
    while tick(&mut story, &mut lots, &endpoints).is_empty() {}
    endpoints[0].1 = 5 * MS;
    let held = (0..).find(|_| tick(&mut story, &mut lots, &endpoints).is_empty());
    assert!(held.is_some_and(|ticks| ticks <= 16), "{held:?}");
    assert!((0..100).all(|_| tick(&mut story, &mut lots, &endpoints).is_empty()));
}

#[test]
fn one_that_comes_back_as_slow_is_out_again_at_once() {
    let (mut story, mut lots) = (Story::of("latency", &[]), Lots::new(1));
    let ejected = |found: Vec<Finding>| found.iter().any(|finding| finding.severity == Severity::Eject);
    let endpoints = [(50.0, 100 * MS), (50.0, 5 * MS), (50.0, 5 * MS)];
    while !ejected(tick(&mut story, &mut lots, &endpoints)) {}
    story.forget(0);
    for _ in 0..100 {
        assert_eq!(tick(&mut story, &mut lots, &[(0.0, 5 * MS), endpoints[1], endpoints[2]]), []);
    }
    story.forget(0);
    let endpoints = [(5.0, 100 * MS), endpoints[1], endpoints[2]];
    let ticks = (1..).find(|_| ejected(tick(&mut story, &mut lots, &endpoints)));
    assert!(ticks.is_some_and(|ticks| ticks <= 10), "{ticks:?}");
    story.forget(0);
    let endpoints = [(50.0, 5 * MS), endpoints[1], endpoints[2]];
    assert!((0..100).all(|_| tick(&mut story, &mut lots, &endpoints).is_empty()));
}

#[test]
fn it_is_told_on_every_look_until_it_is_forgotten() {
    let mut story = Story::of("latency", &[]);
    let samples = [vec![400 * MS; 5], vec![5 * MS; 5], vec![6 * MS; 5]].map(|times| latencies(&times));
    let mut found = Vec::new();
    while found.is_empty() {
        found = story.tick(&samples);
    }
    assert_eq!((found[0].endpoint, found[0].severity), (0, Severity::Degrade));
    assert_eq!(
        found[0].evidence.words,
        "90 % of 25 requests took up to 410 ms; the median of 2 others is 5.4 ms, the threshold 55 ms \
         (4 times that and 50 ms more, in 3 of 5 intervals of 1.0 s)"
    );
    assert_eq!(story.tick(&samples), found);
    story.forget(0);
    assert_eq!(story.tick(&samples), []);
}
