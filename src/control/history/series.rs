//! Samples of equal steps in bounded memory: a ring of the newest ones, and a part of it with its times
//! for those who ask. Steps are numbers; which time they stand for is known where they are counted. Pure.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use super::sample::{Sample, Traffic};

/// The newest samples of one thing. A step for which there is none is empty.
#[derive(Clone, Debug)]
pub(super) struct Ring<S> {
    samples: VecDeque<S>,
    /// The step after the newest.
    next: u64,
    most: usize,
}

/// Samples of equal steps, the oldest first.
#[derive(Clone, Debug, PartialEq)]
pub struct Series<S> {
    /// How long a step is.
    pub step: Duration,
    /// When the first one began.
    pub from: SystemTime,
    /// One for each step that is over.
    pub samples: Vec<S>,
    /// What came after the last of these: the step that is not over.
    pub open: S,
}

impl<S: Sample> Ring<S> {
    /// Room for so many samples.
    pub(super) fn new(most: usize) -> Self {
        Self { samples: VecDeque::new(), next: 0, most }
    }

    /// Adds the sample of `step`, which comes after all that are there.
    pub(super) fn put(&mut self, step: u64, sample: S) {
        if self.samples.is_empty() {
            self.next = step;
        }
        let missing = usize::try_from(step.saturating_sub(self.next)).unwrap_or(usize::MAX);
        let empty = std::iter::repeat_with(S::default).take(missing.min(self.most));
        self.samples.extend(empty.chain([sample]));
        let surplus = self.samples.len().saturating_sub(self.most);
        self.samples.drain(..surplus);
        self.next = step + 1;
    }

    /// The newest samples, at most so many and none of a step before `first`, with the step of the first.
    pub(super) fn newest(&self, most: usize, first: u64) -> (u64, impl Iterator<Item = &S>) {
        let known = usize::try_from(self.next.saturating_sub(first)).unwrap_or(usize::MAX);
        let count = self.samples.len().min(most).min(known);
        let skipped = self.samples.len() - count;
        (self.next - count as u64, self.samples.iter().skip(skipped))
    }
}

impl<S: Sample> Series<S> {
    /// All requests of the series, those of the open step included.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        let mut whole = Traffic::default();
        self.samples.iter().chain([&self.open]).for_each(|sample| whole.add(sample.traffic()));
        whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests(requests: u64) -> Traffic {
        Traffic { requests, ..Traffic::default() }
    }

    fn read(ring: &Ring<Traffic>, most: usize, first: u64) -> (u64, Vec<u64>) {
        let (first, samples) = ring.newest(most, first);
        (first, samples.map(|sample| sample.requests).collect())
    }

    #[test]
    fn the_oldest_are_forgotten_and_steps_keep_their_numbers() {
        let mut ring = Ring::new(3);
        assert_eq!(read(&ring, 9, 0), (0, vec![]));
        (5..8).for_each(|step| ring.put(step, requests(step)));
        assert_eq!(read(&ring, 9, 0), (5, vec![5, 6, 7]));
        ring.put(8, requests(8));
        assert_eq!(read(&ring, 9, 0), (6, vec![6, 7, 8]));
        assert_eq!(read(&ring, 2, 0), (7, vec![7, 8]));
        assert_eq!(read(&ring, 9, 8), (8, vec![8]));
        assert_eq!(read(&ring, 9, 99), (9, vec![]));
    }

    #[test]
    fn steps_that_were_missed_are_empty() {
        let mut ring = Ring::new(4);
        ring.put(1, requests(1));
        ring.put(4, requests(4));
        assert_eq!(read(&ring, 9, 0), (1, vec![1, 0, 0, 4]));
        ring.put(1_000_000_000_000, requests(9));
        assert_eq!(read(&ring, 9, 0), (999_999_999_997, vec![0, 0, 0, 9]));
        assert!(ring.samples.capacity() < 64);
    }
}
