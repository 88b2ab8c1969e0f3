//! Rates as they are written, and buckets against a naive token bucket.

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
    for text in ["", "100", "/s", "0/s", "1.5/s", "+1/s", "-1/s", "1/d", "1 /s", "1000001/s", "99999999999/h"]
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
