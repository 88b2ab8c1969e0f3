//! Anything may happen, in any order; some things never follow from it.

use super::*;

/// SplitMix64 (Steele et al., 2014).
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(1);
        mixed(self.0, 0)
    }

    /// From 0 up to 1.
    pub(super) fn part(&mut self) -> f64 {
        (self.draw() >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.draw() % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

#[test]
fn whatever_happens_some_things_never_do() {
    for seed in 0..60 {
        run(seed);
    }
}

fn run(seed: u64) {
    let mut dice = Dice(seed << 32);
    let levels: Vec<_> = (0..1 + dice.below(9)).map(|_| dice.below(2) as u32).collect();
    let checks = dice.one_in(2).then(Rhythm::default);
    let slow_start = if dice.one_in(4) { Duration::ZERO } else { seconds(10) };
    let max_ejected = dice.below(11) as f64 / 10.0;
    let ejection = Ejection { max_ejected, ..Ejection::default() };
    let settings = HealthSettings { checks, slow_start, ejection, ..settings() };
    let mut world = World::new(settings, &levels);
    let endpoints = levels.len() as u64;
    for step in 0..2000 {
        let before = (world.health.standings().to_vec(), world.health.version());
        world.log.clear();
        match dice.below(12) {
            0 => world.check(dice.below(endpoints + 1) as usize, dice.one_in(2)),
            1 if dice.one_in(8) => {
                let commands = [Command::Drain, Command::Undrain, Command::Disable, Command::Enable];
                let command = commands[dice.below(4) as usize];
                let lasts = dice.one_in(2).then(|| seconds(dice.below(60)));
                world.order(dice.below(endpoints + 1) as usize, command, lasts);
            }
            _ => {
                let samples: Vec<_> = levels.iter().map(|_| sample(&mut dice)).collect();
                let longest = if dice.one_in(20) { 20_000 } else { 400 };
                world.now += millis(dice.below(longest));
                let draw = dice.draw();
                world.health.on_tick(&samples, world.now, draw, &mut world.log);
            }
        }
        let what = format!("seed {seed}, step {step}: {:#?} then {:#?}", before.0, world.log);
        let changed = before.0 != world.health.standings();
        assert_eq!(world.health.version(), before.1 + u64::from(changed), "{what}");
        holds(&world, &levels, max_ejected, &what);
    }
}

fn sample(dice: &mut Dice) -> Sample {
    let mut sample = Sample::default();
    if dice.one_in(2) {
        sample.successes = dice.below(20);
        sample.failures[dice.below(7) as usize] = if dice.one_in(3) { dice.below(20) } else { 0 };
        sample.streak = if dice.one_in(8) { dice.below(9) as u32 } else { 0 };
        sample.trial =
            [Some(Trial::Passed), Some(Trial::Passed), Some(Trial::Failed), None][dice.below(4) as usize];
        if dice.one_in(10) {
            sample.latencies.record(seconds(3));
        }
    }
    sample
}

fn holds(world: &World, levels: &[u32], max_ejected: f64, what: &str) {
    let standings = world.health.standings();
    for standing in standings {
        assert!((1..=1000).contains(&standing.factor), "{what}");
        assert!(!(standing.excluded && (standing.available || standing.on_trial)), "{what}");
        let taken_out = matches!(standing.state, State::Disabled | State::Draining);
        assert_eq!(standing.excluded, taken_out, "{what}");
        if matches!(standing.state, State::Ejected | State::Down | State::Unchecked) {
            assert!(!standing.available, "{what}");
        }
    }
    let away = |standing: &&Standing| matches!(standing.state, State::Ejected | State::OnTrial);
    if standings.iter().any(|standing| away(&standing)) {
        assert!(standings.iter().any(|standing| standing.available), "{what}");
    }
    let ejected_now =
        |event: &&Event| matches!(&event.what, What::Detected { effect: Effect::Ejected { .. }, .. });
    for event in world.log.iter().filter(ejected_now) {
        let level = levels[event.endpoint.unwrap()];
        let of_level =
            || standings.iter().zip(levels).filter(|(_, l)| **l == level).map(|(standing, _)| standing);
        let members = of_level().filter(|s| !s.excluded && s.state != State::Unchecked).count();
        let cap = Ejection { max_ejected, ..Ejection::default() }.cap(members);
        assert!(of_level().filter(away).count() <= cap, "{what}");
        assert!(of_level().any(|standing| standing.available && !standing.on_trial), "{what}");
    }
    assert!(world.health.awake.len() <= levels.len(), "{what}");
    let available = standings.iter().filter(|s| s.available && !s.on_trial).count();
    assert_eq!(world.health.available, available, "{what}");
}

#[test]
fn an_idle_pool_sleeps() {
    let mut world = World::new(settings(), &vec![0; 5000]);
    let samples = vec![Sample::default(); 5000];
    world.health.on_tick(&samples, world.now + TICK, 0, &mut world.log);
    assert_eq!((world.health.awake.len(), world.health.version()), (0, 0));
}
