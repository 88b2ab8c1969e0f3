//! What a policy may know of an endpoint, and what its leases write: weight, requests under way and
//! how long they have waited, and an estimate of the time to the first byte. Atomics that every
//! worker writes without a lock; a lost update costs a little accuracy and nothing else.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// All that a policy may know of an endpoint. Owned by the endpoint, shared by all workers; it
/// outlives policies, which are rebuilt when a pool changes.
#[derive(Debug)]
pub struct Gauge {
    born: Instant,
    weight: AtomicU32,
    factor: AtomicU32,
    effective: AtomicU32,
    in_flight: AtomicU32,
    waiting: AtomicU64,
    estimate: Stamped,
    failing: Stamped,
    slower: AtomicU32,
}

/// The requests that wait for the first byte of their response.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Waiting {
    /// How many there are.
    pub requests: u32,
    /// How long they have waited, on average.
    pub age: Duration,
}

impl Gauge {
    /// A gauge at rest. `weight` is at least 1; times are kept relative to `born`, which is not later
    /// than any other time that the gauge is told.
    #[must_use]
    pub fn new(weight: u32, born: Instant) -> Self {
        let weight = weight.max(1);
        Self {
            born,
            weight: AtomicU32::new(weight),
            factor: AtomicU32::new(FULL),
            effective: AtomicU32::new(effective(weight, FULL)),
            in_flight: AtomicU32::new(0),
            waiting: AtomicU64::new(0),
            estimate: Stamped::default(),
            failing: Stamped::default(),
            slower: AtomicU32::new(0),
        }
    }

    /// The endpoint's present share of traffic relative to its siblings', in units of which a weight
    /// of 1 has [`UNIT`]: its weight, less what slow start or degradation take. At least 1.
    #[must_use]
    pub fn weight(&self) -> u32 {
        self.effective.load(Ordering::Relaxed)
    }

    /// The weight of the configuration, 1 to 1000, whatever the endpoint's state.
    #[must_use]
    pub fn base_weight(&self) -> u32 {
        self.weight.load(Ordering::Relaxed)
    }

    /// How much of its weight the endpoint gets at present, in thousandths: [`FULL`] as a rule.
    #[must_use]
    pub fn factor(&self) -> u32 {
        self.factor.load(Ordering::Relaxed)
    }

    /// Takes a new weight, as on reload.
    pub fn set_weight(&self, weight: u32) {
        self.weight.store(weight.max(1), Ordering::Relaxed);
        self.settle();
    }

    /// Takes a new factor, in thousandths, at most [`FULL`]. One writer: the control plane.
    pub fn set_factor(&self, factor: u32) {
        self.factor.store(factor.min(FULL), Ordering::Relaxed);
        self.settle();
    }

    fn settle(&self) {
        self.effective.store(effective(self.base_weight(), self.factor()), Ordering::Relaxed);
    }

    /// Requests under way, to the last byte of their response, on all workers.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// The requests that wait for their response at `now`.
    #[must_use]
    pub fn waiting(&self, now: Instant) -> Waiting {
        match self.ages(now) {
            None => Waiting::default(),
            Some((requests, ages)) => Waiting {
                requests: u32::try_from(requests).unwrap_or(u32::MAX),
                age: Duration::from_micros((ages / requests).saturating_mul(TICK_MICROS)),
            },
        }
    }

    /// As [`Self::waiting`], for those in a hurry: the mean age of the requests that wait, in seconds; 0
    /// when none does.
    pub(super) fn waited_for(&self, now: Instant) -> f64 {
        self.ages(now).map_or(0.0, |(requests, ages)| ages as f64 / requests as f64 * TICK_SECONDS)
    }

    /// How many requests wait, if any, and their ages at `now` taken together, in ticks.
    fn ages(&self, now: Instant) -> Option<(u64, u64)> {
        let word = self.waiting.load(Ordering::Relaxed);
        let requests = word & COUNT;
        if requests == 0 {
            return None;
        }
        // All of them together, modulo what the sum holds.
        let ages = (requests.wrapping_mul(self.ticks(now)).wrapping_sub(word >> COUNT_BITS)) & SUM;
        // A sum that is below zero for want of precision is none.
        Some((requests, if ages > SUM / 2 { 0 } else { ages }))
    }

    /// A request began at `now`, and waits. To be followed by [`Self::waited`] and by [`Self::end`].
    pub fn begin(&self, now: Instant) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.wait(now);
    }

    /// As [`Self::begin`], unless `limit` requests are under way, on all workers together; whether it
    /// did.
    #[must_use]
    pub fn begin_below(&self, limit: u32, now: Instant) -> bool {
        let one_more = |in_flight| (in_flight < limit).then_some(in_flight + 1);
        let begun = self.in_flight.fetch_update(Ordering::AcqRel, Ordering::Relaxed, one_more).is_ok();
        if begun {
            self.wait(now);
        }
        begun
    }

    /// A request waits from `now` on, until [`Self::waited`].
    pub fn wait(&self, now: Instant) {
        self.waiting.fetch_add(self.word(now), Ordering::Relaxed);
    }

    /// The request that began at `began` waits no longer; it has its first byte, or is given up.
    pub fn waited(&self, began: Instant) {
        self.waiting.fetch_sub(self.word(began), Ordering::Relaxed);
    }

    /// A request ended, to its last byte.
    pub fn end(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// The estimate of the time to the first byte as it was when last written, and that time; `None`
    /// before the first.
    #[must_use]
    pub fn estimate(&self) -> Option<(Duration, Instant)> {
        let (seconds, at) = self.estimate.get()?;
        Some((Duration::from_secs_f64(seconds), self.born + Duration::from_millis(at)))
    }

    /// Replaces the estimate, at most an hour, as of `now`.
    pub fn set_estimate(&self, estimate: Duration, now: Instant) {
        self.estimate.set(estimate.min(LONGEST).as_secs_f64(), self.millis(now));
    }

    /// As [`Self::estimate`], for those in a hurry: the estimate and its age at `now`, in seconds.
    pub(super) fn estimated(&self, now: Instant) -> Option<(f64, f64)> {
        self.estimate.get().map(|(seconds, at)| (seconds, self.age(at, now)))
    }

    /// Keeps how long the latest response took, in seconds, if that was longer than the estimate; 0 if
    /// not. Gives what was kept for the one before.
    pub(super) fn replace_slower(&self, seconds: f64) -> f64 {
        let before = f32::from_bits(self.slower.load(Ordering::Relaxed));
        let after = seconds as f32;
        if before != after {
            self.slower.store(after.to_bits(), Ordering::Relaxed);
        }
        f64::from(before)
    }

    /// Which share of the latest requests failed, 0 to 1, as it was when last written, and how many
    /// seconds ago that was; `None` when none did.
    pub(super) fn failing(&self, now: Instant) -> Option<(f64, f64)> {
        self.failing.get().map(|(share, at)| (share, self.age(at, now)))
    }

    /// Replaces the share of failures, as of `now`.
    pub(super) fn set_failing(&self, share: f64, now: Instant) {
        self.failing.set(share, self.millis(now));
    }

    /// Multiplies the share of failures, which stays as old as it is; what is next to nothing is nothing.
    pub(super) fn scale_failing(&self, by: f64) {
        if let Some((share, at)) = self.failing.get() {
            if share * by < NEGLIGIBLE { self.failing.clear() } else { self.failing.set(share * by, at) }
        }
    }

    fn age(&self, at: u64, now: Instant) -> f64 {
        self.millis(now).saturating_sub(at) as f64 * 1e-3
    }

    fn millis(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.born);
        since.as_secs() * 1000 + u64::from(since.subsec_millis())
    }

    fn ticks(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.born);
        (since.as_secs() * 1_000_000 + u64::from(since.subsec_micros())) / TICK_MICROS
    }

    /// One request that began at `at`, as it is added to what waits.
    fn word(&self, at: Instant) -> u64 {
        (self.ticks(at) << COUNT_BITS).wrapping_add(1)
    }
}

/// A number and when it was written, in one word: 24 bits of a float that is not negative, which
/// keeps 16 bits of precision, above 40 bits of milliseconds, which last for 34 years.
#[derive(Debug, Default)]
struct Stamped(AtomicU64);

impl Stamped {
    fn get(&self) -> Option<(f64, u64)> {
        let word = self.0.load(Ordering::Relaxed);
        let bits = (word >> STAMP_BITS) as u32;
        (bits != 0).then(|| (f64::from(f32::from_bits(bits << SPARED_BITS)), word & STAMP))
    }

    fn set(&self, value: f64, at: u64) {
        // Zero is told apart from nothing.
        let bits = ((value as f32).to_bits() >> SPARED_BITS).max(1);
        self.0.store((u64::from(bits) << STAMP_BITS) | at.min(STAMP), Ordering::Relaxed);
    }

    fn clear(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

fn effective(weight: u32, factor: u32) -> u32 {
    (weight.saturating_mul(UNIT).saturating_mul(factor) / FULL).max(1)
}

/// What [`Gauge::weight`] gives for a weight of 1: room for fractions of it.
pub const UNIT: u32 = 100;
/// The factor that takes nothing from a weight, in thousandths.
pub const FULL: u32 = 1000;
/// The low bits of what waits count the requests; those above add up when they began, in ticks.
const COUNT_BITS: u32 = 20;
const COUNT: u64 = (1 << COUNT_BITS) - 1;
const SUM: u64 = u64::MAX >> COUNT_BITS;
/// A tick in microseconds: fine enough for ages that matter, coarse enough for the sum.
const TICK_MICROS: u64 = 64;
const TICK_SECONDS: f64 = 64e-6;
/// The low bits of a stamped number say when it was written, in milliseconds.
const STAMP_BITS: u32 = 40;
const STAMP: u64 = (1 << STAMP_BITS) - 1;
/// The bits of a float that are given up for that.
const SPARED_BITS: u32 = 7;
/// A share of failures that is taken for none.
const NEGLIGIBLE: f64 = 0.01;
/// The longest estimate.
const LONGEST: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::tests::START;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn what_waits_grows_old_on_average() {
        let start = *START;
        let gauge = Gauge::new(1, start);
        gauge.begin(start + 10 * MS);
        gauge.begin(start + 30 * MS);
        let waiting = gauge.waiting(start + 50 * MS);
        assert_eq!((waiting.requests, waiting.age.as_millis()), (2, 30), "40 and 20");
        gauge.waited(start + 10 * MS);
        assert_eq!(gauge.waiting(start + 1050 * MS).age.as_millis(), 1020);
        gauge.waited(start + 30 * MS);
        assert_eq!(gauge.waiting(start + 50 * MS), Waiting::default());
        assert_eq!(gauge.in_flight(), 2);
    }

    #[test]
    fn ages_are_right_after_months_and_before_the_beginning() {
        let start = *START;
        let gauge = Gauge::new(1, start);
        let late = start + Duration::from_secs(300 * 24 * 3600);
        (0..1000).for_each(|_| gauge.begin(late));
        let age = gauge.waiting(late + 500 * MS).age;
        assert!(age.abs_diff(500 * MS) < MS, "{age:?}");
        assert_eq!(gauge.waiting(late - MS).age, Duration::ZERO);
    }

    #[test]
    fn estimates_are_kept_with_their_time() {
        let start = *START;
        let gauge = Gauge::new(1, start);
        assert_eq!(gauge.estimate(), None);
        for years in [0, 30] {
            let at = start + 7 * MS + years * Duration::from_secs(365 * 24 * 3600);
            gauge.set_estimate(Duration::from_micros(1500), at);
            let (estimate, written) = gauge.estimate().unwrap();
            assert!(estimate.abs_diff(Duration::from_micros(1500)) < MS / 10_000, "{estimate:?}");
            assert_eq!(written, at);
            let (seconds, age) = gauge.estimated(at + 2500 * MS).unwrap();
            assert!((seconds - 0.0015).abs() < 1e-7 && age == 2.5, "{seconds} {age}");
        }
        gauge.set_estimate(Duration::ZERO, start);
        assert_eq!(gauge.estimate(), Some((Duration::ZERO, start)));
        assert_eq!(gauge.failing(start), None);
        gauge.set_failing(0.25, start);
        gauge.scale_failing(0.5);
        assert_eq!(gauge.failing(start + 500 * MS), Some((0.125, 0.5)));
        gauge.scale_failing(0.05);
        assert_eq!(gauge.failing(start), None);
    }

    #[test]
    fn a_factor_takes_its_part_of_any_weight() {
        let gauge = Gauge::new(1, *START);
        assert_eq!((gauge.weight(), gauge.base_weight()), (100, 1));
        gauge.set_factor(100);
        assert_eq!(gauge.weight(), 10);
        gauge.set_weight(1000);
        assert_eq!((gauge.weight(), gauge.base_weight()), (10_000, 1000));
        gauge.set_factor(0);
        assert_eq!(gauge.weight(), 1);
        gauge.set_factor(FULL + 1);
        assert_eq!(gauge.weight(), 100_000);
    }
}
