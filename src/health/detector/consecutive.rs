//! `consecutive_failures` and `consecutive_connect_failures`: so many in a row, whatever the others
//! do. What is dead is found by these at once, whatever the traffic.

use std::time::Instant;

use super::{Detector, Evidence, Finding, Kind, Make, Mode, Seen, Severity, renumbered};
use crate::health::Sample;

pub(super) const FAILURES: Kind = Kind {
    name: "consecutive_failures",
    summary: "ejects an endpoint that fails so many times in a row (502, 503, 504, resets, timeouts)",
    mode: Mode::Enforce,
    shorthand: Some("count"),
    read: |options| {
        let count = options.within("count", 1..=1000, DEFAULT_FAILURES);
        Make::new(move || Consecutive::new(count, "failures", |sample| sample.streak))
    },
};

pub(super) const CONNECT_FAILURES: Kind = Kind {
    name: "consecutive_connect_failures",
    summary: "ejects an endpoint to which so many connections in a row fail",
    mode: Mode::Enforce,
    shorthand: Some("count"),
    read: |options| {
        let count = options.within("count", 1..=1000, DEFAULT_CONNECT_FAILURES);
        Make::new(move || Consecutive::new(count, "failures to connect", |sample| sample.connect_streak))
    },
};

#[derive(Debug)]
struct Consecutive {
    /// How many are too many.
    count: u32,
    /// What they are.
    what: &'static str,
    streak: fn(&Sample) -> u32,
    endpoints: Vec<Row>,
}

/// The row of failures at one endpoint.
#[derive(Clone, Copy, Debug, Default)]
struct Row {
    /// Its length as last seen.
    length: u32,
    /// How much of it belongs to a past that is forgotten.
    forgotten: u32,
}

impl Consecutive {
    fn new(count: u32, what: &'static str, streak: fn(&Sample) -> u32) -> Self {
        Self { count, what, streak, endpoints: Vec::new() }
    }

    fn row(&mut self, seen: &Seen<'_>) -> u32 {
        let length = (self.streak)(seen.sample);
        if self.endpoints.len() <= seen.endpoint {
            self.endpoints.resize(seen.endpoint + 1, Row::default());
        }
        let Some(row) = self.endpoints.get_mut(seen.endpoint) else { return length };
        if length < row.forgotten {
            row.forgotten = 0;
        }
        row.length = length;
        length - row.forgotten
    }
}

impl Detector for Consecutive {
    fn judge(&mut self, seen: &[Seen<'_>], _now: Instant) -> Vec<Finding> {
        let mut findings = Vec::new();
        for seen in seen {
            let row = self.row(seen);
            if row >= self.count {
                findings.push(Finding {
                    endpoint: seen.endpoint,
                    severity: Severity::Eject,
                    evidence: Evidence {
                        words: format!("{row} {} in a row (threshold {})", self.what, self.count),
                        values: vec![("in_a_row", f64::from(row)), ("threshold", f64::from(self.count))],
                    },
                });
            }
        }
        findings
    }

    fn forget(&mut self, endpoint: usize) {
        if let Some(row) = self.endpoints.get_mut(endpoint) {
            row.forgotten = row.length;
        }
    }

    fn renumber(&mut self, from: &[Option<usize>]) {
        renumbered(&mut self.endpoints, from);
    }
}

const DEFAULT_FAILURES: u32 = 5;
const DEFAULT_CONNECT_FAILURES: u32 = 3;

#[cfg(test)]
mod tests {
    use super::super::tests::{Story, sample};
    use super::*;

    fn streak(streak: u32, connect_streak: u32) -> Sample {
        Sample { streak, connect_streak, ..sample(0, 0) }
    }

    #[test]
    fn the_fifth_failure_in_a_row_is_one_too_many() {
        let mut story = Story::of("consecutive_failures", &[]);
        assert_eq!(story.tick(&[streak(4, 4), streak(0, 0)]), []);
        let findings = story.tick(&[streak(5, 0), streak(0, 0)]);
        assert_eq!(findings.len(), 1);
        assert_eq!((findings[0].endpoint, findings[0].severity), (0, Severity::Eject));
        assert_eq!(findings[0].evidence.words, "5 failures in a row (threshold 5)");
    }

    #[test]
    fn connect_failures_have_a_count_of_their_own() {
        let mut story = Story::of("consecutive_connect_failures", &[]);
        assert_eq!(story.tick(&[streak(9, 2)]), []);
        let words = &story.tick(&[streak(0, 3)])[0].evidence.words;
        assert_eq!(words, "3 failures to connect in a row (threshold 3)");
    }

    #[test]
    fn a_row_that_was_forgotten_begins_anew() {
        let mut story = Story::of("consecutive_failures", &[("count", 3)]);
        assert_eq!(story.tick(&[streak(4, 0)]).len(), 1);
        story.forget(0);
        assert_eq!(story.tick(&[streak(4, 0)]), []);
        assert_eq!(story.tick(&[streak(6, 0)]), []);
        assert_eq!(story.tick(&[streak(7, 0)]).len(), 1, "three more");
        assert_eq!(story.tick(&[streak(0, 0)]), []);
        assert_eq!(story.tick(&[streak(3, 0)]).len(), 1, "a new row");
    }
}
