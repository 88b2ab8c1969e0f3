//! Which part of a pool's requests is turned away because the pool would hardly accept more: the
//! client-side throttling of "Site Reliability Engineering" (Beyer et al., 2016), chapter 21,
//! "Handling Overload". Does not know which requests these are.

use std::time::{Duration, Instant};

use super::sliding::Sliding;
use crate::model::settings::Priority;

/// How a throttle works.
#[derive(Clone, Debug, PartialEq)]
pub struct ThrottleSettings {
    /// How many times as many requests as are accepted may be made, 1 or more.
    pub factor: f64,
    /// How far back it looks. The book looks back two minutes; half a minute forgets an outage that is
    /// over sooner.
    pub window: Duration,
    /// Whether anything is turned away; otherwise it is only shown what would be.
    pub enforced: bool,
}

impl Default for ThrottleSettings {
    fn default() -> Self {
        Self { factor: 2.0, window: Duration::from_secs(30), enforced: true }
    }
}

/// The throttle of one pool.
#[derive(Clone, Debug)]
pub struct Throttle {
    factor: f64,
    /// Requests, and those of them that were accepted.
    counts: Sliding<2>,
}

impl Throttle {
    /// A throttle that turns nothing away yet.
    #[must_use]
    pub fn new(settings: &ThrottleSettings) -> Self {
        Self { factor: settings.factor, counts: Sliding::new(settings.window) }
    }

    /// Takes what ended until `now`: requests that were made, those that the throttle itself turned
    /// away included, and those that were accepted.
    pub fn on_tick(&mut self, requests: u64, accepts: u64, now: Instant) {
        self.counts.add([requests, accepts], now);
    }

    /// The part that is to be turned away, 0 to 1: equation 1 of the chapter,
    /// `max(0, (requests - K * accepts) / (requests + 1))`.
    #[must_use]
    pub fn probability(&self) -> f64 {
        let [requests, accepts] = self.counts.sums();
        let requests = requests as f64;
        ((requests - self.factor * accepts as f64) / (requests + 1.0)).max(0.0)
    }
}

/// A probability as 2^-32, for those who compare it with 32 random bits.
#[must_use]
pub fn as_bits(probability: f64) -> u32 {
    (probability.clamp(0.0, 1.0) * f64::from(u32::MAX)) as u32
}

/// The part of a priority that is turned away when `shedding` of all are to be, both in 2^-32. Of
/// the lowest more, `1 - (1 - p)^3`, of the highest less, `p^3`: at one half, seven eighths and one
/// eighth. What this turns away too much or too little shows in what is accepted.
#[must_use]
pub fn share_of(priority: Priority, shedding: u32) -> u32 {
    // All of all is all: 2^32 - 1 stands for one.
    let times = |a: u32, b: u32| ((u64::from(a) * (u64::from(b) + 1)) >> 32) as u32;
    let cube = |p: u32| times(times(p, p), p);
    match priority {
        Priority::Low => u32::MAX - cube(u32::MAX - shedding),
        Priority::Normal => shedding,
        Priority::High => cube(shedding),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::mix::{STEP, mix};

    /// Ten minutes of a pool that gets `load` requests a tick and accepts `capacity` of them, with
    /// the throttle before it. What is sent and accepted in the last minute.
    fn overload(seed: u64, load: u64, capacity: u64) -> (u64, u64, f64) {
        #[expect(clippy::disallowed_methods, reason = "some time to count from; all else is relative to it")]
        let start = Instant::now();
        let mut throttle = Throttle::new(&ThrottleSettings::default());
        let mut draw = seed;
        let (mut sent_late, mut accepted_late) = (0, 0);
        for tick in 0..3000_u32 {
            let shedding = as_bits(throttle.probability());
            let mut sent = 0;
            for _ in 0..load {
                draw = mix(draw.wrapping_add(STEP));
                sent += u64::from((draw >> 32) as u32 >= shedding);
            }
            let accepted = sent.min(capacity);
            throttle.on_tick(load, accepted, start + tick * Duration::from_millis(200));
            if tick >= 2700 {
                (sent_late, accepted_late) = (sent_late + sent, accepted_late + accepted);
            }
        }
        (sent_late, accepted_late, throttle.probability())
    }

    #[test]
    fn a_pool_that_accepts_gets_everything() {
        for load in [1, 20, 1000] {
            assert_eq!(overload(7, load, load), (load * 300, load * 300, 0.0));
            assert_eq!(overload(7, load, load.div_ceil(2)).2, 0.0, "up to twice what it accepts");
        }
    }

    #[test]
    fn one_that_does_not_gets_twice_what_it_accepts() {
        for seed in 0..20 {
            for (load, capacity) in [(100, 20), (100, 10), (500, 50)] {
                let (sent, accepted, _) = overload(seed, load, capacity);
                let ratio = sent as f64 / accepted as f64;
                assert!((1.8..2.2).contains(&ratio), "seed {seed}: {sent} for {accepted}");
                assert!(accepted * 100 >= capacity * 300 * 95, "seed {seed}: {accepted}");
            }
        }
    }

    #[test]
    fn one_that_accepts_nothing_is_still_asked_now_and_then() {
        let (sent, _, probability) = overload(3, 100, 0);
        assert!(probability > 0.99 && probability < 1.0);
        assert!(sent < 30_000 / 100, "{sent}");
    }

    #[test]
    fn the_lowest_priority_goes_first() {
        for percent in 0..=100 {
            let shedding = as_bits(f64::from(percent) / 100.0);
            let of = |priority| share_of(priority, shedding);
            assert!(of(Priority::Low) >= of(Priority::Normal), "{percent}");
            assert!(of(Priority::Normal) >= of(Priority::High), "{percent}");
        }
        assert_eq!((share_of(Priority::Low, 0), share_of(Priority::High, 0)), (0, 0));
        let half = as_bits(0.5);
        let part = |priority| f64::from(share_of(priority, half)) / f64::from(u32::MAX);
        assert!((part(Priority::Low) - 0.875).abs() < 1e-6 && (part(Priority::High) - 0.125).abs() < 1e-6);
    }
}
