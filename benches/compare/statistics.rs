//! Medians and percentiles of a handful of numbers.

/// The median; the mean of the middle two when they are even in number. `None` without values.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = sorted.get(sorted.len() / 2)?;
    let lower = sorted.get((sorted.len() - 1) / 2)?;
    Some(f64::midpoint(*lower, *upper))
}

/// The least value that at least 99 % do not exceed. `None` without values.
pub(crate) fn percentile_99(values: &mut [u64]) -> Option<u64> {
    values.sort_unstable();
    let rank = (values.len() * 99).div_ceil(100);
    values.get(rank.checked_sub(1)?).copied()
}
