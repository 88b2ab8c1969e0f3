//! Whether a new configuration is to be taken back: more of the requests fail under it than did before.
//! Knows neither what was changed nor where the counts come from.

use std::time::{Duration, Instant};

/// Requests so far, and those of them that failed. Both only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// All.
    pub requests: u64,
    /// Those answered with 5xx.
    pub failures: u64,
}

impl Count {
    /// What was counted since `before`.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(before.requests),
            failures: self.failures.saturating_sub(before.failures),
        }
    }

    /// The share that failed, 0 to 1; 0 of nothing.
    #[must_use]
    pub fn rate(self) -> f64 {
        if self.requests == 0 { 0.0 } else { self.failures as f64 / self.requests as f64 }
    }
}

/// A configuration on trial.
#[derive(Clone, Copy, Debug)]
pub struct Trial {
    /// What was counted in the time before.
    before: Count,
    /// What had been counted when it began.
    began: Count,
    ends: Instant,
}

/// What is to become of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    /// It is too early to tell.
    Wait,
    /// It stays.
    Keep,
    /// It is taken back.
    TakeBack {
        /// The share of requests that failed before, 0 to 1.
        before: f64,
        /// What has been counted since.
        since: Count,
    },
}

impl Trial {
    /// A trial that begins now, with `began` counted so far and `before` of it in the time just before.
    #[must_use]
    pub fn new(before: Count, began: Count, now: Instant, lasts: Duration) -> Self {
        Self { before, began, ends: now + lasts }
    }

    /// What is to become of it, when so much has been counted. Failures have to be many enough not to be
    /// chance, and more than twice as frequent as before.
    #[must_use]
    pub fn judge(&self, now: Instant, count: Count) -> Verdict {
        let (before, since) = (self.before.rate(), count.since(self.began));
        let enough = since.requests >= REQUESTS && since.failures >= FAILURES;
        if enough && since.rate() >= LEAST && since.rate() > FACTOR * before {
            return Verdict::TakeBack { before, since };
        }
        if now >= self.ends { Verdict::Keep } else { Verdict::Wait }
    }
}

/// Requests without which nothing is judged.
const REQUESTS: u64 = 20;
/// Failures without which nothing is judged.
const FAILURES: u64 = 5;
/// The share of failures that is borne in any case.
const LEAST: f64 = 0.01;
/// How many times the share before is borne.
const FACTOR: f64 = 2.0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ambient;

    const SECOND: Duration = Duration::from_secs(1);

    fn count(requests: u64, failures: u64) -> Count {
        Count { requests, failures }
    }

    /// How long a trial of a minute lasts at 100 requests a second of which so many fail, and how it ends.
    fn run(before: Count, failing: u64) -> (u64, Verdict) {
        let start = ambient::now();
        let began = count(1_000_000, 500);
        let trial = Trial::new(before, began, start, 60 * SECOND);
        for second in 0.. {
            let so_far = count(began.requests + second * 100, began.failures + second * failing);
            match trial.judge(start + SECOND * u32::try_from(second).unwrap(), so_far) {
                Verdict::Wait => {}
                verdict => return (second, verdict),
            }
        }
        unreachable!("every trial ends")
    }

    #[test]
    fn what_fails_no_more_than_before_is_kept_when_time_is_up() {
        for (before, failing) in
            [(count(0, 0), 0), (count(6000, 0), 0), (count(6000, 300), 5), (count(6000, 300), 10)]
        {
            assert_eq!(run(before, failing), (60, Verdict::Keep), "{before:?} {failing}");
        }
    }

    #[test]
    fn what_fails_more_is_taken_back_as_soon_as_that_is_certain() {
        for (before, failing, after) in
            [(count(6000, 0), 50, 1), (count(6000, 0), 1, 5), (count(6000, 300), 11, 1), (count(0, 0), 3, 2)]
        {
            let (seconds, verdict) = run(before, failing);
            assert!(matches!(verdict, Verdict::TakeBack { .. }), "{before:?} {failing}: {verdict:?}");
            assert_eq!(seconds, after, "{before:?} {failing}");
        }
    }

    #[test]
    fn a_few_failures_among_few_requests_prove_nothing() {
        let start = ambient::now();
        let trial = Trial::new(count(0, 0), count(0, 0), start, SECOND);
        for so_far in [count(19, 19), count(1000, 4), count(1000, 9), count(0, 0)] {
            assert_eq!(trial.judge(start, so_far), Verdict::Wait, "{so_far:?}");
        }
        assert_eq!(trial.judge(start + SECOND, count(19, 19)), Verdict::Keep);
        let verdict = Verdict::TakeBack { before: 0.0, since: count(20, 5) };
        assert_eq!(trial.judge(start, count(20, 5)), verdict);
    }
}
