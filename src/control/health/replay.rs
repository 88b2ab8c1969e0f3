//! Judges recorded intervals again, by other thresholds: what would have been found, and what made of
//! it. Only live traffic counts: checks and orders are not replayed. What an endpoint would have done
//! with traffic that it did not get, nobody knows.

use std::time::{Duration, Instant, SystemTime};

use super::intervals::Interval;
use super::recording::Recording;
use crate::health::journal::Event;
use crate::health::pool::HealthSettings;
use crate::health::{PoolHealth, Sample, Trial};
use crate::model::mix::{STEP, mix};

/// The events of a replay, each with its time.
pub type Replayed = Vec<(SystemTime, Event)>;

/// Runs the intervals of the pool with this index through `settings`, in their order and at their
/// times. `epoch` may be any time; it stands for that of the first interval.
#[must_use]
pub fn replay(recording: &Recording, pool: usize, settings: &HealthSettings, epoch: Instant) -> Replayed {
    let own = |interval: &&Interval| usize::try_from(interval.pool) == Ok(pool);
    let intervals: Vec<_> = recording.intervals.iter().filter(own).collect();
    let (Some(members), Some(first)) = (recording.pools.get(pool), intervals.first()) else {
        return Replayed::new();
    };
    let levels: Vec<_> = members.endpoints.iter().map(|(_, level)| *level).collect();
    let settings = HealthSettings { checks: None, ..settings.clone() };
    let mut run = Run {
        health: PoolHealth::new(settings, &levels, epoch),
        streaks: vec![(0, 0); levels.len()],
        began: first.at,
        epoch,
        at: first.at,
        ticks: 0,
        replayed: Replayed::new(),
    };
    for together in intervals.chunk_by(|one, other| one.at == other.at) {
        if let Some(first) = together.first() {
            run.idle_until(first.at);
            run.tick(first.at, together);
        }
    }
    run.replayed
}

struct Run {
    health: PoolHealth,
    /// The streaks of each endpoint; they last while nothing happens.
    streaks: Vec<(u32, u32)>,
    began: SystemTime,
    epoch: Instant,
    at: SystemTime,
    ticks: u64,
    replayed: Replayed,
}

impl Run {
    /// Lets time pass in which nothing was recorded, because nothing happened.
    fn idle_until(&mut self, until: SystemTime) {
        let gap = until.duration_since(self.at).unwrap_or_default();
        let step = TICK.max(gap / MOST_IDLE_TICKS);
        while let Some(next) = self.at.checked_add(step).filter(|next| *next < until) {
            self.tick(next, &[]);
        }
    }

    fn tick(&mut self, at: SystemTime, intervals: &[&Interval]) {
        let idle = |(streak, connect_streak): &(u32, u32)| Sample {
            streak: *streak,
            connect_streak: *connect_streak,
            ..Sample::default()
        };
        let mut samples: Vec<_> = self.streaks.iter().map(idle).collect();
        for interval in intervals {
            let index = usize::try_from(interval.endpoint).unwrap_or(usize::MAX);
            if let Some(sample) = samples.get_mut(index) {
                *sample = interval.sample();
            }
        }
        let endpoints = samples.iter_mut().zip(&mut self.streaks).zip(self.health.standings());
        for ((sample, streaks), standing) in endpoints {
            *streaks = (sample.streak, sample.connect_streak);
            if standing.on_trial && sample.trial.is_none() {
                sample.trial = as_trial(sample);
            }
        }
        self.at = at;
        self.ticks += 1;
        let now = self.epoch + at.duration_since(self.began).unwrap_or_default();
        let mut log = Vec::new();
        self.health.on_tick(&samples, now, draw(self.ticks), &mut log);
        self.replayed.extend(log.into_iter().map(|event| (at, event)));
    }
}

/// What a trial would have come to, had one of these been it: failed, if any failed.
fn as_trial(sample: &Sample) -> Option<Trial> {
    match (sample.failed(), sample.successes) {
        (0, 0) => None,
        (0, _) => Some(Trial::Passed),
        _ => Some(Trial::Failed),
    }
}

/// A random number that is the same in every replay.
fn draw(n: u64) -> u64 {
    mix(n.wrapping_mul(STEP))
}

/// How often endpoints are looked at while nothing happens.
const TICK: Duration = Duration::from_millis(200);
/// Into how many steps the longest gap is divided.
const MOST_IDLE_TICKS: u32 = 3000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::health::intervals::Members;
    use crate::health::State;
    use crate::health::detector::{Chosen, Detector, Evidence, Finding, Kind, Make, Mode, Seen, Severity};
    use crate::health::journal::What;
    use crate::health::pool::Ejection;
    use crate::model::Name;

    /// Finds every endpoint with a streak of so many.
    #[derive(Debug)]
    struct Streak(u32);

    impl Detector for Streak {
        fn judge(&mut self, seen: &[Seen<'_>], _: Instant) -> Vec<Finding> {
            let bad = seen.iter().filter(|seen| seen.sample.streak >= self.0 && seen.sample.failed() > 0);
            let finding = |seen: &Seen<'_>| Finding {
                endpoint: seen.endpoint,
                severity: Severity::Eject,
                evidence: Evidence { words: "a streak".into(), values: Vec::new() },
            };
            bad.map(finding).collect()
        }

        fn forget(&mut self, _: usize) {}

        fn renumber(&mut self, _: &[Option<usize>]) {}
    }

    static KIND: Kind = Kind {
        name: "streak",
        summary: "",
        mode: Mode::Enforce,
        shorthand: None,
        read: |_| Make::new(|| Streak(1)),
    };

    fn settings(streak: u32) -> HealthSettings {
        let chosen = Chosen { kind: &KIND, mode: Mode::Enforce, make: Make::new(move || Streak(streak)) };
        HealthSettings {
            checks: None,
            detectors: vec![chosen],
            ejection: Ejection::default(),
            slow_start: Duration::from_secs(10),
        }
    }

    /// Three endpoints with a request each per second, of which the second begins to fail after five.
    fn recording() -> Recording {
        let mut recording = Recording::default();
        let endpoints = ["a:1", "a:2", "a:3"].map(|name| (name.to_owned(), 0)).to_vec();
        recording.pools.push(Members { pool: Name::new("app").unwrap(), endpoints });
        for second in 0..10_u32 {
            let at = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::from(second));
            for endpoint in 0..3 {
                let failing = endpoint == 1 && second >= 5;
                let sample = Sample {
                    successes: u64::from(!failing),
                    failures: [0, u64::from(failing), 0, 0, 0, 0, 0],
                    streak: if failing { second - 4 } else { 0 },
                    ..Sample::default()
                };
                recording.intervals.push(Interval::new(at, 0, endpoint, &sample));
            }
        }
        recording
    }

    fn ejections(streak: u32) -> Vec<(u64, usize)> {
        let replayed = replay(&recording(), 0, &settings(streak), crate::ambient::now());
        let ejected = replayed.iter().filter(|(_, event)| {
            matches!(event.what, What::Detected { .. }) && event.state == Some(State::Ejected)
        });
        let epoch = SystemTime::UNIX_EPOCH;
        ejected
            .filter_map(|(at, event)| Some((at.duration_since(epoch).ok()?.as_secs(), event.endpoint?)))
            .collect()
    }

    #[test]
    fn other_thresholds_find_other_things() {
        assert_eq!(ejections(1), [(5, 1)]);
        assert_eq!(ejections(3), [(7, 1)]);
        assert_eq!(ejections(9), []);
    }

    #[test]
    fn a_long_gap_takes_few_steps() {
        let mut recording = recording();
        let late = SystemTime::UNIX_EPOCH + Duration::from_secs(30 * 86_400);
        recording.intervals.push(Interval::new(late, 0, 0, &Sample { successes: 1, ..Sample::default() }));
        let began = crate::ambient::now();
        let _ = replay(&recording, 0, &settings(1), began);
        assert_eq!(replay(&Recording::default(), 0, &settings(1), began), Vec::new());
    }
}
