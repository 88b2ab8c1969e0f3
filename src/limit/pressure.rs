//! How hard the process itself is pressed: by its descriptors, its memory and its clients'
//! connections, each against its limit. Knows neither where the numbers come from nor what is done
//! about them.

use std::time::{Duration, Instant};

/// How hard the process is pressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// There is room.
    #[default]
    Calm,
    /// What is idle goes, and what is new comes at a measured pace.
    Soft,
    /// Nothing new is let in.
    Hard,
}

/// What may run out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// File descriptors.
    Descriptors,
    /// Memory, in bytes.
    Memory,
    /// Connections of clients. Their limit is kept to one by one as they come, so they press softly at
    /// most.
    Connections,
}

/// How much of a resource is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Of what.
    pub resource: Resource,
    /// How much is used.
    pub used: u64,
    /// How much there is.
    pub limit: u64,
}

/// At which shares of a limit the levels begin, each from 0 to 1, the soft one below the hard one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    /// Where [`Level::Soft`] begins.
    pub soft: f64,
    /// Where [`Level::Hard`] begins.
    pub hard: f64,
}

/// The level and what it comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// How hard the process is pressed.
    pub level: Level,
    /// What presses hardest, unless all is calm.
    pub cause: Option<Reading>,
}

/// Judges readings. A level is left only [`SLACK`] below where it begins, so that it does not come
/// and go with every connection.
#[derive(Clone, Debug)]
pub struct Judge {
    thresholds: Thresholds,
    levels: [Level; RESOURCES],
}

impl Resource {
    /// Its name in logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Descriptors => "descriptors",
            Self::Memory => "memory",
            Self::Connections => "connections",
        }
    }
}

impl Level {
    /// Its name in logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::Soft => "soft",
            Self::Hard => "hard",
        }
    }
}

impl Judge {
    /// A judge who has seen nothing yet.
    #[must_use]
    pub fn new(thresholds: Thresholds) -> Self {
        Self { thresholds, levels: [Level::Calm; RESOURCES] }
    }

    /// Takes what is used at present. What cannot be read any more is taken for calm.
    pub fn on_readings(&mut self, readings: &[Reading]) -> Verdict {
        let mut verdict = Verdict::default();
        let before = std::mem::replace(&mut self.levels, [Level::Calm; RESOURCES]);
        for reading in readings {
            let place = reading.resource as usize;
            let before = before.get(place).copied().unwrap_or_default();
            let level = self.level(reading, before);
            if let Some(kept) = self.levels.get_mut(place) {
                *kept = level;
            }
            if level > verdict.level {
                verdict = Verdict { level, cause: Some(*reading) };
            }
        }
        verdict
    }

    fn level(&self, reading: &Reading, before: Level) -> Level {
        let share = reading.share();
        let holds = |level, begins| share >= begins || (before >= level && share > begins - SLACK);
        if reading.resource != Resource::Connections && holds(Level::Hard, self.thresholds.hard) {
            Level::Hard
        } else if holds(Level::Soft, self.thresholds.soft) {
            Level::Soft
        } else {
            Level::Calm
        }
    }
}

impl Reading {
    /// The share that is used, 1 for all of it. Of nothing, all is used.
    #[must_use]
    pub fn share(&self) -> f64 {
        if self.limit == 0 { 1.0 } else { self.used as f64 / self.limit as f64 }
    }
}

/// Why a client's connection is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Refusal {
    /// The listener has as many as it may.
    Listener,
    /// The process has as many as it may.
    Connections,
    /// Hardly a descriptor is left.
    Descriptors,
    /// Hardly any memory is left.
    Memory,
    /// It comes from an address that may not.
    Address,
    /// It comes too soon after others.
    Rate,
}

impl Refusal {
    /// Whether it is worth an answer. Whoever is not wanted is told nothing, and to answer those who come
    /// too often would be half of what they ask for.
    #[must_use]
    pub fn is_told(self) -> bool {
        !matches!(self, Self::Address | Self::Rate)
    }

    /// All of them, in their order.
    pub const ALL: [Self; 6] =
        [Self::Listener, Self::Connections, Self::Descriptors, Self::Memory, Self::Address, Self::Rate];

    /// Its name in metrics: which limit it was.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Listener => "listener",
            Self::Connections => "connections",
            Self::Descriptors => "descriptors",
            Self::Memory => "memory",
            Self::Address => "address",
            Self::Rate => "rate",
        }
    }

    /// What a person reads: the limit, with the key that sets it.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Listener => "too many connections to this listener (max_connections of the listener)",
            Self::Connections => "too many connections to this proxy (overload.max_connections)",
            Self::Descriptors => "too few file descriptors are left (overload.hard)",
            Self::Memory => "too little memory is left (overload.hard)",
            Self::Address => "the address is not allowed here (allow and deny of the listener)",
            Self::Rate => "too many new connections (new_connections of the listener)",
        }
    }
}

/// Measures out what is new under pressure: so many in each [`Pace::SPAN`].
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    began: Instant,
    count: u32,
}

impl Pace {
    /// The time that is measured.
    pub const SPAN: Duration = Duration::from_millis(10);
    /// How many may come in it.
    pub const MOST: u32 = 10;

    /// A pace of which the first span begins now.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { began: now, count: 0 }
    }

    /// Counts one that came; how long the next one has to wait.
    pub fn count(&mut self, now: Instant) -> Option<Duration> {
        if now.saturating_duration_since(self.began) >= Self::SPAN {
            *self = Self::new(now);
        }
        self.count += 1;
        let over = self.began + Self::SPAN;
        (self.count >= Self::MOST).then(|| over.saturating_duration_since(now))
    }
}

/// How many clients' connections there may be, when nobody says: with `descriptors` in all, each may
/// need one more to an endpoint, and some are kept for what is not clients': those that are `taken` already,
/// workers' own, the admin listener, checks, logs. At least one.
#[must_use]
pub fn connections_for(descriptors: u64, taken: u64, workers: u64) -> u64 {
    let kept = taken.saturating_add(workers.saturating_mul(PER_WORKER)).saturating_add(RESERVE);
    (descriptors.saturating_sub(kept) / 2).max(1)
}

/// How far below its beginning a level ends, as a share of the limit.
pub const SLACK: f64 = 0.05;
/// Descriptors that clients' connections leave alone.
const RESERVE: u64 = 32;
/// Descriptors of a worker's runtime.
const PER_WORKER: u64 = 4;
const RESOURCES: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::mix::{STEP, mix};

    const USUAL: Thresholds = Thresholds { soft: 0.8, hard: 0.95 };

    fn reading(resource: Resource, used: u64) -> Reading {
        Reading { resource, used, limit: 1000 }
    }

    #[test]
    fn levels_begin_at_their_shares_and_end_below() {
        let mut judge = Judge::new(USUAL);
        for (used, wanted) in [
            (799, Level::Calm),
            (800, Level::Soft),
            (751, Level::Soft),
            (749, Level::Calm),
            (799, Level::Calm),
            (949, Level::Soft),
            (950, Level::Hard),
            (901, Level::Hard),
            (899, Level::Soft),
            (751, Level::Soft),
            (2000, Level::Hard),
            (0, Level::Calm),
        ] {
            let reading = reading(Resource::Descriptors, used);
            let verdict = judge.on_readings(&[reading]);
            assert_eq!(verdict.level, wanted, "{used}");
            assert_eq!(verdict.cause, (wanted != Level::Calm).then_some(reading), "{used}");
        }
    }

    #[test]
    fn connections_are_counted_by_others() {
        let verdict = Judge::new(USUAL).on_readings(&[reading(Resource::Connections, 1000)]);
        assert_eq!(verdict.level, Level::Soft);
    }

    #[test]
    fn the_hardest_pressed_decides() {
        let mut judge = Judge::new(USUAL);
        let readings = [reading(Resource::Descriptors, 810), reading(Resource::Memory, 960)];
        assert_eq!(judge.on_readings(&readings), Verdict { level: Level::Hard, cause: Some(readings[1]) });
        // Memory is no longer read; descriptors are as they were.
        assert_eq!(judge.on_readings(&readings[..1]).level, Level::Soft);
        let nothing = Reading { resource: Resource::Memory, used: 0, limit: 0 };
        assert_eq!(judge.on_readings(&[nothing]).level, Level::Hard);
        assert_eq!(judge.on_readings(&[]), Verdict::default());
    }

    /// Whatever the readings, each resource is within what its share and the slack allow.
    #[test]
    fn a_level_is_never_far_from_its_share() {
        for seed in 0..200_u64 {
            let mut draw = seed;
            let mut judge = Judge::new(USUAL);
            let mut changes = (0, Level::Calm);
            for _ in 0..500 {
                draw = mix(draw.wrapping_add(STEP));
                let at = reading(Resource::Memory, draw % 1100);
                let level = judge.on_readings(&[at]).level;
                let share = at.share();
                let fits = match level {
                    Level::Calm => share < 0.8,
                    Level::Soft => share > 0.8 - SLACK && share < 0.95,
                    Level::Hard => share > 0.95 - SLACK,
                };
                assert!(fits, "seed {seed}: {level:?} at {share}");
                changes = (changes.0 + u32::from(level != changes.1), level);
            }
            assert!(changes.0 > 10, "seed {seed} shows nothing");
            // Within the slack nothing changes any more.
            judge.on_readings(&[reading(Resource::Memory, 1000)]);
            for _ in 0..100 {
                draw = mix(draw.wrapping_add(STEP));
                let at = reading(Resource::Memory, 910 + draw % 90);
                assert_eq!(judge.on_readings(&[at]).level, Level::Hard, "seed {seed}");
            }
        }
    }

    #[test]
    fn a_pace_lets_so_many_through_and_no_more() {
        #[expect(clippy::disallowed_methods, reason = "some time to count from; all else is relative to it")]
        let start = Instant::now();
        for seed in 0..50_u64 {
            let (mut draw, mut now) = (seed, start);
            let mut pace = Pace::new(start);
            let mut came: Vec<Instant> = Vec::new();
            for _ in 0..1000 {
                came.push(now);
                if let Some(pause) = pace.count(now) {
                    assert!(pause <= Pace::SPAN, "seed {seed}: {pause:?}");
                    now += pause;
                }
                draw = mix(draw.wrapping_add(STEP));
                now += Duration::from_micros(draw % 700);
            }
            // Spans follow each other, so that two of them at most touch any other of their length.
            let most = 2 * Pace::MOST as usize;
            for (index, at) in came.iter().enumerate() {
                let within = came[index..].iter().take_while(|other| **other < *at + Pace::SPAN).count();
                assert!(within <= most, "seed {seed}: {within}");
            }
        }
    }

    #[test]
    fn some_descriptors_are_kept() {
        assert_eq!(connections_for(1024, 12, 2), 486);
        assert_eq!(connections_for(128, 12, 2), 38);
        assert_eq!(connections_for(16, 12, 2), 1);
        assert!(connections_for(u64::MAX, u64::MAX, u64::MAX) >= 1);
    }
}
