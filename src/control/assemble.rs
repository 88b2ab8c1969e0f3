//! From a plan to the snapshot that runs: names resolved, pools and endpoints made, handles for
//! metrics looked up once, logs opened.

use std::io;
use std::net::ToSocketAddrs;
use std::sync::Arc;

use rustls_pki_types::ServerName;
use thiserror::Error;
use tokio::sync::Notify;
use twox_hash::XxHash3_64;

use super::health::Watch;
use super::pressure;
use crate::ambient;
use crate::balance::{Gauge, Member};
use crate::cache::Store;
use crate::config::Plan;
use crate::config::plan::{
    Action, DegradationPlan, EndpointPlan, ListenerPlan, PoolId, PoolPlan, RoutePlan, RungPlan, UpstreamTls,
};
use crate::health::pool::HealthSettings;
use crate::limit::loops::Scope;
use crate::model::settings::{HedgeAfter, Retry, TryTimeout};
use crate::model::{Address, Name, Target};
use crate::net::connect::Dial;
use crate::observe::access_log::{AccessLog, Options};
use crate::observe::metrics::{Registry, RouteLabels, RouteMetrics};
use crate::observe::tally::Tally;
use crate::route::{Rule, Table};
use crate::upstream::endpoint::ShownState;
use crate::upstream::fallbacks::Rung;
use crate::upstream::places::Places;
use crate::upstream::pool::{Alarm, PoolSettings};
use crate::upstream::snapshot::Branch;
use crate::upstream::{Endpoint, Fallbacks, Listener, Observed, Pool, Route, Snapshot, Valve, places};

/// Why a valid plan cannot run here and now.
#[derive(Debug, Error)]
pub enum AssembleError {
    /// A host name has no address.
    #[error("cannot resolve {target}, an endpoint of pool {pool}")]
    Resolve {
        /// The endpoint as written.
        target: String,
        /// Its pool.
        pool: Name,
        /// Why not.
        source: io::Error,
    },
    /// An endpoint's own name cannot be verified by TLS.
    #[error("{target}, an endpoint of pool {pool}, needs `tls.server_name`")]
    ServerName {
        /// The endpoint as written.
        target: String,
        /// Its pool.
        pool: Name,
    },
    /// An access log cannot be written.
    #[error("cannot open the access log of listener {listener}")]
    AccessLog {
        /// The listener.
        listener: Name,
        /// Why not.
        source: io::Error,
    },
}

/// Makes the snapshot of `plan`; what is the same as `before` is kept.
///
/// # Errors
/// When an endpoint's name cannot be verified or a log cannot be opened.
pub fn assemble(
    plan: &Plan,
    ground: &Ground<'_>,
    before: Option<&Snapshot>,
) -> Result<Assembled, AssembleError> {
    let Ground { registry, workers, notify, .. } = *ground;
    let names: Vec<_> = plan.pools.iter().map(|pool| pool.name.clone()).collect();
    let making = Making { registry, workers, zone: plan.zone.as_ref(), notify, names: &names };
    let pools = plan.pools.iter().zip(ground.located);
    let watches = pools.map(|(pool, located)| making.pool(pool, located)).collect::<Result<Vec<_>, _>>()?;
    let retries = plan.pools.iter().map(|pool| pool.retry.clone());
    let pools: Vec<_> = watches.iter().map(|watch| Arc::clone(&watch.pool)).zip(retries).collect();
    let mut tables: Vec<Vec<(Rule, Arc<Route>)>> = plan.listeners.iter().map(|_| Vec::new()).collect();
    let mut watched = Vec::new();
    for route in &plan.routes {
        let observed = observed(route, &pools, workers);
        watched.extend(observed.clone());
        add_route((route, observed), &plan.listeners, &pools, registry, &mut tables);
    }
    let mut listeners = Vec::new();
    for ((plan, routes), id) in plan.listeners.iter().zip(tables).zip(ground.ids) {
        if listeners.len() <= *id {
            listeners.resize(id + 1, None);
        }
        if let Some(place) = listeners.get_mut(*id) {
            *place = Some(make_listener(plan, routes, registry, workers)?);
        }
    }
    let pressure = before.map_or_else(
        || Arc::new(pressure::at_start(plan.overload.clone(), workers, Arc::clone(registry.overload()))),
        |before| Arc::clone(&before.pressure),
    );
    let pools = pools.into_iter().map(|(pool, _)| pool).collect();
    Ok(Assembled {
        snapshot: Snapshot { generation: ground.generation, listeners, pools, observed: watched, pressure },
        watches,
    })
}

/// What a plan is made to run on.
#[derive(Debug)]
pub struct Ground<'a> {
    /// Where things are counted.
    pub registry: &'a Registry,
    /// Number of workers.
    pub workers: usize,
    /// The number of each listener, in the order of the plan.
    pub ids: &'a [usize],
    /// The endpoints of each pool, likewise.
    pub located: &'a [Vec<Located>],
    /// The number of the configuration.
    pub generation: u64,
    /// What the pools' alarms wake.
    pub notify: &'a Arc<Notify>,
}

/// An endpoint with its address.
#[derive(Clone, Debug, PartialEq)]
pub struct Located {
    /// What is to be known of it. Its target is what was named, which may be a host that has this address
    /// among others.
    pub plan: EndpointPlan,
    /// Where it is.
    pub address: Address,
}

/// The endpoints of a pool, of which the addresses are looked up here and now.
///
/// # Errors
/// When a name cannot be resolved.
pub fn locate(pool: &PoolPlan) -> Result<Vec<Located>, AssembleError> {
    let mut located = Vec::with_capacity(pool.endpoints.len());
    for plan in &pool.endpoints {
        let addresses = resolve(plan, &pool.name)?;
        located.extend(addresses.into_iter().map(|address| Located { plan: plan.clone(), address }));
    }
    Ok(located)
}

/// What a plan becomes.
#[derive(Debug)]
pub struct Assembled {
    /// What the data plane runs.
    pub snapshot: Snapshot,
    /// What the control plane watches, a pool each.
    pub watches: Vec<Watch>,
}

/// What pools and endpoints are made with.
struct Making<'a> {
    registry: &'a Registry,
    workers: usize,
    zone: Option<&'a Name>,
    notify: &'a Arc<Notify>,
    /// Of all pools, in the order of the configuration.
    names: &'a [Name],
}

impl Making<'_> {
    fn pool(&self, plan: &PoolPlan, located: &[Located]) -> Result<Watch, AssembleError> {
        let alarm = Alarm::new(Arc::clone(self.notify));
        let shared = places::Shared::new(&plan.limits);
        let mut endpoints = Vec::with_capacity(located.len());
        let mut members = Vec::with_capacity(located.len());
        for endpoint in located {
            endpoints.push(self.endpoint(plan, endpoint, &alarm, &shared)?);
            members.push(self.member(&endpoint.plan));
        }
        let plan = plan.clone();
        let ladder = plan.degradation.as_ref().map(|degradation| degradation.settings.clone());
        let fallbacks = plan.degradation.map(|degradation| self.fallbacks(&plan.name, degradation));
        let settings = PoolSettings {
            name: plan.name,
            fingerprint: plan.fingerprint,
            policy: plan.policy,
            hash_key: plan.hash_key,
            balance_factor: plan.balance_factor,
            sticky: plan.sticky,
            protocol: plan.protocol,
            timeouts: plan.timeouts,
            connections: plan.connections,
            limits: plan.limits,
            fallbacks,
            endpoint_breakers: matches!(plan.loops.breaker, Some((Scope::Endpoint, _))),
        };
        let metrics = self.registry.pool(&settings.name);
        let health = HealthSettings {
            checks: plan.check.as_ref().map(|check| check.rhythm.clone()),
            detectors: plan.detectors,
            ejection: plan.ejection,
            slow_start: plan.slow_start,
        };
        Ok(Watch {
            pool: Arc::new(Pool::new(settings, endpoints, alarm, metrics, &shared)),
            members,
            health,
            check: plan.check,
            fail_open: plan.fail_open,
            loops: plan.loops,
            ladder,
        })
    }

    /// What stands in for a pool, by the names by which metrics and clients know it.
    fn fallbacks(&self, pool: &Name, plan: DegradationPlan) -> Fallbacks {
        let (mut rungs, mut names) = (Vec::new(), Vec::new());
        for rung in plan.ladder {
            let (rung, name) = match rung {
                RungPlan::Pool(PoolId(index)) => {
                    let name = self.names.get(index).map(Name::as_str).unwrap_or_default();
                    (Rung::Pool(index), format!("pool={name}"))
                }
                RungPlan::Stale(bounds) => {
                    (Rung::Stale(Arc::new(Store::new(bounds, ambient::now()))), "stale".to_owned())
                }
                RungPlan::Respond(reply) => (Rung::Respond(reply), "fixed".to_owned()),
            };
            rungs.push(rung);
            names.push(name);
        }
        Fallbacks::new(rungs, plan.settings.trials, self.registry.ladder(pool, names))
    }

    /// What bands see of an endpoint. Without a zone of our own, or of its own, it is nearby.
    fn member(&self, plan: &EndpointPlan) -> Member {
        let near = match (self.zone, &plan.zone) {
            (Some(ours), Some(its)) => ours == its,
            _ => true,
        };
        Member { level: plan.level, near, weight: plan.weight }
    }

    fn endpoint(
        &self,
        pool: &PoolPlan,
        Located { plan, address }: &Located,
        alarm: &Arc<Alarm>,
        shared: &places::Shared,
    ) -> Result<Arc<Endpoint>, AssembleError> {
        let name = address.to_string();
        let gauge = Arc::new(Gauge::new(plan.weight, ambient::now()));
        let metrics = self.registry.endpoint(&pool.name, &name, &gauge);
        let tls = match &pool.tls {
            Some(tls) => Some((Arc::clone(&tls.config), server_name(tls, &plan.target, &pool.name)?)),
            None => None,
        };
        let identity = XxHash3_64::oneshot(name.as_bytes());
        let sticky_id = XxHash3_64::oneshot_with_seed(identity, pool.name.as_str().as_bytes());
        Ok(Arc::new(Endpoint {
            name,
            identity,
            sticky_id: format!("{sticky_id:016x}").into(),
            dial: Dial { address: address.clone(), tls },
            gauge,
            metrics,
            tally: Tally::new(self.workers),
            alarm: Arc::clone(alarm),
            places: Places::new(&pool.limits, shared),
            breaker: Valve::default(),
            shown: ShownState::default(),
        }))
    }
}

fn resolve(endpoint: &EndpointPlan, pool: &Name) -> Result<Vec<Address>, AssembleError> {
    match &endpoint.target {
        Target::Address(address) => Ok(vec![address.clone()]),
        Target::Host { name, port } => {
            let failed = |source| AssembleError::Resolve {
                target: endpoint.target.to_string(),
                pool: pool.clone(),
                source,
            };
            let mut found: Vec<_> = (&**name, *port).to_socket_addrs().map_err(failed)?.collect();
            found.sort_unstable();
            found.dedup();
            Ok(found.into_iter().map(Address::Inet).collect())
        }
    }
}

fn server_name(
    tls: &UpstreamTls,
    target: &Target,
    pool: &Name,
) -> Result<ServerName<'static>, AssembleError> {
    if let Some(name) = &tls.server_name {
        return Ok(name.clone());
    }
    let own = match target {
        Target::Address(Address::Inet(address)) => Some(ServerName::from(address.ip())),
        Target::Address(Address::Unix(_)) => None,
        Target::Host { name, .. } => ServerName::try_from(name.to_string()).ok(),
    };
    own.ok_or_else(|| AssembleError::ServerName { target: target.to_string(), pool: pool.clone() })
}

/// What is to be observed of a route: something, if its second tries or the time limit of one try go by
/// it.
fn observed(plan: &RoutePlan, pools: &[(Arc<Pool>, Retry)], workers: usize) -> Option<Arc<Observed>> {
    let Action::Forward(split) = &plan.action else { return None };
    let pools = split.iter().filter_map(|(id, _)| pools.get(id.0));
    let own = plan.timeouts.attempt;
    let attempts = pools.filter_map(|(pool, _)| own.or(pool.settings.timeouts.attempt));
    let learned = attempts.into_iter().find(|attempt| matches!(attempt, TryTimeout::Learned { .. }));
    let quantile = plan.hedge.map(|hedge| match hedge.after {
        HedgeAfter::Quantile(quantile) => quantile,
        HedgeAfter::Fixed(_) => 0.99,
    });
    let needed = learned.is_some() || quantile.is_some();
    needed.then(|| Arc::new(Observed::new(workers, quantile.unwrap_or(0.99), learned)))
}

/// Puts a route on each of its listeners, with counters for each.
fn add_route(
    (plan, observed): (&RoutePlan, Option<Arc<Observed>>),
    listeners: &[ListenerPlan],
    pools: &[(Arc<Pool>, Retry)],
    registry: &Registry,
    tables: &mut [Vec<(Rule, Arc<Route>)>],
) {
    for limit in plan.filters.iter().filter_map(|filter| filter.rate_limit()) {
        let counts = registry.rate_limit(&plan.name, limit.name());
        limit.begin(ambient::now(), ambient::draw(), counts);
    }
    for index in plan.listeners.iter().copied() {
        let (Some(listener), Some(table)) = (listeners.get(index), tables.get_mut(index)) else { continue };
        let metrics = |pool: Option<&Arc<Pool>>| -> Arc<RouteMetrics> {
            registry.route(&RouteLabels {
                listener: listener.name.clone(),
                route: plan.name.clone(),
                pool: pool.map(|pool| pool.settings.name.clone()),
            })
        };
        let mut weight_upto = 0;
        let mut branches = Vec::new();
        if let Action::Forward(split) = &plan.action {
            for (id, weight) in split {
                weight_upto += u64::from(*weight);
                let Some((pool, own)) = pools.get(id.0) else { continue };
                let retry = Arc::new(plan.retry.over(own));
                branches.push(Branch { pool: id.0, retry, weight_upto, metrics: metrics(Some(pool)) });
            }
        }
        let route = Route {
            name: plan.name.clone(),
            fingerprint: plan.fingerprint,
            filters: Arc::clone(&plan.filters),
            branches,
            timeouts: plan.timeouts.clone(),
            observed: observed.clone(),
            hedge: plan.hedge,
            priorities: plan.priorities.clone(),
            deadline_header: plan.deadline_header.clone(),
            answered: metrics(None),
        };
        table.push((plan.rule.clone(), Arc::new(route)));
    }
}

fn make_listener(
    plan: &ListenerPlan,
    routes: Vec<(Rule, Arc<Route>)>,
    registry: &Registry,
    workers: usize,
) -> Result<Arc<Listener>, AssembleError> {
    let metrics = registry.listener(&plan.name);
    let access_log = match plan.access_log.clone() {
        Some(log) => {
            let lines = Arc::clone(metrics.log_lines());
            let opened = AccessLog::open(Options {
                format: log.format,
                path: log.path,
                queue: log.queue,
                workers,
                lines,
            });
            let failed = |source| AssembleError::AccessLog { listener: plan.name.clone(), source };
            Some(Arc::new(opened.map_err(failed)?))
        }
        None => None,
    };
    Ok(Arc::new(Listener {
        name: plan.name.clone(),
        fingerprint: plan.fingerprint,
        tls: plan.tls.clone(),
        routes: Table::new(routes),
        timeouts: plan.timeouts.clone(),
        limits: plan.limits.clone(),
        identity: plan.identity.clone(),
        metrics,
        access_log,
        connections: Arc::default(),
    }))
}
