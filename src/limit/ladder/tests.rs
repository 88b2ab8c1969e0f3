//! The ladder in stories, and by properties over seeds: no rung is left before its time.

use super::*;
use crate::model::mix::{STEP, mix};

const TICK: Duration = Duration::from_millis(200);
const GOOD: Tries = Tries { passed: 10, failed: 0 };
const BAD: Tries = Tries { passed: 0, failed: 10 };
const NONE: Tries = Tries { passed: 0, failed: 0 };

/// A ladder and its clock.
struct World {
    ladder: Ladder,
    now: Instant,
}

impl World {
    fn new(rungs: usize) -> Self {
        Self { ladder: Ladder::new(LadderSettings::default(), rungs), now: crate::ambient::now() }
    }

    fn tick(&mut self, tries: &[Tries]) -> Option<Change> {
        self.now += TICK;
        self.ladder.on_tick(tries, true, self.now)
    }

    /// Ticks until something changes: after how many, and what.
    fn until(&mut self, tries: &[Tries]) -> (u32, Change) {
        (1..1000).find_map(|n| self.tick(tries).map(|change| (n, change))).expect("nothing changed")
    }
}

#[test]
fn a_pool_that_fails_is_left_and_one_that_is_well_is_returned_to() {
    let mut world = World::new(2);
    assert!((0..100).all(|_| world.tick(&[GOOD]).is_none()));
    let (ticks, change) = world.until(&[BAD]);
    assert!((24..28).contains(&ticks), "half of the window: {ticks}");
    assert_eq!((change.from, change.to), (0, 1));
    let one = Tries { passed: 1, failed: 0 };
    let (ticks, change) = world.until(&[one, GOOD]);
    assert_eq!((ticks, change.from, change.to), (26, 1, 0));
    assert_eq!(change.cause, Cause::Trials { passed: 26, lasted: Duration::from_secs(5) });
}

#[test]
fn few_requests_say_nothing() {
    let mut world = World::new(1);
    assert!((0..19).all(|_| world.tick(&[Tries { passed: 0, failed: 1 }]).is_none()));
    let change = world.tick(&[Tries { passed: 0, failed: 1 }]).unwrap();
    assert_eq!(change.cause, Cause::Failures { share: 1.0, requests: 20 });
    let mut world = World::new(1);
    let half = Tries { passed: 6, failed: 5 };
    assert!((0..1000).all(|_| world.tick(&[half]).is_none()));
}

#[test]
fn where_nobody_is_there_it_goes_down_at_once() {
    let mut world = World::new(2);
    let change = world.ladder.on_tick(&[NONE], false, world.now).unwrap();
    assert_eq!((change.to, change.cause), (1, Cause::Unavailable));
    for _ in 0..100 {
        world.now += TICK;
        assert_eq!(world.ladder.on_tick(&[GOOD, GOOD], false, world.now), None, "still nobody");
    }
}

#[test]
fn it_goes_down_rung_by_rung_and_not_past_the_last() {
    let mut world = World::new(2);
    assert_eq!(world.until(&[BAD]), (2, Change { from: 0, to: 1, cause: failures(20) }));
    assert_eq!(world.until(&[BAD, BAD]), (2, Change { from: 1, to: 2, cause: failures(20) }));
    assert!((0..1000).all(|_| world.tick(&[BAD, BAD, BAD]).is_none()));
    let (_, change) = world.until(&[BAD, GOOD]);
    assert_eq!((change.from, change.to), (2, 1));
    let (_, change) = world.until(&[GOOD, GOOD]);
    assert_eq!((change.from, change.to), (1, 0));
}

fn failures(requests: u64) -> Cause {
    Cause::Failures { share: 1.0, requests }
}

#[test]
fn a_trial_that_fails_begins_the_time_anew() {
    let mut world = World::new(1);
    world.until(&[BAD]);
    let (pass, fail) = (Tries { passed: 1, failed: 0 }, Tries { passed: 0, failed: 1 });
    for _ in 0..20 {
        assert!((0..3).all(|_| world.tick(&[pass]).is_none()));
        assert!(world.tick(&[fail]).is_none());
    }
    // One in a hundred is what healthy pools do.
    assert!((0..20).all(|_| world.tick(&[GOOD]).is_none()));
    assert!(world.tick(&[Tries { passed: 9, failed: 1 }]).is_none());
    assert_eq!(world.until(&[GOOD]).1.to, 0);
}

#[test]
fn no_traffic_changes_nothing() {
    let mut world = World::new(1);
    world.until(&[BAD]);
    assert!((0..1000).all(|_| world.tick(&[NONE, NONE]).is_none()));
    assert_eq!(world.tick(&[GOOD, NONE]), None);
    assert_eq!(world.until(&[NONE, NONE]).1.to, 0);
}

#[test]
fn relapses_are_trusted_less() {
    let mut world = World::new(1);
    let mut times = Vec::new();
    for _ in 0..6 {
        world.until(&[BAD]);
        times.push(world.until(&[GOOD, GOOD]).0);
    }
    assert_eq!(times, [26, 51, 101, 201, 201, 201]);
    assert!((0..1000).all(|_| world.tick(&[GOOD]).is_none()));
    world.until(&[BAD]);
    assert_eq!(world.until(&[GOOD, GOOD]).0, 26);
}

#[test]
fn no_rung_is_left_for_a_better_one_before_its_time() {
    for seed in 0..200_u64 {
        let mut draws = (0_u64..).map(|n| mix(seed.wrapping_mul(0xA5A5).wrapping_add(n.wrapping_mul(STEP))));
        let mut draw = |n: u64| draws.next().unwrap() % n;
        let rungs = 1 + draw(4) as usize;
        let mut world = World::new(rungs);
        let mut went_down = None;
        let mut broken = vec![0; rungs + 1];
        for tick in 0..3000 {
            if draw(40) == 0 {
                broken.iter_mut().for_each(|share| *share = draw(5));
            }
            let tries: Vec<_> = broken
                .iter()
                .map(|share| {
                    let failed = draw(20) * share / 4;
                    Tries { passed: draw(20) * (4 - share) / 4, failed }
                })
                .collect();
            world.now += TICK;
            let before = world.ladder.rung();
            let change = world.ladder.on_tick(&tries, draw(500) > 0, world.now);
            let rung = world.ladder.rung();
            assert!(rung <= rungs && world.ladder.runs.len() == rung, "seed {seed}, tick {tick}");
            let Some(Change { from, to, .. }) = change else {
                assert_eq!(rung, before, "seed {seed}, tick {tick}");
                continue;
            };
            assert_eq!((from, to), (before, rung), "seed {seed}, tick {tick}");
            if to > from {
                assert_eq!(to, from + 1, "seed {seed}, tick {tick}");
                went_down = (from == 0).then_some(world.now).or(went_down);
            } else if to == 0 {
                let lasted = world.now - went_down.unwrap();
                assert!(lasted >= Duration::from_secs(5), "seed {seed}, tick {tick}: {lasted:?}");
            }
        }
    }
}
