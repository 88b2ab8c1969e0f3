//! A breaker as the data plane sees it: closed, open, or half-open with one trial at a time. Says who
//! passes and counts what became of trials; when it opens and closes is decided elsewhere.

use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::health::Outcome;

/// The breaker of a pool or of an endpoint. Closed, it costs a look.
#[derive(Debug, Default)]
pub struct Valve {
    state: AtomicU8,
    /// Seconds until it is half-open, rounded up.
    wait: AtomicU32,
    passed: AtomicU32,
    failed: AtomicU32,
    /// Milliseconds from which on a trial is slow; 0 for none.
    slow: AtomicU32,
}

/// What a valve says to one request.
#[derive(Debug)]
pub enum Pass<'a> {
    /// It passes.
    Through,
    /// It passes, and what becomes of it is to be told.
    Trial(Trial<'a>),
    /// It does not.
    Refused,
}

/// The request that a half-open valve let through. Dropped without [`Self::end`], it says nothing.
#[derive(Debug)]
pub struct Trial<'a> {
    valve: &'a Valve,
    began: Instant,
    told: bool,
}

impl Valve {
    /// Whether a request passes. `now` is asked for only if it is a trial.
    #[inline]
    pub fn pass(&self, now: impl FnOnce() -> Instant) -> Pass<'_> {
        if self.state.load(Ordering::Relaxed) == CLOSED {
            return Pass::Through;
        }
        if self.take_trial() {
            Pass::Trial(Trial { valve: self, began: now(), told: false })
        } else {
            Pass::Refused
        }
    }

    /// Whether nothing passes at present, not even a trial.
    #[inline]
    #[must_use]
    pub fn is_shut(&self) -> bool {
        matches!(self.state.load(Ordering::Relaxed), OPEN | TAKEN)
    }

    /// Its state, for those who show it.
    #[must_use]
    pub fn shown(&self) -> &'static str {
        match self.state.load(Ordering::Relaxed) {
            CLOSED => "closed",
            OPEN => "open",
            _ => "half-open",
        }
    }

    /// Takes the one trial there may be.
    #[must_use]
    pub fn take_trial(&self) -> bool {
        self.state.load(Ordering::Relaxed) == HALF_OPEN
            && self.state.compare_exchange(HALF_OPEN, TAKEN, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// What became of the trial that was taken, and how long it took to the head of its response. What
    /// says nothing of what is behind makes room for another; after a failure nothing passes until the
    /// control plane has heard of it.
    pub fn end_trial(&self, outcome: Outcome, took: Duration) {
        let slow = self.slow.load(Ordering::Relaxed);
        let is_slow = slow != 0 && took > Duration::from_millis(u64::from(slow));
        let (next, count) = match outcome {
            Outcome::Cancelled => (HALF_OPEN, None),
            Outcome::Success if !is_slow => (HALF_OPEN, Some(&self.passed)),
            Outcome::Success | Outcome::Failure(_) => (OPEN, Some(&self.failed)),
        };
        let told = self.state.compare_exchange(TAKEN, next, Ordering::AcqRel, Ordering::Relaxed);
        // If the state has changed, nobody wants to know any more.
        if let (Ok(_), Some(count)) = (told, count) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How long until it is half-open, to the second; at least one second.
    #[must_use]
    pub fn wait(&self) -> u32 {
        self.wait.load(Ordering::Relaxed).max(1)
    }

    /// From which time to the first byte on a trial is slow, if it ever is. As the rest, for the control
    /// plane.
    pub fn set_slow(&self, over: Option<Duration>) {
        let millis = |over: Duration| u32::try_from(over.as_millis()).unwrap_or(u32::MAX).max(1);
        self.slow.store(over.map_or(0, millis), Ordering::Relaxed);
    }

    /// Whether it lets everything through.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.state.load(Ordering::Relaxed) == CLOSED
    }

    /// Lets everything through.
    pub fn close(&self) {
        self.state.store(CLOSED, Ordering::Release);
    }

    /// Lets nothing through, for so long yet.
    pub fn open(&self, left: Duration) {
        let seconds = left.as_secs() + u64::from(left.subsec_nanos() > 0);
        self.wait.store(u32::try_from(seconds).unwrap_or(u32::MAX), Ordering::Relaxed);
        self.state.store(OPEN, Ordering::Release);
    }

    /// Lets one trial through, whatever became of the one before.
    pub fn half_open(&self) {
        self.state.store(HALF_OPEN, Ordering::Release);
        self.wait.store(0, Ordering::Relaxed);
    }

    /// Whether a trial is under way.
    #[must_use]
    pub fn is_trying(&self) -> bool {
        self.state.load(Ordering::Relaxed) == TAKEN
    }

    /// Trials that passed and that failed since this was last called.
    #[must_use]
    pub fn results(&self) -> (u32, u32) {
        (self.passed.swap(0, Ordering::Relaxed), self.failed.swap(0, Ordering::Relaxed))
    }
}

impl Trial<'_> {
    /// It ended, or the head of its response came.
    pub fn end(mut self, outcome: Outcome, now: Instant) {
        self.told = true;
        self.valve.end_trial(outcome, now.saturating_duration_since(self.began));
    }

    /// Somebody else will tell.
    pub(super) fn hand_over(mut self) {
        self.told = true;
    }
}

impl Drop for Trial<'_> {
    fn drop(&mut self) {
        if !self.told {
            self.valve.end_trial(Outcome::Cancelled, Duration::ZERO);
        }
    }
}

const CLOSED: u8 = 0;
const OPEN: u8 = 1;
const HALF_OPEN: u8 = 2;
const TAKEN: u8 = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ambient::now;
    use crate::health::Failure;

    fn trial(valve: &Valve) -> Option<Trial<'_>> {
        if let Pass::Trial(trial) = valve.pass(now) { Some(trial) } else { None }
    }

    #[test]
    fn it_lets_one_trial_through_at_a_time() {
        let valve = Valve::default();
        assert!(matches!(valve.pass(now), Pass::Through) && !valve.is_shut());
        valve.open(Duration::from_millis(4001));
        assert!(matches!(valve.pass(now), Pass::Refused) && valve.is_shut());
        assert_eq!(valve.wait(), 5);
        valve.half_open();
        let first = trial(&valve).expect("half-open");
        assert!(trial(&valve).is_none() && valve.is_shut());
        first.end(Outcome::Success, now());
        drop(trial(&valve).expect("the next"));
        trial(&valve).expect("one that says nothing makes room").end(Outcome::Failure(Failure::Reset), now());
        assert!(trial(&valve).is_none(), "it waits for the verdict");
        assert_eq!((valve.results(), valve.results()), ((1, 1), (0, 0)));
        valve.half_open();
        let late = trial(&valve).expect("half-open");
        valve.open(Duration::ZERO);
        late.end(Outcome::Success, now());
        assert_eq!((valve.results(), valve.wait()), ((0, 0), 1));
        valve.close();
        assert!(matches!(valve.pass(now), Pass::Through));
    }

    #[test]
    fn a_slow_trial_is_a_failed_one() {
        let valve = Valve::default();
        valve.set_slow(Some(Duration::from_millis(10)));
        valve.half_open();
        for millis in [10, 11] {
            assert!(valve.take_trial());
            valve.end_trial(Outcome::Success, Duration::from_millis(millis));
        }
        assert_eq!(valve.results(), (1, 1));
    }
}
