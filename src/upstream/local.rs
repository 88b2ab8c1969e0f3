//! One worker's view of the snapshot: a policy for each pool, connections for each endpoint.
//! Nothing here is shared with another thread.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use super::http1_pool::Http1Pool;
use super::http2_pool::Http2Pool;
use super::{Endpoint, Lease, Pool, Snapshot};
use crate::balance::{Pick, Policy};
use crate::observe::metrics::Shard;

/// A worker's view of one snapshot.
#[derive(Debug)]
pub struct Local {
    /// The snapshot.
    pub snapshot: Arc<Snapshot>,
    /// Its pools, in the same order.
    pub pools: Vec<LocalPool>,
}

/// A pool on one worker.
pub struct LocalPool {
    /// What all workers share of it.
    pub shared: Arc<Pool>,
    policy: Box<dyn Policy>,
    usable: RefCell<Arc<Vec<u32>>>,
    usable_version: Cell<u64>,
    endpoints: Vec<Rc<LocalEndpoint>>,
}

/// An endpoint on one worker.
#[derive(Debug)]
pub struct LocalEndpoint {
    /// What all workers share of it.
    pub shared: Arc<Endpoint>,
    /// Whose counters are written.
    pub shard: Shard,
    /// Idle HTTP/1.1 connections.
    pub http1: Http1Pool,
    /// HTTP/2 connections.
    pub http2: Http2Pool,
}

impl Local {
    /// The view of `snapshot`; endpoints that `before` had keep their connections.
    #[must_use]
    pub fn new(snapshot: Arc<Snapshot>, before: Option<&Self>, shard: Shard) -> Self {
        let kept = before.map(Self::endpoints_by_identity).unwrap_or_default();
        let local_endpoint = |shared: &Arc<Endpoint>| match kept.get(&Arc::as_ptr(shared)) {
            Some(endpoint) => Rc::clone(endpoint),
            None => Rc::new(LocalEndpoint::new(Arc::clone(shared), shard)),
        };
        let pools =
            snapshot.pools.iter().map(|pool| LocalPool::new(Arc::clone(pool), local_endpoint)).collect();
        Self { snapshot, pools }
    }

    /// Closes idle connections that have been unused for too long or that the endpoint has closed.
    pub fn sweep(&self, now: Instant) {
        for pool in &self.pools {
            for endpoint in &pool.endpoints {
                endpoint.http1.sweep(now, pool.shared.settings.timeouts.keep_alive);
                endpoint.http2.sweep(now, pool.shared.settings.timeouts.keep_alive);
            }
        }
    }

    fn endpoints_by_identity(&self) -> HashMap<*const Endpoint, &Rc<LocalEndpoint>> {
        let endpoints = self.pools.iter().flat_map(|pool| &pool.endpoints);
        endpoints.map(|endpoint| (Arc::as_ptr(&endpoint.shared), endpoint)).collect()
    }
}

impl LocalPool {
    fn new(shared: Arc<Pool>, local_endpoint: impl Fn(&Arc<Endpoint>) -> Rc<LocalEndpoint>) -> Self {
        Self {
            policy: shared.settings.policy.build(),
            usable_version: Cell::new(shared.usable_version()),
            usable: RefCell::new(shared.usable()),
            endpoints: shared.endpoints.iter().map(local_endpoint).collect(),
            shared,
        }
    }

    /// Chooses an endpoint that is not among `tried`, and counts a request as under way there.
    #[must_use]
    pub fn pick(&self, tried: &[usize], draw: u64, now: Instant) -> Option<Lease> {
        self.refresh_usable();
        let usable = self.usable.borrow();
        let untried;
        let usable = if tried.is_empty() {
            usable.as_slice()
        } else {
            untried = usable.iter().copied().filter(|i| !tried.contains(&(*i as usize))).collect::<Vec<_>>();
            &untried
        };
        let pick = Pick { usable, key: draw, draw, now };
        let index = self.policy.pick(&self.shared.gauges, &pick)?;
        Some(Lease::new(Rc::clone(self.endpoints.get(index)?), index))
    }

    fn refresh_usable(&self) {
        let version = self.shared.usable_version();
        if version != self.usable_version.get() {
            *self.usable.borrow_mut() = self.shared.usable();
            self.usable_version.set(version);
        }
    }
}

impl std::fmt::Debug for LocalPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalPool").field("name", &self.shared.settings.name).finish_non_exhaustive()
    }
}

impl LocalEndpoint {
    fn new(shared: Arc<Endpoint>, shard: Shard) -> Self {
        Self { shared, shard, http1: Http1Pool::default(), http2: Http2Pool::default() }
    }
}
