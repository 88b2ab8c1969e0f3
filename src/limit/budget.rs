//! How many retries a pool can bear, so that a failing service is not finished off by being asked
//! again: as a share of what goes on at once, and of what went on lately. Counts nothing by itself.

use std::time::{Duration, Instant};

/// A bound on retries: a share of requests, and a number that is always allowed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Budget {
    /// The share, 0 to 1.
    pub share: f64,
    /// What is allowed however few requests there are.
    pub min: u32,
}

/// What there was in the recent past: up to [`SPAN`] ago, at least half of it.
#[derive(Clone, Copy, Debug)]
pub struct Recent {
    since: Instant,
    now: Counts,
    before: Counts,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    requests: u32,
    retries: u32,
}

impl Budget {
    /// Whether there may be one more than `retries` beside `requests`.
    #[must_use]
    pub fn allows(self, retries: u32, requests: u32) -> bool {
        f64::from(retries) < f64::from(self.min).max(self.share * f64::from(requests))
    }

    /// Whether one more may be begun after what there was lately. Where failures come fast, few
    /// retries at once are many in a row; this bounds them too. What is always allowed is so for
    /// every second. Not for requests that reached nobody, of which only the next try is load.
    #[must_use]
    pub fn allows_after(self, recent: &Recent) -> bool {
        let seconds = u32::try_from(SPAN.as_secs()).unwrap_or(u32::MAX);
        let every_second = Self { min: self.min.saturating_mul(seconds), ..self };
        let of = |count: fn(&Counts) -> u32| count(&recent.now).saturating_add(count(&recent.before));
        every_second.allows(of(|counts| counts.retries), of(|counts| counts.requests))
    }
}

impl Recent {
    /// Nothing so far.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { since: now, now: Counts::default(), before: Counts::default() }
    }

    /// Counts a request at `now`.
    #[inline]
    pub fn request(&mut self, now: Instant) {
        self.turn(now);
        self.now.requests = self.now.requests.saturating_add(1);
    }

    /// Counts a retry at `now`.
    pub fn retry(&mut self, now: Instant) {
        self.turn(now);
        self.now.retries = self.now.retries.saturating_add(1);
    }

    #[inline]
    fn turn(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.since);
        if passed >= SPAN / 2 {
            let before = if passed < SPAN { self.now } else { Counts::default() };
            *self = Self { before, ..Self::new(now) };
        }
    }
}

/// How far [`Recent`] reaches back.
pub const SPAN: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::mix::mix;

    const BUDGET: Budget = Budget { share: 0.2, min: 3 };

    fn start() -> Instant {
        crate::ambient::now()
    }

    #[test]
    fn a_few_are_always_allowed() {
        for (retries, requests, allowed) in
            [(0, 0, true), (2, 1, true), (3, 15, false), (3, 16, true), (19, 100, true), (20, 100, false)]
        {
            assert_eq!(BUDGET.allows(retries, requests), allowed, "{retries} of {requests}");
        }
        assert!(!Budget { share: 0.0, min: 0 }.allows(0, 1000), "none at all");
    }

    #[test]
    fn failing_fast_does_not_multiply_the_load() {
        // Every request fails at once and would be tried again twice, at 500 a second for a minute.
        for seed in 0..20 {
            let (start, mut recent, mut retries) = (start(), Recent::new(start()), 0_u32);
            for request in 0..30_000_u64 {
                let now = start + Duration::from_millis(request * 2);
                recent.request(now);
                for _ in 0..mix(seed ^ request) % 3 {
                    if BUDGET.allows_after(&recent) {
                        recent.retry(now);
                        retries += 1;
                    }
                }
            }
            assert!(retries <= 6000 + 30, "seed {seed}: {retries}");
            assert!(retries > 5000, "seed {seed}: {retries}");
        }
    }

    #[test]
    fn what_is_long_ago_does_not_count() {
        let mut recent = Recent::new(start());
        (0..1000).for_each(|_| recent.request(start()));
        (0..200).for_each(|_| recent.retry(start()));
        assert!(!BUDGET.allows_after(&recent));
        recent.request(start() + SPAN);
        assert!(BUDGET.allows_after(&recent));
        assert_eq!(recent.before.requests, 0);
    }
}
