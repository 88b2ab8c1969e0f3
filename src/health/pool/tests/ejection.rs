//! Findings, ejection, trial and return.

use super::*;

#[test]
fn who_fails_is_ejected_tried_and_returned_slowly() {
    let mut world = World::of(4);
    world.moods[1] = Mood::Dead;
    world.tick();
    assert_eq!((world.state(1), world.available()), (State::Ejected, vec![0, 2, 3]));
    world.moods[1] = Mood::Well;
    let took = world.until(|world| world.state(1) == State::OnTrial);
    assert_eq!(took, seconds(10));
    assert!(world.health.standings()[1].on_trial && !world.health.standings()[1].available);
    world.until(|world| world.state(1) == State::Warming);
    assert_eq!((world.factor(1), world.available().len()), (100, 4));
    world.until(|world| world.state(1) == State::Up);
    let expected = ["ejected", "on_trial", "trial_passed", "trial_passed", "returned", "recovered"];
    assert_eq!(world.events(), expected.map(|name| (Some(1), name)));
    let Count { detector, detected, enforced } = world.health.counts()[0];
    assert_eq!((detector, detected, enforced), ("strict", 1, 1));
}

#[test]
fn ejections_grow_while_it_fails_and_shrink_while_it_is_well() {
    let mut world = World::of(4);
    world.moods[1] = Mood::Dead;
    world.until(|world| world.state(1) == State::Ejected);
    for expected in [10, 20, 30, 40] {
        let took = world.until(|world| world.state(1) == State::OnTrial);
        assert_eq!(took, seconds(expected));
        world.tick();
        assert_eq!(world.state(1), State::Ejected, "one failure is enough");
    }
    world.moods[1] = Mood::Well;
    world.until(|world| world.state(1) == State::Up);
    // Five ejections, 50 and 40 seconds made good.
    world.run(seconds(81));
    world.moods[1] = Mood::Dead;
    world.log.clear();
    world.until(|world| world.state(1) == State::Ejected);
    let last = world.log.iter().find(|event| event.endpoint == Some(1)).unwrap();
    let What::Detected { effect: Effect::Ejected { lasts, times }, .. } = last.what else { panic!() };
    assert_eq!((times, lasts), (4, seconds(40)), "{last:?}");
}

#[test]
fn no_ejection_is_longer_than_the_longest() {
    let ejection = Ejection::default();
    let drawn = |times, draw| ejection.drawn(times, draw).as_secs_f64().round();
    assert_eq!((drawn(1, 0), drawn(1, u64::MAX), drawn(3, u64::MAX / 2)), (9.0, 11.0, 30.0));
    assert_eq!(drawn(u32::MAX, u64::MAX), 300.0);
    let caps = [(0, 0), (1, 0), (2, 1), (3, 1), (4, 2), (5, 2), (10, 5)];
    for (members, cap) in caps {
        assert_eq!(ejection.cap(members), cap, "{members}");
    }
    let all = Ejection { max_ejected: 1.0, ..Ejection::default() };
    assert_eq!([1, 2, 10].map(|members| all.cap(members)), [0, 1, 9]);
    let none = Ejection { max_ejected: 0.0, ..Ejection::default() };
    assert_eq!([1, 2, 10].map(|members| none.cap(members)), [0, 1, 1]);
}

#[test]
fn at_most_half_are_ejected() {
    let mut world = World::of(10);
    for endpoint in 0..6 {
        world.moods[endpoint] = Mood::Dead;
        world.run(seconds(1));
    }
    let ejected = (0..10).filter(|endpoint| world.state(*endpoint) == State::Ejected).count();
    assert_eq!(ejected, 5);
    world.run(seconds(3));
    let capped: Vec<_> = world.log.iter().filter(|e| e.what.name() == "detected").collect();
    assert_eq!(capped.len(), 6, "the sixth is told of once: {capped:#?}");
}

#[test]
fn what_is_down_counts_as_gone() {
    let mut world = World::new(checked(), &[0, 0, 0, 0]);
    (0..4).for_each(|endpoint| world.check(endpoint, true));
    for endpoint in [0, 1] {
        (0..3).for_each(|_| world.check(endpoint, false));
    }
    world.moods[2] = Mood::Dead;
    world.run(seconds(2));
    assert_eq!((world.state(2), world.available()), (State::Up, vec![2, 3]));
    assert_eq!(world.events().last(), Some(&(Some(2), "capped")));
}

#[test]
fn the_last_of_a_level_stays() {
    let mut world = World::new(settings(), &[0, 1, 1]);
    world.moods = vec![Mood::Dead; 3];
    world.run(seconds(2));
    assert_eq!(world.state(0), State::Up);
    world.order(1, Command::Drain, None);
    world.run(seconds(30));
    assert_eq!(world.available(), [0, 2]);
}

/// A pool of two, the first of them ejected.
fn half_ejected() -> World {
    let mut world = World::new(checked(), &[0, 0]);
    (0..2).for_each(|endpoint| world.check(endpoint, true));
    world.moods[0] = Mood::Dead;
    world.tick();
    assert_eq!((world.state(0), world.available()), (State::Ejected, vec![1]));
    world
}

#[test]
fn ejection_does_not_leave_a_pool_with_nothing() {
    let mut world = half_ejected();
    (0..3).for_each(|_| world.check(1, false));
    assert_eq!((world.state(0), world.available()), (State::OnTrial, vec![0]), "at once");
}

#[test]
fn who_is_alone_stays_on_trial_however_that_ends() {
    let mut world = half_ejected();
    world.requests = 0;
    world.run(seconds(15));
    (0..3).for_each(|_| world.check(1, false));
    world.requests = 1;
    world.log.clear();
    world.run(seconds(5));
    assert_eq!(world.available(), [0]);
    world.moods[0] = Mood::Fails(2);
    world.run(seconds(20));
    assert_eq!(world.available(), [0]);
    assert_eq!(world.events(), [(Some(0), "trial_passed")], "once");
    (0..2).for_each(|_| world.check(1, true));
    assert_eq!((world.state(0), world.available()), (State::OnTrial, vec![1]));
}

#[test]
fn a_trial_waits_for_the_check_and_the_check_alone_brings_nobody_back() {
    let mut world = World::new(checked(), &[0, 0, 0]);
    (0..3).for_each(|endpoint| world.check(endpoint, true));
    world.moods[0] = Mood::Dead;
    world.tick();
    (0..3).for_each(|_| world.check(0, false));
    world.run(seconds(15));
    assert_eq!(world.state(0), State::Down);
    world.requests = 0;
    (0..2).for_each(|_| world.check(0, true));
    assert_eq!(world.state(0), State::Ejected);
    world.run(seconds(60));
    (0..9).for_each(|_| world.check(0, true));
    assert_eq!(world.state(0), State::OnTrial, "no request came");
    assert_eq!(world.available(), [1, 2]);
}

#[test]
fn the_slow_get_a_tenth_until_they_are_not_found_for_a_while() {
    let mut world = World::of(4);
    world.moods[2] = Mood::Slow;
    world.run(seconds(20));
    assert_eq!((world.state(2), world.factor(2)), (State::Degraded, 100));
    assert_eq!(world.events(), [(Some(2), "degraded")], "once in an episode");
    world.moods[2] = Mood::Well;
    let took = world.until(|world| world.state(2) != State::Degraded);
    assert!((millis(2400)..millis(2900)).contains(&took), "{took:?}");
    world.until(|world| world.state(2) == State::Up);
    assert_eq!(world.factor(2), 1000);
    world.run(seconds(10));
    world.moods[2] = Mood::Slow;
    world.tick();
    let expected = [(Some(2), "recovered"), (Some(2), "degraded")];
    assert_eq!(world.events(), expected, "another episode");
    assert_eq!(world.health.counts()[0].detected, 2);
}

#[test]
fn who_observes_changes_nothing() {
    let mut world =
        World::new(HealthSettings { detectors: vec![strict(Mode::Observe)], ..settings() }, &[0; 4]);
    let version = world.health.version();
    world.moods[0] = Mood::Dead;
    world.run(seconds(10));
    assert_eq!((world.events(), world.health.version()), (vec![(Some(0), "observed")], version));
    let Count { detected, enforced, .. } = world.health.counts()[0];
    assert_eq!((detected, enforced), (1, 0));
}
