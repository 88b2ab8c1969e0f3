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

/// Responses that began after these times, and all that began ended well.
pub(super) fn latencies(times: &[Duration]) -> Sample {
    let mut sample = Sample { successes: times.len() as u64, ..Sample::default() };
    times.iter().for_each(|took| sample.latencies.record(*took));
    sample
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

/// Chance from a seed (`SplitMix64`).
#[derive(Clone, Debug)]
pub(super) struct Lots(u64);

impl Lots {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x5DEE_CE66)
    }

    pub(super) fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform, above 0 and at most 1.
    pub(super) fn unit(&mut self) -> f64 {
        ((self.draw() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    /// Poisson, of a small mean.
    pub(super) fn poisson(&mut self, mean: f64) -> u64 {
        let (bound, mut product, mut count) = ((-mean).exp(), self.unit(), 0);
        while product > bound {
            product *= self.unit();
            count += 1;
        }
        count
    }

    /// How many of `of` come true, each with this chance.
    pub(super) fn binomial(&mut self, of: u64, chance: f64) -> u64 {
        (0..of).filter(|_| self.unit() <= chance).count() as u64
    }

    /// Log-normal.
    pub(super) fn time(&mut self, median: Duration, sigma: f64) -> Duration {
        let normal = (-2.0 * self.unit().ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos();
        median.mul_f64((sigma * normal).exp())
    }
}
