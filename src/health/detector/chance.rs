//! How surprising a count is, and what is usual among several values: the little statistics that
//! detectors of outliers share. Knows nothing of endpoints.

/// How surprising `hits` or more out of `of` are when each is one with the probability `rate`: the
/// negative natural logarithm of Chernoff's bound on the probability, `of` × the relative entropy of
/// `hits / of` and `rate`. At least 0; the probability is `exp` of its negative or less.
pub(super) fn surprise(hits: u64, of: u64, rate: f64) -> f64 {
    if of == 0 {
        return 0.0;
    }
    let share = (hits.min(of)) as f64 / of as f64;
    let rate = rate.clamp(1e-9, 1.0);
    if share <= rate {
        return 0.0;
    }
    let rest = if share < 1.0 { (1.0 - share) * ((1.0 - share) / (1.0 - rate)).ln() } else { 0.0 };
    of as f64 * (share * (share / rate).ln() + rest)
}

/// The rate that `hits` out of `of` speak for, leaning towards one hit more than there was: what has
/// never been seen in few looks may still be.
pub(super) fn rate(hits: u64, of: u64) -> f64 {
    (hits + 1) as f64 / (of + 1) as f64
}

/// What is usual among several values.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Usual {
    /// Their median; the mean of the two in the middle.
    pub(super) median: f64,
    /// The median of their distances from it, scaled by 1.4826 so that it is the standard deviation
    /// where values are normally distributed.
    pub(super) deviation: f64,
}

impl Usual {
    /// What is usual among `values`, which it rearranges; `None` when there are none.
    pub(super) fn of(values: &mut [f64]) -> Option<Self> {
        let median = median(values)?;
        values.iter_mut().for_each(|value| *value = (*value - median).abs());
        Some(Self { median, deviation: SCALE * median_or_zero(values) })
    }
}

/// The median of `values`, which it sorts.
pub(super) fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let upper = values.get(values.len() / 2)?;
    let lower = values.get(values.len().saturating_sub(1) / 2)?;
    Some(f64::midpoint(*lower, *upper))
}

fn median_or_zero(values: &mut [f64]) -> f64 {
    median(values).unwrap_or_default()
}

/// The standard deviation of a normal distribution over its median absolute deviation.
const SCALE: f64 = 1.4826;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn surprise_bounds_the_binomial_tail() {
        for (hits, of, rate) in [(5_u64, 25_u64, 0.01_f64), (7, 25, 0.01), (3, 10, 0.1), (60, 100, 0.5)] {
            let choose = |k: u64| (1..=k).fold(1.0, |c, i| c * (of - k + i) as f64 / i as f64);
            let term = |k: u64| choose(k) * rate.powi(k as i32) * (1.0 - rate).powi((of - k) as i32);
            let tail: f64 = (hits..=of).map(term).sum();
            let bound = (-surprise(hits, of, rate)).exp();
            assert!(tail <= bound && bound < tail * 20.0, "{hits} of {of} at {rate}: {tail} {bound}");
        }
        assert_eq!((surprise(0, 0, 0.5), surprise(1, 10, 0.1)), (0.0, 0.0));
        assert!((surprise(4, 4, 0.1) - 4.0 * 10_f64.ln()).abs() < 1e-9);
    }

    #[test]
    fn a_few_outliers_do_not_move_what_is_usual() {
        let usual = Usual::of(&mut [0.01, 0.02, 0.03, 0.9, 0.02]).unwrap();
        assert!((usual.median - 0.02).abs() < 1e-9 && (usual.deviation - 0.014_826).abs() < 1e-6);
        assert_eq!(Usual::of(&mut [1.0, 2.0]).unwrap().median, 1.5);
        assert_eq!(Usual::of(&mut []), None);
    }
}
