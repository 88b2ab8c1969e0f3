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

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::Notify;

pub use readings::{PoolReading, Reading};
pub use record::Record;

use ladder::PoolLadder;
use limits::PoolLimits;
use record::PoolRecord;

use crate::ambient;
use crate::balance::{Availability, Bands, FailOpen, Member};
use crate::config::plan::CheckPlan;
use crate::health::check::CheckResult;
use crate::health::journal::{Event, Order, What};
use crate::health::pool::HealthSettings;
use crate::health::{PoolHealth, Sample, Standing, State as EndpointState};
use crate::limit::ladder::LadderSettings;
use crate::limit::loops::LoopSettings;
use crate::observe::tally::TallyReader;
use crate::upstream::Pool;
use crate::upstream::pool::Selection;

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
    /// When requests begin with what stands in for it, if there is something.
    pub ladder: Option<LadderSettings>,
}

/// The health of all pools.
#[derive(Debug)]
pub struct Health {
    pools: ArcSwap<Vec<Arc<Watched>>>,
    record: Arc<Record>,
    notify: Arc<Notify>,
}

/// A pool that is watched. Only the control thread takes the lock for longer than to read.
#[derive(Debug)]
pub struct Watched {
    watch: Watch,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    health: PoolHealth,
    readers: Vec<TallyReader>,
    selection: Selection,
    /// The version of the standings that is in force.
    applied: Option<u64>,
    told: PoolRecord,
    limits: PoolLimits,
    ladder: Option<PoolLadder>,
    /// Whether it was told that too few endpoints are available.
    told_fail_open: bool,
    /// Since when each endpoint has waited for its trial request.
    on_trial_since: Vec<Option<Instant>>,
}

impl Health {
    /// Begins to watch, at the start of the process.
    #[must_use]
    pub fn new(watches: Vec<Watch>, record: Arc<Record>, notify: Arc<Notify>) -> Arc<Self> {
        let now = ambient::now();
        let pools: Vec<_> =
            watches.into_iter().map(|watch| Arc::new(Watched::new(watch, &record, now))).collect();
        pools.iter().for_each(|watched| watched.change(now, |_, _, _| {}));
        Arc::new(Self { pools: ArcSwap::from_pointee(pools), record, notify })
    }

    /// Watches these pools from now on. Those that are watched already are watched on.
    pub fn replace(&self, watches: Vec<Watch>) {
        let (now, before) = (ambient::now(), self.pools.load_full());
        let pools = watches.into_iter().map(|watch| {
            let same = |watched: &&Arc<Watched>| Arc::ptr_eq(&watched.watch.pool, &watch.pool);
            before.iter().find(same).cloned().unwrap_or_else(|| {
                let watched = Arc::new(Watched::new(watch, &self.record, now));
                watched.change(now, |_, _, _| {});
                watched
            })
        });
        self.pools.store(Arc::new(pools.collect()));
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
                    self.pools.load().iter().for_each(|watched| watched.tick());
                    due = ambient::now() + TICK;
                }
                () = self.notify.notified() => {
                    let pools = self.pools.load();
                    let alarmed = pools.iter().filter(|watched| watched.watch.pool.alarm.take());
                    alarmed.for_each(|watched| watched.tick());
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

    /// Whether every pool has had its chance to find out who is well.
    #[must_use]
    pub fn is_open(&self) -> bool {
        let all_unchecked = |watched: &Arc<Watched>| {
            let state = watched.state();
            let standings = state.health.standings();
            let unchecked =
                |standing: &Standing| standing.state == EndpointState::Unchecked && !standing.available;
            // A pool without endpoints waits for names, not for checks.
            !standings.is_empty() && standings.iter().all(unchecked)
        };
        !self.pools.load().iter().any(all_unchecked)
    }
}

impl Watched {
    /// What is watched.
    #[must_use]
    pub fn watch(&self) -> &Watch {
        &self.watch
    }

    /// Takes the result of an active check.
    pub fn on_check(&self, endpoint: usize, result: &CheckResult) {
        self.change(ambient::now(), |state, log, now| {
            state.told.checked(endpoint, result);
            state.health.on_check(endpoint, result, now, log);
        });
    }

    /// When the endpoint is to be checked next, counted from now; `None` if not for the time being.
    #[must_use]
    pub fn next_check(&self, endpoint: usize) -> Option<Duration> {
        self.state().health.next_check(endpoint, ambient::draw())
    }

    /// Takes an order from outside.
    pub fn on_order(&self, endpoint: usize, order: Order) {
        self.change(ambient::now(), |state, log, now| state.health.on_order(endpoint, order, now, log));
    }

    /// What is done with each endpoint at present.
    #[must_use]
    pub fn standings(&self) -> Vec<Standing> {
        self.state().health.standings().to_vec()
    }

    fn tick(&self) {
        let pool = &self.watch.pool;
        self.change(ambient::now(), |state, log, now| {
            let samples = state.samples(pool, now);
            state.told.interval(&samples, now);
            state.health.on_tick(&samples, now, ambient::draw(), log);
            state.limits.on_tick(pool, &samples, now, log);
            log.extend(state.step(pool, &samples, now));
        });
    }

    /// Has something change the pool's health, then puts what follows into force.
    fn change(&self, now: Instant, by: impl FnOnce(&mut State, &mut Vec<Event>, Instant)) {
        let mut state = self.state();
        let state = &mut *state;
        let mut log = Vec::new();
        by(state, &mut log, now);
        // Trials have a clock of their own; everything else follows from the standings.
        if state.applied != Some(state.health.version()) || !state.selection.trials.is_empty() {
            state.applied = Some(state.health.version());
            state.apply(&self.watch, now, &mut log);
        }
        state.told.events(&self.watch.pool, &log, &state.health);
    }

    fn new(watch: Watch, record: &Arc<Record>, now: Instant) -> Self {
        let levels: Vec<_> = watch.members.iter().map(|member| member.level).collect();
        let state = State {
            health: PoolHealth::new(watch.health.clone(), &levels, now),
            readers: levels.iter().map(|_| TallyReader::default()).collect(),
            selection: Selection::clone(&watch.pool.selection()),
            applied: None,
            limits: PoolLimits::new(&watch, record.registry()),
            ladder: PoolLadder::new(&watch, now),
            told: PoolRecord::new(Arc::clone(record), &watch),
            told_fail_open: false,
            on_trial_since: vec![None; levels.len()],
        };
        Self { watch, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn samples(&mut self, pool: &Pool, now: Instant) -> Vec<Sample> {
        let endpoints = pool.endpoints.iter().zip(&mut self.readers);
        let read = endpoints.map(|(endpoint, reader)| {
            let waiting = endpoint.gauge.waiting(now);
            Sample { waiting: waiting.requests, waiting_age: waiting.age, ..reader.read(&endpoint.tally) }
        });
        read.collect()
    }

    /// Has the pool's ladder of degradation decide. That nobody was checked yet, as at the start, is no
    /// reason to leave the pool.
    fn step(&mut self, pool: &Pool, samples: &[Sample], now: Instant) -> Option<Event> {
        let ladder = self.ladder.as_mut()?;
        let mut standings = self.health.standings().iter();
        let available = self.selection.bands.choose(0).is_some()
            || standings.all(|standing| standing.state == EndpointState::Unchecked);
        ladder.on_tick(pool, samples, available, now)
    }

    /// Puts into force what the pure core decided.
    fn apply(&mut self, watch: &Watch, now: Instant, log: &mut Vec<Event>) {
        let standings = self.health.standings();
        let mut trials = Vec::new();
        let endpoints = watch.pool.endpoints.iter().zip(standings).zip(&mut self.on_trial_since);
        for (index, ((endpoint, standing), since)) in (0..).zip(endpoints) {
            if endpoint.gauge.factor() != standing.factor {
                endpoint.gauge.set_factor(standing.factor);
            }
            endpoint.shown.set(standing.state);
            if standing.on_trial {
                let since = *since.get_or_insert(now);
                endpoint.tally.open_trial(now.saturating_duration_since(since) >= TRIAL_BY_ANYTHING);
                trials.push(index);
            } else if since.take().is_some() {
                endpoint.tally.close_trial();
            }
        }
        let availability = standings.iter().map(|standing| match standing {
            Standing { excluded: true, .. } => Availability::Excluded,
            Standing { available: true, .. } => Availability::Available,
            _ => Availability::Unavailable,
        });
        let members: Vec<_> = watch.members.iter().copied().zip(availability).collect();
        let bands = Bands::of(&members, watch.fail_open);
        let selection = Selection { bands, trials };
        log.extend(self.tell_fail_open(watch, &members, selection.bands.failed_open));
        if selection != self.selection {
            watch.pool.select(selection.clone());
            self.selection = selection;
        }
    }
}

impl State {
    /// The event of too few, or enough again. That endpoints are few because they were never checked yet,
    /// as at the start, is no news.
    fn tell_fail_open(
        &mut self,
        watch: &Watch,
        members: &[(Member, Availability)],
        failed_open: bool,
    ) -> Option<Event> {
        let standings = self.health.standings().iter();
        let mut known =
            standings.filter(|s| !s.available && !s.excluded && s.state != EndpointState::Unchecked);
        let news = failed_open && (self.told_fail_open || known.next().is_some());
        if std::mem::replace(&mut self.told_fail_open, news) == news {
            return None;
        }
        let count = |wanted| members.iter().filter(|(_, availability)| *availability == wanted).count();
        let available = count(Availability::Available);
        let of = available + count(Availability::Unavailable);
        let what = if news {
            What::FailedOpen { available, of, try_all: watch.fail_open.try_all }
        } else {
            What::FailOpenOver
        };
        Some(Event { endpoint: None, what, state: None })
    }
}

/// How often pools are looked at when nothing fails.
const TICK: Duration = Duration::from_millis(200);
/// How long after an alarm the next is heard.
const ALARM_PAUSE: Duration = Duration::from_millis(20);
/// After how long a trial need no longer be a request that can be sent again.
const TRIAL_BY_ANYTHING: Duration = Duration::from_secs(5);
