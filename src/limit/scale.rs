//! How many endpoints a pool should have for its load, by the formula of the Kubernetes
//! HorizontalPodAutoscaler: `ceil(current × utilisation / target)`, and `current` while the quotient is
//! within a tolerance of 1. Pure. Does not know who starts endpoints and ends them, nor how often they look.

use std::collections::VecDeque;
use std::time::Duration;

/// What the number of endpoints follows.
#[derive(Clone, Debug, PartialEq)]
pub struct ScaleSettings {
    /// The part of its endpoints' capacity that is to be in use, above 0 and at most 1.
    pub target: f64,
    /// How far from 1 utilisation by target may be without another number, 0 to 1.
    pub tolerance: f64,
    /// The bounds of the number: from 1, and not in the wrong order.
    pub bounds: (u32, u32),
    /// How many requests each endpoint is good for; `None` where a limit that adapts tells.
    pub each: Option<u32>,
    /// Over which time the load is averaged.
    pub window: Duration,
}

/// What a pool has to do, and who there is to do it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Load {
    /// Requests under way and those that wait for their turn.
    pub demand: f64,
    /// How many requests each endpoint is good for.
    pub each: f64,
    /// Endpoints.
    pub total: u32,
    /// Those of them that get traffic.
    pub available: u32,
}

/// What follows from it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    /// How many endpoints would be used just as they are meant to be: 0 where there is nothing to do, and without
    /// bounds, so that those of several proxies can be added up.
    pub needed: f64,
    /// How many there should be.
    pub desired: u32,
}

impl ScaleSettings {
    /// How many endpoints there should be.
    ///
    /// While some are not available they count as there and idle, as the HPA has it for pods that are not
    /// ready, and none is to be ended: the load of those that serve says little then.
    #[must_use]
    pub fn scale(&self, load: &Load) -> Scale {
        let each = load.each.max(1.0) * self.target;
        let needed = load.demand / each;
        let ratio = needed / f64::from(load.total.max(1));
        let is_near = load.total > 0 && (ratio - 1.0).abs() <= self.tolerance + ROUNDING;
        // What is a whole number but for the rounding of floats is one.
        let exact = (needed - ROUNDING).ceil().max(0.0);
        let mut desired = if is_near { load.total } else { exact as u32 };
        if load.available < load.total {
            desired = desired.max(load.total);
        }
        let (min, max) = self.bounds;
        Scale { needed, desired: desired.clamp(min, max.max(min)) }
    }
}

/// The mean of what was seen lately, once a second.
#[derive(Clone, Debug, Default)]
pub struct Recent(VecDeque<f64>);

impl Recent {
    /// Takes what was seen; what is `window` ago, at least a second, is forgotten.
    pub fn take(&mut self, seen: f64, window: Duration) {
        let most = usize::try_from(window.as_secs()).unwrap_or(usize::MAX).max(1);
        while self.0.len() >= most {
            self.0.pop_front();
        }
        self.0.push_back(seen);
    }

    /// The mean; 0 where nothing was seen.
    #[must_use]
    pub fn mean(&self) -> f64 {
        if self.0.is_empty() { 0.0 } else { self.0.iter().sum::<f64>() / self.0.len() as f64 }
    }
}

/// Far less than any part that matters.
const ROUNDING: f64 = 1e-6;

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> ScaleSettings {
        let window = Duration::from_secs(30);
        ScaleSettings { target: 0.5, tolerance: 0.1, bounds: (2, 20), each: Some(100), window }
    }

    fn desired(demand: f64, total: u32, available: u32) -> u32 {
        settings().scale(&Load { demand, each: 100.0, total, available }).desired
    }

    #[test]
    fn the_number_is_as_the_hpa_has_it() {
        // Demand, endpoints, wanted. One endpoint is to have 50 requests.
        for (demand, total, wanted) in [
            (200.0, 4, 4),
            (400.0, 4, 8),
            (401.0, 4, 9),
            (100.0, 4, 2),
            (110.0, 4, 3),
            (0.0, 4, 2),
            (0.0, 0, 2),
            (300.0, 0, 6),
            (9e9, 4, 20),
        ] {
            assert_eq!(desired(demand, total, total), wanted, "{demand} at {total}");
        }
    }

    #[test]
    fn near_the_target_nothing_changes() {
        for demand in [180.0, 190.0, 200.0, 219.0, 220.0] {
            assert_eq!(desired(demand, 4, 4), 4, "{demand}");
        }
        assert_eq!((desired(221.0, 4, 4), desired(149.0, 4, 4)), (5, 3));
    }

    #[test]
    fn while_some_are_ill_none_is_ended_and_what_is_missing_is_added() {
        assert_eq!(desired(50.0, 4, 2), 4, "less to do because half of them fail");
        assert_eq!(desired(190.0, 4, 1), 4, "the ill ones count as idle");
        assert_eq!(desired(390.0, 4, 3), 8);
    }

    #[test]
    fn needs_add_up_and_have_no_bounds() {
        let needed = |demand| settings().scale(&Load { demand, each: 100.0, total: 1, available: 1 }).needed;
        assert_eq!((needed(25.0), needed(2000.0), needed(0.0)), (0.5, 40.0, 0.0));
    }

    #[test]
    fn a_load_that_settles_settles_the_number() {
        for demand in (0..1000).map(f64::from) {
            let mut total = 2;
            let reached: Vec<_> = (0..5)
                .map(|_| {
                    total = desired(demand, total, total);
                    total
                })
                .collect();
            assert!(reached.windows(2).all(|pair| pair[0] == pair[1]), "{demand}: {reached:?}");
        }
    }

    #[test]
    fn what_is_long_ago_is_forgotten() {
        let mut recent = Recent::default();
        assert_eq!(recent.mean(), 0.0);
        (0..10).for_each(|n| recent.take(f64::from(n), Duration::from_secs(3)));
        assert_eq!(recent.mean(), 8.0);
        recent.take(1.0, Duration::ZERO);
        assert_eq!(recent.mean(), 1.0);
    }
}
