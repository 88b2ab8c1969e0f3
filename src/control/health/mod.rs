//! The health of every pool while the program runs: reads what workers counted, asks the pure core,
//! puts what it decides into force, and passes on why. The one writer of each pool's selection and
//! of its endpoints' factors.

pub mod intervals;
pub mod journal;
mod ladder;
mod limits;
mod readings;
mod record;
pub mod recording;
pub mod replay;
mod watched;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Notify, watch};

pub use readings::{PoolReading, Reading};
pub use record::Record;
pub use watched::Watched;

use crate::ambient;
use crate::balance::{FailOpen, Member};
use crate::config::plan::CheckPlan;
use crate::health::State;
use crate::health::pool::HealthSettings;
use crate::limit::ladder::LadderSettings;
use crate::limit::loops::LoopSettings;
use crate::limit::scale::ScaleSettings;
use crate::observe::panics::{Place, catching};
use crate::upstream::Pool;

/// A pool to watch.
#[derive(Debug)]
pub struct Watch {
    /// The pool.
    pub pool: Arc<Pool>,
    /// Levels, zones and weights of its endpoints.
    pub members: Vec<Member>,
    /// What its endpoints are judged by.
    pub health: HealthSettings,
    /// How they are checked.
    pub check: Option<CheckPlan>,
    /// What to do when too few are available.
    pub fail_open: FailOpen,
    /// What adjusts how much is let through.
    pub loops: LoopSettings,
    /// How many endpoints there should be, if that is to be told.
    pub scale: Option<ScaleSettings>,
    /// When requests begin with what stands in for it, if there is something.
    pub ladder: Option<LadderSettings>,
}

/// The health of all pools.
#[derive(Debug)]
pub struct Health {
    pools: ArcSwap<Vec<Arc<Watched>>>,
    record: Arc<Record>,
    notify: Arc<Notify>,
    /// Counts how often other pools, or other endpoints, were to be watched.
    changes: watch::Sender<u64>,
}

impl Health {
    /// Begins to watch, at the start of the process.
    #[must_use]
    pub fn new(watches: Vec<Watch>, record: Arc<Record>, notify: Arc<Notify>) -> Arc<Self> {
        let now = ambient::now();
        let pools = watches.into_iter().map(|watch| Arc::new(Watched::new(watch, &record, now)));
        let pools = ArcSwap::from_pointee(pools.collect());
        Arc::new(Self { pools, record, notify, changes: watch::channel(0).0 })
    }

    /// Watches these pools from now on. One that has the name of one before goes on from there: what was
    /// known of it and of those of its endpoints that stay is known on, and is in force when this returns.
    pub fn replace(&self, watches: Vec<Watch>) {
        let (now, before) = (ambient::now(), self.pools.load_full());
        let mut known: HashMap<_, _> = before.iter().map(|watched| (watched.name(), watched)).collect();
        let mut pools = Vec::with_capacity(watches.len());
        for watch in watches {
            pools.push(match known.remove(&watch.pool.settings.name) {
                Some(watched) => {
                    watched.adopt(watch, now);
                    Arc::clone(watched)
                }
                None => Arc::new(Watched::new(watch, &self.record, now)),
            });
        }
        known.into_values().for_each(|watched| watched.end(now));
        self.pools.store(Arc::new(pools));
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// Counts how often [`Self::replace`] was called.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// What pools' alarms wake.
    #[must_use]
    pub fn notify(&self) -> &Arc<Notify> {
        &self.notify
    }

    /// Looks at every pool several times a second, and at one that raises its alarm soon. Never ends.
    pub async fn run(self: Arc<Self>) {
        let mut due = ambient::now();
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(due.into()) => {
                    self.pools.load().iter().for_each(|watched| tick(watched));
                    due = ambient::now() + TICK;
                }
                () = self.notify.notified() => {
                    let pools = self.pools.load();
                    pools.iter().filter(|watched| watched.take_alarm()).for_each(|watched| tick(watched));
                    drop(pools);
                    // Not again at once: failures come in crowds.
                    tokio::time::sleep(ALARM_PAUSE).await;
                }
            }
        }
    }

    /// The pools, in the order of the configuration.
    #[must_use]
    pub fn watched(&self) -> Arc<Vec<Arc<Watched>>> {
        self.pools.load_full()
    }

    /// Whether every pool has had its chance to find out who is well. One without endpoints has nobody to
    /// find out about.
    #[must_use]
    pub fn is_open(&self) -> bool {
        let all_unchecked = |watched: &Arc<Watched>| {
            let state = watched.state();
            let standings = state.health.standings();
            let unchecked = standings.iter().filter(|s| s.state == State::Unchecked && !s.available);
            !standings.is_empty() && unchecked.count() == standings.len()
        };
        !self.pools.load().iter().any(all_unchecked)
    }
}

impl Watch {
    /// The failover level of each endpoint.
    fn levels(&self) -> Vec<u32> {
        self.members.iter().map(|member| member.level).collect()
    }
}

/// Looks at one pool. A mistake in the judgement of it must not keep others from theirs.
fn tick(watched: &Watched) {
    if let Err(panic) = catching(Place::Control, || watched.tick()) {
        let pool = watched.name();
        tracing::error!(%panic, %pool, "a panic was contained: the pool is looked at again in a while");
    }
}

/// How often pools are looked at when nothing fails.
const TICK: Duration = Duration::from_millis(200);
/// How long after an alarm the next is heard.
const ALARM_PAUSE: Duration = Duration::from_millis(20);
