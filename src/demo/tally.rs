//! What the demo's clients saw: how many requests they sent, how each ended, how long each origin
//! took. Counts what it is told; knows neither sockets nor clock.

use std::time::Duration;

use super::histogram::Histogram;
use super::origin::CAST;

/// Everything that the clients saw.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Requests sent, ended or not.
    pub(super) sent: u64,
    /// Those that were answered with a status below 500, to the last byte.
    pub(super) answered: u64,
    /// Those that were answered with a status from 500 on, broken off, or not answered at all.
    pub(super) failed: u64,
    times: [Histogram; CAST.len()],
}

/// How a request ended for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ending {
    /// Which of [`CAST`] signed the answer; `None` when the proxy answered or nobody did.
    pub(super) origin: Option<usize>,
    /// Whether the answer was below 500 and came to its last byte.
    pub(super) good: bool,
    /// From before the first byte to after the last.
    pub(super) took: Duration,
}

impl Tally {
    /// A request was sent.
    pub(super) fn begin(&mut self) {
        self.sent += 1;
    }

    /// A request ended.
    pub(super) fn end(&mut self, ending: Ending) {
        if ending.good {
            self.answered += 1;
        } else {
            self.failed += 1;
        }
        if let Some(times) = ending.origin.and_then(|origin| self.times.get_mut(origin)) {
            times.record(ending.took);
        }
    }

    /// How long requests to an origin of [`CAST`] took, to the last byte, proxy included.
    pub(super) fn quantile(&self, origin: usize, per_cent: u64) -> Option<Duration> {
        self.times.get(origin)?.quantile(per_cent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_ending_is_counted_once_and_timed_where_it_belongs() {
        let mut tally = Tally::default();
        let took = Duration::from_millis(1);
        for (origin, good) in [(Some(0), true), (Some(2), false), (None, false)] {
            tally.begin();
            tally.end(Ending { origin, good, took });
        }
        assert_eq!((tally.sent, tally.answered, tally.failed), (3, 1, 2));
        assert!(tally.quantile(0, 50).is_some() && tally.quantile(2, 50).is_some());
        assert_eq!(tally.quantile(1, 50), None);
    }
}
