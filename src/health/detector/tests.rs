//! What must hold for every detector, and the means by which their own tests tell stories: samples
//! at an even pace in virtual time.

use std::sync::LazyLock;
use std::time::Duration;

use super::*;
use crate::model::options::{Data, Key, Sink, Value};

#[test]
fn names_are_unique_and_described() {
    for kind in KINDS {
        assert_eq!(KINDS.iter().filter(|other| other.name == kind.name).count(), 1, "{}", kind.name);
        assert!(!kind.summary.is_empty() && !kind.summary.ends_with('.'), "{}", kind.name);
    }
}

/// A time from which tests count.
pub(super) static START: LazyLock<Instant> = LazyLock::new(|| {
    #[expect(clippy::disallowed_methods, reason = "some time to count from; all else is relative to it")]
    Instant::now()
});

/// So many that ended well, and so many that ended with a reset.
pub(super) fn sample(successes: u64, resets: u64) -> Sample {
    Sample { successes, failures: [0, 0, 0, resets, 0, 0, 0], ..Sample::default() }
}

/// A detector and its time.
pub(super) struct Story {
    detector: Box<dyn Detector>,
    pub(super) now: Instant,
}

impl Story {
    /// The detector of this name, with whole numbers for options.
    pub(super) fn of(name: &str, options: &[(&str, i64)]) -> Self {
        let value = |number: &i64| Value::new(0..0, Data::Integer(*number));
        let entries: Vec<_> = options
            .iter()
            .map(|(key, number)| (Key { name: (*key).to_owned(), span: 0..0 }, value(number)))
            .collect();
        let sink = Sink::default();
        let options = Options::root(&entries, &sink);
        let kind = KINDS.iter().find(|kind| kind.name == name).expect("the detector exists");
        let make = (kind.read)(&options);
        options.finish();
        Self { detector: make.make(), now: *START }
    }

    /// A fifth of a second later: what happened at the first endpoint, the second and so on.
    pub(super) fn tick(&mut self, samples: &[Sample]) -> Vec<Finding> {
        self.now += TICK;
        let seen: Vec<_> = samples
            .iter()
            .enumerate()
            .map(|(endpoint, sample)| Seen { endpoint, level: 0, serving: true, sample })
            .collect();
        self.detector.judge(&seen, self.now)
    }

    pub(super) fn forget(&mut self, endpoint: usize) {
        self.detector.forget(endpoint);
    }
}

pub(super) const TICK: Duration = Duration::from_millis(200);
