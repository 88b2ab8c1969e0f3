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
    estimate: AtomicU64,
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
            estimate: AtomicU64::new(0),
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
        let word = self.waiting.load(Ordering::Relaxed);
        let requests = word & COUNT;
        if requests == 0 {
            return Waiting::default();
        }
        // All of them together, modulo what the sum holds.
        let ages = (requests.wrapping_mul(self.ticks(now)).wrapping_sub(word >> COUNT_BITS)) & SUM;
        // A sum that is below zero for want of precision is none.
        let ages = if ages > SUM / 2 { 0 } else { ages };
        let age = Duration::from_micros((ages / requests).saturating_mul(TICK_MICROS));
        Waiting { requests: u32::try_from(requests).unwrap_or(u32::MAX), age }
    }

    /// A request began at `now`, and waits. To be followed by [`Self::waited`] and by [`Self::end`].
    pub fn begin(&self, now: Instant) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.wait(now);
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
        let word = self.estimate.load(Ordering::Relaxed);
        let micros = f32::from_bits((word >> 32) as u32);
        let at = Duration::from_millis(word & u64::from(u32::MAX));
        (word != 0).then(|| (Duration::from_nanos((f64::from(micros) * 1e3) as u64), self.born + at))
    }

    /// Replaces the estimate, at most an hour, as of `now`.
    pub fn set_estimate(&self, estimate: Duration, now: Instant) {
        let micros = (estimate.min(LONGEST).as_nanos() as f64 / 1e3).max(f64::from(f32::MIN_POSITIVE)) as f32;
        let at = u32::try_from(now.saturating_duration_since(self.born).as_millis()).unwrap_or(u32::MAX);
        self.estimate.store((u64::from(micros.to_bits()) << 32) | u64::from(at), Ordering::Relaxed);
    }

    fn ticks(&self, at: Instant) -> u64 {
        let micros = at.saturating_duration_since(self.born).as_micros();
        u64::try_from(micros).unwrap_or(u64::MAX) / TICK_MICROS
    }

    /// One request that began at `at`, as it is added to what waits.
    fn word(&self, at: Instant) -> u64 {
        (self.ticks(at) << COUNT_BITS).wrapping_add(1)
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
        gauge.set_estimate(Duration::from_micros(1500), start + 7 * MS);
        assert_eq!(gauge.estimate(), Some((Duration::from_micros(1500), start + 7 * MS)));
        gauge.set_estimate(Duration::ZERO, start);
        assert_eq!(gauge.estimate(), Some((Duration::ZERO, start)));
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
