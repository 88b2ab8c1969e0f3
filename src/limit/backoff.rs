//! How long to pause before a request is tried again: at random, so that those who failed together
//! do not come back together. Knows nothing of why it failed.

use std::time::Duration;

/// The pause before the further try `number`, counted from 0, for a uniformly distributed `draw`:
/// "full jitter", uniform from 0 to the lesser of `cap` and `base` × 2^`number` (Marc Brooker,
/// "Exponential Backoff And Jitter", AWS Architecture Blog, 2015).
#[must_use]
pub fn pause(base: Duration, cap: Duration, number: u32, draw: u64) -> Duration {
    let ceiling = base.saturating_mul(1_u32.checked_shl(number).unwrap_or(u32::MAX)).min(cap);
    let nanos = (u128::from(draw) * (ceiling.as_nanos() + 1)) >> u64::BITS;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::mix::mix;

    const BASE: Duration = Duration::from_millis(25);
    const CAP: Duration = Duration::from_millis(250);

    #[test]
    fn the_ceiling_doubles_up_to_the_cap() {
        for (number, most) in [(0, 25), (1, 50), (2, 100), (3, 200), (4, 250), (31, 250), (99, 250)] {
            assert_eq!(pause(BASE, CAP, number, u64::MAX), Duration::from_millis(most), "{number}");
            assert_eq!(pause(BASE, CAP, number, 0), Duration::ZERO);
        }
        assert_eq!(pause(Duration::ZERO, CAP, 5, u64::MAX), Duration::ZERO);
    }

    #[test]
    fn pauses_are_spread_evenly() {
        let pauses: Vec<_> = (0..10_000).map(|seed| pause(BASE, CAP, 2, mix(seed))).collect();
        let mean = pauses.iter().sum::<Duration>() / 10_000;
        assert!((49..=51).contains(&mean.as_millis()), "{mean:?}");
        let early = pauses.iter().filter(|pause| **pause < Duration::from_millis(10)).count();
        assert!((900..=1100).contains(&early), "{early}");
    }
}
