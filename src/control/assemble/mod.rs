//! From a plan to the snapshot that runs: names resolved, pools and endpoints made, handles for
//! metrics looked up once, logs opened. What is the same as before is handed on as it is; what is
//! configured otherwise keeps what was counted and learned. Whatever may fail is done before anything
//! that runs is changed.

mod inherit;
mod listener;
mod pool;
mod route;
mod service;

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use thiserror::Error;
use tokio::sync::Notify;

use super::health::Watch;
use super::{pressure, series};
use crate::config::Plan;
use crate::config::plan::{EndpointPlan, ListenerPlan, PoolPlan};
use crate::model::{Address, Name};
use crate::net::options::Refused;
use crate::observe::access_log::Tap;
use crate::observe::metrics::Registry;
use crate::upstream::snapshot::Tracing;
use crate::upstream::{Listener, Observed, Pool, Snapshot};

pub use inherit::{Renamed, inherit};

/// Why a valid plan cannot run here and now.
#[derive(Debug, Error)]
pub enum AssembleError {
    /// An endpoint's own name cannot be verified by TLS.
    #[error("{target}, an endpoint of pool {pool}, needs `tls.server_name`")]
    ServerName {
        /// The endpoint as written.
        target: String,
        /// Its pool.
        pool: Name,
    },
    /// An option of a pool's sockets is refused.
    #[error("connections of pool {pool} cannot be opened as they should be")]
    Socket {
        /// The pool.
        pool: Name,
        /// Which option, and why.
        source: Refused,
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

/// Makes the snapshot of `plan`, which is to [`inherit`] from the plan before; what is the same as
/// `before` is kept. The limits and weights of what is kept are those of `plan` from here on.
///
/// # Errors
/// When an endpoint's name cannot be verified or a log cannot be opened. Nothing has changed then.
pub fn assemble(
    plan: &Plan,
    ground: &Ground<'_>,
    before: Option<&Before<'_>>,
) -> Result<Assembled, AssembleError> {
    let known = before.map(Known::new);
    let making = pool::Making::new(plan, ground);
    let located = || plan.pools.iter().zip(ground.located);
    let ready = located().map(|(pool, located)| {
        let known = known.as_ref().and_then(|known| known.pools.get(&pool.name));
        making.ready(pool, located, known)
    });
    let ready = ready.collect::<Result<Vec<_>, _>>()?;
    let logs = listener::logs(plan, ground, known.as_ref())?;
    // From here on nothing fails.
    let endpoints: Vec<_> = ground.located.iter().map(|located| located.len()).collect();
    ground.registry.prepare(&series::shape(plan, ground.workers, &endpoints));
    let pools: Vec<_> =
        located().zip(ready).map(|((plan, at), ready)| making.pool(plan, at, ready)).collect();
    let watches = located().zip(&pools).map(|((plan, at), pool)| making.watch(plan, at, pool)).collect();
    let routing = route::Routing { plan, ground, pools: &pools, known: known.as_ref() };
    let observed = routing.observed();
    let listeners = routing.listeners(&observed, logs);
    let overload =
        || pressure::at_start(plan.overload.clone(), ground.workers, Arc::clone(ground.registry.overload()));
    let pressure =
        before.map_or_else(|| Arc::new(overload()), |before| Arc::clone(&before.snapshot.pressure));
    let tap =
        before.map_or_else(|| Arc::new(Tap::new(ground.workers)), |before| Arc::clone(&before.snapshot.tap));
    if before.is_some() {
        pressure::adjust(&pressure, &plan.overload, ground.workers);
    }
    let drain = plan.drain.timeout;
    let by_name = plan.pools.iter().map(|pool| pool.name.clone()).zip(0..).collect();
    let observed = routing.named(observed);
    let generation = ground.generation;
    let tracing = plan.tracing.as_ref().map(|tracing| Tracing {
        settings: tracing.settings.clone(),
        is_exported: tracing.otlp.is_some(),
        spans: Arc::clone(ground.registry.spans()),
    });
    Ok(Assembled {
        snapshot: Snapshot { generation, listeners, pools, by_name, observed, pressure, tap, tracing, drain },
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
    pub located: &'a [Arc<[Located]>],
    /// The number of the configuration.
    pub generation: u64,
    /// What the pools' alarms wake.
    pub notify: &'a Arc<Notify>,
}

/// What runs at present.
#[derive(Clone, Copy, Debug)]
pub struct Before<'a> {
    /// What it was made of.
    pub plan: &'a Plan,
    /// The endpoints of each pool, in the order of that plan.
    pub located: &'a [Arc<[Located]>],
    /// The number of each listener, likewise.
    pub ids: &'a [usize],
    /// What was made.
    pub snapshot: &'a Snapshot,
    /// Which routes were called otherwise then.
    pub renamed: &'a Renamed,
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

/// What a plan becomes.
#[derive(Debug)]
pub struct Assembled {
    /// What the data plane runs.
    pub snapshot: Snapshot,
    /// What the control plane watches, a pool each.
    pub watches: Vec<Watch>,
}

/// What runs at present, by name.
struct Known<'a> {
    pools: HashMap<&'a Name, KnownPool<'a>>,
    listeners: HashMap<&'a Name, (&'a ListenerPlan, &'a Arc<Listener>)>,
    observed: HashMap<&'a Name, &'a Arc<Observed>>,
    renamed: &'a Renamed,
    snapshot: &'a Snapshot,
}

/// A pool that runs at present.
struct KnownPool<'a> {
    plan: &'a PoolPlan,
    located: &'a Arc<[Located]>,
    zone: Option<&'a Name>,
    pool: &'a Arc<Pool>,
}

impl<'a> Known<'a> {
    fn new(before: &Before<'a>) -> Self {
        let Before { plan, located, ids, snapshot, renamed } = *before;
        let pools = plan.pools.iter().zip(located).zip(&snapshot.pools);
        let pools = pools.map(|((own, located), pool)| {
            (&own.name, KnownPool { plan: own, located, zone: plan.zone.as_ref(), pool })
        });
        let listeners = plan.listeners.iter().zip(ids);
        let listeners = listeners.filter_map(|(own, id)| Some((&own.name, (own, snapshot.listener(*id)?))));
        Self {
            pools: pools.collect(),
            listeners: listeners.collect(),
            observed: snapshot.observed.iter().map(|(route, observed)| (route, observed)).collect(),
            renamed,
            snapshot,
        }
    }
}
