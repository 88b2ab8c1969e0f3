//! When to stop asking what does not answer: the states of a breaker, by failures and by latency.
//! Open means refusing. Knows neither what is behind it nor who asks.

#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use super::sliding::Sliding;

/// How a breaker works.
#[derive(Clone, Debug, PartialEq)]
pub struct BreakerSettings {
    /// The share of requests that fail, above 0 to 1, from which on it opens.
    pub share: f64,
    /// Fewer requests in a window say nothing.
    pub requests: u32,
    /// How far back it looks.
    pub window: Duration,
    /// The latency from which on it opens; none when unset.
    pub latency: Option<Slow>,
    /// How long it stays open the first time; twice as long each time in a row.
    pub open: Duration,
    /// The longest time.
    pub max_open: Duration,
    /// Trials in a row that must end well for it to close.
    pub trials: u32,
}

/// A quantile of latency over a bound.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slow {
    /// The quantile, above 0 and below 1.
    pub quantile: f64,
    /// The bound.
    pub over: Duration,
}

impl Default for BreakerSettings {
    fn default() -> Self {
        Self {
            share: 0.5,
            requests: 20,
            window: Duration::from_secs(10),
            latency: None,
            open: Duration::from_secs(5),
            max_open: Duration::from_secs(60),
            trials: 3,
        }
    }
}

/// What happened since the breaker was last told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// Requests that ended.
    pub ended: u64,
    /// Those of them that failed.
    pub failed: u64,
    /// Responses that began.
    pub answered: u64,
    /// Those of them that took longer than [`Slow::over`].
    pub slow: u64,
    /// Trials that ended well.
    pub trials_passed: u32,
    /// Trials that failed or were slow.
    pub trials_failed: u32,
}

/// A breaker.
#[derive(Clone, Debug)]
pub struct Breaker {
    settings: BreakerSettings,
    state: State,
    /// Ended, failed, answered, slow.
    counts: Sliding<4>,
    /// Openings in a row without a time of health between them.
    row: u32,
}

/// The state of a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Everything passes.
    Closed,
    /// Nothing does, until then.
    Open(Instant),
    /// One request at a time, of which so many have ended well.
    HalfOpen(u32),
}

/// What changed, and why.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Change {
    /// It refuses from now on.
    Opened {
        /// Why.
        cause: Cause,
        /// For how long.
        lasts: Duration,
        /// Openings in a row, this one included.
        times: u32,
    },
    /// The time is over: one request at a time passes.
    HalfOpened,
    /// Everything passes again, after so many trials.
    Closed(u32),
}

/// Why a breaker opened.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cause {
    /// Too great a share of requests failed.
    Failures {
        /// The share, 0 to 1.
        share: f64,
        /// Of so many.
        requests: u64,
    },
    /// Too great a share of responses was late.
    Latency {
        /// The bound, and the quantile that is over it.
        slow: Slow,
        /// The share that took longer, 0 to 1.
        share: f64,
        /// Of so many.
        requests: u64,
    },
    /// A trial failed.
    Trial,
}

impl Breaker {
    /// A closed breaker.
    #[must_use]
    pub fn new(settings: BreakerSettings) -> Self {
        let counts = Sliding::new(settings.window);
        Self { settings, state: State::Closed, counts, row: 0 }
    }

    /// What it is at present.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// The latency from which on a response is slow, if any.
    #[must_use]
    pub fn slow(&self) -> Option<Slow> {
        self.settings.latency
    }

    /// Takes what ended until `now`, and says what changed.
    pub fn on_tick(&mut self, ended: &Ended, now: Instant) -> Option<Change> {
        match self.state {
            State::Closed => self.while_closed(ended, now),
            // What ends now was begun before.
            State::Open(until) if now < until => None,
            State::Open(_) => {
                self.state = State::HalfOpen(0);
                Some(Change::HalfOpened)
            }
            State::HalfOpen(_) if ended.trials_failed > 0 => Some(self.open(Cause::Trial, now)),
            State::HalfOpen(passed) => {
                let passed = passed.saturating_add(ended.trials_passed);
                if passed < self.settings.trials {
                    self.state = State::HalfOpen(passed);
                    return None;
                }
                self.state = State::Closed;
                self.counts.clear();
                Some(Change::Closed(passed))
            }
        }
    }

    fn while_closed(&mut self, new: &Ended, now: Instant) -> Option<Change> {
        self.counts.add([new.ended, new.failed, new.answered, new.slow], now);
        if let Some(cause) = self.complaint() {
            return Some(self.open(cause, now));
        }
        let [ended, ..] = self.counts.sums();
        if self.row > 0 && ended >= u64::from(self.settings.requests) {
            // As many requests as would have opened it, and it did not open.
            self.row = 0;
        }
        None
    }

    fn complaint(&self) -> Option<Cause> {
        let [ended, failed, answered, slow] = self.counts.sums();
        let fewest = u64::from(self.settings.requests).max(1);
        let share = |part: u64, of: u64| part as f64 / of.max(1) as f64;
        if ended >= fewest && share(failed, ended) >= self.settings.share {
            return Some(Cause::Failures { share: share(failed, ended), requests: ended });
        }
        // A quantile is over a bound where more than the rest of all are.
        let bound = self.settings.latency.filter(|_| answered >= fewest)?;
        let late = share(slow, answered);
        (late > 1.0 - bound.quantile + f64::EPSILON).then_some(Cause::Latency {
            slow: bound,
            share: late,
            requests: answered,
        })
    }

    fn open(&mut self, cause: Cause, now: Instant) -> Change {
        let doubled = self.settings.open.saturating_mul(2_u32.saturating_pow(self.row));
        let lasts = doubled.min(self.settings.max_open).max(self.settings.open);
        self.row = self.row.saturating_add(1);
        self.state = State::Open(now + lasts);
        self.counts.clear();
        Change::Opened { cause, lasts, times: self.row }
    }
}
