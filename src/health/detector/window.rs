//! Failures and requests of each endpoint in the recent past, for the detectors of rates. Judges
//! nothing. An endpoint that has been idle costs nothing to look at.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::{Seen, renumbered};

/// What happened at each endpoint of a pool within a span of time.
#[derive(Debug)]
pub(super) struct Windows {
    /// How far they reach back.
    span: Duration,
    endpoints: Vec<Window>,
}

#[derive(Clone, Debug, Default)]
struct Window {
    /// As last seen.
    level: u32,
    serving: bool,
    /// By time, oldest first; none is empty.
    slots: VecDeque<Slot>,
    /// Failures in all of them.
    failed: u64,
}

/// What happened from one look to the next, or in several that came close together.
#[derive(Clone, Copy, Debug)]
struct Slot {
    /// When it was first told of.
    at: Instant,
    failed: u32,
    ended: u32,
}

/// Exchanges that failed, of those that ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) failed: u64,
    pub(super) ended: u64,
}

impl Windows {
    pub(super) fn new(span: Duration) -> Self {
        Self { span, endpoints: Vec::new() }
    }

    /// Takes what happened since the last look, and forgets what is too old.
    pub(super) fn take(&mut self, seen: &[Seen<'_>], now: Instant) {
        let most = seen.iter().map(|seen| seen.endpoint + 1).max().unwrap_or_default();
        if self.endpoints.len() < most {
            self.endpoints.resize(most, Window::default());
        }
        for seen in seen {
            let Some(window) = self.endpoints.get_mut(seen.endpoint) else { continue };
            (window.level, window.serving) = (seen.level, seen.serving);
            window.forget_before(now.checked_sub(self.span));
            window.add(seen, self.span / SLOTS, now);
        }
    }

    /// Failures within the whole span.
    pub(super) fn failed(&self, endpoint: usize) -> u64 {
        self.endpoints.get(endpoint).map_or(0, |window| window.failed)
    }

    /// What happened within the last `span`.
    pub(super) fn over(&self, endpoint: usize, span: Duration, now: Instant) -> Counts {
        self.endpoints.get(endpoint).map(|window| window.over(span, now)).unwrap_or_default()
    }

    /// What happened within the last `span` at each endpoint of a level that takes its share of
    /// traffic, with its index.
    pub(super) fn level(
        &self,
        level: u32,
        span: Duration,
        now: Instant,
    ) -> impl Iterator<Item = (usize, Counts)> {
        let windows = self.endpoints.iter().enumerate();
        windows
            .filter(move |(_, window)| window.serving && window.level == level && !window.slots.is_empty())
            .map(move |(endpoint, window)| (endpoint, window.over(span, now)))
    }

    /// As [`Detector::renumber`](super::Detector::renumber).
    pub(super) fn renumber(&mut self, from: &[Option<usize>]) {
        renumbered(&mut self.endpoints, from);
    }

    /// Forgets an endpoint's past.
    pub(super) fn forget(&mut self, endpoint: usize) {
        if let Some(window) = self.endpoints.get_mut(endpoint) {
            *window = Window::default();
        }
    }
}

impl Window {
    fn forget_before(&mut self, oldest: Option<Instant>) {
        while let Some(slot) =
            self.slots.front().filter(|slot| oldest.is_some_and(|oldest| slot.at <= oldest))
        {
            self.failed -= u64::from(slot.failed);
            self.slots.pop_front();
        }
    }

    fn over(&self, span: Duration, now: Instant) -> Counts {
        let mut counts = Counts::default();
        for slot in self.slots.iter().rev().take_while(|slot| slot.at + span > now) {
            counts.failed += u64::from(slot.failed);
            counts.ended += u64::from(slot.ended);
        }
        counts
    }

    fn add(&mut self, seen: &Seen<'_>, width: Duration, now: Instant) {
        let ended = seen.sample.ended();
        if ended == 0 {
            return;
        }
        let count = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
        let new = Slot { at: now, failed: count(seen.sample.failed()), ended: count(ended) };
        self.failed += u64::from(new.failed);
        match self.slots.back_mut().filter(|slot| slot.at + width > now) {
            Some(slot) => {
                slot.failed = slot.failed.saturating_add(new.failed);
                slot.ended = slot.ended.saturating_add(new.ended);
            }
            None => self.slots.push_back(new),
        }
    }
}

impl Counts {
    /// Failures per exchange, 0 to 1.
    pub(super) fn share(self) -> f64 {
        if self.ended == 0 { 0.0 } else { self.failed as f64 / self.ended as f64 }
    }

    /// The same, as great as it may well be when these failures are a sample: two standard
    /// deviations of their number more.
    pub(super) fn upper_share(self) -> f64 {
        self.share() * (1.0 + 2.0 / (self.failed.max(1) as f64).sqrt())
    }
}

/// How finely a span is divided.
const SLOTS: u32 = 50;

#[cfg(test)]
mod tests {
    use super::super::tests::{START, sample};
    use super::*;

    #[test]
    fn what_is_older_than_the_span_is_forgotten() {
        let start = *START;
        let mut windows = Windows::new(Duration::from_secs(10));
        for tick in 0..200_u32 {
            let sample = sample(3, u64::from(tick < 50));
            let seen = Seen { endpoint: 2, level: 0, serving: true, sample: &sample };
            let now = start + tick * Duration::from_millis(100);
            windows.take(&[seen], now);
            let second = windows.over(2, Duration::from_secs(1), now);
            assert!(second.ended <= 40 && (tick < 10 || second.ended >= 24), "{tick}: {second:?}");
            let all = windows.over(2, Duration::from_secs(10), now);
            assert_eq!(windows.failed(2), all.failed);
            assert!((147..150).contains(&tick) || (windows.failed(2) == 0) == (tick >= 150), "{tick}");
        }
        windows.forget(2);
        windows.forget(9);
        assert_eq!(windows.over(2, Duration::from_secs(10), start), Counts::default());
    }
}
