//! How many series there are to expect of a configuration, and how many endpoints can have series of their
//! own. What each thing costs is counted in a registry that holds one of each, so that no metric is left
//! out. Does not know configurations.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use super::{Registry, RouteLabels, StreamLabels};
use crate::ambient;
use crate::balance::Gauge;
use crate::limit::scale::Scale;
use crate::model::Name;
use crate::model::settings::Metrics;

/// How many there are of what has series.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// Threads of the data plane.
    pub workers: usize,
    /// Listeners.
    pub listeners: usize,
    /// Routes, each once for every listener, and there once for every pool and once for what it answers
    /// itself.
    pub routes: usize,
    /// Pools of listeners that pass connections on as bytes, each once for every such listener.
    pub streams: usize,
    /// Listeners that pass datagrams on.
    pub datagrams: usize,
    /// Rate limits of routes.
    pub rate_limits: usize,
    /// Pools.
    pub pools: usize,
    /// Pools with endpoints that the configuration does not name.
    pub discovering: usize,
    /// Detectors of outliers of all pools.
    pub detectors: usize,
    /// Pools whose endpoints are checked.
    pub checked_pools: usize,
    /// Pools with an adaptive limit.
    pub adaptive: usize,
    /// Pools with admission control.
    pub admission: usize,
    /// Pools with autoscaling.
    pub scaling: usize,
    /// Pools with a breaker of their own.
    pub pool_breakers: usize,
    /// Pools with a ladder of degradation.
    pub ladders: usize,
    /// Rungs of all ladders.
    pub rungs: usize,
    /// Ladders that keep responses.
    pub keeping: usize,
    /// Endpoints of all pools.
    pub endpoints: usize,
    /// Those that are checked.
    pub checked: usize,
    /// Those with a breaker of their own.
    pub breakers: usize,
}

/// How many series there are to expect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// If every endpoint has series of its own, once everything has happened that there are series of:
    /// requests, checks.
    pub all: usize,
    /// Those of things other than endpoints, which are never left out.
    pub fixed: usize,
    /// Those of one endpoint more.
    pub each: usize,
    /// Endpoints with series of their own.
    pub shown: usize,
    /// Endpoints that are shown together.
    pub folded: usize,
}

/// How many series each thing has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Costs {
    process: usize,
    worker: usize,
    listener: usize,
    route: usize,
    stream: usize,
    datagrams: usize,
    rate_limit: usize,
    pool: usize,
    discovering: usize,
    detector: usize,
    checked_pool: usize,
    adaptive: usize,
    admission: usize,
    scaling: usize,
    breaker: usize,
    ladder: usize,
    rung: usize,
    keeping: usize,
    endpoint: usize,
    health: usize,
    checked: usize,
}

/// How many series there are to expect of `shape` under `settings`.
#[must_use]
pub fn expected(shape: &Shape, settings: &Metrics) -> Expected {
    Costs::count(settings).expected(shape, settings.max_series)
}

impl Registry {
    /// Prepares for `shape`: endpoints of which something is counted from now on have series of their own
    /// as long as there is room for them next to everything else.
    pub fn prepare(&self, shape: &Shape) {
        let costs = self.costs.get_or_init(|| Costs::count(&self.settings));
        self.seats.allow(costs.most_shown(shape, self.settings.max_series));
    }
}

impl Costs {
    /// The series that endpoints would have of which there are so many handles: of themselves, of their
    /// health, of their breakers.
    pub(super) fn of_folded(&self, [endpoints, health, breakers]: [usize; 3]) -> usize {
        endpoints * self.endpoint + health * self.health + breakers * self.breaker
    }

    fn expected(&self, shape: &Shape, max_series: usize) -> Expected {
        let fixed = self.fixed(shape);
        let endpoints = shape.endpoints * (self.endpoint + self.health);
        let all = fixed + endpoints + shape.checked * self.checked + shape.breakers * self.breaker;
        let shown = self.most_shown(shape, max_series).min(shape.endpoints);
        Expected { all, fixed, each: self.each(shape), shown, folded: shape.endpoints - shown }
    }

    /// Series of everything but endpoints.
    fn fixed(&self, shape: &Shape) -> usize {
        let rows = [
            (1, self.process),
            (shape.workers, self.worker),
            (shape.listeners, self.listener),
            (shape.routes, self.route),
            (shape.streams, self.stream),
            (shape.datagrams, self.datagrams),
            (shape.rate_limits, self.rate_limit),
            (shape.pools, self.pool),
            (shape.discovering, self.discovering),
            (shape.detectors, self.detector),
            (shape.checked_pools, self.checked_pool),
            (shape.adaptive, self.adaptive),
            (shape.admission, self.admission),
            (shape.scaling, self.scaling),
            (shape.pool_breakers, self.breaker),
            (shape.ladders, self.ladder),
            (shape.rungs, self.rung),
            (shape.keeping, self.keeping),
        ];
        rows.into_iter().map(|(count, cost)| count.saturating_mul(cost)).fold(0, usize::saturating_add)
    }

    /// How many endpoints may have series of their own. Once there are more, each pool needs room for its
    /// others as well.
    fn most_shown(&self, shape: &Shape, max_series: usize) -> usize {
        let each = self.each(shape);
        let room = max_series.saturating_sub(self.fixed(shape));
        let most = |room: usize| room.checked_div(each).unwrap_or(usize::MAX);
        let all = most(room);
        if shape.endpoints <= all { all } else { most(room.saturating_sub(shape.pools.saturating_mul(each))) }
    }

    /// Series of the dearest endpoint.
    fn each(&self, shape: &Shape) -> usize {
        let of_some = |count: usize, cost: usize| if count > 0 { cost } else { 0 };
        let (checked, breaker) =
            (of_some(shape.checked_pools, self.checked), of_some(shape.breakers, self.breaker));
        self.endpoint + self.health + checked + breaker
    }

    /// Makes one of each and counts what comes of it.
    fn count(settings: &Metrics) -> Self {
        let settings = Metrics { max_series: usize::MAX, ..settings.clone() };
        let registry = Registry::with(0, &settings);
        let mut costs = Self::default();
        let mut probe = Probe { registry: &registry, seen: 0, one: one(), held: Vec::new() };
        registry.config().succeeded("0", ambient::wall());
        registry.overload().set_memory(1, 1);
        costs.process = probe.more();
        costs.worker = series(&Registry::with(1, &settings)) - series(&Registry::with(0, &settings));
        costs.count_routing(&mut probe);
        costs.count_pool(&mut probe);
        costs.count_loops(&mut probe);
        costs.count_endpoint(&mut probe);
        costs
    }

    fn count_routing(&mut self, probe: &mut Probe<'_>) {
        let (registry, one) = (probe.registry, probe.one.clone());
        probe.hold(registry.listener(&one));
        self.listener = probe.more();
        let labels = RouteLabels { listener: one.clone(), route: one.clone(), pool: Some(one.clone()) };
        probe.hold(registry.route(&labels));
        self.route = probe.more();
        probe.hold(registry.stream(&StreamLabels { listener: one.clone(), pool: one.clone() }));
        self.stream = probe.more();
        probe.hold(registry.datagrams(&one));
        self.datagrams = probe.more();
        probe.hold(registry.rate_limit(&one, &one));
        self.rate_limit = probe.more();
    }

    fn count_pool(&mut self, probe: &mut Probe<'_>) {
        let (registry, one) = (probe.registry, probe.one.clone());
        let health = probe.hold(registry.pool_health(&one, std::iter::empty()));
        let pool = probe.hold(registry.pool(&one));
        probe.hold(registry.loops(&one));
        self.pool = probe.more();
        pool.set_scale(0.0, Some(&Scale { needed: 1.0, desired: 1 }));
        self.scaling = probe.more();
        probe.hold(registry.discovery(&one)).loaded(true, ambient::wall());
        self.discovering = probe.more();
        health.introduce("one");
        self.detector = probe.more();
        health.check_took(Duration::ZERO);
        self.checked_pool = probe.more();
    }

    fn count_loops(&mut self, probe: &mut Probe<'_>) {
        let (registry, one) = (probe.registry, probe.one.clone());
        let loops = probe.hold(registry.loops(&one));
        loops.set_limit(1, Duration::ZERO, Duration::ZERO);
        self.adaptive = probe.more();
        loops.set_probability(0);
        self.admission = probe.more();
        probe.hold(registry.breaker(&one, None));
        self.breaker = probe.more();
        probe.hold(registry.ladder(&one, Vec::new()));
        self.ladder = probe.more();
        let ladder = probe.hold(registry.ladder(&one, vec![one.as_str().to_owned()]));
        self.rung = probe.more();
        ladder.set_kept(0);
        self.keeping = probe.more();
    }

    fn count_endpoint(&mut self, probe: &mut Probe<'_>) {
        let (registry, one) = (probe.registry, probe.one.clone());
        let gauge = Arc::new(Gauge::new(1, ambient::now()));
        gauge.set_estimate(Duration::ZERO, ambient::now());
        probe.hold(registry.endpoint(&one, one.as_str(), &gauge));
        self.endpoint = probe.more();
        let health = probe.hold(registry.endpoint_health(&one, one.as_str(), &gauge));
        self.health = probe.more();
        health.checked(true);
        self.checked = probe.more();
    }
}

/// Counts what is added to a registry.
struct Probe<'a> {
    registry: &'a Registry,
    seen: usize,
    /// What everything is called.
    one: Name,
    /// What nobody holds is not shown for long.
    held: Vec<Arc<dyn Any>>,
}

impl Probe<'_> {
    fn hold<T: 'static>(&mut self, handle: Arc<T>) -> Arc<T> {
        self.held.push(handle.clone());
        handle
    }

    /// Series that have come since this was last asked.
    fn more(&mut self) -> usize {
        let now = series(self.registry);
        now.saturating_sub(std::mem::replace(&mut self.seen, now))
    }
}

fn one() -> Name {
    Name::new("one").expect("a word is a name")
}

/// The series of a scrape.
fn series(registry: &Registry) -> usize {
    let text = registry.render();
    text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty() && !line.starts_with(b"#")).count()
}
