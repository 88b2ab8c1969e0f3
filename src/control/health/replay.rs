//! Judges recorded intervals again, by other thresholds: what would have been found, and what made of
//! it. Only live traffic counts: checks and orders are not replayed. What an endpoint would have done
//! with traffic that it did not get, nobody knows.

use std::time::{Instant, SystemTime};

use super::TICK;
use super::intervals::{Interval, Members};
use super::recording::Recording;
use crate::health::journal::Event;
use crate::health::pool::{self, HealthSettings};
use crate::health::{PoolHealth, Sample, Trial};
use crate::model::Name;
use crate::model::mix::{STEP, mix};

/// The events of a replay.
pub type Replayed = Vec<Happened>;

/// What would have happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Happened {
    /// When.
    pub at: SystemTime,
    /// To which endpoint, as it is shown; `None` for what concerns the pool as a whole.
    pub endpoint: Option<String>,
    /// What.
    pub event: Event,
}

/// Runs the intervals of a pool through `settings`, in their order and at their times; its endpoints
/// come and go as they did. `epoch` may be any time; it stands for that of the first interval.
#[must_use]
pub fn replay(recording: &Recording, pool: &Name, settings: &HealthSettings, epoch: Instant) -> Replayed {
    let members = |interval: &Interval| {
        let members = usize::try_from(interval.pool).ok().and_then(|pool| recording.pools.get(pool))?;
        (members.pool == *pool).then_some(members)
    };
    let own = recording.intervals.iter().filter_map(|interval| Some((members(interval)?, interval)));
    let intervals: Vec<_> = own.collect();
    let Some((first, interval)) = intervals.first() else { return Replayed::new() };
    let settings = HealthSettings { checks: None, ..settings.clone() };
    let mut run = Run {
        health: PoolHealth::new(settings.clone(), &levels(first), epoch),
        settings,
        members: first,
        streaks: vec![(0, 0); first.endpoints.len()],
        began: interval.at,
        epoch,
        at: interval.at,
        ticks: 0,
        replayed: Replayed::new(),
    };
    for together in intervals.chunk_by(|(_, one), (_, other)| (one.at, one.pool) == (other.at, other.pool)) {
        if let Some((members, first)) = together.first() {
            run.idle_until(first.at);
            run.change(members, first.at);
            run.tick(first.at, together);
        }
    }
    run.replayed
}

struct Run<'a> {
    health: PoolHealth,
    settings: HealthSettings,
    members: &'a Members,
    /// The streaks of each endpoint; they last while nothing happens.
    streaks: Vec<(u32, u32)>,
    began: SystemTime,
    epoch: Instant,
    at: SystemTime,
    ticks: u64,
    replayed: Replayed,
}

impl<'a> Run<'a> {
    /// Has the pool be of these endpoints from then on.
    fn change(&mut self, members: &'a Members, at: SystemTime) {
        if self.members == members {
            return;
        }
        let before = &self.members.endpoints;
        let place = |name: &String| before.iter().position(|(known, _)| known == name);
        let from: Vec<_> = members.endpoints.iter().map(|(name, _)| place(name)).collect();
        let mut log = Vec::new();
        self.health.part(&from, &mut log);
        self.take(at, std::mem::take(&mut log));
        let change = pool::Members { levels: &levels(members), from: &from };
        self.health.adopt(self.settings.clone(), change, self.now(at), &mut log);
        let streaks = from.iter().map(|from| self.streaks.get((*from)?).copied());
        self.streaks = streaks.map(Option::unwrap_or_default).collect();
        self.members = members;
        self.take(at, log);
    }

    fn now(&self, at: SystemTime) -> Instant {
        self.epoch + at.duration_since(self.began).unwrap_or_default()
    }

    fn take(&mut self, at: SystemTime, log: Vec<Event>) {
        let members = self.members;
        self.replayed.extend(log.into_iter().map(|event| {
            let endpoint = event.endpoint.and_then(|index| members.endpoints.get(index));
            Happened { at, endpoint: endpoint.map(|(name, _)| name.clone()), event }
        }));
    }

    /// Lets time pass in which nothing was recorded, because nothing happened.
    fn idle_until(&mut self, until: SystemTime) {
        let gap = until.duration_since(self.at).unwrap_or_default();
        let step = TICK.max(gap / MOST_IDLE_TICKS);
        while let Some(next) = self.at.checked_add(step).filter(|next| *next < until) {
            self.tick(next, &[]);
        }
    }

    fn tick(&mut self, at: SystemTime, intervals: &[(&Members, &Interval)]) {
        let idle = |(streak, connect_streak): &(u32, u32)| Sample {
            streak: *streak,
            connect_streak: *connect_streak,
            ..Sample::default()
        };
        let mut samples: Vec<_> = self.streaks.iter().map(idle).collect();
        for (_, interval) in intervals {
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
        let (now, mut log) = (self.now(at), Vec::new());
        self.health.on_tick(&samples, now, draw(self.ticks), &mut log);
        self.take(at, log);
    }
}

fn levels(members: &Members) -> Vec<u32> {
    members.endpoints.iter().map(|(_, level)| *level).collect()
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

/// Into how many steps the longest gap is divided.
const MOST_IDLE_TICKS: u32 = 3000;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::health::State;
    use crate::health::detector::{Chosen, Detector, Evidence, Finding, Kind, Make, Mode, Seen, Severity};
    use crate::health::journal::What;
    use crate::health::pool::Ejection;

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
        recording.pools.push(Members { pool: app(), endpoints });
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
        of(&replay(&recording(), &app(), &settings(streak), crate::ambient::now()))
    }

    fn of(replayed: &Replayed) -> Vec<(u64, usize)> {
        let ejected = replayed.iter().filter(|happened| {
            let Happened { event, .. } = happened;
            matches!(event.what, What::Detected { .. }) && event.state == Some(State::Ejected)
        });
        let epoch = SystemTime::UNIX_EPOCH;
        ejected
            .filter_map(|happened| {
                Some((happened.at.duration_since(epoch).ok()?.as_secs(), happened.event.endpoint?))
            })
            .collect()
    }

    fn app() -> Name {
        Name::new("app").unwrap()
    }

    #[test]
    fn endpoints_come_and_go_as_they_did() {
        let mut recording = recording();
        let endpoints = ["a:4", "a:2"].map(|name| (name.to_owned(), 0)).to_vec();
        recording.pools.push(Members { pool: app(), endpoints });
        recording.intervals.retain(|interval| interval.at < SystemTime::UNIX_EPOCH + Duration::from_secs(7));
        for second in 7..9_u32 {
            let at = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::from(second));
            let sample = Sample { failures: [0, 1, 0, 0, 0, 0, 0], streak: second - 4, ..Sample::default() };
            recording.intervals.push(Interval::new(at, 1, 1, &sample));
            let sample = Sample { successes: 1, ..Sample::default() };
            recording.intervals.push(Interval::new(at, 1, 0, &sample));
        }
        let replayed = replay(&recording, &app(), &settings(3), crate::ambient::now());
        assert_eq!(of(&replayed), [(7, 1)], "its row went on");
        let changes = replayed.iter().filter(|happened| matches!(happened.event.what, What::Left));
        let gone: Vec<_> = changes.map(|happened| happened.endpoint.as_deref()).collect();
        assert_eq!(gone, [Some("a:1"), Some("a:3")]);
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
        let _ = replay(&recording, &app(), &settings(1), began);
        assert_eq!(replay(&Recording::default(), &app(), &settings(1), began), Vec::new());
    }
}
