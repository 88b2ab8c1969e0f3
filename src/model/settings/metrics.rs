//! What is measured how finely.

use std::time::Duration;

use thiserror::Error;

/// What metrics go by. In force from the start of the process to its end.
#[derive(Clone, Debug, PartialEq)]
pub struct Metrics {
    /// The bounds of every histogram of durations.
    pub buckets: Buckets,
    /// Series of one scrape. Past it, endpoints are shown together.
    pub max_series: usize,
}

/// Upper bounds of a histogram's buckets: 1 to 30, ascending, of whole microseconds, from one to half an
/// hour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Buckets(Vec<Duration>);

/// Why durations are no bounds.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BadBuckets {
    /// There are none.
    #[error("there has to be one bound at least")]
    None,
    /// There are too many.
    #[error("{0} bounds are too many: {most} at most", most = Buckets::MOST)]
    TooMany(usize),
    /// One that is no whole number of microseconds, or too short or too long.
    #[error("{0:?} is no whole number of microseconds from 1us to 30m")]
    Bound(Duration),
    /// One that does not come after the one before.
    #[error("{0:?} comes after {1:?}, and bounds have to ascend")]
    Order(Duration, Duration),
}

impl Buckets {
    /// How many there may be.
    pub const MOST: usize = 30;

    /// Takes `bounds` as they are.
    ///
    /// # Errors
    /// When they are no bounds.
    pub fn new(bounds: Vec<Duration>) -> Result<Self, BadBuckets> {
        if bounds.is_empty() {
            return Err(BadBuckets::None);
        }
        if bounds.len() > Self::MOST {
            return Err(BadBuckets::TooMany(bounds.len()));
        }
        let fits =
            |bound: &&Duration| bound.subsec_nanos().is_multiple_of(1000) && (LEAST..=MOST).contains(*bound);
        if let Some(bound) = bounds.iter().find(|bound| !fits(bound)) {
            return Err(BadBuckets::Bound(*bound));
        }
        let pairs = bounds.iter().zip(bounds.iter().skip(1));
        match pairs.into_iter().find(|(before, after)| before >= after) {
            Some((before, after)) => Err(BadBuckets::Order(*after, *before)),
            None => Ok(Self(bounds)),
        }
    }

    /// The bounds in their order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Duration> {
        self.0.iter().copied()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self { buckets: Buckets::default(), max_series: 50_000 }
    }
}

/// From what a local origin takes to what a timeout takes.
impl Default for Buckets {
    fn default() -> Self {
        let micros = [
            100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
            2_500_000, 5_000_000, 10_000_000, 30_000_000, 60_000_000,
        ];
        Self(micros.into_iter().map(Duration::from_micros).collect())
    }
}

const LEAST: Duration = Duration::from_micros(1);
const MOST: Duration = Duration::from_secs(30 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_ascend() {
        let us = Duration::from_micros;
        let new = |bounds: &[Duration]| Buckets::new(bounds.to_vec());
        assert_eq!(new(&[]), Err(BadBuckets::None));
        assert_eq!(new(&[us(5), us(5)]), Err(BadBuckets::Order(us(5), us(5))));
        assert_eq!(new(&[us(5), us(4)]), Err(BadBuckets::Order(us(4), us(5))));
        assert_eq!(new(&[us(0)]), Err(BadBuckets::Bound(us(0))));
        assert_eq!(new(&[Duration::from_nanos(1_500)]), Err(BadBuckets::Bound(Duration::from_nanos(1_500))));
        assert_eq!(new(&[us(1), MOST + us(1)]), Err(BadBuckets::Bound(MOST + us(1))));
        let most: Vec<_> = (1..=31).map(us).collect();
        assert_eq!(new(&most), Err(BadBuckets::TooMany(31)));
        assert!(
            most.get(..30)
                .is_some_and(|most| new(most).is_ok_and(|buckets| buckets.iter().eq(most.iter().copied())))
        );
        let usual = Buckets::default();
        assert_eq!(Buckets::new(usual.iter().collect()), Ok(usual));
    }
}
