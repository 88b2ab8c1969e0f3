//! What workers tell of an endpoint's exchanges for its health to be judged: counts that each worker
//! writes for itself, and a few words that all share because their order matters. Judges nothing.

use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::time::Duration;

use super::buckets::{Before, Buckets};
use super::shard::{Count, Shard, Sharded};
use crate::health::{Failure, Latencies, Sample, Trial};

/// One endpoint's exchanges.
#[derive(Debug)]
pub struct Tally {
    cells: Sharded<Cells>,
    streak: AtomicU32,
    connect_streak: AtomicU32,
    trial: AtomicU8,
}

#[derive(Debug, Default)]
struct Cells {
    successes: Count,
    failures: [Count; Failure::ALL.len()],
    /// What `latencies` add up to.
    answered: Count,
    latencies: Buckets,
}

/// Reads a tally's changes. One for each tally, kept by the control plane.
#[derive(Debug, Default)]
pub struct TallyReader {
    successes: u64,
    failures: [u64; Failure::ALL.len()],
    answered: u64,
    latencies: Before,
}

impl Tally {
    /// A tally with cells for so many workers.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        Self {
            cells: Sharded::new(workers),
            streak: AtomicU32::new(0),
            connect_streak: AtomicU32::new(0),
            trial: AtomicU8::new(CLOSED),
        }
    }

    /// A response began, `took` after the attempt did.
    #[inline]
    pub fn answered(&self, shard: Shard, took: Duration) {
        let Some(cells) = self.cells.of(shard) else { return };
        cells.answered.add(1);
        cells.latencies.count(took);
    }

    /// An exchange ended well.
    #[inline]
    pub fn succeeded(&self, shard: Shard) {
        if let Some(cells) = self.cells.of(shard) {
            cells.successes.add(1);
        }
        for streak in [&self.streak, &self.connect_streak] {
            // Read first: the cache line stays shared as long as all is well.
            if streak.load(Ordering::Relaxed) != 0 {
                streak.store(0, Ordering::Relaxed);
            }
        }
    }

    /// An exchange failed.
    pub fn failed(&self, shard: Shard, failure: Failure) {
        if let Some(count) = self.cells.of(shard).and_then(|cells| cells.failures.get(failure as usize)) {
            count.add(1);
        }
        if failure.is_consecutive() {
            self.streak.fetch_add(1, Ordering::Relaxed);
        }
        if failure == Failure::Connect {
            self.connect_streak.fetch_add(1, Ordering::Relaxed);
        } else {
            self.connect_streak.store(0, Ordering::Relaxed);
        }
    }

    /// Lets one trial request through; `anything` if it need not be one that can be sent again. To be
    /// called by the control plane, which finds the result in a [`Sample`].
    pub fn open_trial(&self, anything: bool) {
        let (open, other) = if anything { (OPEN, OPEN_TO_SAFE) } else { (OPEN_TO_SAFE, OPEN) };
        for before in [CLOSED, other] {
            let _ = self.trial.compare_exchange(before, open, Ordering::AcqRel, Ordering::Relaxed);
        }
    }

    /// Lets no trial request through any more.
    pub fn close_trial(&self) {
        self.trial.store(CLOSED, Ordering::Release);
    }

    /// Takes the one trial request there may be; `safe` if it can be sent again.
    #[must_use]
    pub fn take_trial(&self, safe: bool) -> bool {
        let take = |open| {
            self.trial.load(Ordering::Relaxed) == open
                && self.trial.compare_exchange(open, TAKEN, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        };
        take(OPEN) || (safe && take(OPEN_TO_SAFE))
    }

    /// Gives the result of the trial that was taken; `None` when it says nothing, so that another is
    /// let through.
    pub fn end_trial(&self, result: Option<Trial>) {
        let after = match result {
            Some(Trial::Passed) => PASSED,
            Some(Trial::Failed) => FAILED,
            None => OPEN_TO_SAFE,
        };
        // If it was closed meanwhile, nobody wants to know.
        let _ = self.trial.compare_exchange(TAKEN, after, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// The result of a trial, once.
    fn trial(&self) -> Option<Trial> {
        // As a rule there is none, and a look is enough.
        let state = self.trial.load(Ordering::Relaxed);
        let trial = match state {
            PASSED => Trial::Passed,
            FAILED => Trial::Failed,
            _ => return None,
        };
        let told = self.trial.compare_exchange(state, CLOSED, Ordering::AcqRel, Ordering::Relaxed);
        told.ok().map(|_| trial)
    }
}

impl TallyReader {
    /// Whether nothing has changed since [`Self::read`] was last called: what it would give is idle, but
    /// for waiting requests.
    #[must_use]
    pub fn is_quiet(&self, tally: &Tally) -> bool {
        let is_over = matches!(tally.trial.load(Ordering::Relaxed), PASSED | FAILED);
        !is_over
            && tally.cells.total(|cells| &cells.answered) == self.answered
            && tally.cells.total(|cells| &cells.successes) == self.successes
            && tally.cells.totals(|cells| &cells.failures) == self.failures
    }

    /// What changed since this was last called, the waiting requests excepted.
    #[must_use]
    pub fn read(&mut self, tally: &Tally) -> Sample {
        let successes = tally.cells.total(|cells| &cells.successes);
        let failures = tally.cells.totals(|cells| &cells.failures);
        let mut since = [0; Failure::ALL.len()];
        for ((since, now), before) in since.iter_mut().zip(&failures).zip(&self.failures) {
            *since = now.wrapping_sub(*before);
        }
        let sample = Sample {
            successes: successes.wrapping_sub(self.successes),
            failures: since,
            streak: tally.streak.load(Ordering::Relaxed),
            connect_streak: tally.connect_streak.load(Ordering::Relaxed),
            latencies: self.latencies(tally),
            trial: tally.trial(),
            ..Sample::default()
        };
        (self.successes, self.failures) = (successes, failures);
        sample
    }

    fn latencies(&mut self, tally: &Tally) -> Latencies {
        let answered = tally.cells.total(|cells| &cells.answered);
        if std::mem::replace(&mut self.answered, answered) == answered {
            return Latencies::default();
        }
        self.latencies.changes(tally.cells.iter().map(|cells| &cells.latencies))
    }
}

/// The states of a trial.
const CLOSED: u8 = 0;
const OPEN_TO_SAFE: u8 = 1;
const OPEN: u8 = 2;
const TAKEN: u8 = 3;
const PASSED: u8 = 4;
const FAILED: u8 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_sees_each_change_once() {
        let (tally, mut reader) = (Tally::new(2), TallyReader::default());
        assert!(reader.is_quiet(&tally));
        tally.succeeded(Shard::worker(0));
        assert!(!reader.is_quiet(&tally));
        tally.answered(Shard::worker(0), Duration::from_millis(3));
        tally.answered(Shard::worker(1), Duration::from_millis(3));
        tally.failed(Shard::worker(1), Failure::Connect);
        tally.failed(Shard::worker(1), Failure::ServerError);
        let sample = reader.read(&tally);
        assert_eq!((sample.successes, sample.failed(), sample.latencies.count()), (1, 2, 2));
        assert_eq!((sample.streak, sample.connect_streak), (1, 0));
        tally.succeeded(Shard::worker(0));
        let sample = reader.read(&tally);
        assert_eq!((sample.ended(), sample.streak, sample.latencies.count()), (1, 0, 0));
        assert!(reader.read(&tally).is_idle() && reader.is_quiet(&tally));
    }

    #[test]
    fn a_trial_is_one_request() {
        let (tally, mut reader) = (Tally::new(1), TallyReader::default());
        assert!(!tally.take_trial(true));
        tally.open_trial(false);
        assert!(!tally.take_trial(false), "only what can be sent again");
        assert!(tally.take_trial(true));
        tally.open_trial(true);
        assert!(!tally.take_trial(true), "one is under way");
        tally.end_trial(None);
        assert!(tally.take_trial(true));
        tally.end_trial(Some(Trial::Failed));
        assert!(!tally.take_trial(true) && !reader.is_quiet(&tally));
        assert_eq!(reader.read(&tally).trial, Some(Trial::Failed));
        assert_eq!(reader.read(&tally).trial, None);
        tally.open_trial(true);
        assert!(tally.take_trial(false));
        tally.close_trial();
        tally.end_trial(Some(Trial::Passed));
        assert_eq!(reader.read(&tally).trial, None);
    }
}
