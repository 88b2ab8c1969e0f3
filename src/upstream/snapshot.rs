//! What runs: an immutable value that the control plane builds and the data plane reads.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::pressure::take_one;
use super::{Observed, Pool, Pressure, Service};
use crate::limit::door::Door;
use crate::model::settings::{
    self, ClientIdentity, ClientLimits, ClientTimeouts, HeadersIn, Hedge, Priorities, Retry, RouteTimeouts,
};
use crate::model::{Fingerprint, Name};
use crate::observe::access_log::{AccessLog, Tap};
use crate::observe::metrics::{ListenerMetrics, RouteMetrics};
use crate::observe::spans::Spans;
use crate::route::Table;
use crate::route::filter::Filters;

/// A whole configuration at work.
#[derive(Debug)]
pub struct Snapshot {
    /// The number of the configuration. Endpoints that come and go make another snapshot of the same one.
    pub generation: u64,
    /// By their numbers, which a listener keeps for as long as it is configured, and which nobody else
    /// gets after it.
    pub listeners: Vec<Option<Arc<Listener>>>,
    /// In the order of the configuration; routes point into it.
    pub pools: Vec<Arc<Pool>>,
    /// Where each is among them, for what outlives the order: pools that stand in for others.
    pub by_name: HashMap<Name, usize>,
    /// What is observed of routes that go by it, by the name of the route.
    pub observed: Vec<(Name, Arc<Observed>)>,
    /// The process's own load, the same in every snapshot.
    pub pressure: Arc<Pressure>,
    /// Where requests can be followed, likewise.
    pub tap: Arc<Tap>,
    /// How requests are traced, if they are.
    pub tracing: Option<Tracing>,
    /// How long connections that are passed on may outlive their listener.
    pub drain: Duration,
}

/// How requests are traced.
#[derive(Debug)]
pub struct Tracing {
    /// Which requests.
    pub settings: settings::Tracing,
    /// Whether spans are sent anywhere. Where they are not, ids of traces are passed on, and that is all.
    pub is_exported: bool,
    /// Who takes their spans.
    pub spans: Arc<Spans>,
}

/// A listener at work.
#[derive(Debug)]
pub struct Listener {
    /// Its name.
    pub name: Name,
    /// Tells it from one that is configured otherwise.
    pub fingerprint: Fingerprint,
    /// What becomes of its connections.
    pub service: Service,
    /// TLS, where it is terminated.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// The routes that its requests can take.
    pub routes: Table<Arc<Route>>,
    /// Time limits towards clients.
    pub timeouts: ClientTimeouts,
    /// What connections begin with before anything else; nothing when unset.
    pub headers: Option<HeadersIn>,
    /// Bounds on what a client may send.
    pub limits: ClientLimits,
    /// Who may connect, and how often, counted on over reloads that leave it as it is.
    pub door: Arc<Door>,
    /// How endpoints learn who the client is.
    pub identity: ClientIdentity,
    /// What is counted of it.
    pub metrics: Arc<ListenerMetrics>,
    /// Where its requests are logged, if anywhere.
    pub access_log: Option<Arc<AccessLog>>,
    /// Connections to it, counted on over reloads.
    pub connections: Arc<AtomicU64>,
}

/// One connection to a listener, counted until it is dropped.
#[derive(Debug)]
pub struct Entered(Arc<AtomicU64>);

/// A route at work, on one listener.
#[derive(Debug)]
pub struct Route {
    /// Its name.
    pub name: Name,
    /// Tells it from one that is configured otherwise.
    pub fingerprint: Fingerprint,
    /// What is done to heads, in order.
    pub filters: Arc<Filters>,
    /// The pools that requests go to; empty when its filters answer every request.
    pub branches: Vec<Branch>,
    /// Time limits.
    pub timeouts: RouteTimeouts,
    /// How long its tries take, if anything goes by that.
    pub observed: Option<Arc<Observed>>,
    /// Second tries beside the first.
    pub hedge: Option<Hedge>,
    /// Who comes first.
    pub priorities: Priorities,
    /// The field in which clients say how long they wait, in lower case.
    pub deadline_header: Option<String>,
    /// What is counted of requests that its filters answer.
    pub answered: Arc<RouteMetrics>,
}

/// One of the pools that a route splits its requests over.
#[derive(Debug)]
pub struct Branch {
    /// Index into [`Snapshot::pools`].
    pub pool: usize,
    /// When a request that failed is tried again.
    pub retry: Arc<Retry>,
    /// This branch's weight and those of the branches before it, added up.
    pub weight_upto: u64,
    /// What is counted of requests that take this branch.
    pub metrics: Arc<RouteMetrics>,
}

impl Snapshot {
    /// The listener with this number, if it is still configured.
    #[inline]
    #[must_use]
    pub fn listener(&self, id: usize) -> Option<&Arc<Listener>> {
        self.listeners.get(id)?.as_ref()
    }

    /// The index of a pool, if it is configured.
    #[must_use]
    pub fn index_of(&self, pool: &Name) -> Option<usize> {
        self.by_name.get(pool).copied()
    }

    /// All that are configured.
    pub fn listeners(&self) -> impl Iterator<Item = &Arc<Listener>> {
        self.listeners.iter().flatten()
    }
}

impl Listener {
    /// Counts a connection, unless there are as many as there may be.
    #[must_use]
    pub fn enter(&self) -> Option<Entered> {
        let limit = self.limits.connections.unwrap_or(u64::MAX);
        take_one(&self.connections, limit).then(|| Entered(Arc::clone(&self.connections)))
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Route {
    /// The branch for a uniformly distributed `draw`.
    #[must_use]
    pub fn branch(&self, draw: u64) -> Option<&Branch> {
        match self.branches.as_slice() {
            [only] => Some(only),
            branches => {
                let point = draw.checked_rem(branches.last()?.weight_upto)?;
                branches.iter().find(|branch| point < branch.weight_upto)
            }
        }
    }
}
