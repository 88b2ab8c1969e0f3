//! What is shown of how much a pool is used, and of how many endpoints it should have. The control thread
//! writes all of it.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::PoolMetrics;
use super::exposition::{Exposition, Title, labels};
use crate::limit::scale::Scale;
use crate::model::Name;

/// What is shown of one pool.
#[derive(Debug, Default)]
pub(super) struct ScaleMetrics {
    /// The bits of a float.
    utilisation: AtomicU64,
    /// Likewise.
    needed: AtomicU64,
    /// 0 where that is not told.
    desired: AtomicU32,
}

impl PoolMetrics {
    /// The part of what could be under way that was, lately; and what follows for the number of endpoints, if
    /// that is to be told.
    pub fn set_scale(&self, utilisation: f64, scale: Option<&Scale>) {
        self.scale.utilisation.store(utilisation.to_bits(), Ordering::Relaxed);
        let (needed, desired) = scale.map_or((0.0, 0), |scale| (scale.needed, scale.desired));
        self.scale.needed.store(needed.to_bits(), Ordering::Relaxed);
        self.scale.desired.store(desired, Ordering::Relaxed);
    }
}

/// Adds what is known of pools.
pub(super) fn expose<'a>(
    pools: impl Iterator<Item = (&'a Name, &'a PoolMetrics)> + Clone,
    out: &mut Exposition,
) {
    let read = |bits: &AtomicU64| f64::from_bits(bits.load(Ordering::Relaxed));
    let of = |pool: &Name| labels([("pool", pool.as_str())]);
    out.gauge(UTILISATION, pools.clone().map(|(pool, own)| (of(pool), read(&own.scale.utilisation))));
    let told = pools.filter(|(_, own)| own.scale.desired.load(Ordering::Relaxed) > 0);
    out.gauge(NEEDED, told.clone().map(|(pool, own)| (of(pool), read(&own.scale.needed))));
    let desired = |own: &PoolMetrics| f64::from(own.scale.desired.load(Ordering::Relaxed));
    out.gauge(DESIRED, told.map(|(pool, own)| (of(pool), desired(own))));
}

const UTILISATION: Title = Title(
    "forebay_pool_utilisation_ratio",
    "The part of the requests that could be under way that were, the mean of the last half minute or as configured.",
);

const NEEDED: Title = Title(
    "forebay_pool_needed_endpoints",
    "Endpoints that the load needs at the target utilisation, without bounds, of pools with autoscaling.",
);

const DESIRED: Title = Title(
    "forebay_pool_desired_endpoints",
    "Endpoints that there should be, within the bounds, of pools with autoscaling.",
);
