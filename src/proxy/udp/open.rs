//! The way of a flow to an endpoint: chosen and connected for its first datagram, and again when the
//! endpoint refuses or is down. Nothing is known of an endpoint by connecting a socket for datagrams: it
//! fails only where there is no way there.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::{AbortHandle, spawn_local};

use super::introduction::Introduction;
use super::{Came, Flows, datagrams, lost};
use crate::ambient;
use crate::balance::Gauge;
use crate::balance::Origin;
use crate::flow::{Cause, FlowId, Table, Then};
use crate::health::{Failure, Outcome, State};
use crate::limit::Rejection;
use crate::model::mix::mix;
use crate::model::settings::Priority;
use crate::model::{Address, Name, RequestHead};
use crate::net::udp::{Outlet, Parcel};
use crate::observe::connections::Protocol;
use crate::observe::ended::StreamResult;
use crate::observe::metrics::{DatagramMetrics, Lost, Shard, StreamMetrics};
use crate::proxy::Worker;
use crate::proxy::admit::draw;
use crate::proxy::worker::Registered;
use crate::upstream::pool::Alarm;
use crate::upstream::service::StreamBranch;
use crate::upstream::{Choosing, Lease, Local, LocalPool, NoPick, OwnedPermit, OwnedTrial};

/// What is kept with a flow.
#[derive(Debug)]
pub(super) struct Upstream {
    pub(super) seat: Rc<Seat>,
    pub(super) way: Way,
}

/// What a flow has for as long as it lives, wherever it goes.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) metrics: Arc<DatagramMetrics>,
    pub(super) counted: Arc<StreamMetrics>,
    pub(super) pool: Name,
    /// What its endpoints are told of the client, if anything.
    pub(super) introduction: Option<Introduction>,
    /// What the pool's breaker still wants to hear, and who is to look at it then.
    trial: RefCell<Option<(OwnedTrial, Arc<Alarm>)>>,
    _registered: Registered,
    _permit: OwnedPermit,
    _entry: Entry,
}

/// The way to one endpoint.
#[derive(Debug)]
pub(super) struct Way {
    pub(super) outlet: Rc<Outlet>,
    pub(super) lease: Lease,
    /// Whether the endpoint said that it takes nothing.
    pub(super) refused: Cell<bool>,
    replies: Option<Replies>,
}

/// Counts a flow among the process's connections.
#[derive(Debug)]
struct Entry(Rc<Worker>);

/// The task that passes on what the endpoint sends.
#[derive(Debug)]
struct Replies(AbortHandle);

impl Flows {
    /// Opens a flow for a parcel, which is sent by it.
    pub(super) fn open(
        &self,
        table: &mut Table<Upstream>,
        came: &Came<'_>,
        parcel: Parcel<'_>,
    ) -> Result<(), Lost> {
        let entry = Entry::new(&self.worker, came)?;
        let branch = came.service.split.branch(client_draw(came.peer.client)).ok_or(Lost::NoEndpoint)?;
        let prepared = self.prepare(came, branch, entry);
        branch.metrics.begin(self.worker.shard);
        let upstream = prepared.inspect_err(|why| {
            branch.metrics.end(self.worker.shard, unopened(*why), Duration::ZERO);
        })?;
        let opened = table.open(&came.peer, upstream, datagrams(parcel), came.now);
        came.service.metrics.opened(self.worker.shard);
        if let Some(evicted) = &opened.evicted {
            self.ended(evicted);
        }
        let sent = self.set_out(table, came, opened.id, parcel);
        if opened.then == Then::Close {
            self.close(table, opened.id, Cause::Complete);
        }
        sent
    }

    /// What a flow that takes this branch is to have.
    fn prepare(&self, came: &Came<'_>, branch: &StreamBranch, entry: Entry) -> Result<Upstream, Lost> {
        let pool = came.view.local.pools.get(branch.pool).ok_or(Lost::NoEndpoint)?;
        let reject = |why: Rejection| pool.shared.guard.metrics.rejected(self.worker.shard, why);
        let passed = pool.shared.guard.pass_owned(Priority::default(), came.now, draw);
        let trial = passed.inspect_err(|why| reject(*why)).map_err(|_| Lost::Limited)?;
        let permit = pool.shared.guard.enter_owned().ok_or_else(|| {
            // Nothing waits for its turn: what is late is of no use.
            reject(Rejection::QueueFull);
            Lost::Limited
        })?;
        pool.count_request(came.now);
        let way = way(pool, came, Vec::new())?;
        let registered = self.worker.register(&(self.listening)(), Some(came.peer.client));
        registered.live().protocol.set(Protocol::Udp);
        let seat = Rc::new(Seat {
            metrics: Arc::clone(&came.service.metrics),
            counted: Arc::clone(&branch.metrics),
            pool: pool.shared.settings.name.clone(),
            introduction: pool.shared.settings.headers.and_then(Introduction::new),
            trial: RefCell::new(trial.map(|trial| (trial, Arc::clone(&pool.shared.alarm)))),
            _registered: registered,
            _permit: permit,
            _entry: entry,
        });
        Ok(Upstream { seat, way })
    }

    /// Takes a flow to another endpoint, if there is one, and sends a parcel there.
    pub(super) fn go_on(
        &self,
        table: &mut Table<Upstream>,
        came: &Came<'_>,
        id: FlowId,
        parcel: Parcel<'_>,
    ) -> Result<(), Lost> {
        let flow = table.get(id).ok_or(Lost::Failed)?;
        let seat = Rc::clone(&flow.kept.seat);
        let local = &came.view.local;
        let pool = local.snapshot.index_of(&seat.pool).and_then(|index| local.pools.get(index));
        let pool = pool.ok_or(Lost::NoEndpoint)?;
        let own = pool.shared.endpoints.iter().position(|endpoint| flow.kept.way.is_to(&endpoint.gauge));
        let next = way(pool, came, own.into_iter().collect());
        let Ok(way) = next else {
            // There is no better one. It may be there again.
            flow.kept.way.refused.set(false);
            return self.send(&flow.kept, &came.peer, parcel).map_err(|error| lost(&error));
        };
        let (moved, before) = table.repin(id, Upstream { seat, way }, parcel.count()).ok_or(Lost::Failed)?;
        before.way.lease.complete(None, came.now);
        came.service.metrics.moved(self.worker.shard);
        self.set_out(table, came, moved, parcel)
    }

    /// The first parcel of a flow on its way.
    fn set_out(
        &self,
        table: &mut Table<Upstream>,
        came: &Came<'_>,
        id: FlowId,
        parcel: Parcel<'_>,
    ) -> Result<(), Lost> {
        let upstream = &mut table.get_mut(id).ok_or(Lost::Failed)?.kept;
        let sent = self.send(upstream, &came.peer, parcel).map_err(|error| lost(&error));
        let way = &mut upstream.way;
        let task = spawn_local(super::replies::pass_on(self.own.clone(), id, Rc::clone(&way.outlet)));
        way.replies = Some(Replies(task.abort_handle()));
        sent
    }
}

impl Upstream {
    /// The endpoint does not take what it is sent.
    pub(super) fn refuse(&self, shard: Shard, now: Instant) {
        let outcome = Outcome::Failure(Failure::Connect);
        self.way.refused.set(true);
        self.way.lease.finish(outcome, now);
        self.seat.tell_breaker(outcome, now);
        self.seat.metrics.refused(shard);
    }
}

impl Seat {
    /// The pool's breaker learns what became of a flow that it let through as a trial.
    pub(super) fn tell_breaker(&self, outcome: Outcome, now: Instant) {
        if let Some((trial, alarm)) = self.trial.take() {
            trial.end(outcome, now);
            alarm.raise();
        }
    }
}

impl Way {
    /// The state of its endpoint.
    pub(super) fn state(&self) -> State {
        self.lease.endpoint().shared.shown.get()
    }

    /// Whether its endpoint is one of those.
    pub(super) fn is_among(&self, gauges: &HashSet<*const Gauge>) -> bool {
        gauges.contains(&Arc::as_ptr(&self.lease.endpoint().shared.gauge))
    }

    fn is_to(&self, gauge: &Arc<Gauge>) -> bool {
        Arc::ptr_eq(gauge, &self.lease.endpoint().shared.gauge)
    }
}

impl Entry {
    /// The right to another flow, as for connections.
    fn new(worker: &Rc<Worker>, came: &Came<'_>) -> Result<Self, Lost> {
        let listener = &came.view.listener;
        let passed = listener.door.pass(Some(came.peer.client.ip()), || came.now);
        passed.and_then(|()| worker.pressure.enter_flow()).map_err(|why| {
            listener.metrics.turned_away(worker.shard, why);
            if why.is_told() { Lost::Limited } else { Lost::Denied }
        })?;
        Ok(Self(Rc::clone(worker)))
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.0.pressure.leave_flow();
    }
}

impl Drop for Replies {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What endpoints are known by from one snapshot to the next.
pub(super) fn gauges(local: &Local) -> HashSet<*const Gauge> {
    let endpoints = local.pools.iter().flat_map(|pool| &pool.shared.endpoints);
    endpoints.map(|endpoint| Arc::as_ptr(&endpoint.gauge)).collect()
}

/// A way to an endpoint of `pool` that is not among those `tried`.
fn way(pool: &Rc<LocalPool>, came: &Came<'_>, mut tried: Vec<usize>) -> Result<Way, Lost> {
    for _ in 0..TRIES {
        let lease = pick(pool, came, &tried)?;
        let shared = &lease.endpoint().shared;
        let outlet = match &shared.dial.address {
            Address::Inet(to) | Address::Udp(to) => {
                Outlet::connect(*to, shared.dial.socket.as_deref(), came.peer.client.ip())
            }
            Address::Unix(_) => Err(std::io::ErrorKind::Unsupported.into()),
        };
        match outlet {
            Ok(outlet) => {
                return Ok(Way { outlet: Rc::new(outlet), lease, refused: Cell::new(false), replies: None });
            }
            Err(error) => {
                tracing::debug!(%error, endpoint = shared.name, "no socket for a flow of datagrams");
                if !super::is_refusal(&error) {
                    // For want of descriptors or ports, which no other endpoint has more of.
                    return Err(Lost::Failed);
                }
                lease.finish(Outcome::Failure(Failure::Connect), came.now);
                tried.push(lease.index());
            }
        }
    }
    Err(Lost::Failed)
}

fn pick(pool: &LocalPool, came: &Came<'_>, tried: &[usize]) -> Result<Lease, Lost> {
    let settings = &pool.shared.settings;
    let key = || {
        let client = Some(came.peer.client.ip());
        settings.hash_key.of(&RequestHead::default(), Origin { client, source: client })
    };
    let choosing = Choosing {
        tried,
        key: if settings.policy.hashes() { key() } else { None },
        sticky: None,
        safe: true,
        draw: ambient::draw(),
        now: came.now,
    };
    pool.pick(&choosing).map_err(|none| match none {
        NoPick::None => Lost::NoEndpoint,
        NoPick::Full(_) => Lost::Limited,
    })
}

/// What became of a flow that could not be opened.
fn unopened(why: Lost) -> StreamResult {
    match why {
        Lost::NoEndpoint => StreamResult::NoEndpoint,
        Lost::Limited => StreamResult::Rejected,
        _ => StreamResult::ConnectFailed,
    }
}

/// The same for all flows of a client's address and port, so that they are divided alike when they have
/// to be opened anew.
fn client_draw(client: SocketAddr) -> u64 {
    let bits = match client.ip().to_canonical() {
        std::net::IpAddr::V4(address) => u128::from(address.to_bits()),
        std::net::IpAddr::V6(address) => address.to_bits(),
    };
    mix(mix((bits >> 64) as u64 ^ u64::from(client.port())) ^ bits as u64)
}

/// How many endpoints are tried for one datagram.
const TRIES: usize = 3;
