//! A pool as all workers share it: its endpoints, which of them may be used at present, and its
//! settings.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use super::{Endpoint, Fallbacks, Guard, Sessions, places};
use crate::balance::{Bands, Choice, Gauge, HashKey};
use crate::model::settings::{
    ConnectionLimits, HeadersOut, Limits, Sticky, UpstreamProtocol, UpstreamTimeouts,
};
use crate::model::{Fingerprint, Name};

/// What a pool is made of.
#[derive(Debug)]
pub struct PoolSettings {
    /// The pool's name.
    pub name: Name,
    /// Tells it from one that is configured otherwise.
    pub fingerprint: Fingerprint,
    /// How an endpoint is chosen.
    pub policy: Choice,
    /// What policies that hash bind a request by.
    pub hash_key: HashKey,
    /// The bound on load of policies that hash.
    pub balance_factor: Option<f64>,
    /// Sessions that stay with their endpoint.
    pub sticky: Option<Sticky>,
    /// HTTP/1.1 or HTTP/2.
    pub protocol: UpstreamProtocol,
    /// How endpoints are told of clients before anything else; not at all when unset.
    pub headers: Option<HeadersOut>,
    /// Time limits.
    pub timeouts: UpstreamTimeouts,
    /// Bounds on connections.
    pub connections: ConnectionLimits,
    /// Bounds on what goes on at once.
    pub limits: Limits,
    /// What stands in for it when it fails.
    pub fallbacks: Option<Fallbacks>,
    /// Whether each endpoint has a breaker of its own.
    pub endpoint_breakers: bool,
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
    /// The cookies of sessions that stay with their endpoint, if there are such.
    pub sessions: Option<Sessions>,
    /// Tells the control plane that something failed.
    pub alarm: Arc<Alarm>,
    /// What is let through to it, and what is counted of that.
    pub guard: Arc<Guard>,
    /// What its endpoints' places have in common.
    pub places: places::Shared,
    selection: ArcSwap<Selection>,
    version: AtomicU64,
}

/// Which endpoints may be used at present.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Selection {
    /// Those that share the traffic.
    pub bands: Bands,
    /// Indexes of those that may get a trial request, one at a time.
    pub trials: Vec<u32>,
}

/// Has the control plane look at a pool before it is due.
#[derive(Debug)]
pub struct Alarm {
    raised: AtomicBool,
    notify: Arc<Notify>,
}

impl Pool {
    /// A pool of which every endpoint may be used. `alarm` is what its endpoints raise, `places` what
    /// their places have in common.
    #[must_use]
    pub fn new(
        settings: PoolSettings,
        endpoints: Vec<Arc<Endpoint>>,
        alarm: Arc<Alarm>,
        guard: Arc<Guard>,
        places: places::Shared,
    ) -> Self {
        let gauges = endpoints.iter().map(|e| Arc::clone(&e.gauge)).collect();
        let sessions = settings.sticky.as_ref().map(|sticky| Sessions::new(sticky, &endpoints));
        let all = u32::try_from(endpoints.len()).unwrap_or(u32::MAX);
        let selection = Selection { bands: Bands::all(all), trials: Vec::new() };
        Self {
            settings,
            endpoints,
            gauges,
            sessions,
            alarm,
            guard,
            places,
            selection: ArcSwap::from_pointee(selection),
            version: AtomicU64::new(0),
        }
    }

    /// Counts the changes of the selection, so that a worker need not load it each time.
    #[must_use]
    pub fn selection_version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Which endpoints may be used.
    #[must_use]
    pub fn selection(&self) -> Arc<Selection> {
        self.selection.load_full()
    }

    /// Replaces the endpoints that may be used. One writer: the control plane.
    pub fn select(&self, selection: Selection) {
        self.selection.store(Arc::new(selection));
        self.version.fetch_add(1, Ordering::Release);
        self.guard.line.changed();
    }
}

impl Alarm {
    /// An alarm that wakes whoever waits for `notify`.
    #[must_use]
    pub fn new(notify: Arc<Notify>) -> Arc<Self> {
        Arc::new(Self { raised: AtomicBool::new(false), notify })
    }

    /// Something failed, or a trial is over.
    pub fn raise(&self) {
        if !self.raised.load(Ordering::Relaxed) && !self.raised.swap(true, Ordering::AcqRel) {
            self.notify.notify_one();
        }
    }

    /// Whether it was raised since this was last called.
    #[must_use]
    pub fn take(&self) -> bool {
        self.raised.load(Ordering::Relaxed) && self.raised.swap(false, Ordering::AcqRel)
    }
}
