//! Stories of a pool, in virtual time.

mod adopt;
mod adversary;
mod checks;
mod ejection;
mod together;

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use super::*;
use crate::health::Failure;
use crate::health::check::Rhythm;
use crate::health::detector::{Chosen, Evidence, Kind, Make, Severity};
use crate::health::journal::{Command, Effect};

#[expect(clippy::disallowed_methods, reason = "any time will do to begin with")]
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

const TICK: Duration = Duration::from_millis(200);

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Ejects whoever failed so many times in a row; degrades whose first bytes took over a second.
#[derive(Debug)]
struct Strict {
    row: u32,
}

impl Detector for Strict {
    fn judge(&mut self, seen: &[Seen<'_>], _now: Instant) -> Vec<Finding> {
        let find = |seen: &Seen<'_>| {
            let severity = if seen.sample.streak >= self.row {
                Severity::Eject
            } else if seen.sample.latencies.quantile(0.5)? > seconds(1) {
                Severity::Degrade
            } else {
                return None;
            };
            let evidence = Evidence { words: "it wanting".to_owned(), values: Vec::new() };
            Some(Finding { endpoint: seen.endpoint, severity, evidence })
        };
        seen.iter().filter_map(find).collect()
    }

    fn forget(&mut self, _endpoint: usize) {}

    fn renumber(&mut self, _: &[Option<usize>]) {}
}

static STRICT: Kind = Kind {
    name: "strict",
    summary: "",
    mode: Mode::Enforce,
    shorthand: None,
    read: |_| Make::new(|| Strict { row: 5 }),
};

fn strict(mode: Mode) -> Chosen {
    Chosen { kind: &STRICT, mode, make: Make::new(|| Strict { row: 5 }) }
}

fn settings() -> HealthSettings {
    HealthSettings {
        checks: None,
        detectors: vec![strict(Mode::Enforce)],
        ejection: Ejection { jitter: 0.0, ..Ejection::default() },
        slow_start: seconds(10),
    }
}

fn checked() -> HealthSettings {
    HealthSettings { checks: Some(Rhythm::default()), ..settings() }
}

/// What each endpoint does with its requests.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mood {
    Well,
    Dead,
    Slow,
    /// Every so manieth request fails.
    Fails(u64),
}

/// A pool with traffic.
struct World {
    health: PoolHealth,
    now: Instant,
    moods: Vec<Mood>,
    /// Requests for each available endpoint and tick.
    requests: u64,
    served: Vec<u64>,
    streaks: Vec<u32>,
    log: Vec<Event>,
}

impl World {
    fn new(settings: HealthSettings, levels: &[u32]) -> Self {
        Self {
            health: PoolHealth::new(settings, levels, *START),
            now: *START,
            moods: vec![Mood::Well; levels.len()],
            requests: 10,
            served: vec![0; levels.len()],
            streaks: vec![0; levels.len()],
            log: Vec::new(),
        }
    }

    fn of(endpoints: usize) -> Self {
        Self::new(settings(), &vec![0; endpoints])
    }

    fn sample(&mut self, index: usize) -> Sample {
        let standing = self.health.standings()[index];
        let mood = self.moods[index];
        let mut sample = Sample::default();
        let requests = if standing.available { self.requests } else { u64::from(standing.on_trial) };
        for _ in 0..requests.min(self.requests) {
            self.served[index] += 1;
            let failed = match mood {
                Mood::Dead => true,
                Mood::Fails(n) => self.served[index].is_multiple_of(n),
                Mood::Well | Mood::Slow => false,
            };
            if standing.on_trial {
                sample.trial = Some(if failed { Trial::Failed } else { Trial::Passed });
            }
            if failed {
                sample.failures[Failure::Reset as usize] += 1;
                self.streaks[index] += 1;
            } else {
                sample.successes += 1;
                self.streaks[index] = 0;
                let took = if mood == Mood::Slow { seconds(2) } else { millis(2) };
                sample.latencies.record(took);
            }
        }
        sample.streak = self.streaks[index];
        sample
    }

    fn tick(&mut self) {
        self.now += TICK;
        let samples: Vec<_> = (0..self.moods.len()).map(|index| self.sample(index)).collect();
        let draw = u64::MAX / 2;
        self.health.on_tick(&samples, self.now, draw, &mut self.log);
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.tick();
        }
    }

    /// Runs until this has happened, for at most five minutes. How long it took.
    fn until(&mut self, what: impl Fn(&Self) -> bool) -> Duration {
        let from = self.now;
        while !what(self) {
            assert!(self.now - from < seconds(300), "never: {:#?}", self.log);
            self.tick();
        }
        self.now - from
    }

    fn check(&mut self, endpoint: usize, passed: bool) {
        let failure = (!passed).then(|| "refused".to_owned());
        let result = CheckResult { failure, took: millis(1) };
        self.health.on_check(endpoint, &result, self.now, &mut self.log);
    }

    fn order(&mut self, endpoint: usize, command: Command, lasts: Option<Duration>) {
        self.health.on_order(endpoint, Order { command, lasts }, self.now, &mut self.log);
    }

    fn state(&self, endpoint: usize) -> State {
        self.health.standings()[endpoint].state
    }

    fn factor(&self, endpoint: usize) -> u32 {
        self.health.standings()[endpoint].factor
    }

    fn available(&self) -> Vec<usize> {
        let standings = self.health.standings().iter().enumerate();
        standings.filter(|(_, standing)| standing.available).map(|(index, _)| index).collect()
    }

    /// The names of events since this was last called, with the endpoint each is about.
    fn events(&mut self) -> Vec<(Option<usize>, &'static str)> {
        let log = std::mem::take(&mut self.log);
        let name = |event: &Event| match &event.what {
            What::Detected { effect, .. } => effect.name(),
            what => what.name(),
        };
        log.iter().filter(|e| e.what != What::Joined).map(|event| (event.endpoint, name(event))).collect()
    }
}
