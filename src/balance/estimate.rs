//! How an endpoint's time to the first byte is estimated: by an exponentially weighted average that
//! follows a rise at once and a fall slowly (peak EWMA, as Finagle's), with a decay of 10 s.

use std::time::{Duration, Instant};

use super::Gauge;

/// Takes note that a response began after `took`.
pub fn observe(gauge: &Gauge, took: Duration, now: Instant) {
    let next = match gauge.estimate() {
        Some((before, at)) if took < before => {
            let age = now.saturating_duration_since(at).as_secs_f64();
            let kept = (-age / DECAY.as_secs_f64()).exp();
            before.mul_f64(kept) + took.mul_f64(1.0 - kept)
        }
        _ => took,
    };
    gauge.set_estimate(next, now);
}

/// Takes note of a failure, so that an endpoint that fails fast does not look quick.
pub fn penalise(gauge: &Gauge, now: Instant) {
    let before = gauge.estimate().map_or(Duration::ZERO, |(estimate, _)| estimate);
    gauge.set_estimate((before * 2).clamp(PENALTY, MOST), now);
}

/// The time in which all but 1/e of a past peak is forgotten.
pub(super) const DECAY: Duration = Duration::from_secs(10);
/// The least that an endpoint is taken to need after a failure.
const PENALTY: Duration = Duration::from_secs(1);
/// The most.
const MOST: Duration = Duration::from_secs(10);
