//! One pool while it is watched: takes what happens to it, one thing after the other, and puts what
//! the pure core decides into force. It stays the same over changes of its pool.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Watch;
use super::ladder::PoolLadder;
use super::limits::PoolLimits;
use super::record::{PoolRecord, Record};
use crate::ambient;
use crate::balance::{Availability, Bands, Member};
use crate::health::check::CheckResult;
use crate::health::journal::{Event, Order, What};
use crate::health::pool::Members;
use crate::health::{PoolHealth, Sample, Standing, State as EndpointState};
use crate::model::Name;
use crate::observe::tally::{Tally, TallyReader};
use crate::upstream::pool::Selection;
use crate::upstream::{Endpoint, Pool};

/// A pool that is watched. The control thread waits for its lock, so nobody keeps that for longer than it takes
/// to read, to give an order or, in a reload, to go on with what has changed.
#[derive(Debug)]
pub struct Watched {
    name: Name,
    state: Mutex<State>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) watch: Arc<Watch>,
    pub(super) health: PoolHealth,
    readers: Vec<TallyReader>,
    pub(super) selection: Selection,
    /// The version of the standings that is in force.
    applied: Option<u64>,
    pub(super) told: PoolRecord,
    limits: PoolLimits,
    ladder: Option<PoolLadder>,
    /// Whether it was told that too few endpoints are available.
    told_fail_open: bool,
    /// Since when each endpoint has waited for its trial request.
    on_trial_since: Vec<Option<Instant>>,
}

impl Watched {
    /// Begins to watch a pool.
    pub(super) fn new(watch: Watch, record: &Arc<Record>, now: Instant) -> Self {
        let levels = watch.levels();
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
            watch: Arc::new(watch),
        };
        let watched = Self { name: state.watch.pool.settings.name.clone(), state: Mutex::new(state) };
        watched.change(now, |_, _, _| {});
        watched
    }

    /// The pool's name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// What is watched at present.
    #[must_use]
    pub fn watch(&self) -> Arc<Watch> {
        Arc::clone(&self.state().watch)
    }

    /// Takes the result of an active check of an endpoint of `pool`, which says nothing any more if the
    /// pool has changed since.
    pub fn on_check(&self, pool: &Arc<Pool>, endpoint: usize, result: &CheckResult) {
        self.change(ambient::now(), |state, log, now| {
            if Arc::ptr_eq(pool, &state.watch.pool) {
                state.told.checked(endpoint, result);
                state.health.on_check(endpoint, result, now, log);
            }
        });
    }

    /// When the endpoint is to be checked next, counted from now; `None` if not for the time being.
    #[must_use]
    pub fn next_check(&self, endpoint: usize) -> Option<Duration> {
        self.state().health.next_check(endpoint, ambient::draw())
    }

    /// Takes an order from outside for the endpoint that is shown as `endpoint`. Whether there is one.
    pub fn on_order(&self, endpoint: &str, order: Order) -> bool {
        let mut given = false;
        self.change(ambient::now(), |state, log, now| {
            let endpoints = state.watch.pool.endpoints.iter().enumerate();
            for (index, _) in endpoints.filter(|(_, own)| own.name == endpoint) {
                state.health.on_order(index, order, now, log);
                given = true;
            }
        });
        given
    }

    /// What is done with each endpoint at present.
    #[must_use]
    pub fn standings(&self) -> Vec<Standing> {
        self.state().health.standings().to_vec()
    }

    /// Goes on with the same pool as it is now, if anything of it has changed. What follows is in force
    /// in it when this returns.
    pub(super) fn adopt(&self, watch: Watch, now: Instant) {
        self.change(now, |state, log, now| {
            if !Arc::ptr_eq(&state.watch.pool, &watch.pool) || state.watch.members != watch.members {
                state.adopt(watch, now, log);
            }
        });
    }

    /// The pool is no more.
    pub(super) fn end(&self, now: Instant) {
        self.change(now, |state, log, _| state.health.part(&[], log));
        self.state().told.end();
    }

    /// Looks at what happened since it last did.
    pub(super) fn tick(&self) {
        self.change(ambient::now(), |state, log, now| {
            let watch = Arc::clone(&state.watch);
            let samples = state.samples(now);
            state.told.interval(&samples, now);
            state.health.on_tick(&samples, now, ambient::draw(), log);
            state.limits.on_tick(&watch.pool, &samples, now, log);
            log.extend(state.step(&samples, now));
        });
    }

    /// Whether its alarm was raised since this was last called.
    pub(super) fn take_alarm(&self) -> bool {
        self.state().watch.pool.alarm.take()
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
            state.apply(now, &mut log);
        }
        state.told.events(&state.watch.pool, &log, &state.health);
    }
}

impl State {
    fn adopt(&mut self, watch: Watch, now: Instant, log: &mut Vec<Event>) {
        let before = Arc::clone(&self.watch);
        let from = origins(&before.pool, &watch.pool);
        let mut gone = Vec::new();
        self.health.part(&from, &mut gone);
        self.told.events(&before.pool, &gone, &self.health);
        let members = Members { levels: &watch.levels(), from: &from };
        self.health.adopt(watch.health.clone(), members, now, log);
        self.readers = self.readers_of(&watch.pool, &from);
        let since = from.iter().map(|from| *self.on_trial_since.get((*from)?)?);
        self.on_trial_since = since.collect();
        self.told.adopt(&watch, &from);
        self.limits.adopt((&before, &watch), &from, Arc::clone(self.told.record()).registry(), now);
        self.ladder = PoolLadder::adopt(self.ladder.take(), (&before, &watch), now);
        (self.selection, self.applied) = (Selection::clone(&watch.pool.selection()), None);
        self.watch = Arc::new(watch);
    }

    /// What reads the tallies of `pool`: as far as they are those of before, from where it was.
    fn readers_of(&mut self, pool: &Pool, from: &[Option<usize>]) -> Vec<TallyReader> {
        let before = &self.watch.pool.endpoints;
        let mut known: Vec<_> = std::mem::take(&mut self.readers).into_iter().map(Some).collect();
        let reader = |(endpoint, from): (&Arc<Endpoint>, &Option<usize>)| {
            let index = (*from)?;
            let is_same = before.get(index).is_some_and(|before| same(&before.tally, &endpoint.tally));
            known.get_mut(index).filter(|_| is_same)?.take()
        };
        pool.endpoints.iter().zip(from).map(reader).map(Option::unwrap_or_default).collect()
    }

    /// What happened at each endpoint; none where nothing happened at any, so that
    /// pools at rest cost little.
    fn samples(&mut self, now: Instant) -> Vec<Sample> {
        let endpoints = &self.watch.pool.endpoints;
        let is_quiet = |(endpoint, reader): (&Arc<Endpoint>, &TallyReader)| {
            reader.is_quiet(&endpoint.tally) && endpoint.gauge.waiting(now).requests == 0
        };
        if endpoints.iter().zip(&self.readers).all(is_quiet) {
            return Vec::new();
        }
        let endpoints = endpoints.iter().zip(&mut self.readers);
        let read = endpoints.map(|(endpoint, reader)| {
            let waiting = endpoint.gauge.waiting(now);
            Sample { waiting: waiting.requests, waiting_age: waiting.age, ..reader.read(&endpoint.tally) }
        });
        read.collect()
    }

    /// Has the pool's ladder of degradation decide. That nobody was checked yet, as at the start, is no
    /// reason to leave the pool.
    fn step(&mut self, samples: &[Sample], now: Instant) -> Option<Event> {
        let ladder = self.ladder.as_mut()?;
        let standings = self.health.standings();
        let unchecked = |standing: &Standing| standing.state == EndpointState::Unchecked;
        let available = self.selection.bands.choose(0).is_some()
            || (!standings.is_empty() && standings.iter().all(unchecked));
        ladder.on_tick(&self.watch.pool, samples, available, now)
    }

    /// Puts into force what the pure core decided.
    fn apply(&mut self, now: Instant, log: &mut Vec<Event>) {
        let watch = Arc::clone(&self.watch);
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
        log.extend(self.tell_fail_open(&watch, &members, selection.bands.failed_open));
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

/// The index before of each endpoint of `now`, by its name. Should a name stand for several, they stay
/// in their order.
fn origins(before: &Pool, now: &Pool) -> Vec<Option<usize>> {
    let mut known: HashMap<&str, Vec<usize>> = HashMap::with_capacity(before.endpoints.len());
    for (index, endpoint) in before.endpoints.iter().enumerate().rev() {
        known.entry(&endpoint.name).or_default().push(index);
    }
    now.endpoints.iter().map(|endpoint| known.get_mut(&*endpoint.name)?.pop()).collect()
}

/// Whether these are one tally, and not two that say the same.
fn same(one: &Tally, other: &Tally) -> bool {
    std::ptr::eq(one, other)
}

/// After how long a trial need no longer be a request that can be sent again.
const TRIAL_BY_ANYTHING: Duration = Duration::from_secs(5);
