//! What a pool's health is judged by, as configured. Decides nothing.

use std::time::Duration;

use crate::health::check::Rhythm;
use crate::health::detector::{Chosen, Mode};

/// What endpoints are judged by, per pool.
#[derive(Clone, Debug)]
pub struct HealthSettings {
    /// The rhythm of active checks; `None` when there are none.
    pub checks: Option<Rhythm>,
    /// Detectors in force.
    pub detectors: Vec<Chosen>,
    /// Bounds on ejection.
    pub ejection: Ejection,
    /// How long an endpoint takes from a tenth of its weight to all of it. Zero for at once.
    pub slow_start: Duration,
}

impl HealthSettings {
    /// Whether the findings of any detector are acted upon.
    pub(super) fn is_enforced(&self) -> bool {
        self.detectors.iter().any(|chosen| chosen.mode == Mode::Enforce)
    }
}

/// The default of [`HealthSettings::slow_start`].
pub const SLOW_START: Duration = Duration::from_secs(10);

/// Bounds on ejection.
#[derive(Clone, Debug, PartialEq)]
pub struct Ejection {
    /// How long the first lasts; the nth lasts n times as long. The count falls by one for each time
    /// that the endpoint is available for as long as its last ejection was to last.
    pub base: Duration,
    /// The longest.
    pub max: Duration,
    /// By which share, 0 to 1, each is varied at random, either way.
    pub jitter: f64,
    /// The greatest share of a level's endpoints, 0 to 1, that may be ejected at once; at least one
    /// where there are two or more, never the last.
    pub max_ejected: f64,
}

impl Default for Ejection {
    fn default() -> Self {
        Self { base: Duration::from_secs(10), max: Duration::from_secs(300), jitter: 0.1, max_ejected: 0.5 }
    }
}

impl Ejection {
    /// How long the ejection lasts that is the `times`th in a row, before jitter.
    pub(super) fn length(&self, times: u32) -> Duration {
        self.base.saturating_mul(times).min(self.max)
    }

    /// The same, varied by a uniformly distributed `draw`; never longer than the longest.
    pub(super) fn drawn(&self, times: u32, draw: u64) -> Duration {
        varied(self.length(times), self.jitter, draw).min(self.max)
    }

    /// How many of a level's `members` may be gone at once before ejection stops.
    pub(super) fn cap(&self, members: usize) -> usize {
        let share = (members as f64 * self.max_ejected).floor() as usize;
        share.max(1).min(members.saturating_sub(1))
    }
}

/// `length`, longer or shorter by at most the share `jitter`, by a uniformly distributed `draw`.
pub(super) fn varied(length: Duration, jitter: f64, draw: u64) -> Duration {
    let swing = draw as f64 / u64::MAX as f64 * 2.0 - 1.0;
    let factor = (1.0 + jitter * swing).max(0.0);
    Duration::try_from_secs_f64(length.as_secs_f64() * factor).unwrap_or(length)
}
