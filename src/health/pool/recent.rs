//! How one endpoint's exchanges ended lately, so that failures that come together can be told from
//! those of one endpoint. Deliberately coarser and quicker than any detector; it ejects nobody.

use std::time::{Duration, Instant};

use crate::health::Sample;

/// Exchanges that ended lately, older ones counting less and less.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Recent {
    successes: f64,
    failures: f64,
    /// When these were last brought up to date.
    at: Option<Instant>,
    streak: u32,
    /// When an exchange last failed.
    failed_at: Option<Instant>,
    /// Since when it has been failing, as of `at`.
    failing_since: Option<Instant>,
}

impl Recent {
    /// Takes what happened up to `now`.
    pub(super) fn take(&mut self, sample: &Sample, now: Instant) {
        let failed = sample.failed();
        let kept = self.kept(sample.ended(), now);
        self.successes = self.successes * kept + sample.successes as f64;
        self.failures = self.failures * kept + failed as f64;
        self.at = Some(now);
        self.streak = sample.streak;
        if failed > 0 {
            self.failed_at = Some(now);
        }
        if self.is_failing(now) {
            self.failing_since.get_or_insert(now);
        } else {
            self.failing_since = None;
        }
    }

    /// Whether a good part of its exchanges fails, or, where there are few, the last ones.
    pub(super) fn is_failing(&self, now: Instant) -> bool {
        let Some(failed_at) = self.failed_at else { return false };
        if now.saturating_duration_since(failed_at) > MEMORY {
            return false;
        }
        self.streak >= LAST_ONES
            || (self.failures * self.kept(0, now) >= FEWEST_FAILURES && self.share() >= FAILING_SHARE)
    }

    /// Since when it has been failing; `None` if it does not.
    pub(super) fn failing_since(&self, now: Instant) -> Option<Instant> {
        self.failing_since.filter(|_| self.is_failing(now))
    }

    /// The share of exchanges that failed, 0 to 1; 0 where there were none. It stays as it is while
    /// nothing happens.
    pub(super) fn share(&self) -> f64 {
        let all = self.successes + self.failures;
        if all > 0.0 { self.failures / all } else { 0.0 }
    }

    /// Whether it had enough traffic for [`Self::share`] to mean something when it last had any.
    pub(super) fn is_telling(&self) -> bool {
        self.successes + self.failures >= FEWEST_ENDED
    }

    /// Whether nothing more is to be said of failures at `now`.
    pub(super) fn is_quiet(&self, now: Instant) -> bool {
        self.failed_at.is_none_or(|at| now.saturating_duration_since(at) > MEMORY)
    }

    /// What is left of counts, 0 to 1, when so many more have `ended`. The last few are forgotten
    /// only as others replace them, so that little traffic is remembered for longer.
    fn kept(&self, ended: u64, now: Instant) -> f64 {
        let age = self.at.map_or(0.0, |at| now.saturating_duration_since(at).as_secs_f64());
        let all = self.successes + self.failures;
        let few = if all > A_FEW { A_FEW / all } else { 1.0 };
        let few = few * (1.0 - 1.0 / A_FEW).powf(ended as f64);
        few.max((-age / DECAY_SECONDS).exp())
    }
}

/// Exchanges that are remembered for as long as no others replace them.
const A_FEW: f64 = 8.0;
/// The time in which a count falls to 1/e.
const DECAY_SECONDS: f64 = 3.0;
/// For how long a failure counts at all.
const MEMORY: Duration = Duration::from_secs(15);
/// Failures in a row that count as failing however few there are.
const LAST_ONES: u32 = 2;
/// Failures, aged, below which a share says nothing: more than one.
const FEWEST_FAILURES: f64 = 1.5;
/// The share of failures from which on an endpoint counts as failing.
const FAILING_SHARE: f64 = 0.15;
/// Exchanges, aged, below which shares are not compared.
const FEWEST_ENDED: f64 = 3.0;
