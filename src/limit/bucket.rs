//! Rates and token buckets: whether one more may pass now, how many more could, and when the next
//! may. Knows neither what is counted nor for whom, and is told what time it is.
//!
//! A bucket is kept as one number, the *theoretical arrival time* of the virtual scheduling algorithm
//! (GCRA, ITU-T Recommendation I.371, annex A): when the bucket will be full. One token comes every
//! *increment*; a bucket that is full at `t` lacks `(t - now) / increment` tokens. So it decides as a
//! bucket does that holds `burst` tokens, gains one every increment and loses one to all that passes
//! (a test holds the two against each other), and needs neither a second number nor a refill.

use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};

use thiserror::Error;

/// So many in so long: `100/s`, `30/m`, `5/h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    count: u32,
    per: Period,
}

/// The time over which a rate counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    /// 1 s.
    Second,
    /// 60 s.
    Minute,
    /// 3600 s.
    Hour,
}

/// What is no rate.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is not a rate, such as \"100/s\", \"30/m\" or \"5/h\", of up to a million a second")]
pub struct BadRate(String);

/// How fast a bucket fills and how much it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// The time in which one token comes, in nanoseconds, at least [`LEAST_INCREMENT`].
    increment: u64,
    /// The time in which an empty bucket fills, in nanoseconds.
    depth: u64,
}

/// What came of asking a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Whether it had a token, which is gone now.
    pub allowed: bool,
    /// Tokens that are left.
    pub remaining: u64,
    /// Nanoseconds until there is a token; 0 where one is left.
    pub next: u64,
    /// Nanoseconds until the bucket is full, if no more are taken.
    pub full: u64,
}

/// A token bucket that many threads take from. Full at first. Times are nanoseconds since whatever
/// moment its user counts from.
#[derive(Debug, Default)]
pub struct Bucket(AtomicU64);

impl Rate {
    /// `count` in each `per`; `None` for none and for more than a million a second.
    #[must_use]
    pub fn new(count: u32, per: Period) -> Option<Self> {
        let most = MOST_A_SECOND * per.seconds();
        (1..=most).contains(&u64::from(count)).then_some(Self { count, per })
    }

    /// How many in each period.
    #[must_use]
    pub fn count(self) -> u32 {
        self.count
    }

    /// The period.
    #[must_use]
    pub fn per(self) -> Period {
        self.per
    }

    /// The burst where none is given: what comes in a second, rounded up.
    #[must_use]
    pub fn usual_burst(self) -> u32 {
        let a_second = u64::from(self.count).div_ceil(self.per.seconds());
        u32::try_from(a_second).unwrap_or(MAX_BURST).min(MAX_BURST)
    }
}

impl Period {
    /// Its length in seconds.
    #[must_use]
    pub fn seconds(self) -> u64 {
        match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3600,
        }
    }
}

impl FromStr for Rate {
    type Err = BadRate;

    fn from_str(text: &str) -> Result<Self, BadRate> {
        let bad = || BadRate(text.to_owned());
        let (count, per) = text.split_once('/').ok_or_else(bad)?;
        let per = match per {
            "s" => Period::Second,
            "m" => Period::Minute,
            "h" => Period::Hour,
            _ => return Err(bad()),
        };
        let digits = count.bytes().all(|b| b.is_ascii_digit());
        let count = count.parse().ok().filter(|_| digits);
        count.and_then(|count| Self::new(count, per)).ok_or_else(bad)
    }
}

impl Quota {
    /// A bucket of `burst` tokens, 1 to [`MAX_BURST`] (others are taken as the nearest), that fills at
    /// `rate`. The increment is rounded up to nanoseconds, so that the rate is never exceeded, and
    /// missed by 0.1 % at most.
    #[must_use]
    pub fn new(rate: Rate, burst: u32) -> Self {
        let increment = (rate.per.seconds() * NANOS).div_ceil(u64::from(rate.count));
        Self { increment, depth: increment * u64::from(burst.clamp(1, MAX_BURST)) }
    }

    /// The time in which one token comes, in nanoseconds.
    #[must_use]
    pub fn increment(&self) -> u64 {
        self.increment
    }

    /// The time in which an empty bucket fills, in nanoseconds.
    #[must_use]
    pub fn depth(&self) -> u64 {
        self.depth
    }

    /// What a bucket that will be full at `full_at` says at `now`, and when it is full after that.
    fn ask(&self, full_at: u64, now: u64) -> (Standing, u64) {
        let full_at = full_at.max(now);
        let lacking = full_at - now;
        let after = lacking.saturating_add(self.increment);
        let allowed = after <= self.depth;
        let lacking = if allowed { after } else { lacking };
        let short = lacking.saturating_add(self.increment).saturating_sub(self.depth);
        let standing = Standing {
            allowed,
            remaining: self.depth.saturating_sub(lacking).checked_div(self.increment).unwrap_or_default(),
            next: short,
            full: lacking,
        };
        (standing, now.saturating_add(lacking))
    }
}

impl Bucket {
    /// Takes a token at `now`, if there is one.
    pub fn take(&self, quota: &Quota, now: u64) -> Standing {
        let mut full_at = self.0.load(Ordering::Relaxed);
        loop {
            let (standing, then) = quota.ask(full_at, now);
            if !standing.allowed {
                return standing;
            }
            match self.0.compare_exchange_weak(full_at, then, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return standing,
                Err(other) => full_at = other,
            }
        }
    }

    /// When it will be full.
    #[must_use]
    pub fn full_at(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Fills it, unless it changed since it was to be full at `full_at`.
    pub(super) fn refill(&self, full_at: u64) {
        // Whoever changed it meanwhile takes tokens from it for the same reason.
        let _ = self.0.compare_exchange(full_at, 0, Ordering::Relaxed, Ordering::Relaxed);
    }
}

/// The greatest burst: the bucket of the slowest rate, one an hour, still fits 64 bits.
pub const MAX_BURST: u32 = 1_000_000;
/// The least time between two tokens, in nanoseconds.
const LEAST_INCREMENT: u64 = 1_000;
const MOST_A_SECOND: u64 = NANOS / LEAST_INCREMENT;
const NANOS: u64 = 1_000_000_000;

#[cfg(test)]
pub(super) mod tests;
