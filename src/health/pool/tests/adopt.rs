//! A pool that is changed while it runs.

use super::adversary::Dice;
use super::*;
use crate::health::detector::KINDS;

impl World {
    /// Has the pool be of these endpoints, given by the indexes that they had, and settings.
    fn adopt(&mut self, settings: HealthSettings, from: &[Option<usize>]) {
        let levels = vec![0; from.len()];
        self.health.part(from, &mut self.log);
        self.health.adopt(settings, Members { levels: &levels, from }, self.now, &mut self.log);
        self.moods = from.iter().map(|from| from.map_or(Mood::Well, |from| self.moods[from])).collect();
        self.served = from.iter().map(|from| from.map_or(0, |from| self.served[from])).collect();
        self.streaks = from.iter().map(|from| from.map_or(0, |from| self.streaks[from])).collect();
    }
}

fn quiet() -> HealthSettings {
    HealthSettings { detectors: Vec::new(), ..settings() }
}

#[test]
fn an_ejection_goes_on_wherever_its_endpoint_is_now() {
    let mut world = World::of(3);
    world.moods[0] = Mood::Dead;
    world.until(|world| world.state(0) == State::Ejected);
    world.run(seconds(4));
    let version = world.health.version();
    world.adopt(HealthSettings { slow_start: seconds(5), ..settings() }, &[Some(2), Some(1), Some(0)]);
    assert_eq!((world.state(0), world.state(2)), (State::Up, State::Ejected));
    assert_eq!((world.available(), world.health.version()), (vec![0, 1], version + 1));
    let left = world.until(|world| world.state(2) == State::OnTrial);
    assert!(seconds(5) < left && left <= seconds(6), "{left:?} of ten seconds were left");
    world.until(|world| world.state(2) == State::Ejected);
    assert!(world.log.iter().any(|event| matches!(event.what, What::TrialFailed { times: 2, .. })));
}

#[test]
fn an_order_holds_as_long_as_it_was_to() {
    let mut world = World::of(3);
    world.order(1, Command::Drain, Some(seconds(10)));
    world.order(2, Command::Disable, None);
    world.run(seconds(4));
    world.adopt(checked(), &[Some(1), Some(2), Some(0)]);
    assert_eq!([0, 1, 2].map(|index| world.state(index)), [State::Draining, State::Disabled, State::Up]);
    let left = world.until(|world| world.state(0) != State::Draining);
    assert!(left <= seconds(6), "{left:?} of ten seconds were left");
    assert_eq!(world.state(1), State::Disabled);
}

#[test]
fn who_leaves_is_named_by_the_index_that_it_had() {
    let mut world = World::of(3);
    world.run(seconds(1));
    world.log.clear();
    world.adopt(settings(), &[Some(2), None]);
    let told: Vec<_> =
        world.log.iter().map(|event| (event.endpoint, event.what.name(), event.state)).collect();
    let left = [0, 1].map(|index| (Some(index), "left", None));
    assert_eq!(told, [left[0], left[1], (Some(1), "joined", Some(State::Warming))]);
}

#[test]
fn who_joins_starts_slowly_and_who_was_on_its_way_goes_on() {
    let mut world = World::of(2);
    world.run(seconds(1));
    world.adopt(settings(), &[Some(0), Some(1), None]);
    assert_eq!((world.state(2), world.factor(2), world.factor(0)), (State::Warming, 100, 1000));
    world.run(seconds(5));
    let half = world.factor(2);
    assert!((500..600).contains(&half), "{half}");
    world.adopt(settings(), &[Some(2), Some(0)]);
    assert_eq!((world.factor(0), world.factor(1)), (half, 1000));
    world.run(seconds(6));
    assert_eq!(world.state(0), State::Up);
}

#[test]
fn who_joins_is_checked_before_it_counts() {
    let mut world = World::new(checked(), &[0]);
    world.check(0, true);
    world.adopt(checked(), &[Some(0), None, None, None]);
    let joined = world.health.standings()[1];
    assert_eq!((joined.state, joined.available, joined.excluded), (State::Unchecked, false, true));
    world.check(1, true);
    assert_eq!((world.state(1), world.factor(1)), (State::Warming, 100));
    world.check(2, false);
    assert!(world.health.standings()[2].excluded);
    // Where nobody is left, they are tried unchecked, as at the start.
    for endpoint in [0, 0, 0, 1, 1, 1] {
        world.check(endpoint, false);
    }
    assert!(world.available().is_empty() && !world.health.standings()[2].excluded);
    world.check(2, true);
    assert!(world.health.standings()[3].excluded);
    assert_eq!(world.available(), [2]);
}

#[test]
fn where_nobody_stays_it_is_as_at_the_start() {
    let mut world = World::new(checked(), &[0]);
    world.check(0, true);
    world.run(seconds(5));
    world.adopt(checked(), &[None, None]);
    assert!(!world.health.standings()[0].excluded);
    world.check(0, true);
    assert_eq!((world.state(0), world.factor(0)), (State::Up, 1000));
    let mut world = World::new(checked(), &[]);
    world.run(seconds(5));
    assert_eq!(world.events(), []);
    world.adopt(checked(), &[None, None]);
    world.run(seconds(1));
    assert!(world.available().is_empty());
    world.run(seconds(1));
    assert_eq!(world.available(), [0, 1], "no check has passed in two seconds");
    world.adopt(checked(), &[]);
    world.run(seconds(5));
    assert!(world.health.standings().is_empty() && world.health.next_check(0, 0).is_none());
}

#[test]
fn checks_that_are_new_throw_nobody_out_before_they_fail() {
    let mut world = World::of(2);
    world.run(seconds(1));
    world.adopt(checked(), &[Some(0), Some(1)]);
    assert_eq!((world.available(), world.state(0), world.factor(0)), (vec![0, 1], State::Up, 1000));
    world.check(0, true);
    assert_eq!(world.factor(0), 1000, "it was in use all the time");
    (0..2).for_each(|_| world.check(1, false));
    assert_eq!(world.available(), [0, 1]);
    world.check(1, false);
    assert_eq!(world.state(1), State::Down);
    world.events();
    world.adopt(settings(), &[Some(0), Some(1)]);
    assert_eq!((world.state(1), world.events()), (State::Warming, vec![(Some(1), "returned")]));
}

#[test]
fn detectors_that_are_no_more_hold_nobody() {
    let mut world = World::of(3);
    world.moods[1] = Mood::Dead;
    world.moods[2] = Mood::Slow;
    world.until(|world| world.state(1) == State::Ejected && world.state(2) == State::Degraded);
    world.events();
    world.adopt(quiet(), &[Some(0), Some(1), Some(2)]);
    assert_eq!((world.state(1), world.state(2)), (State::Warming, State::Up));
    assert_eq!(world.events(), [(Some(1), "returned")]);
    assert!(world.health.counts().is_empty());
    world.adopt(settings(), &[Some(0), Some(1), Some(2)]);
    assert_eq!(world.health.counts()[0].detected, 0);
}

/// Real detectors, of which each remembers something.
fn all() -> HealthSettings {
    use crate::model::options::{Options, Sink};
    let sink = Sink::default();
    let chosen = |kind: &'static Kind| {
        let options = Options::root(&[], &sink);
        let make = (kind.read)(&options);
        options.finish();
        Chosen { kind, mode: Mode::Enforce, make }
    };
    HealthSettings { detectors: KINDS.iter().map(chosen).collect(), ..checked() }
}

/// What happens is the same with and without changes in which all stay, or only trade places. If they
/// do, one of them alone fails: of several, the first is ejected.
#[test]
fn a_change_of_places_changes_nothing() {
    for seed in 0..30 {
        let mut dice = Dice(seed << 32);
        let trade = seed % 2 == 1;
        let count = 2 + dice.below(5) as usize;
        let (mut one, mut other) = (World::new(all(), &vec![0; count]), World::new(all(), &vec![0; count]));
        // Where each endpoint of the one is in the other.
        let mut place: Vec<_> = (0..count).collect();
        for step in 0..400 {
            let endpoint = dice.below(count as u64) as usize;
            match dice.below(20) {
                0 => {
                    let endpoint = if trade { 1 } else { endpoint };
                    let mood = [Mood::Well, Mood::Dead, Mood::Slow, Mood::Fails(2)][dice.below(4) as usize];
                    (one.moods[endpoint], other.moods[place[endpoint]]) = (mood, mood);
                }
                1 => {
                    let passed = dice.below(3) > 0;
                    one.check(endpoint, passed);
                    other.check(place[endpoint], passed);
                }
                2 if dice.below(4) == 0 => {
                    let commands = [Command::Drain, Command::Undrain, Command::Disable, Command::Enable];
                    let command = commands[dice.below(4) as usize];
                    one.order(endpoint, command, Some(seconds(9)));
                    other.order(place[endpoint], command, Some(seconds(9)));
                }
                3 => {
                    let turn = if trade { dice.below(count as u64) as usize } else { 0 };
                    let from: Vec<_> = (0..count).map(|index| Some((index + turn) % count)).collect();
                    other.adopt(all(), &from);
                    place.iter_mut().for_each(|place| *place = (*place + count - turn) % count);
                }
                _ => {
                    one.tick();
                    other.tick();
                }
            }
            let moved: Vec<_> = place.iter().map(|place| other.health.standings()[*place]).collect();
            assert_eq!(one.health.standings(), moved, "seed {seed}, step {step}: {:#?}", one.log.last());
            assert_eq!(one.health.counts(), other.health.counts(), "seed {seed}, step {step}");
            assert_eq!(one.health.available, other.health.available, "seed {seed}, step {step}");
        }
    }
}
