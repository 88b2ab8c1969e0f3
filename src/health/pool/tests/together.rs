//! Failures of all at once.

use super::*;

#[test]
fn no_ejection_outlives_a_total_outage() {
    for endpoints in [2, 3, 4, 10] {
        let mut world = World::of(endpoints);
        world.run(seconds(5));
        // One after the other, as nothing happens at the same time.
        for endpoint in 0..endpoints {
            world.moods[endpoint] = Mood::Dead;
            world.tick();
        }
        world.run(seconds(6));
        assert!(world.health.is_correlated());
        assert_eq!(world.available().len(), endpoints, "{:#?}", world.events());
        world.moods = vec![Mood::Well; endpoints];
        world.tick();
        assert!((0..endpoints).all(|endpoint| world.factor(endpoint) == 1000));
        world.until(|world| !world.health.is_correlated());
        world.run(seconds(30));
        assert_eq!(world.available().len(), endpoints);
        let names: Vec<_> = world.events().into_iter().map(|(_, name)| name).collect();
        let count = |wanted| names.iter().filter(|name| **name == wanted).count();
        assert_eq!((count("correlated_failure"), count("correlation_over")), (1, 1), "{names:?}");
        assert_eq!(count("ejected"), count("returned"), "{names:?}");
    }
}

#[test]
fn when_every_endpoint_fails_half_nobody_is_ejected_for_long() {
    let mut world = World::of(4);
    world.run(seconds(5));
    world.moods = vec![Mood::Fails(2); 4];
    // Now and then one fails five times in a row.
    for round in 0..40 {
        world.run(seconds(1));
        world.moods[round % 4] = Mood::Dead;
        world.tick();
        world.moods[round % 4] = Mood::Fails(2);
    }
    assert_eq!(world.available().len(), 4);
    let ejected = world.events().iter().filter(|(_, name)| *name == "ejected").count();
    assert!(ejected <= 1, "{ejected}");
}

#[test]
fn two_of_four_or_one_of_two_are_not_all() {
    for (dead, of) in [(2, 4), (1, 2), (1, 3), (4, 10)] {
        let mut world = World::of(of);
        world.run(seconds(5));
        (0..dead).for_each(|endpoint| world.moods[endpoint] = Mood::Dead);
        world.run(seconds(120));
        assert_eq!(world.available(), (dead..of).collect::<Vec<_>>());
        assert!(!world.events().contains(&(None, "correlated_failure")));
    }
}

#[test]
fn one_that_is_dead_besides_is_ejected_while_all_are_in_trouble() {
    let mut world = World::of(4);
    world.moods = vec![Mood::Fails(4); 4];
    world.run(seconds(10));
    assert!(world.health.is_correlated());
    world.moods[3] = Mood::Dead;
    let took = world.until(|world| world.state(3) == State::Ejected);
    assert!(took < seconds(5), "{took:?}");
    world.run(seconds(5));
    assert_eq!(world.available(), [0, 1, 2]);
}

#[test]
fn an_ejection_from_before_goes_on_and_does_not_cascade() {
    let mut world = World::of(4);
    world.moods[0] = Mood::Dead;
    world.run(seconds(25));
    let away = |world: &World| matches!(world.state(0), State::Ejected | State::OnTrial);
    assert!(away(&world));
    // The others have to do its work, and one in three requests is too many.
    (1..4).for_each(|endpoint| world.moods[endpoint] = Mood::Fails(3));
    for _ in 0..300 {
        world.tick();
        assert_eq!((away(&world), world.available().len()), (true, 3));
    }
}

#[test]
fn what_is_still_dead_after_it_is_ejected_then() {
    let mut world = World::of(4);
    world.run(seconds(5));
    world.moods = vec![Mood::Dead; 4];
    world.run(seconds(6));
    world.moods = vec![Mood::Dead, Mood::Well, Mood::Well, Mood::Well];
    let took = world.until(|world| world.state(0) == State::Ejected);
    assert!(took < seconds(8), "{took:?}");
}

#[test]
fn levels_fail_for_themselves() {
    let mut world = World::new(settings(), &[0, 0, 1, 1, 1, 1]);
    world.moods[0] = Mood::Dead;
    world.moods[1] = Mood::Dead;
    world.run(seconds(20));
    assert!(world.health.is_correlated(), "all of level 0");
    world.moods[5] = Mood::Dead;
    world.tick();
    assert_eq!(world.state(5), State::Ejected);
}

/// Traffic that comes at random, and trouble that all have.
struct Trouble {
    endpoints: usize,
    /// Requests per second for each endpoint.
    rate: f64,
    /// The share of requests that fail.
    share: f64,
    /// In ticks, after ten seconds without.
    lasts: u64,
}

impl Trouble {
    /// How many endpoints were out of use right after it.
    fn away_after(&self, seed: u64) -> usize {
        let mut dice = adversary::Dice(seed << 32);
        let mut world = World::of(self.endpoints);
        let begins: Vec<_> = (0..self.endpoints).map(|_| 50 + dice.below(5)).collect();
        for tick in 0..=50 + self.lasts {
            let troubled = |endpoint: usize| (begins[endpoint]..50 + self.lasts).contains(&tick);
            let samples: Vec<_> = (0..self.endpoints)
                .map(|endpoint| {
                    let share = if troubled(endpoint) { self.share } else { 0.0 };
                    self.sample(&mut world, endpoint, share, &mut dice)
                })
                .collect();
            world.now += TICK;
            let draw = dice.draw();
            world.health.on_tick(&samples, world.now, draw, &mut world.log);
        }
        self.endpoints - world.available().len()
    }

    fn sample(&self, world: &mut World, endpoint: usize, share: f64, dice: &mut adversary::Dice) -> Sample {
        let standing = world.health.standings()[endpoint];
        let mut sample = Sample::default();
        let expected =
            self.rate * TICK.as_secs_f64() * self.endpoints as f64 / world.available().len() as f64;
        let requests = match standing {
            Standing { available: true, .. } => (expected + dice.part()) as u64,
            _ => u64::from(standing.on_trial),
        };
        for _ in 0..requests {
            let failed = dice.part() < share;
            sample.failures[Failure::Gateway as usize] += u64::from(failed);
            sample.successes += u64::from(!failed);
            world.streaks[endpoint] = if failed { world.streaks[endpoint] + 1 } else { 0 };
            if standing.on_trial {
                sample.trial = Some(if failed { Trial::Failed } else { Trial::Passed });
            }
        }
        sample.streak = world.streaks[endpoint];
        sample
    }
}

#[test]
fn nobody_is_out_of_use_after_trouble_that_all_had_whatever_the_traffic() {
    for endpoints in [2, 3, 4, 8] {
        for rate in [3.0, 10.0, 50.0] {
            for (share, lasts) in [(1.0, 30), (0.5, 200)] {
                let trouble = Trouble { endpoints, rate, share, lasts };
                let away: Vec<_> = (0..10).map(|seed| trouble.away_after(seed)).collect();
                assert_eq!(away, [0; 10], "{endpoints} endpoints, {rate}/s, {share} of requests fail");
            }
        }
    }
}
