//! One worker's view of the snapshot: a policy for each pool, connections for each endpoint.
//! Nothing here is shared with another thread.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::http1_pool::Http1Pool;
use super::http2_pool::Http2Pool;
use super::pool::Selection;
use super::{Endpoint, Lease, Pool, Snapshot};
use crate::balance::{Bands, Pick, Policy, Setup};
use crate::model::mix::mix;
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
    /// One policy for each band that there has been, so that what one band is dealt does not move
    /// the turns of another.
    policies: RefCell<Vec<Box<dyn Policy>>>,
    identities: Vec<u64>,
    selection: RefCell<Arc<Selection>>,
    version: Cell<u64>,
    endpoints: Vec<Rc<LocalEndpoint>>,
}

/// What a choice among a pool's endpoints depends on.
#[derive(Clone, Copy, Debug)]
pub struct Choosing<'a> {
    /// Indexes of those that this request has tried.
    pub tried: &'a [usize],
    /// What binds the request to an endpoint, for policies that hash.
    pub key: Option<u64>,
    /// The endpoint that its session stays with, by index.
    pub sticky: Option<usize>,
    /// Whether the request can be sent again to another endpoint if this one fails.
    pub safe: bool,
    /// A uniformly distributed random number.
    pub draw: u64,
    /// The time.
    pub now: Instant,
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
            policies: RefCell::default(),
            identities: shared.endpoints.iter().map(|endpoint| endpoint.identity).collect(),
            version: Cell::new(shared.selection_version()),
            selection: RefCell::new(shared.selection()),
            endpoints: shared.endpoints.iter().map(local_endpoint).collect(),
            shared,
        }
    }

    /// Chooses an endpoint that was not tried, and counts a request as under way there. `None` when
    /// none may be used.
    #[must_use]
    pub fn pick(&self, choosing: &Choosing<'_>) -> Option<Lease> {
        self.refresh();
        let selection = self.selection.borrow();
        let bands = &selection.bands;
        // Before trials, which would move the session.
        if let Some(index) = choosing.sticky
            && !choosing.tried.contains(&index)
            && u32::try_from(index).is_ok_and(|index| bands.contains(index))
            && !self.refuses(index)
        {
            return self.lease(index, false, choosing.now);
        }
        if !selection.trials.is_empty()
            && choosing.tried.is_empty()
            && let Some(lease) = self.on_trial(&selection.trials, choosing)
        {
            return Some(lease);
        }
        let hashed = if self.shared.settings.policy.hashes() { choosing.key } else { None };
        // By other bits than the choice within the band.
        let first = bands.choose(mix(hashed.unwrap_or(choosing.draw)))?;
        let index = self.pick_in(first, bands, choosing).or_else(|| {
            let others = (0..bands.list.len()).filter(|place| *place != first);
            others.into_iter().find_map(|place| self.pick_in(place, bands, choosing))
        })?;
        self.lease(index, false, choosing.now)
    }

    /// How long to wait for an endpoint on trial: for several times as long as the slowest of the
    /// others is taken to need.
    #[must_use]
    pub fn trial_patience(&self) -> Duration {
        let estimates = self.shared.gauges.iter().filter_map(|gauge| gauge.estimate());
        let slowest = estimates.map(|(estimate, _)| estimate).max().unwrap_or_default();
        (slowest * 4).max(TRIAL_PATIENCE)
    }

    fn pick_in(&self, place: usize, bands: &Bands, choosing: &Choosing<'_>) -> Option<usize> {
        let usable = &bands.list.get(place)?.usable;
        let untried;
        let any_refuses = self.shared.settings.endpoint_breakers
            && usable.iter().any(|index| self.refuses(*index as usize));
        let usable = if choosing.tried.is_empty() && !any_refuses {
            usable.as_slice()
        } else {
            let is_untried =
                |index: &u32| !choosing.tried.contains(&(*index as usize)) && !self.refuses(*index as usize);
            untried = usable.iter().copied().filter(is_untried).collect::<Vec<_>>();
            &untried
        };
        let Choosing { draw, now, .. } = *choosing;
        let pick = Pick { usable, key: choosing.key.unwrap_or(draw), draw, now };
        self.policies.borrow().get(place)?.pick(&self.shared.gauges, &pick)
    }

    /// Whether the breaker of an endpoint lets nothing through.
    fn refuses(&self, index: usize) -> bool {
        self.shared.settings.endpoint_breakers
            && self.endpoints.get(index).is_some_and(|endpoint| endpoint.shared.breaker.is_shut())
    }

    fn on_trial(&self, trials: &[u32], choosing: &Choosing<'_>) -> Option<Lease> {
        let index = trials.iter().map(|index| *index as usize).find(|index| {
            let endpoint = self.endpoints.get(*index);
            endpoint.is_some_and(|endpoint| endpoint.shared.tally.take_trial(choosing.safe))
        })?;
        self.lease(index, true, choosing.now)
    }

    fn lease(&self, index: usize, on_trial: bool, now: Instant) -> Option<Lease> {
        Some(Lease::new(Rc::clone(self.endpoints.get(index)?), index, on_trial, now))
    }

    fn refresh(&self) {
        let version = self.shared.selection_version();
        if version != self.version.get() || self.policies.borrow().is_empty() {
            *self.selection.borrow_mut() = self.shared.selection();
            self.version.set(version);
            let bands = self.selection.borrow().bands.list.len().max(1);
            let mut policies = self.policies.borrow_mut();
            while policies.len() < bands {
                policies.push(self.policy());
            }
        }
    }

    fn policy(&self) -> Box<dyn Policy> {
        let settings = &self.shared.settings;
        let setup = Setup { identities: &self.identities, balance_factor: settings.balance_factor };
        settings.policy.build(&setup)
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

/// The least time that an endpoint on trial has for its response.
const TRIAL_PATIENCE: Duration = Duration::from_secs(1);
