//! One worker's view of the snapshot: a policy for each pool, connections for each endpoint.
//! Nothing here is shared with another thread.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::http1_pool::Http1Pool;
use super::http2_pool::Http2Pool;
use super::places::Seat;
use super::pool::Selection;
use super::{Endpoint, Lease, Pool, Snapshot};
use crate::ambient;
use crate::balance::{Bands, Pick, Policy, Setup};
use crate::limit::Rejection;
use crate::limit::budget::Recent;
use crate::model::Name;
use crate::model::mix::mix;
use crate::observe::metrics::Shard;

/// A worker's view of one snapshot.
#[derive(Debug)]
pub struct Local {
    /// The snapshot.
    pub snapshot: Arc<Snapshot>,
    /// Its pools, in the same order.
    pub pools: Vec<Rc<LocalPool>>,
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
    /// What there was lately, which bounds retries. Of this worker alone, as its connections are.
    recent: Cell<Recent>,
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

/// Why a request has no endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoPick {
    /// None may be used.
    None,
    /// Those that may have no place, for this reason.
    Full(Rejection),
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
    /// The view of `snapshot`. Pools that `before` had are kept as they are; of those that changed,
    /// endpoints keep their connections. Those that are not there any more lose theirs, once they are
    /// idle.
    #[must_use]
    pub fn new(snapshot: Arc<Snapshot>, before: Option<&Self>, shard: Shard) -> Self {
        let mut succession = Succession::new(before);
        let kept: Vec<_> =
            snapshot.pools.iter().enumerate().map(|(index, pool)| succession.keep(index, pool)).collect();
        succession.gather();
        let pools = snapshot.pools.iter().zip(kept);
        let pools = pools.map(|(pool, kept)| kept.unwrap_or_else(|| succession.pool(pool, shard))).collect();
        succession.retire();
        Self { snapshot, pools }
    }

    /// Closes idle connections that have been unused for too long or that the endpoint has closed.
    pub fn sweep(&self, now: Instant) {
        for pool in &self.pools {
            for endpoint in &pool.endpoints {
                endpoint.http1.sweep(now, pool.shared.settings.timeouts.keep_alive);
                endpoint.http2.sweep(now, pool.shared.settings.timeouts.keep_alive);
                endpoint.yield_connection();
            }
        }
    }
}

/// What passes from one view to the next. Where nothing changed it costs a comparison and a count for
/// each pool.
struct Succession<'a> {
    /// Pools by their place, until they are kept.
    left: Vec<Option<&'a Rc<LocalPool>>>,
    /// Their places; only made once a pool is not where it was.
    places: Option<HashMap<*const Pool, usize>>,
    /// What those pools had that are not kept, until it is handed on.
    recent: HashMap<&'a Name, Recent>,
    endpoints: HashMap<*const Endpoint, &'a Rc<LocalEndpoint>>,
}

impl<'a> Succession<'a> {
    fn new(before: Option<&'a Local>) -> Self {
        let left = before.map(|before| before.pools.iter().map(Some).collect()).unwrap_or_default();
        Self { left, places: None, recent: HashMap::new(), endpoints: HashMap::new() }
    }

    /// The same pool of before, which is probably at the same place.
    fn keep(&mut self, index: usize, pool: &Arc<Pool>) -> Option<Rc<LocalPool>> {
        let is_it = |own: &Option<&Rc<LocalPool>>| own.is_some_and(|own| Arc::ptr_eq(&own.shared, pool));
        let mut place = index;
        if !self.left.get(index).is_some_and(is_it) {
            let left = &self.left;
            let places = self.places.get_or_insert_with(|| {
                let own = left.iter().enumerate().filter_map(|(place, own)| Some((place, (*own)?)));
                own.map(|(place, own)| (Arc::as_ptr(&own.shared), place)).collect()
            });
            place = *places.get(&Arc::as_ptr(pool))?;
        }
        self.left.get_mut(place)?.take().map(Rc::clone)
    }

    /// Looks through the pools that are not kept.
    fn gather(&mut self) {
        for pool in self.left.iter().flatten() {
            self.recent.insert(&pool.shared.settings.name, pool.recent());
            self.endpoints.extend(pool.endpoints.iter().map(|own| (Arc::as_ptr(&own.shared), own)));
        }
    }

    /// A pool that is new or that changed.
    fn pool(&mut self, pool: &Arc<Pool>, shard: Shard) -> Rc<LocalPool> {
        let recent = self.recent.get(&pool.settings.name).copied();
        let endpoints = pool.endpoints.iter().map(|endpoint| self.endpoint(endpoint, shard)).collect();
        Rc::new(LocalPool::new(Arc::clone(pool), endpoints, recent))
    }

    fn endpoint(&mut self, shared: &Arc<Endpoint>, shard: Shard) -> Rc<LocalEndpoint> {
        match self.endpoints.remove(&Arc::as_ptr(shared)) {
            Some(endpoint) => Rc::clone(endpoint),
            None => Rc::new(LocalEndpoint::new(Arc::clone(shared), shard)),
        }
    }

    /// Ends what nobody took over.
    fn retire(self) {
        for endpoint in self.endpoints.values() {
            endpoint.http1.retire();
            endpoint.http2.retire();
        }
    }
}

impl LocalPool {
    fn new(shared: Arc<Pool>, endpoints: Vec<Rc<LocalEndpoint>>, recent: Option<Recent>) -> Self {
        Self {
            policies: RefCell::default(),
            identities: shared.endpoints.iter().map(|endpoint| endpoint.identity).collect(),
            version: Cell::new(shared.selection_version()),
            recent: Cell::new(recent.unwrap_or_else(|| Recent::new(ambient::now()))),
            selection: RefCell::new(shared.selection()),
            endpoints,
            shared,
        }
    }

    /// Counts a request at `now`.
    #[inline]
    pub fn count_request(&self, now: Instant) {
        let mut recent = self.recent.get();
        recent.request(now);
        self.recent.set(recent);
    }

    /// Counts a retry at `now`.
    pub fn count_retry(&self, now: Instant) {
        let mut recent = self.recent.get();
        recent.retry(now);
        self.recent.set(recent);
    }

    /// What there was lately.
    #[must_use]
    pub fn recent(&self) -> Recent {
        self.recent.get()
    }

    /// Chooses an endpoint that was not tried and that has a place, and counts a request as under way
    /// there.
    ///
    /// # Errors
    /// When there is none.
    pub fn pick(&self, choosing: &Choosing<'_>) -> Result<Lease, NoPick> {
        self.refresh();
        let selection = self.selection.borrow();
        let bands = &selection.bands;
        // Before trials, which would move the session.
        if let Some(index) = choosing.sticky
            && !choosing.tried.contains(&index)
            && u32::try_from(index).is_ok_and(|index| bands.contains(index))
            && !self.refuses(index)
            && let Ok(lease) = self.lease(index, false, choosing.now)
        {
            return Ok(lease);
        }
        if !selection.trials.is_empty()
            && choosing.tried.is_empty()
            && let Some(lease) = self.on_trial(&selection.trials, choosing)
        {
            return Ok(lease);
        }
        let index = self.choose(bands, choosing, &[]).ok_or(NoPick::None)?;
        self.lease(index, false, choosing.now).or_else(|full| {
            // Nobody is full as a rule, so that only who meets somebody who is looks at the others.
            self.pick_with_place(bands, choosing, (index, full))
        })
    }

    /// Chooses among those that have a place, after one that was chosen turned out to have none.
    fn pick_with_place(
        &self,
        bands: &Bands,
        choosing: &Choosing<'_>,
        (first, mut reason): (usize, Rejection),
    ) -> Result<Lease, NoPick> {
        let is_full =
            |index: &usize| *index == first || self.endpoints.get(*index).is_none_or(|e| e.is_full());
        let mut full: Vec<usize> = (0..self.endpoints.len()).filter(is_full).collect();
        while let Some(index) = self.choose(bands, choosing, &full) {
            match self.lease(index, false, choosing.now) {
                Ok(lease) => return Ok(lease),
                Err(rejection) => reason = rejection,
            }
            full.push(index);
        }
        Err(NoPick::Full(reason))
    }

    fn choose(&self, bands: &Bands, choosing: &Choosing<'_>, full: &[usize]) -> Option<usize> {
        let hashed = if self.shared.settings.policy.hashes() { choosing.key } else { None };
        // By other bits than the choice within the band.
        let first = bands.choose(mix(hashed.unwrap_or(choosing.draw)))?;
        self.pick_in(first, bands, choosing, full).or_else(|| {
            let others = (0..bands.list.len()).filter(|place| *place != first);
            others.into_iter().find_map(|place| self.pick_in(place, bands, choosing, full))
        })
    }

    /// How long to wait for an endpoint on trial: for several times as long as the slowest of the
    /// others is taken to need.
    #[must_use]
    pub fn trial_patience(&self) -> Duration {
        let estimates = self.shared.gauges.iter().filter_map(|gauge| gauge.estimate());
        let slowest = estimates.map(|(estimate, _)| estimate).max().unwrap_or_default();
        (slowest * 4).max(TRIAL_PATIENCE)
    }

    fn pick_in(&self, place: usize, bands: &Bands, choosing: &Choosing<'_>, full: &[usize]) -> Option<usize> {
        let usable = &bands.list.get(place)?.usable;
        let others;
        let is_out =
            |index: usize| choosing.tried.contains(&index) || full.contains(&index) || self.refuses(index);
        let all = choosing.tried.is_empty() && full.is_empty() && !self.shared.settings.endpoint_breakers;
        let usable = if all || !usable.iter().any(|index| is_out(*index as usize)) {
            usable.as_slice()
        } else {
            others = usable.iter().copied().filter(|index| !is_out(*index as usize)).collect::<Vec<_>>();
            &others
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
            endpoint.is_some_and(|e| !e.is_full() && e.shared.tally.take_trial(choosing.safe))
        })?;
        let lease = self.lease(index, true, choosing.now);
        if let (Err(_), Some(endpoint)) = (&lease, self.endpoints.get(index)) {
            endpoint.shared.tally.end_trial(None);
        }
        lease.ok()
    }

    fn lease(&self, index: usize, on_trial: bool, now: Instant) -> Result<Lease, Rejection> {
        let endpoint = self.endpoints.get(index).ok_or(Rejection::EndpointsFull)?;
        Lease::new(Rc::clone(endpoint), index, on_trial, now)
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

    /// The right to open a connection.
    ///
    /// # Errors
    /// When there are as many as may be, and none of them is idle here.
    pub fn seat(&self) -> Result<Seat, Rejection> {
        let places = &self.shared.places;
        let seat = || places.seat(self.shard);
        seat().or_else(|full| if self.http1.close_oldest() { seat() } else { Err(full) })
    }

    /// Whether a request needs the right to open a connection, because there is none here to use.
    pub(super) fn needs_seat(&self) -> bool {
        self.shared.places.limit_connections() && self.http1.is_empty() && !self.http2.is_open()
    }

    /// Whether it has no place for another request.
    fn is_full(&self) -> bool {
        let places = &self.shared.places;
        places.in_flight().is_some_and(|limit| self.shared.gauge.in_flight() >= limit)
            || (self.needs_seat() && !places.has_seat(self.shard))
    }

    /// Closes a connection if another worker wants to open one and may not.
    fn yield_connection(&self) {
        let places = &self.shared.places;
        if !places.limit_connections() || (self.http1.is_empty() && !self.http2.is_open()) {
            return;
        }
        if places.take_wanted(self.shard) && !self.http1.close_oldest() {
            self.http2.close_one();
        }
    }
}

/// The least time that an endpoint on trial has for its response.
const TRIAL_PATIENCE: Duration = Duration::from_secs(1);
