//! `unresponsive`: requests wait at an endpoint and none is answered, while the others answer. Finds
//! what hangs long before its requests time out. Only in comparison with what its siblings take, so
//! that slow applications and long polling are let be.

use std::time::{Duration, Instant};

use super::chance;
use super::words::time;
use super::{Detector, Evidence, Finding, Kind, Make, Mode, Seen, Severity, renumbered};
use crate::health::{Failure, Latencies, Sample};
use crate::model::options::Options;

pub(super) const KIND: Kind = Kind {
    name: "unresponsive",
    summary: "ejects an endpoint that answers nothing for a while, while the others answer",
    mode: Mode::Enforce,
    shorthand: None,
    read: |options| {
        let settings = Settings::read(options);
        Make::new(move || Unresponsive { settings, tracks: Vec::new(), levels: Vec::new() })
    },
};

#[derive(Clone, Copy, Debug)]
struct Settings {
    /// How long no response may begin while requests wait.
    silence: Duration,
    /// Fewer requests that wait say nothing.
    requests: u32,
    /// How many times what nine in ten requests take is too long.
    factor: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { silence: Duration::from_secs(1), requests: 2, factor: 4 }
    }
}

impl Settings {
    fn read(options: &Options<'_>) -> Self {
        let default = Self::default();
        Self {
            silence: options.within("silence", SHORTEST_SILENCE..=super::LONGEST_WINDOW, default.silence),
            requests: options.within("requests", 1..=1_000_000, default.requests),
            factor: options.within("factor", 1..=1000, default.factor),
        }
    }
}

#[derive(Debug)]
struct Unresponsive {
    settings: Settings,
    tracks: Vec<Track>,
    levels: Vec<Level>,
}

/// What is known of one endpoint.
#[derive(Clone, Copy, Debug, Default)]
struct Track {
    stall: Option<Stall>,
}

/// A time in which requests wait and none is answered.
#[derive(Clone, Copy, Debug)]
struct Stall {
    since: Instant,
    /// Requests that waited already, for longer than what can belong to the stall.
    before: u32,
    /// How long these had waited, together.
    before_ages: Duration,
}

/// What is usual in a failover level.
#[derive(Debug)]
struct Level {
    number: u32,
    /// Times to the first byte, in the present turn and the one before.
    turns: [Latencies; 2],
    turn_ends: Instant,
    /// When an endpoint that takes its share of traffic last answered.
    answered_at: Option<Instant>,
}

impl Detector for Unresponsive {
    fn judge(&mut self, seen: &[Seen<'_>], now: Instant) -> Vec<Finding> {
        seen.iter().for_each(|seen| self.take(seen, now));
        let mut typical = Vec::new();
        let found = seen.iter().filter_map(|seen| {
            let silence = self.silence(seen, now)?;
            let usual = typical.iter().position(|(level, _)| *level == seen.level).unwrap_or_else(|| {
                typical.push((seen.level, self.typical(seen.level)));
                typical.len() - 1
            });
            let (_, usual) = typical.get(usual)?;
            let evidence = self.evidence(seen, silence, usual.as_ref()?, now)?;
            Some(Finding { endpoint: seen.endpoint, severity: Severity::Eject, evidence })
        });
        found.collect()
    }

    fn forget(&mut self, endpoint: usize) {
        if let Some(track) = self.tracks.get_mut(endpoint) {
            *track = Track::default();
        }
    }

    fn renumber(&mut self, from: &[Option<usize>]) {
        renumbered(&mut self.tracks, from);
    }
}

impl Unresponsive {
    fn take(&mut self, seen: &Seen<'_>, now: Instant) {
        if self.tracks.len() <= seen.endpoint {
            self.tracks.resize(seen.endpoint + 1, Track::default());
        }
        let sample = seen.sample;
        let lives = is_alive(sample, self.settings.silence);
        if let Some(track) = self.tracks.get_mut(seen.endpoint) {
            if lives || sample.waiting == 0 {
                track.stall = None;
            } else {
                track.stall.get_or_insert_with(|| Stall::new(sample, now));
            }
        }
        if seen.serving && lives {
            self.level(seen.level, now).take(&sample.latencies, now);
        }
    }

    fn level(&mut self, number: u32, now: Instant) -> &mut Level {
        let at = self.levels.iter().position(|level| level.number == number).unwrap_or_else(|| {
            let turns = [Latencies::default(), Latencies::default()];
            self.levels.push(Level { number, turns, turn_ends: now + TURN, answered_at: None });
            self.levels.len() - 1
        });
        self.levels.get_mut(at).expect("it was found or pushed")
    }

    /// For how long an endpoint has been silent, if that is long enough to be of interest.
    fn silence(&self, seen: &Seen<'_>, now: Instant) -> Option<Duration> {
        let stall = self.tracks.get(seen.endpoint)?.stall?;
        let silence = now.saturating_duration_since(stall.since);
        (silence >= self.settings.silence && seen.sample.waiting >= self.settings.requests).then_some(silence)
    }

    /// The times that are usual in a level.
    fn typical(&self, number: u32) -> Option<Typical> {
        let level = self.levels.iter().find(|level| level.number == number)?;
        let [mut times, before] = level.turns.clone();
        times.merge(&before);
        let usual = times.quantile(USUAL)?;
        let bound = (usual * self.settings.factor).max(LEAST_BOUND);
        let rate = chance::rate(times.above(bound), times.count());
        Some(Typical { usual, bound, rate: rate.max(NOISE), answered_at: level.answered_at? })
    }

    fn evidence(
        &self,
        seen: &Seen<'_>,
        silence: Duration,
        usual: &Typical,
        now: Instant,
    ) -> Option<Evidence> {
        let stall = self.tracks.get(seen.endpoint)?.stall?;
        let others_answer = now.saturating_duration_since(usual.answered_at) < self.settings.silence;
        if !others_answer || silence < usual.bound {
            return None;
        }
        let (requests, age) = stall.waiting(seen.sample, silence);
        if requests < self.settings.requests || age < usual.bound.min(self.settings.silence) {
            return None;
        }
        // They came evenly, so that their ages are from 0 to twice the average.
        let share = 1.0 - usual.bound.as_secs_f64() / (2.0 * age.as_secs_f64());
        let late = (f64::from(requests) * share.max(0.0)).round() as u64;
        let surprise = chance::surprise(late, late, usual.rate);
        (surprise >= SURPRISE).then(|| Evidence {
            words: format!(
                "no response began in {} while {requests} requests wait, {} on average; the others \
                 answer, nine in ten requests within {} (threshold {} and {} times that)",
                time(silence),
                time(age),
                time(usual.usual),
                time(self.settings.silence),
                self.settings.factor
            ),
            values: vec![
                ("silence_seconds", silence.as_secs_f64()),
                ("waiting", f64::from(requests)),
                ("waiting_age_seconds", age.as_secs_f64()),
                ("others_p90_seconds", usual.usual.as_secs_f64()),
                ("threshold_silence_seconds", self.settings.silence.as_secs_f64()),
                ("threshold_age_seconds", usual.bound.min(self.settings.silence).as_secs_f64()),
                ("chance_share", (-surprise).exp()),
                ("threshold_chance_share", (-SURPRISE).exp()),
            ],
        })
    }
}

/// What is usual in a level at present.
#[derive(Debug)]
struct Typical {
    /// What nine in ten requests take at most.
    usual: Duration,
    /// Above what a request is late.
    bound: Duration,
    /// The share of requests that are, 0 to 1.
    rate: f64,
    answered_at: Instant,
}

impl Level {
    fn take(&mut self, times: &Latencies, now: Instant) {
        if now >= self.turn_ends {
            self.turns.swap(0, 1);
            let [present, _] = &mut self.turns;
            present.clear();
            self.turn_ends = now + TURN;
        }
        self.answered_at = Some(now);
        let [present, _] = &mut self.turns;
        present.merge(times);
    }
}

impl Stall {
    fn new(sample: &Sample, now: Instant) -> Self {
        // Those that came shortly before belong to it.
        let before = if sample.waiting_age > SHORTLY { sample.waiting } else { 0 };
        Self { since: now, before, before_ages: sample.waiting_age * before }
    }

    /// The requests that belong to the stall, and how long they have waited on average.
    fn waiting(&self, sample: &Sample, silence: Duration) -> (u32, Duration) {
        let requests = sample.waiting.saturating_sub(self.before);
        let ages = sample.waiting_age.saturating_mul(sample.waiting);
        let ages = ages.saturating_sub(self.before_ages + silence * self.before);
        (requests, ages.checked_div(requests).unwrap_or_default())
    }
}

/// Whether the endpoint did something that one that hangs does not. A client that gives up is counted
/// with the time that it waited; that is no answer.
fn is_alive(sample: &Sample, silence: Duration) -> bool {
    let answers = [Failure::Gateway, Failure::ServerError, Failure::Reset, Failure::Protocol];
    sample.latencies.quantile(0.0).is_some_and(|fastest| fastest < silence)
        || answers.iter().any(|failure| sample.failed_by(*failure) > 0)
}

/// Whether a wait is long is judged by what this share of requests take at most.
const USUAL: f64 = 0.9;
/// What no request is late for.
const LEAST_BOUND: Duration = Duration::from_millis(50);
/// For how long times are gathered before older ones are forgotten.
const TURN: Duration = Duration::from_secs(10);
/// What had waited for no longer than this when a stall was noticed came with it.
const SHORTLY: Duration = Duration::from_millis(500);
/// A share of late requests that may be anyone's.
const NOISE: f64 = 0.001;
/// The natural logarithm of how unlikely chance must be: one in a hundred thousand.
const SURPRISE: f64 = 11.5;
const SHORTEST_SILENCE: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests;
