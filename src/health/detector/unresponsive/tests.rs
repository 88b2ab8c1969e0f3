use super::super::tests::{Story, TICK, latencies};
use super::*;

const MS: Duration = Duration::from_millis(1);

/// Answers so many requests in a tick, each after `took`.
fn answers(requests: usize, took: Duration) -> Sample {
    latencies(&vec![took; requests])
}

/// Answers nothing; requests wait.
fn waits(waiting: u32, age: Duration) -> Sample {
    Sample { waiting, waiting_age: age, ..Sample::default() }
}

/// Ticks from the hanging of the first endpoint until it is found, with `rate` requests in a tick,
/// while the others answer after `took`; `None` if it is not within 10 s.
fn ticks_to_find(rate: u32, most: u32, took: Duration) -> Option<u32> {
    let mut story = Story::of("unresponsive", &[]);
    for _ in 0..50 {
        assert_eq!(story.tick(&[answers(5, took), answers(5, took)]), []);
    }
    (1..50).find(|ticks| {
        let waiting = (rate * ticks).min(most);
        // The youngest of those that still come have just come.
        let youngest = TICK * (ticks - waiting.div_ceil(rate));
        let hung = waits(waiting, youngest + TICK * waiting.div_ceil(rate) / 2);
        story.tick(&[hung, answers(5, took)]).iter().any(|finding| finding.endpoint == 0)
    })
}

#[test]
fn what_hangs_is_found_before_two_seconds_are_over() {
    for (rate, most) in [(1, 2), (5, 3), (5, 1000), (20, 1000)] {
        let found = ticks_to_find(rate, most, 5 * MS);
        assert!(found.is_some_and(|ticks| (5..=8).contains(&ticks)), "{rate} up to {most}: {found:?}");
    }
    assert_eq!(ticks_to_find(1, 1, 5 * MS), None, "one may be anything");
}

#[test]
fn what_is_slow_by_nature_is_given_more_time() {
    let found = ticks_to_find(5, 1000, 600 * MS);
    assert!(found.is_some_and(|ticks| ticks >= 12), "{found:?}");
    assert_eq!(ticks_to_find(5, 1000, 20_000 * MS), None);
}

#[test]
fn long_polls_are_let_be() {
    let mut story = Story::of("unresponsive", &[]);
    // One in twenty is one.
    let mixed: Vec<_> = (0..20).map(|index| if index == 0 { 30_000 * MS } else { 5 * MS }).collect();
    for _ in 0..50 {
        assert_eq!(story.tick(&[latencies(&mixed), latencies(&mixed)]), []);
    }
    for tick in 1..50 {
        // Three old ones wait at the first, and two that came just now.
        let age = (30_000 * MS * 3 + TICK * tick * 5) / 5;
        let mut found = story.tick(&[waits(5, age), latencies(&mixed)]);
        assert!(found.pop().is_none(), "tick {tick}");
    }
    let mut story = Story::of("unresponsive", &[]);
    for tick in 1..50 {
        let found = story.tick(&[waits(8, TICK * tick), waits(8, TICK * tick)]);
        assert_eq!(found, [], "nobody answers");
    }
}

#[test]
fn clients_that_give_up_are_no_answer() {
    let mut story = Story::of("unresponsive", &[]);
    for _ in 0..50 {
        story.tick(&[answers(5, 5 * MS), answers(5, 5 * MS)]);
    }
    let found = (1..=9).find(|ticks| {
        let gave_up = if *ticks > 5 { latencies(&[1100 * MS]) } else { Sample::default() };
        let hung = Sample { waiting: 5 * ticks, waiting_age: TICK * *ticks / 2, ..gave_up };
        !story.tick(&[hung, answers(5, 5 * MS)]).is_empty()
    });
    assert!(found.is_some(), "{found:?}");
}

#[test]
fn evidence_has_its_inputs() {
    let mut story = Story::of("unresponsive", &[]);
    story.tick(&[answers(900, 5 * MS), answers(900, 5 * MS)]);
    let mut found = Vec::new();
    for tick in 1..=6 {
        assert_eq!(found, []);
        found = story.tick(&[waits(tick, TICK * tick / 2), answers(5, 5 * MS)]);
    }
    assert_eq!(
        found[0].evidence.words,
        "no response began in 1.0 s while 6 requests wait, 600 ms on average; the others answer, nine in \
         ten requests within 4.9 ms (threshold 1.0 s and 4 times that)"
    );
    story.forget(0);
    assert_eq!(story.tick(&[waits(9, 2000 * MS), answers(5, 5 * MS)]), []);
}
