//! Checks, slow start and orders.

use super::*;

#[test]
fn a_new_endpoint_is_used_after_its_first_pass() {
    let mut world = World::new(checked(), &[0, 0]);
    assert_eq!((world.state(0), world.available()), (State::Unchecked, vec![]));
    world.check(0, true);
    assert_eq!((world.state(0), world.factor(0)), (State::Up, 1000), "nobody starts slowly at first");
    assert_eq!(world.available(), [0]);
    world.run(seconds(5));
    assert_eq!(world.state(1), State::Unchecked, "another has passed, so the pool is open");
    assert_eq!(world.events(), [(Some(0), "checked"), (Some(0), "came_up")]);
}

#[test]
fn a_pool_opens_as_it_is_when_no_check_passes() {
    let mut world = World::new(checked(), &[0, 0, 0]);
    world.check(0, false);
    world.run(millis(1800));
    assert!(world.available().is_empty());
    world.run(millis(400));
    assert_eq!((world.available(), world.state(0), world.factor(0)), (vec![0, 1, 2], State::Up, 1000));
    world.check(0, false);
    world.check(0, false);
    assert_eq!((world.state(0), world.available()), (State::Down, vec![1, 2]));
    world.check(1, true);
    assert_eq!(world.factor(1), 1000);
    let names: Vec<_> = world.events().into_iter().map(|(_, name)| name).collect();
    assert_eq!(
        names,
        ["checked", "opened_unchecked", "checked", "checked", "went_down", "checked"],
        "no word of coming up: it was in use"
    );
}

#[test]
fn three_failures_take_it_down_and_two_passes_bring_it_up_slowly() {
    let mut world = World::new(checked(), &[0, 0]);
    world.check(0, true);
    world.check(1, true);
    for (passed, state) in [
        (false, State::Up),
        (false, State::Up),
        (true, State::Up),
        (false, State::Up),
        (false, State::Up),
        (false, State::Down),
        (false, State::Down),
        (true, State::Down),
        (false, State::Down),
        (true, State::Down),
        (true, State::Warming),
    ] {
        world.check(0, passed);
        assert_eq!(world.state(0), state);
    }
    assert_eq!((world.factor(0), world.factor(1)), (100, 1000));
    world.run(seconds(5));
    assert!((530..=570).contains(&world.factor(0)), "{}", world.factor(0));
    world.run(seconds(5));
    assert_eq!((world.factor(0), world.state(0)), (1000, State::Up));
    assert_eq!(world.events().last(), Some(&(Some(0), "recovered")));
}

#[test]
fn checks_come_faster_while_a_verdict_is_changing() {
    let rhythm = Rhythm { down_interval: seconds(9), jitter: 0.2, ..Rhythm::default() };
    let mut world = World::new(HealthSettings { checks: Some(rhythm), ..settings() }, &[0]);
    let next =
        |world: &World| world.health.next_check(0, u64::MAX / 2).map(|pause| pause.as_secs_f64().round());
    assert_eq!(next(&world), Some(1.0), "unchecked");
    world.check(0, true);
    assert_eq!(next(&world), Some(5.0));
    world.check(0, false);
    assert_eq!(next(&world), Some(1.0));
    world.check(0, false);
    world.check(0, false);
    assert_eq!(next(&world), Some(9.0), "down");
    world.check(0, true);
    assert_eq!(next(&world), Some(1.0));
    world.check(0, true);
    let near = |draw: u64, pause: f64| {
        (world.health.next_check(0, draw).unwrap().as_secs_f64() - pause).abs() < 1e-6
    };
    assert!(near(0, 4.0) && near(u64::MAX, 6.0));
    world.order(0, Command::Disable, None);
    assert_eq!(next(&world), None);
    world.order(0, Command::Enable, None);
    assert_eq!(next(&world), Some(1.0));
    assert_eq!(world.health.next_check(7, 0), None);
    assert_eq!(World::of(1).health.next_check(0, 0), None);
}

#[test]
fn orders_take_out_and_end_by_themselves() {
    let mut world = World::new(checked(), &[0, 0]);
    world.check(0, true);
    world.check(1, true);
    world.order(0, Command::Drain, Some(seconds(30)));
    let standing = world.health.standings()[0];
    assert_eq!((standing.state, standing.excluded, standing.available), (State::Draining, true, false));
    assert!(world.health.next_check(0, 0).is_some(), "checks go on");
    world.order(0, Command::Enable, None);
    assert_eq!(world.state(0), State::Draining, "that ends something else");
    let took = world.until(|world| world.state(0) != State::Draining);
    assert_eq!((took, world.state(0), world.factor(0)), (seconds(30), State::Warming, 100));
    world.order(1, Command::Disable, None);
    world.check(1, false);
    world.order(1, Command::Enable, None);
    assert_eq!(world.state(1), State::Unchecked);
    world.check(1, true);
    assert_eq!((world.state(1), world.factor(1)), (State::Warming, 100), "it comes back slowly");
    let names: Vec<_> = world.events().into_iter().filter(|(_, name)| *name != "checked").collect();
    let expected = [
        (Some(0), "came_up"),
        (Some(1), "came_up"),
        (Some(0), "ordered"),
        (Some(0), "ordered"),
        (Some(0), "order_over"),
        (Some(1), "ordered"),
        (Some(1), "ordered"),
        (Some(1), "came_up"),
    ];
    assert_eq!(names, expected);
}

#[test]
fn checks_that_pass_while_requests_fail_disagree() {
    let mut world = World::new(checked(), &[0, 0, 0]);
    (0..3).for_each(|endpoint| world.check(endpoint, true));
    world.run(seconds(1));
    world.moods[0] = Mood::Fails(2);
    world.run(seconds(3));
    assert!(!world.health.disagrees(0), "no check since it began");
    (0..3).for_each(|endpoint| world.check(endpoint, true));
    world.run(seconds(1));
    (0..3).for_each(|endpoint| world.check(endpoint, true));
    assert_eq!([0, 1, 2].map(|endpoint| world.health.disagrees(endpoint)), [true, false, false]);
    let disagreements = |world: &World| world.log.iter().filter(|e| e.what == What::Disagreement).count();
    assert_eq!(disagreements(&world), 1, "once in an episode");
    world.check(0, false);
    assert!(!world.health.disagrees(0));
    world.moods[0] = Mood::Well;
    world.run(seconds(20));
    world.check(0, true);
    assert_eq!((world.health.disagrees(0), disagreements(&world)), (false, 1));
}
