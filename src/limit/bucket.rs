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
pub(super) mod tests {
    use super::*;
    use crate::model::mix::{STEP, mix};

    /// As in a textbook: a level that is filled up before each use. Levels are in nanoseconds' worth
    /// of tokens, so that nothing is rounded.
    struct Naive {
        level: u64,
        last: u64,
    }

    impl Naive {
        fn take(&mut self, increment: u64, depth: u64, now: u64) -> bool {
            self.level = depth.min(self.level + (now - self.last));
            self.last = now;
            let allowed = self.level >= increment;
            self.level -= if allowed { increment } else { 0 };
            allowed
        }
    }

    /// Numbers from a seed.
    pub(in crate::limit) fn draws(seed: u64) -> impl FnMut() -> u64 {
        let mut state = seed;
        move || {
            state = state.wrapping_add(STEP);
            mix(state)
        }
    }

    fn quota(rate: &str, burst: u32) -> Quota {
        Quota::new(rate.parse().unwrap(), burst)
    }

    #[test]
    fn it_decides_as_a_token_bucket_does() {
        for seed in 0..200 {
            let mut draw = draws(seed);
            let rate = Rate::new((draw() % 5000 + 1) as u32, Period::Minute).unwrap();
            let quota = Quota::new(rate, (draw() % 40) as u32);
            let bucket = Bucket::default();
            let mut naive = Naive { level: quota.depth, last: 0 };
            let mut now = 0;
            for step in 0..2000 {
                // Bursts, a pace near the rate, and pauses.
                now += match draw() % 4 {
                    0 | 1 => draw() % (quota.increment / 4 + 1),
                    2 => draw() % (quota.increment * 2),
                    _ => draw() % (quota.depth + 1),
                };
                let standing = bucket.take(&quota, now);
                let allowed = naive.take(quota.increment, quota.depth, now);
                assert_eq!(standing.allowed, allowed, "seed {seed}, step {step}");
                assert_eq!(standing.remaining, naive.level / quota.increment, "seed {seed}, step {step}");
                assert_eq!(standing.full, quota.depth - naive.level, "seed {seed}, step {step}");
                let next = quota.increment.saturating_sub(naive.level);
                assert_eq!(standing.next, next, "seed {seed}, step {step}");
            }
        }
    }

    #[test]
    fn no_window_sees_more_than_the_burst_and_the_rate() {
        for seed in 0..50 {
            let mut draw = draws(seed);
            let quota = quota("1000/s", (draw() % 30 + 1) as u32);
            let (bucket, mut now, mut passed) = (Bucket::default(), 0, Vec::new());
            for _ in 0..1500 {
                now += draw() % quota.increment;
                if bucket.take(&quota, now).allowed {
                    passed.push(now);
                }
            }
            for (first, start) in passed.iter().enumerate() {
                for (last, end) in passed.iter().enumerate().skip(first) {
                    let most = (quota.depth + (end - start)) / quota.increment;
                    assert!((last - first + 1) as u64 <= most, "seed {seed}, {start} to {end}");
                }
            }
        }
    }

    #[test]
    fn who_waits_as_long_as_told_is_let_in() {
        let quota = quota("10/m", 3);
        let bucket = Bucket::default();
        let now = 5_000_000_000;
        let remaining: Vec<_> = (0..3).map(|_| bucket.take(&quota, now).remaining).collect();
        assert_eq!(remaining, [2, 1, 0]);
        let refused = bucket.take(&quota, now);
        let six = 6_000_000_000;
        assert_eq!(refused, Standing { allowed: false, remaining: 0, next: six, full: 3 * six });
        assert!(!bucket.take(&quota, now + six - 1).allowed);
        assert!(bucket.take(&quota, now + six).allowed);
    }

    #[test]
    fn threads_share_one_bucket() {
        let quota = quota("1/h", 1000);
        let bucket = Bucket::default();
        let take = || (0..1000).filter(|_| bucket.take(&quota, 7).allowed).count();
        let passed: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(take)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(passed, 1000);
    }

    #[test]
    fn rates_are_written_by_the_second_minute_or_hour() {
        for (text, increment, burst) in [
            ("100/s", 10_000_000, 100),
            ("3/s", 333_333_334, 3),
            ("30/m", 2_000_000_000, 1),
            ("90/m", 666_666_667, 2),
            ("5/h", 720_000_000_000, 1),
            ("1000000/s", 1000, 1_000_000),
        ] {
            let rate: Rate = text.parse().unwrap();
            assert_eq!(rate.usual_burst(), burst, "{text}");
            let quota = Quota::new(rate, burst);
            assert_eq!((quota.increment, quota.depth), (increment, increment * u64::from(burst)), "{text}");
        }
        for text in
            ["", "100", "/s", "0/s", "1.5/s", "+1/s", "-1/s", "1/d", "1 /s", "1000001/s", "99999999999/h"]
        {
            assert_eq!(text.parse::<Rate>(), Err(BadRate(text.to_owned())), "{text}");
        }
    }

    #[test]
    fn the_deepest_bucket_does_not_overflow() {
        let quota = quota("1/h", u32::MAX);
        let bucket = Bucket::default();
        for now in [0, u64::MAX / 2, u64::MAX - 1, u64::MAX] {
            assert!(bucket.take(&quota, now).remaining < u64::from(MAX_BURST), "{now}");
        }
    }
}
