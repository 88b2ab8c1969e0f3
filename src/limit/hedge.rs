//! How many second tries beside the first a route may have: each request earns a part of one, and
//! few can be saved up, so that they never add more than their share to the load. Does not know when
//! one is due.

/// What requests earn and second tries cost, on one worker. Shares are exact to about 10^-6.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Savings(pub u32);

impl Savings {
    /// After one request more, of which the share `extra`, 0 to 1, is earned.
    #[inline]
    #[must_use]
    pub fn earn(self, extra: f64) -> Self {
        let earned = (extra.clamp(0.0, 1.0) * f64::from(ONE)) as u32;
        Self(self.0.saturating_add(earned).min(ONE * SAVED))
    }

    /// After a second try; `None` when there is not enough for one.
    #[must_use]
    pub fn spend(self) -> Option<Self> {
        self.0.checked_sub(ONE).map(Self)
    }
}

/// What came of a second try: the label `result`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Race {
    /// It answered first.
    Won,
    /// The first try did.
    Lost,
    /// Neither gave an answer to pass on.
    Failed,
}

/// Why there was no second try though one was due: the label `reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Refusal {
    /// There were as many as may be.
    Extra,
    /// The pool has as many requests as it may.
    Saturated,
    /// There is no other endpoint to ask.
    NoEndpoint,
}

impl Race {
    /// The values of the label `result`, in the order of the variants.
    pub const NAMES: [&'static str; 3] = ["won", "lost", "failed"];
}

impl Refusal {
    /// The values of the label `reason`, in the order of the variants.
    pub const NAMES: [&'static str; 3] = ["extra", "saturated", "no_endpoint"];
}

/// What a second try costs.
const ONE: u32 = 1 << 20;
/// Second tries that can be saved up.
const SAVED: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::mix::mix;

    #[test]
    fn second_tries_never_exceed_their_share() {
        for seed in 0..50_u64 {
            let extra = (mix(seed) % 100) as f64 / 100.0;
            let (mut savings, mut hedges) = (Savings::default(), 0_u32);
            for request in 1..=10_000_u32 {
                savings = savings.earn(extra);
                // Asked for now and then, and in bursts.
                let wanted = if mix(seed ^ u64::from(request / 100)).is_multiple_of(2) { 3 } else { 0 };
                for _ in 0..wanted {
                    if let Some(left) = savings.spend() {
                        savings = left;
                        hedges += 1;
                    }
                }
                assert!(f64::from(hedges) <= f64::from(request) * extra + 1e-3, "seed {seed}, {request}");
            }
        }
    }

    #[test]
    fn a_burst_is_bounded() {
        let mut savings = Savings::default();
        (0..100_000).for_each(|_| savings = savings.earn(0.05));
        let mut burst = 0;
        while let Some(left) = savings.spend() {
            savings = left;
            burst += 1;
        }
        assert_eq!(burst, SAVED);
    }
}
