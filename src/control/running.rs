//! What runs: the plan, the endpoints that its pools have at present, the snapshot made of both, and the
//! sockets. Everything that replaces a part of it goes through here, one after the other, and does all
//! of it or nothing. Does not know why something is replaced.

mod retired;
mod started;

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use arc_swap::ArcSwap;
use thiserror::Error;
use tokio::sync::{Notify, watch};

use super::assemble::{AssembleError, Assembled, Before, Ground, Located, Renamed, assemble, inherit};
use super::discovery::Discovery;
use super::health::{Health, Record};
use super::history::History;
use super::scaling::Scaling;
use crate::config::Plan;
use crate::model::settings::SocketOptions;
use crate::model::{Address, Name};
use crate::net::inherit::Inherited;
use crate::net::listen::BoundSocket;
use crate::net::options::{self, Nature};
use crate::net::sockets::Sockets;
use crate::observe::connections::Connections;
use crate::observe::metrics::Registry;
use crate::upstream::Snapshot;

use retired::Retired;
use started::Started;

/// Why a valid plan cannot run here and now. What ran before goes on unchanged.
#[derive(Debug, Error)]
pub enum RunError {
    /// An address cannot be bound.
    #[error("cannot listen on {address}")]
    Bind {
        /// The address.
        address: Address,
        /// Why not.
        source: io::Error,
    },
    /// A name, a certificate or a log is not to be had.
    #[error(transparent)]
    Assemble(#[from] AssembleError),
    /// The process is about to end: nothing is accepted any more.
    #[error("the process is draining")]
    Closed,
}

/// What became of a plan that runs now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replaced {
    /// Its number.
    pub generation: u64,
    /// The keys under which it has something else than what the process began with, and which take effect
    /// only when it begins again; none as a rule.
    pub restart: Vec<&'static str>,
}

impl RunError {
    fn bind((address, source): (Address, io::Error)) -> Self {
        Self::Bind { address, source }
    }
}

/// What runs. Whatever replaces something may block, for as long as names are looked up: it is not for a
/// thread that others wait for. All the rest is done at once.
#[derive(Debug)]
pub struct Running {
    registry: Arc<Registry>,
    workers: usize,
    published: Arc<ArcSwap<Snapshot>>,
    sockets: watch::Sender<Sockets>,
    /// Those for datagrams, once nothing is accepted any more: as long as all of them are open, the kernel deals
    /// the datagrams of a flow to the worker that has it.
    lasting: OnceLock<Vec<Arc<BoundSocket>>>,
    health: Arc<Health>,
    discovery: Arc<Discovery>,
    connections: Connections,
    history: History,
    scaling: Scaling,
    /// Counts what was published.
    changes: watch::Sender<u64>,
    retired: Retired,
    started: Started,
    /// Held by whoever replaces something, from the first look at what runs to the end.
    turn: Mutex<()>,
    /// Held for moments, for the control thread takes it as well.
    state: Mutex<State>,
}

#[derive(Clone, Debug)]
struct State {
    plan: Arc<Plan>,
    /// The endpoints of each pool, in the order of the plan.
    located: Vec<Arc<[Located]>>,
    /// The number of each listener, in the order of the plan.
    ids: Vec<usize>,
    /// The number that a new listener gets. None is given twice.
    next_id: usize,
    generation: u64,
    closed: bool,
}

impl Running {
    /// Binds every address of `plan` and has it run. Its number is the one that `registry` shows.
    ///
    /// # Errors
    /// When an address cannot be bound or a log not be opened.
    pub fn start(plan: Plan, registry: Arc<Registry>, workers: usize) -> Result<Self, RunError> {
        Self::start_with(plan, registry, workers, &Inherited::default())
    }

    /// As [`Self::start`], with the sockets that were `inherited` for the plan's addresses.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_with(
        plan: Plan,
        registry: Arc<Registry>,
        workers: usize,
        inherited: &Inherited,
    ) -> Result<Self, RunError> {
        let (started, plan) = (Started::with(&plan), Arc::new(plan));
        let ids: Vec<usize> = (0..plan.listeners.len()).collect();
        let sockets = Sockets::default().reopen_with(&wanted(&plan, &ids), workers, &|asked, listener| {
            let owner = plan.listeners.get(listener).map_or("", |listener| listener.name.as_str());
            inherited.take_or_bind(asked, owner, workers)
        });
        let sockets = sockets.map_err(RunError::bind)?;
        set_options(&sockets, (&plan, &ids), None)?;
        let discovery = Discovery::new(Arc::clone(&registry));
        let mut prepared = discovery.prepare(&plan);
        let state = State {
            located: discovery.locate(&mut prepared),
            plan,
            next_id: ids.len(),
            ids,
            generation: registry.config().generation(),
            closed: false,
        };
        let notify = Arc::new(Notify::new());
        let ground = state.ground(&registry, workers, &notify);
        let Assembled { snapshot, watches } = assemble(&state.plan, &ground, None)?;
        discovery.commit(prepared);
        let health = Health::new(watches, Arc::new(Record::new(Arc::clone(&registry))), notify);
        Ok(Self {
            registry,
            workers,
            published: Arc::new(ArcSwap::from_pointee(snapshot)),
            sockets: watch::channel(sockets).0,
            lasting: OnceLock::new(),
            health,
            discovery,
            connections: Connections::default(),
            history: History::default(),
            scaling: Scaling::default(),
            changes: watch::channel(0).0,
            retired: Retired::default(),
            started,
            turn: Mutex::default(),
            state: Mutex::new(state),
        })
    }

    /// Has `plan` run instead.
    ///
    /// # Errors
    /// As [`Self::start`], and when the process drains; then nothing has changed.
    pub fn replace(&self, mut plan: Plan) -> Result<Replaced, RunError> {
        // Names may take a while, during which what runs goes on to change.
        let mut prepared = self.discovery.prepare(&plan);
        let _turn = self.turn();
        let located = self.discovery.locate(&mut prepared);
        let before = self.state().clone();
        let renamed = inherit(&mut plan, &before.plan);
        let restart = self.started.differing(&plan);
        let plan = Arc::new(plan);
        let (ids, next_id) = before.number(&plan);
        let sockets = self.sockets.borrow().reopen(&wanted(&plan, &ids), self.workers);
        let sockets = sockets.map_err(RunError::bind)?;
        set_options(&sockets, (&plan, &ids), Some((&self.sockets.borrow(), &before)))?;
        let generation = before.generation + 1;
        let after = State { plan, located, ids, next_id, generation, closed: false };
        self.publish(&before, after, &renamed, Some(sockets))?;
        self.discovery.commit(prepared);
        Ok(Replaced { generation, restart })
    }

    /// Has pools use the endpoints that were found for them by now, all at once. No part of the plan changes.
    ///
    /// # Errors
    /// When an endpoint cannot be used as the plan says, or the process drains; then nothing has changed.
    pub fn follow(&self) -> Result<(), RunError> {
        let _turn = self.turn();
        let changed = self.discovery.changed();
        if changed.is_empty() {
            return Ok(());
        }
        let before = self.state().clone();
        let mut after = before.clone();
        for (index, located) in &changed {
            if let Some(own) = after.located.get_mut(*index) {
                *own = Arc::clone(located);
            }
        }
        self.publish(&before, after, &Renamed::default(), None)?;
        self.discovery.on_followed(changed);
        Ok(())
    }

    /// What workers serve.
    #[must_use]
    pub fn published(&self) -> &Arc<ArcSwap<Snapshot>> {
        &self.published
    }

    /// Changes when another snapshot was published, for those who have to look again.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// What workers accept from.
    #[must_use]
    pub fn sockets(&self) -> watch::Receiver<Sockets> {
        self.sockets.subscribe()
    }

    /// The health of all pools.
    #[must_use]
    pub fn health(&self) -> &Arc<Health> {
        &self.health
    }

    /// Where endpoints come from.
    #[must_use]
    pub fn discovery(&self) -> &Arc<Discovery> {
        &self.discovery
    }

    /// Clients' connections, of which workers tell.
    #[must_use]
    pub fn connections(&self) -> &Connections {
        &self.connections
    }

    /// What happened in the last minutes.
    #[must_use]
    pub fn history(&self) -> &History {
        &self.history
    }

    /// How much pools were used lately.
    #[must_use]
    pub fn scaling(&self) -> &Scaling {
        &self.scaling
    }

    /// The threads of the data plane.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.workers
    }

    /// What is counted.
    #[must_use]
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// The plan in force, and the number of its generation, from 1.
    #[must_use]
    pub fn plan(&self) -> (Arc<Plan>, u64) {
        let state = self.state();
        (Arc::clone(&state.plan), state.generation)
    }

    /// The endpoints that a pool has at present, if there is such a pool.
    #[must_use]
    pub fn located(&self, pool: &Name) -> Option<Arc<[Located]>> {
        let state = self.state();
        let index = state.plan.pools.iter().position(|plan| plan.name == *pool)?;
        state.located.get(index).cloned()
    }

    /// Has workers accept nothing any more: their sockets are theirs alone from here on, but for those of
    /// datagrams, and are closed with the last of them. Nothing is replaced after this.
    pub fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        self.lasting.get_or_init(|| self.sockets.borrow().datagrams());
        self.settle(Sockets::none_more());
    }

    /// Hands over the sockets. Those that are wanted no more are let go of before a worker hears of it:
    /// who closes a socket is to be the last to hold it.
    fn settle(&self, sockets: Sockets) {
        self.sockets.send_modify(|before| *before = sockets);
    }

    /// Drops what ran before once no request uses it any more. Never ends.
    pub async fn bury(&self) {
        self.retired.run().await;
    }

    /// Everything that can fail is done before this changes anything. To be called by whoever has the turn.
    fn publish(
        &self,
        before: &State,
        after: State,
        renamed: &Renamed,
        sockets: Option<Sockets>,
    ) -> Result<(), RunError> {
        let snapshot = self.published.load_full();
        let ground = after.ground(&self.registry, self.workers, self.health.notify());
        let State { plan, located, ids, .. } = before;
        let known = Before { plan, located, ids, snapshot: &snapshot, renamed };
        if before.closed {
            return Err(RunError::Closed);
        }
        let Assembled { snapshot: published, watches } = assemble(&after.plan, &ground, Some(&known))?;
        let mut state = self.state();
        // Meanwhile: what stays has its new limits then, for what is left of the process.
        if state.closed {
            return Err(RunError::Closed);
        }
        // First, so that no request comes to an endpoint that is not to be used.
        self.health.replace(watches);
        self.published.store(Arc::new(published));
        self.registry.config().set_generation(after.generation);
        if let Some(sockets) = sockets {
            self.settle(sockets);
        }
        *state = after;
        drop(state);
        self.retired.take(snapshot);
        self.changes.send_modify(|count| *count += 1);
        Ok(())
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn ground<'a>(&'a self, registry: &'a Registry, workers: usize, notify: &'a Arc<Notify>) -> Ground<'a> {
        Ground {
            registry,
            workers,
            ids: &self.ids,
            located: &self.located,
            generation: self.generation,
            notify,
        }
    }

    /// The numbers of the plan's listeners, those of before by name, and the number of the next.
    fn number(&self, plan: &Plan) -> (Vec<usize>, usize) {
        let mut next = self.next_id;
        let known: HashMap<_, _> =
            self.plan.listeners.iter().map(|before| &before.name).zip(&self.ids).collect();
        let ids = plan.listeners.iter().map(|listener| {
            known.get(&listener.name).map(|id| **id).unwrap_or_else(|| {
                next += 1;
                next - 1
            })
        });
        (ids.collect(), next)
    }
}

/// What the listeners of `plan` ask for, each with its number.
fn wanted<'a>(plan: &'a Plan, ids: &[usize]) -> Vec<(&'a Address, usize)> {
    let listeners = plan.listeners.iter().zip(ids);
    listeners.flat_map(|(plan, listener)| plan.bind.iter().map(move |asked| (asked, *listener))).collect()
}

/// Sets what listeners want of their sockets. Of those that were there `before`, what is no longer wanted
/// is undone; others may have been given with options that nobody here asked for.
fn set_options(
    sockets: &Sockets,
    (plan, ids): (&Plan, &[usize]),
    before: Option<(&Sockets, &State)>,
) -> Result<(), RunError> {
    for opened in &sockets.opened {
        let Some(address) = opened.address.inet() else { continue };
        let is_tcp = !matches!(opened.address, Address::Udp(_));
        let Some(wanted) = socket_options(plan, ids, opened.listener) else { continue };
        let known = before.and_then(|(sockets, state)| {
            let known = sockets.opened.iter().find(|known| known.address == opened.address)?;
            socket_options(&state.plan, &state.ids, known.listener)
        });
        if known == Some(wanted) {
            continue;
        }
        let nature = Nature { is_v6: address.is_ipv6(), is_tcp, is_new: known.is_none() };
        for socket in &opened.sockets {
            let set = options::set(&**socket, nature, wanted);
            set.map_err(|refused| RunError::bind((opened.asked.clone(), refused.into())))?;
        }
    }
    Ok(())
}

fn socket_options<'a>(plan: &'a Plan, ids: &[usize], listener: usize) -> Option<&'a SocketOptions> {
    let place = ids.iter().position(|id| *id == listener)?;
    plan.listeners.get(place).map(|listener| &listener.socket)
}

#[cfg(test)]
mod tests;
