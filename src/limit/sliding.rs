//! Counts within a span of time that ends now, kept in slots so that their number is bounded. Knows
//! not what is counted.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// `N` counts, each over the same span.
#[derive(Clone, Debug)]
pub struct Sliding<const N: usize> {
    span: Duration,
    /// The oldest first; each with the time of its first count.
    slots: VecDeque<(Instant, [u64; N])>,
    sums: [u64; N],
}

impl<const N: usize> Sliding<N> {
    /// Nothing counted yet; counts are forgotten after `span`.
    #[must_use]
    pub fn new(span: Duration) -> Self {
        Self { span, slots: VecDeque::new(), sums: [0; N] }
    }

    /// Adds what happened until `now`, which does not go back, and forgets what is older than the span.
    pub fn add(&mut self, counts: [u64; N], now: Instant) {
        while let Some((_, old)) = self.slots.front().filter(|(at, _)| *at + self.span <= now) {
            self.sums.iter_mut().zip(old).for_each(|(sum, old)| *sum -= old);
            self.slots.pop_front();
        }
        if counts == [0; N] {
            return;
        }
        let width = self.span / SLOTS;
        match self.slots.back_mut().filter(|(at, _)| *at + width > now) {
            Some((_, slot)) => slot.iter_mut().zip(counts).for_each(|(slot, count)| *slot += count),
            None => self.slots.push_back((now, counts)),
        }
        self.sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
    }

    /// The counts within the span, as of the last call of [`Self::add`].
    #[must_use]
    pub fn sums(&self) -> [u64; N] {
        self.sums
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.slots.clear();
        self.sums = [0; N];
    }
}

/// How finely a span is divided.
const SLOTS: u32 = 50;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_older_than_the_span_is_forgotten() {
        #[expect(clippy::disallowed_methods, reason = "some time to count from; all else is relative to it")]
        let start = Instant::now();
        let mut sliding = Sliding::new(Duration::from_secs(10));
        for tick in 0..400_u32 {
            let now = start + tick * Duration::from_millis(50);
            sliding.add([1, u64::from(tick < 100)], now);
            let [all, early] = sliding.sums();
            assert!(all <= 201 && (tick < 200 || all >= 195), "{tick}: {all}");
            assert!(tick < 100 || early <= 100, "{tick}: {early}");
            assert!(tick < 305 || early == 0, "{tick}: {early}");
            assert!(sliding.slots.len() <= 51);
        }
        sliding.add([0, 0], start + Duration::from_secs(60));
        assert_eq!(sliding.sums(), [0, 0]);
    }
}
