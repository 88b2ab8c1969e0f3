//! Which rung of its ladder of degradation a pool is on: down where what is asked fails, and up again
//! where trials have gone well for a while. Knows neither what the rungs are nor who asks.
//!
//! Rung 0 is the pool itself, rung 1 what stands in for it first, and so on. A single request that
//! fails goes down by itself, whatever the rung: the ladder only decides where requests begin.

#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use super::sliding::Sliding;

/// How a ladder is gone down and up.
#[derive(Clone, Debug, PartialEq)]
pub struct LadderSettings {
    /// The share of requests that fail on a rung, above 0 to 1, from which on the next one is taken.
    pub enter: f64,
    /// Fewer requests in a window say nothing.
    pub requests: u32,
    /// How far back it looks.
    pub window: Duration,
    /// For how long trials have to go well. Doubles, up to eight times, where a pool fails again soon
    /// after it was returned to.
    pub leave_after: Duration,
    /// The share of requests, 0 to 1, that are trials; one a second at least.
    pub trials: f64,
}

impl Default for LadderSettings {
    fn default() -> Self {
        Self {
            enter: 0.5,
            requests: 20,
            window: Duration::from_secs(10),
            leave_after: Duration::from_secs(5),
            trials: 0.05,
        }
    }
}

/// What became of the requests that tried a rung.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tries {
    /// It had an answer.
    pub passed: u64,
    /// It had none, or one that says that something is broken.
    pub failed: u64,
}

/// Where a pool stands on its ladder.
#[derive(Clone, Debug)]
pub struct Ladder {
    settings: LadderSettings,
    /// The last rung.
    last: usize,
    rung: usize,
    /// Passed and failed on the present rung.
    counts: Sliding<2>,
    /// How trials of the rungs above the present one go; the first is of the pool itself.
    runs: Vec<Run>,
    /// When it was last left for a better rung.
    left: Option<Instant>,
    /// How often in a row it came back soon after that.
    relapses: u32,
}

/// Trials of one rung that have gone well.
#[derive(Clone, Copy, Debug, Default)]
struct Run {
    since: Option<Instant>,
    tries: Tries,
}

/// That another rung was taken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change {
    /// The rung before.
    pub from: usize,
    /// The rung now.
    pub to: usize,
    /// Why.
    pub cause: Cause,
}

/// Why another rung was taken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cause {
    /// Too great a share of requests failed.
    Failures {
        /// The share, 0 to 1.
        share: f64,
        /// Of so many.
        requests: u64,
    },
    /// Nobody is there to be asked.
    Unavailable,
    /// Trials went well.
    Trials {
        /// Those that did.
        passed: u64,
        /// For so long.
        lasted: Duration,
    },
}

impl Ladder {
    /// A ladder with so many rungs below the pool itself, which is where it begins.
    #[must_use]
    pub fn new(settings: LadderSettings, rungs: usize) -> Self {
        let counts = Sliding::new(settings.window);
        Self { settings, last: rungs, rung: 0, counts, runs: Vec::new(), left: None, relapses: 0 }
    }

    /// The present rung.
    #[must_use]
    pub const fn rung(&self) -> usize {
        self.rung
    }

    /// Takes what happened on each rung, the pool itself first, since it was last told; `available`
    /// is whether there is anybody in the pool itself to ask.
    pub fn on_tick(&mut self, tries: &[Tries], available: bool, now: Instant) -> Option<Change> {
        if let Some(change) = self.go_up(tries, available, now) {
            return Some(change);
        }
        let Tries { passed, failed } = tries.get(self.rung).copied().unwrap_or_default();
        self.counts.add([passed, failed], now);
        if self.rung == self.last {
            return None;
        }
        if self.rung == 0 && !available {
            return Some(self.go_down(Cause::Unavailable, now));
        }
        let [passed, failed] = self.counts.sums();
        let requests = passed + failed;
        let share = failed as f64 / requests.max(1) as f64;
        let failing = failed > 0 && requests >= u64::from(self.settings.requests);
        (failing && share >= self.settings.enter)
            .then(|| self.go_down(Cause::Failures { share, requests }, now))
    }

    fn go_down(&mut self, cause: Cause, now: Instant) -> Change {
        let soon = 2 * self.patience();
        self.relapses = match self.left.take() {
            Some(left) if now < left + soon => self.relapses.saturating_add(1).min(MOST_RELAPSES),
            Some(_) => 0,
            None => self.relapses,
        };
        self.take(self.rung + 1, cause)
    }

    /// Goes to the best rung whose trials have gone well for long enough.
    fn go_up(&mut self, tries: &[Tries], available: bool, now: Instant) -> Option<Change> {
        let (most, patience) = (self.settings.enter / 2.0, self.patience());
        for (run, tries) in self.runs.iter_mut().zip(tries) {
            run.on_tries(tries, most, now);
        }
        if let Some(own) = self.runs.first_mut().filter(|_| !available) {
            *own = Run::default();
        }
        let (to, tried, lasted) = (0..).zip(&self.runs).find_map(|(rung, run)| {
            let lasted = now.saturating_duration_since(run.since?);
            (lasted >= patience && run.tries.passed >= LEAST_TRIALS).then_some((rung, run.tries, lasted))
        })?;
        self.left = Some(now);
        Some(self.take(to, Cause::Trials { passed: tried.passed, lasted }))
    }

    fn take(&mut self, to: usize, cause: Cause) -> Change {
        let from = std::mem::replace(&mut self.rung, to);
        self.counts.clear();
        // Trials of rungs that are above both go on.
        self.runs.truncate(from.min(to));
        self.runs.resize(to, Run::default());
        Change { from, to, cause }
    }

    fn patience(&self) -> Duration {
        self.settings.leave_after * (1 << self.relapses)
    }
}

impl Run {
    /// Takes trials; those that fail end the run, unless they are no more than `most` of it.
    fn on_tries(&mut self, tries: &Tries, most: f64, now: Instant) {
        if *tries == Tries::default() {
            return;
        }
        self.tries.passed += tries.passed;
        self.tries.failed += tries.failed;
        let share = self.tries.failed as f64 / (self.tries.passed + self.tries.failed) as f64;
        // A run does not outlive an interval that is bad by itself, however long it was good.
        let share_now = tries.failed as f64 / (tries.passed + tries.failed) as f64;
        if tries.failed > 0 && (share >= most || (share_now >= most && tries.failed >= LEAST_TRIALS)) {
            *self = Self::default();
        } else if tries.passed > 0 {
            self.since.get_or_insert(now);
        }
    }
}

/// Trials that have to go well at least.
const LEAST_TRIALS: u64 = 3;
/// How often the time for trials is doubled at most.
const MOST_RELAPSES: u32 = 3;
