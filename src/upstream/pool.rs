//! A pool as all workers share it: its endpoints, which of them may be used, and its settings.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;

use super::Endpoint;
use crate::balance::{Choice, Gauge};
use crate::model::Name;
use crate::model::settings::{ConnectionLimits, UpstreamProtocol, UpstreamTimeouts};

/// What a pool is made of.
#[derive(Debug)]
pub struct PoolSettings {
    /// The pool's name.
    pub name: Name,
    /// How an endpoint is chosen.
    pub policy: Choice,
    /// HTTP/1.1 or HTTP/2.
    pub protocol: UpstreamProtocol,
    /// Time limits.
    pub timeouts: UpstreamTimeouts,
    /// Bounds on connections.
    pub connections: ConnectionLimits,
}

/// A pool of endpoints.
#[derive(Debug)]
pub struct Pool {
    /// What it was made of.
    pub settings: PoolSettings,
    /// The endpoints, in the order of the configuration.
    pub endpoints: Vec<Arc<Endpoint>>,
    /// Their gauges, in the same order.
    pub gauges: Vec<Arc<Gauge>>,
    usable: ArcSwap<Vec<u32>>,
    version: AtomicU64,
}

impl Pool {
    /// A pool of which every endpoint may be used.
    #[must_use]
    pub fn new(settings: PoolSettings, endpoints: Vec<Arc<Endpoint>>) -> Self {
        let gauges = endpoints.iter().map(|e| Arc::clone(&e.gauge)).collect();
        let usable = (0..).take(endpoints.len()).collect::<Vec<u32>>();
        Self {
            settings,
            endpoints,
            gauges,
            usable: ArcSwap::from_pointee(usable),
            version: AtomicU64::new(0),
        }
    }

    /// Counts the changes of the usable endpoints, so that a worker need not load them each time.
    #[must_use]
    pub fn usable_version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Indexes of the endpoints that may be used, ascending.
    #[must_use]
    pub fn usable(&self) -> Arc<Vec<u32>> {
        self.usable.load_full()
    }

    /// Replaces the endpoints that may be used. One writer: the control plane.
    pub fn set_usable(&self, usable: Vec<u32>) {
        self.usable.store(Arc::new(usable));
        self.version.fetch_add(1, Ordering::Release);
    }
}
