//! What runs: the plan, the endpoints that its pools have at present, the snapshot made of both, and the
//! sockets. Everything that replaces a part of it goes through here, one after the other, and does all
//! of it or nothing. Does not know why something is replaced.

use std::io;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use thiserror::Error;
use tokio::sync::{Notify, watch};

use super::assemble::{AssembleError, Assembled, Ground, Located, assemble, locate};
use super::health::{Health, Record};
use crate::config::Plan;
use crate::model::{Address, Name};
use crate::net::listen;
use crate::net::sockets::{Opened, Sockets};
use crate::observe::metrics::Registry;
use crate::upstream::Snapshot;

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
}

/// What runs.
#[derive(Debug)]
pub struct Running {
    registry: Arc<Registry>,
    workers: usize,
    published: Arc<ArcSwap<Snapshot>>,
    sockets: watch::Sender<Sockets>,
    health: Arc<Health>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    plan: Arc<Plan>,
    /// The endpoints of each pool, in the order of the plan.
    located: Vec<Vec<Located>>,
    /// The number of each listener, in the order of the plan.
    ids: Vec<usize>,
    /// The number that a new listener gets. None is given twice.
    next_id: usize,
    generation: u64,
}

impl Running {
    /// Binds every address of `plan` and has it run.
    ///
    /// # Errors
    /// When an address cannot be bound, a name not be resolved, a log not be opened.
    pub fn start(plan: Plan, registry: Arc<Registry>, workers: usize) -> Result<Self, RunError> {
        let plan = Arc::new(plan);
        let ids: Vec<usize> = (0..plan.listeners.len()).collect();
        let sockets = open(&plan, &ids, &Sockets::default(), workers)?;
        let located = locate_all(&plan)?;
        let notify = Arc::new(Notify::new());
        let ground = Ground {
            registry: &registry,
            workers,
            ids: &ids,
            located: &located,
            generation: 1,
            notify: &notify,
        };
        let Assembled { snapshot, watches } = assemble(&plan, &ground, None)?;
        registry.set_config_generation(1);
        let health = Health::new(watches, Arc::new(Record::new(Arc::clone(&registry))), notify);
        let next_id = ids.len();
        Ok(Self {
            registry,
            workers,
            published: Arc::new(ArcSwap::from_pointee(snapshot)),
            sockets: watch::channel(sockets).0,
            health,
            state: Mutex::new(State { plan, located, ids, next_id, generation: 1 }),
        })
    }

    /// Has `plan` run instead; the number of its generation.
    ///
    /// # Errors
    /// As [`Self::start`]; then nothing has changed.
    pub fn replace(&self, plan: Plan) -> Result<u64, RunError> {
        let mut state = self.state();
        let plan = Arc::new(plan);
        let (ids, next_id) = state.number(&plan);
        let sockets = open(&plan, &ids, &self.sockets.borrow(), self.workers)?;
        let located = locate_all(&plan)?;
        let generation = state.generation + 1;
        self.publish(&plan, &located, &ids, generation)?;
        self.registry.set_config_generation(generation);
        self.sockets.send_replace(sockets);
        *state = State { plan, located, ids, next_id, generation };
        Ok(generation)
    }

    /// Has a pool use these endpoints; whether there is such a pool. No part of the plan changes.
    ///
    /// # Errors
    /// When an endpoint cannot be used as the plan says; then nothing has changed.
    pub fn relocate(&self, pool: &Name, located: Vec<Located>) -> Result<bool, RunError> {
        let mut state = self.state();
        let Some(index) = state.plan.pools.iter().position(|plan| plan.name == *pool) else {
            return Ok(false);
        };
        let Some(own) = state.located.get_mut(index) else { return Ok(false) };
        let before = mem::replace(own, located);
        let state = &mut *state;
        let done = self.publish(&state.plan, &state.located, &state.ids, state.generation);
        if let (Err(_), Some(own)) = (&done, state.located.get_mut(index)) {
            *own = before;
        }
        done.map(|()| true)
    }

    /// What workers serve.
    #[must_use]
    pub fn published(&self) -> &Arc<ArcSwap<Snapshot>> {
        &self.published
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

    /// Has workers accept nothing any more: their sockets are theirs alone from here on, and are closed
    /// with the last of them.
    pub fn close(&self) {
        self.sockets.send_replace(Sockets::default());
    }

    fn publish(
        &self,
        plan: &Plan,
        located: &[Vec<Located>],
        ids: &[usize],
        generation: u64,
    ) -> Result<(), RunError> {
        let ground = Ground {
            registry: &self.registry,
            workers: self.workers,
            ids,
            located,
            generation,
            notify: self.health.notify(),
        };
        let before = self.published.load_full();
        let Assembled { snapshot, watches } = assemble(plan, &ground, Some(&before))?;
        // First, so that no request comes to an endpoint that is not to be used.
        self.health.replace(watches);
        self.published.store(Arc::new(snapshot));
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The numbers of the plan's listeners, those of before by name, and the number of the next.
    fn number(&self, plan: &Plan) -> (Vec<usize>, usize) {
        let mut next = self.next_id;
        let ids = plan.listeners.iter().map(|listener| {
            let known = self.plan.listeners.iter().position(|before| before.name == listener.name);
            known.and_then(|index| self.ids.get(index).copied()).unwrap_or_else(|| {
                next += 1;
                next - 1
            })
        });
        (ids.collect(), next)
    }
}

/// The sockets of `plan`: those of `before` where the address is the same, and new ones.
fn open(plan: &Plan, ids: &[usize], before: &Sockets, workers: usize) -> Result<Sockets, RunError> {
    let mut opened = Vec::new();
    for (plan, listener) in plan.listeners.iter().zip(ids) {
        for asked in &plan.bind {
            opened.push(match before.find(asked) {
                Some(kept) => Opened { listener: *listener, ..kept.clone() },
                None => {
                    let bound = listen::bind(asked, workers)
                        .map_err(|source| RunError::Bind { address: asked.clone(), source })?;
                    Opened {
                        asked: asked.clone(),
                        address: bound.address,
                        listener: *listener,
                        sockets: Arc::new(bound.sockets),
                    }
                }
            });
        }
    }
    Ok(Sockets(opened))
}

fn locate_all(plan: &Plan) -> Result<Vec<Vec<Located>>, AssembleError> {
    plan.pools.iter().map(locate).collect()
}
