//! What was found of a pool's endpoints that the configuration does not name, and how that went.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use super::exposition::{Exposition, Title, labels};
use crate::discover::Origin;
use crate::model::Name;

/// What is counted of one pool. Written by the control plane alone.
#[derive(Debug, Default)]
pub struct DiscoveryMetrics {
    resolutions: [AtomicU64; Resolution::ALL.len()],
    loads: [AtomicU64; 2],
    /// Milliseconds of the epoch; 0 for never.
    last_success: AtomicU64,
    endpoints: [AtomicU64; Origin::ALL.len()],
}

/// What came of asking DNS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// There were records.
    Answered,
    /// There is no such name, or it has no such records.
    Empty,
    /// Nobody answered, or nobody knew.
    Failed,
}

impl Resolution {
    /// Every result.
    pub const ALL: [Self; 3] = [Self::Answered, Self::Empty, Self::Failed];

    const fn name(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Empty => "empty",
            Self::Failed => "failed",
        }
    }
}

impl DiscoveryMetrics {
    /// DNS was asked.
    pub fn resolved(&self, result: Resolution, at: SystemTime) {
        if let Some(count) = self.resolutions.get(result as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        if result == Resolution::Answered {
            self.succeeded(at);
        }
    }

    /// A list was read anew, or could not be.
    pub fn loaded(&self, well: bool, at: SystemTime) {
        let [failed, loaded] = &self.loads;
        if well { loaded } else { failed }.fetch_add(1, Ordering::Relaxed);
        if well {
            self.succeeded(at);
        }
    }

    /// So many endpoints are in use that were named first by `origin`.
    pub fn set_endpoints(&self, origin: Origin, endpoints: usize) {
        if let Some(gauge) = self.endpoints.get(origin as usize) {
            gauge.store(endpoints as u64, Ordering::Relaxed);
        }
    }

    fn succeeded(&self, at: SystemTime) {
        let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.last_success.store(u64::try_from(since.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// Adds what discovery counts.
pub(super) fn expose<'a>(
    pools: impl Iterator<Item = (&'a Name, &'a DiscoveryMetrics)> + Clone,
    out: &mut Exposition,
) {
    let read = |cell: &AtomicU64| cell.load(Ordering::Relaxed) as f64;
    let resolutions = pools.clone().flat_map(|(pool, metrics)| {
        Resolution::ALL.into_iter().zip(&metrics.resolutions).map(move |(result, count)| {
            (labels([("pool", pool.as_str()), ("result", result.name())]), read(count))
        })
    });
    out.counter(RESOLUTIONS, resolutions);
    let loads = pools.clone().flat_map(|(pool, metrics)| {
        ["failed", "loaded"]
            .into_iter()
            .zip(&metrics.loads)
            .map(move |(result, count)| (labels([("pool", pool.as_str()), ("result", result)]), read(count)))
    });
    out.counter(LOADS, loads);
    let successes = pools.clone().filter_map(|(pool, metrics)| {
        let millis = read(&metrics.last_success);
        (millis > 0.0).then(|| (labels([("pool", pool.as_str())]), millis / 1000.0))
    });
    out.gauge(LAST_SUCCESS, successes);
    let endpoints = pools.flat_map(|(pool, metrics)| {
        Origin::ALL.into_iter().zip(&metrics.endpoints).map(move |(origin, gauge)| {
            (labels([("pool", pool.as_str()), ("source", origin.name())]), read(gauge))
        })
    });
    out.gauge(ENDPOINTS, endpoints);
}

const RESOLUTIONS: Title = Title(
    "forebay_discovery_resolutions_total",
    "Questions to DNS for a pool's endpoints, by what came of them.",
);
const LOADS: Title =
    Title("forebay_discovery_file_loads_total", "Readings of a pool's list of endpoints after it changed.");
const LAST_SUCCESS: Title = Title(
    "forebay_discovery_last_success_timestamp_seconds",
    "When a source of a pool's endpoints was last asked or read with success.",
);
const ENDPOINTS: Title =
    Title("forebay_discovery_endpoints", "Endpoints of a pool, by the source that named them first.");
