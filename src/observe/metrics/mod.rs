//! Metrics: handles that workers write without contention, and their sum as Prometheus text. Labels
//! are looked up when a handle is made, which is when a snapshot is built, never per request.
//! Label values come from the configuration only, so that their number is bounded by it.

mod config;
mod datagrams;
mod discovery;
mod endpoint;
mod exposition;
mod folded;
mod health;
mod histogram;
mod ladder;
mod listener;
mod loops;
mod overload;
mod pool;
mod process;
mod rate;
mod readings;
mod route;
mod scale;
mod seats;
mod series;
mod spans;
mod status;
mod stream;
mod worker;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use endpoint::EndpointLabels;
use exposition::{Exposition, Title};
use folded::{Gone, View};
use histogram::Bounds;
use loops::BreakerLabels;
use rate::RateLabels;
use seats::Seats;
use series::Costs;

pub use super::shard::Shard;
use super::spans::{ROOM, Spans};
pub use config::{ConfigMetrics, ReloadResult};
pub use datagrams::{DatagramMetrics, Lost};
pub use discovery::{DiscoveryMetrics, Resolution};
pub use endpoint::{EndpointMetrics, EndpointTotals, FailureKind};
pub use health::{EndpointHealth, PoolHealthMetrics};
pub use histogram::{Distribution, Packed};
pub use ladder::LadderMetrics;
pub use listener::{ClientTimeout, HelloResult, Introduction, ListenerMetrics, LogLines};
pub use loops::{BreakerMetrics, BreakerState, LoopMetrics};
pub use overload::OverloadMetrics;
pub use pool::PoolMetrics;
pub use readings::{PASSED_ON, RouteReading};
pub use route::{Finished, RouteLabels, RouteMetrics};
pub use series::{Expected, Shape, expected};
pub use stream::{StreamLabels, StreamMetrics};
pub use worker::{Life, WorkerMetrics, WorkerUse};

use crate::ambient;
use crate::balance::Gauge;
use crate::model::Name;
use crate::model::settings::Metrics;
use crate::route::filter::RateCounts;

/// The media type of [`Registry::render`].
pub const CONTENT_TYPE: &str = exposition::CONTENT_TYPE;

/// Every handle there is, by its labels. Asking twice for the same labels gives the same handle, so
/// that counts go on over a reload. What nobody but the registry holds any more is shown once more
/// and then forgotten.
#[derive(Debug)]
pub struct Registry {
    workers: usize,
    bounds: Arc<Bounds>,
    worker_metrics: Box<[WorkerMetrics]>,
    config: ConfigMetrics,
    restarts: AtomicU64,
    overload: Arc<OverloadMetrics>,
    spans: Arc<Spans>,
    listeners: Kept<Name, ListenerMetrics>,
    datagrams: Kept<Name, DatagramMetrics>,
    routes: Kept<RouteLabels, RouteMetrics>,
    streams: Kept<StreamLabels, StreamMetrics>,
    flows: Kept<StreamLabels, StreamMetrics>,
    endpoints: Kept<EndpointLabels, EndpointMetrics>,
    endpoint_health: Kept<EndpointLabels, EndpointHealth>,
    pool_health: Kept<Name, PoolHealthMetrics>,
    pools: Kept<Name, PoolMetrics>,
    discovery: Kept<Name, DiscoveryMetrics>,
    breakers: Kept<BreakerLabels, BreakerMetrics>,
    loops: Kept<Name, LoopMetrics>,
    ladders: Kept<Name, LadderMetrics>,
    rates: Kept<RateLabels, RateCounts>,
    settings: Metrics,
    seats: Seats,
    gone: Gone,
    costs: OnceLock<Costs>,
    /// Bytes of the last page.
    page: AtomicUsize,
}

impl Registry {
    /// A registry whose handles have cells for `workers` workers and for the control thread, with the
    /// usual settings.
    #[must_use]
    pub fn new(workers: usize) -> Arc<Self> {
        Self::with(workers, &Metrics::default())
    }

    /// As [`Self::new`], with these settings.
    #[must_use]
    pub fn with(workers: usize, settings: &Metrics) -> Arc<Self> {
        Arc::new(Self {
            workers,
            bounds: Arc::new(Bounds::new(&settings.buckets)),
            worker_metrics: (0..workers).map(|_| WorkerMetrics::new(ambient::now())).collect(),
            config: ConfigMetrics::default(),
            restarts: AtomicU64::new(0),
            overload: Arc::default(),
            spans: Arc::new(Spans::new(workers, ROOM)),
            listeners: Kept::default(),
            datagrams: Kept::default(),
            routes: Kept::default(),
            streams: Kept::default(),
            flows: Kept::default(),
            endpoints: Kept::default(),
            endpoint_health: Kept::default(),
            pool_health: Kept::default(),
            pools: Kept::default(),
            discovery: Kept::default(),
            breakers: Kept::default(),
            loops: Kept::default(),
            ladders: Kept::default(),
            rates: Kept::default(),
            settings: settings.clone(),
            seats: Seats::default(),
            gone: Gone::default(),
            costs: OnceLock::new(),
            page: AtomicUsize::new(0),
        })
    }

    /// How many workers there are.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.workers
    }

    /// The counts of the flows of a listener.
    #[must_use]
    pub fn datagrams(&self, listener: &Name) -> Arc<DatagramMetrics> {
        self.datagrams.get_or_make(listener.clone(), || DatagramMetrics::new(self.workers))
    }

    /// The counts of a listener.
    #[must_use]
    pub fn listener(&self, name: &Name) -> Arc<ListenerMetrics> {
        self.listeners.get_or_make(name.clone(), || ListenerMetrics::new(self.workers))
    }

    /// The counts of a route towards a pool.
    #[must_use]
    pub fn route(&self, labels: &RouteLabels) -> Arc<RouteMetrics> {
        self.routes.get_or_make(labels.clone(), || RouteMetrics::new(self.workers, &self.bounds))
    }

    /// The counts of connections that are passed on as bytes from a listener to a pool.
    #[must_use]
    pub fn stream(&self, labels: &StreamLabels) -> Arc<StreamMetrics> {
        self.streams.get_or_make(labels.clone(), || StreamMetrics::new(self.workers, &self.bounds))
    }

    /// The counts of flows of datagrams from a listener to a pool, for those who keep a history: metrics tell
    /// of flows by listener.
    #[must_use]
    pub fn flow(&self, labels: &StreamLabels) -> Arc<StreamMetrics> {
        self.flows.get_or_make(labels.clone(), || StreamMetrics::new(self.workers, &self.bounds))
    }

    /// The counts of an endpoint, shown as `endpoint`; its requests in flight are read from `gauge`.
    #[must_use]
    pub fn endpoint(&self, pool: &Name, endpoint: &str, gauge: &Arc<Gauge>) -> Arc<EndpointMetrics> {
        let labels = EndpointLabels::new(pool, endpoint);
        let seat = self.seats.of(&labels);
        let make = || EndpointMetrics::new(self.workers, &self.bounds, Arc::clone(gauge), seat);
        let metrics = self.endpoints.get_or_make(labels, make);
        metrics.watch(gauge);
        metrics
    }

    /// The health of an endpoint, shown as `endpoint`; its weight's factor and its estimate are read
    /// from `gauge`.
    #[must_use]
    pub fn endpoint_health(&self, pool: &Name, endpoint: &str, gauge: &Arc<Gauge>) -> Arc<EndpointHealth> {
        let labels = EndpointLabels::new(pool, endpoint);
        let seat = self.seats.of(&labels);
        let health =
            self.endpoint_health.get_or_make(labels, || EndpointHealth::new(Arc::clone(gauge), seat));
        health.watch(gauge);
        health
    }

    /// The health of a pool that is watched by these detectors.
    #[must_use]
    pub fn pool_health(
        &self,
        pool: &Name,
        detectors: impl Iterator<Item = &'static str>,
    ) -> Arc<PoolHealthMetrics> {
        let health = self.pool_health.get_or_make(pool.clone(), || PoolHealthMetrics::new(&self.bounds));
        detectors.for_each(|detector| health.introduce(detector));
        health
    }

    /// The counts of a pool.
    #[must_use]
    pub fn pool(&self, name: &Name) -> Arc<PoolMetrics> {
        self.pools.get_or_make(name.clone(), || PoolMetrics::new(self.workers, &self.bounds))
    }

    /// Does something while [`Self::pool`] has to wait.
    #[cfg(test)]
    pub(crate) fn while_pools_wait<T>(&self, act: impl FnOnce() -> T) -> T {
        let _held = self.pools.0.lock().unwrap_or_else(PoisonError::into_inner);
        act()
    }

    /// What is counted of how a pool comes by its endpoints.
    #[must_use]
    pub fn discovery(&self, pool: &Name) -> Arc<DiscoveryMetrics> {
        self.discovery.get_or_make(pool.clone(), DiscoveryMetrics::default)
    }

    /// What is shown of the breaker of a pool, or of an endpoint of it.
    #[must_use]
    pub fn breaker(&self, pool: &Name, endpoint: Option<&str>) -> Arc<BreakerMetrics> {
        let labels = BreakerLabels { pool: pool.clone(), endpoint: endpoint.map(str::to_owned) };
        let seat = endpoint.map(|endpoint| self.seats.of(&EndpointLabels::new(pool, endpoint)));
        self.breakers.get_or_make(labels, || BreakerMetrics::new(seat))
    }

    /// What is shown of what adjusts the limits of a pool.
    #[must_use]
    pub fn loops(&self, pool: &Name) -> Arc<LoopMetrics> {
        self.loops.get_or_make(pool.clone(), LoopMetrics::default)
    }

    /// What is counted of the ladder of a pool, whose rungs have these names. Where they were others, what
    /// was known before is shown no longer; counts of rungs that stay go on.
    #[must_use]
    pub fn ladder(&self, pool: &Name, rungs: Vec<String>) -> Arc<LadderMetrics> {
        let same = |known: &LadderMetrics| known.names().eq(rungs.iter().map(String::as_str));
        let renew = |known: Option<&LadderMetrics>| match known {
            Some(known) => known.renamed(rungs.clone()),
            None => LadderMetrics::new(rungs.clone()),
        };
        self.ladders.get_or_renew(pool.clone(), same, renew)
    }

    /// The counts of a rate limit of a route.
    #[must_use]
    pub fn rate_limit(&self, route: &Name, limit: &Name) -> Arc<RateCounts> {
        let labels = RateLabels { route: route.clone(), limit: limit.clone() };
        self.rates.get_or_make(labels, RateCounts::default)
    }

    /// What is shown of the process's own load.
    #[must_use]
    pub fn overload(&self) -> &Arc<OverloadMetrics> {
        &self.overload
    }

    /// Spans that wait to be exported.
    #[must_use]
    pub fn spans(&self) -> &Arc<Spans> {
        &self.spans
    }

    /// What is shown of the configuration.
    #[must_use]
    pub fn config(&self) -> &ConfigMetrics {
        &self.config
    }

    /// Requests of all routes so far, by class of status, from 1xx to 5xx. Routes that are gone and
    /// forgotten do not count.
    #[must_use]
    pub fn requests_by_class(&self) -> [u64; 5] {
        let mut sums = [0; 5];
        for (_, metrics) in self.routes.all() {
            for (sum, count) in sums.iter_mut().zip(metrics.requests()) {
                *sum += count;
            }
        }
        sums
    }

    /// How long the requests of each route take at most but for one in a hundred, over all listeners and
    /// pools, where there were enough to say.
    #[must_use]
    pub fn route_p99s(&self) -> BTreeMap<Name, Duration> {
        let mut found: BTreeMap<Name, Duration> = BTreeMap::new();
        for (labels, metrics) in self.routes.all() {
            if let Some(p99) = metrics.p99() {
                let known = found.entry(labels.route).or_default();
                *known = p99.max(*known);
            }
        }
        found
    }

    /// A worker that had ended before its time begins again.
    pub fn restarted(&self) {
        self.restarts.fetch_add(1, Ordering::Relaxed);
    }

    /// How often that was.
    #[must_use]
    pub fn restarts(&self) -> u64 {
        self.restarts.load(Ordering::Relaxed)
    }

    /// Every metric, as [`CONTENT_TYPE`] says. Takes time in proportion to the number of handles; not
    /// for the request path.
    #[must_use]
    pub fn render(&self) -> Vec<u8> {
        // Most pages are as long as the one before them.
        let mut out = Exposition::with_capacity(self.page.load(Ordering::Relaxed) + 4096);
        process::expose_build(&mut out);
        out.gauge(WORKERS, [(Vec::new(), self.workers as f64)]);
        out.counter(RESTARTS, [(Vec::new(), self.restarts() as f64)]);
        worker::expose(&self.workers_use(), &mut out);
        process::expose_panics(&mut out);
        self.config.expose(&mut out);
        let listeners = self.listeners.review();
        let listeners = listeners.iter().map(|(name, metrics)| (name, &**metrics));
        let routes = self.routes.review();
        let routes = routes.iter().map(|(labels, metrics)| (labels, &**metrics));
        let endpoints = self.view_endpoints();
        route::expose(routes, listener::refused_requests(listeners.clone()), &mut out);
        listener::expose(listeners, &mut out);
        // Nothing of them is shown here, and those that are gone have to be forgotten all the same.
        let _ = self.flows.review();
        let streams = self.streams.review();
        stream::expose(streams.iter().map(|(labels, metrics)| (labels, &**metrics)), &mut out);
        let flows = self.datagrams.review();
        datagrams::expose(flows.iter().map(|(name, metrics)| (name, &**metrics)), &mut out);
        endpoint::expose(endpoints.endpoints(), &mut out);
        let pools = self.pools.review();
        let pools = pools.iter().map(|(name, metrics)| (name, &**metrics));
        pool::expose(pools.clone(), &mut out);
        scale::expose(pools, &mut out);
        let discovery = self.discovery.review();
        discovery::expose(discovery.iter().map(|(pool, metrics)| (pool, &**metrics)), &mut out);
        let rates = self.rates.review();
        rate::expose(rates.iter().map(|(labels, counts)| (labels, &**counts)), &mut out);
        self.expose_loops(&endpoints, &mut out);
        self.expose_health(&endpoints, &mut out);
        self.expose_dropped(&endpoints, &mut out);
        self.overload.expose(&mut out);
        spans::expose(&self.spans, &mut out);
        process::expose(&mut out);
        let page = out.render();
        self.page.store(page.len(), Ordering::Relaxed);
        page
    }

    fn expose_loops(&self, endpoints: &View, out: &mut Exposition) {
        loops::expose_breakers(endpoints.breakers(), endpoints.other_breakers(), out);
        let pools = self.loops.review();
        loops::expose_loops(pools.iter().map(|(pool, loops)| (pool, &**loops)), out);
        let ladders = self.ladders.review();
        ladder::expose(ladders.iter().map(|(pool, ladder)| (pool, &**ladder)), out);
    }

    /// Adds how much is not shown of what there is.
    fn expose_dropped(&self, endpoints: &View, out: &mut Exposition) {
        let dropped = self.costs.get().map_or(0, |costs| costs.of_folded(endpoints.folded()));
        out.gauge(DROPPED, [(Vec::new(), dropped as f64)]);
    }

    fn expose_health(&self, endpoints: &View, out: &mut Exposition) {
        let pools = self.pool_health.review();
        let pools = pools.iter().map(|(pool, health)| (pool, &**health));
        let states = health::count_states(pools.clone().map(|(pool, _)| pool), endpoints.all_health());
        health::expose_endpoints(endpoints.health(), endpoints.other_health(), out);
        health::expose_pools(pools, &states, out);
    }
}

/// Handles as a scrape finds them.
struct Reviewed<K, M> {
    shown: Vec<(K, Arc<M>)>,
    forgotten: Vec<(K, Arc<M>)>,
}

/// Handles by their labels.
#[derive(Debug)]
struct Kept<K, M>(Mutex<BTreeMap<K, Entry<M>>>);

#[derive(Debug)]
struct Entry<M> {
    metrics: Arc<M>,
    /// Shown while nobody else held it.
    orphaned: bool,
}

impl<K, M> Default for Kept<K, M> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Ord + Clone, M> Kept<K, M> {
    fn get_or_make(&self, key: K, make: impl FnOnce() -> M) -> Arc<M> {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = map.entry(key).or_insert_with(|| Entry { metrics: Arc::new(make()), orphaned: false });
        entry.orphaned = false;
        Arc::clone(&entry.metrics)
    }

    /// All handles, whether shown or not.
    fn all(&self) -> Vec<(K, Arc<M>)> {
        let map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        map.iter().map(|(key, entry)| (key.clone(), Arc::clone(&entry.metrics))).collect()
    }

    /// The handle if it is as it should be; otherwise what `renew` makes in its place.
    fn get_or_renew(
        &self,
        key: K,
        fits: impl FnOnce(&M) -> bool,
        renew: impl FnOnce(Option<&M>) -> M,
    ) -> Arc<M> {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = map.get(&key).map(|entry| Arc::clone(&entry.metrics));
        let metrics = match known.filter(|known| fits(known)) {
            Some(known) => known,
            None => Arc::new(renew(map.get(&key).map(|entry| &*entry.metrics))),
        };
        map.insert(key, Entry { metrics: Arc::clone(&metrics), orphaned: false });
        metrics
    }

    /// All handles to show, in the order of their labels.
    fn review(&self) -> Vec<(K, Arc<M>)> {
        self.review_all().shown
    }

    /// All handles to show, and those that are forgotten from now on, in the order of their labels.
    fn review_all(&self) -> Reviewed<K, M> {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut forgotten = Vec::new();
        map.retain(|key, entry| {
            let orphaned = Arc::strong_count(&entry.metrics) == 1;
            let shown = std::mem::replace(&mut entry.orphaned, orphaned);
            if orphaned && shown {
                forgotten.push((key.clone(), Arc::clone(&entry.metrics)));
            }
            !(orphaned && shown)
        });
        let shown = map.iter().map(|(key, entry)| (key.clone(), Arc::clone(&entry.metrics))).collect();
        Reviewed { shown, forgotten }
    }
}

const WORKERS: Title = Title("forebay_workers", "Data-plane threads.");
const RESTARTS: Title =
    Title("forebay_worker_restarts_total", "How often a worker began again that had ended before its time.");

const DROPPED: Title = Title(
    "forebay_series_dropped",
    "Series left out for want of room (max_series): those of endpoints that are shown together as other.",
);

#[cfg(test)]
mod tests;
