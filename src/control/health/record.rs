//! Where the events of health go: the journal, the log, the metrics; and where intervals are kept. An
//! event is told to all of them here and nowhere else. Decides nothing.

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use tracing::field;

use super::Watch;
use super::intervals::{Interval, Intervals, Members};
use super::journal::{Entry, Journal};
use crate::ambient;
use crate::health::check::CheckResult;
use crate::health::journal::{Effect, Event, What};
use crate::health::pool::Count;
use crate::health::{PoolHealth, Sample, Standing, State};
use crate::observe::metrics::{EndpointHealth, PoolHealthMetrics, Registry};
use crate::upstream::{Endpoint, Pool};

/// What is kept of what happened, over all pools.
#[derive(Debug)]
pub struct Record {
    registry: Arc<Registry>,
    began: (Instant, SystemTime),
    journal: Mutex<Journal>,
    intervals: Mutex<Intervals>,
}

/// What is told of one pool, with its handles.
#[derive(Debug)]
pub(super) struct PoolRecord {
    record: Arc<Record>,
    /// What intervals know the pool by.
    number: u32,
    metrics: Arc<PoolHealthMetrics>,
    endpoints: Vec<EndpointRecord>,
    /// The version of the standings that is shown.
    shown: Option<u64>,
    /// What detectors did, as far as it is counted.
    counted: Vec<Count>,
    /// Whether an endpoint is shown whose checks pass while its requests fail: this ends without an
    /// event.
    disagreeing: bool,
}

/// What is told of one endpoint.
#[derive(Debug)]
pub(super) struct EndpointRecord {
    /// Its name, shared by the journal's entries.
    name: Arc<str>,
    /// Its metrics.
    pub(super) metrics: Arc<EndpointHealth>,
    /// What is shown of it: its standing, and whether it disagrees with its checks.
    shown: Option<(Standing, bool)>,
    /// Since when it has been in its state.
    pub(super) since: SystemTime,
    /// What happened to it last.
    pub(super) last: Option<Arc<Entry>>,
}

impl Record {
    /// A record of nothing yet, that counts in `registry`.
    #[must_use]
    pub fn new(registry: Arc<Registry>) -> Self {
        Self {
            registry,
            began: (ambient::now(), ambient::wall()),
            journal: Mutex::default(),
            intervals: Mutex::default(),
        }
    }

    /// Where it counts.
    pub(super) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The journal's entries, the oldest first.
    #[must_use]
    pub fn entries(&self) -> Vec<Arc<Entry>> {
        self.journal().entries().cloned().collect()
    }

    /// What `by` makes of the journal.
    pub fn with_journal<T>(&self, by: impl FnOnce(&Journal) -> T) -> T {
        by(&self.journal())
    }

    /// What `by` makes of the intervals.
    pub fn with_intervals<T>(&self, by: impl FnOnce(&mut Intervals) -> T) -> T {
        by(&mut self.intervals.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time of day at `now`, by a clock that does not jump.
    fn wall_at(&self, now: Instant) -> SystemTime {
        let (began, wall) = self.began;
        wall + now.saturating_duration_since(began)
    }
}

impl PoolRecord {
    /// Begins to tell of a pool.
    pub(super) fn new(record: Arc<Record>, watch: &Watch) -> Self {
        let since = ambient::wall();
        let endpoints = &watch.pool.endpoints;
        Self {
            number: record.with_intervals(|intervals| intervals.introduce(members(watch))),
            metrics: metrics(watch, &record.registry),
            endpoints: endpoints.iter().map(|e| EndpointRecord::new(watch, e, &record, since)).collect(),
            record,
            shown: None,
            counted: Vec::new(),
            disagreeing: false,
        }
    }

    /// Goes on to tell of a pool that has changed, and of those endpoints that stay; `from` has the
    /// index before of each.
    pub(super) fn adopt(&mut self, watch: &Watch, from: &[Option<usize>]) {
        let since = ambient::wall();
        let mut before: Vec<_> = mem::take(&mut self.endpoints).into_iter().map(Some).collect();
        for (endpoint, from) in watch.pool.endpoints.iter().zip(from) {
            let known = from.and_then(|from| before.get_mut(from)).and_then(Option::take);
            let new = EndpointRecord::new(watch, endpoint, &self.record, since);
            self.endpoints.push(match known {
                // With the metrics of the new one, which show the gauge that is in use now.
                Some(known) => EndpointRecord { metrics: new.metrics, ..known },
                None => new,
            });
        }
        before.into_iter().flatten().for_each(|gone| gone.metrics.leave());
        self.metrics = metrics(watch, &self.record.registry);
        self.shown = None;
        self.number = self.record.with_intervals(|intervals| {
            intervals.retire(self.number);
            intervals.introduce(members(watch))
        });
    }

    /// The pool is no more.
    pub(super) fn end(&mut self) {
        mem::take(&mut self.endpoints).iter().for_each(|endpoint| endpoint.metrics.leave());
        self.record.with_intervals(|intervals| intervals.retire(self.number));
    }

    /// What is kept over all pools.
    pub(super) fn record(&self) -> &Arc<Record> {
        &self.record
    }

    /// What is told of an endpoint.
    pub(super) fn endpoint(&self, endpoint: usize) -> Option<&EndpointRecord> {
        self.endpoints.get(endpoint)
    }

    /// Takes the samples of one interval. Those in which nothing happened are not kept.
    pub(super) fn interval(&self, samples: &[Sample], now: Instant) {
        let at = self.record.wall_at(now);
        self.record.with_intervals(|intervals| {
            for (endpoint, sample) in (0..).zip(samples).filter(|(_, sample)| !sample.is_idle()) {
                intervals.push(Interval::new(at, self.number, endpoint, sample));
            }
        });
    }

    /// Takes the result of a check.
    pub(super) fn checked(&self, endpoint: usize, result: &CheckResult) {
        self.metrics.check_took(result.took);
        if let Some(endpoint) = self.endpoints.get(endpoint) {
            endpoint.metrics.checked(result.failure.is_none());
        }
    }

    /// Takes events of the pool, in their order, and shows how things stand after them.
    pub(super) fn events(&mut self, pool: &Pool, events: &[Event], health: &PoolHealth) {
        if self.shown == Some(health.version()) && events.is_empty() && !self.disagreeing {
            return;
        }
        self.shown = Some(health.version());
        let at = ambient::wall();
        for event in events {
            self.tell(pool, event, at);
        }
        self.disagreeing = false;
        for (index, (endpoint, standing)) in self.endpoints.iter_mut().zip(health.standings()).enumerate() {
            let disagrees = health.disagrees(index);
            self.disagreeing |= disagrees;
            endpoint.show(standing, disagrees, at);
        }
        self.metrics.set_correlated(health.is_correlated());
        self.metrics.set_failed_open(pool.selection().bands.failed_open);
        self.count(health.counts());
    }

    /// Counts what detectors did since this was last called.
    fn count(&mut self, counts: &[Count]) {
        for now in counts {
            let before = self.counted.iter().find(|before| before.detector == now.detector);
            let (detected, enforced) = before.map_or((0, 0), |before| (before.detected, before.enforced));
            let (detected, enforced) =
                (now.detected.saturating_sub(detected), now.enforced.saturating_sub(enforced));
            self.metrics.found(now.detector, detected, enforced);
        }
        self.counted = counts.to_vec();
    }

    fn tell(&mut self, pool: &Pool, event: &Event, at: SystemTime) {
        let endpoint = event.endpoint.and_then(|index| self.endpoints.get_mut(index));
        let name = endpoint.as_ref().map(|endpoint| Arc::clone(&endpoint.name));
        let shown = event.endpoint.and_then(|index| pool.endpoints.get(index)).map(|own| &own.shown);
        let mut journal = self.record.journal();
        let entry = Arc::new(Entry {
            at,
            pool: pool.settings.name.clone(),
            endpoint: name,
            event: event.clone(),
            number: journal.next_number(),
            trace: shown.filter(|_| follows_requests(&event.what)).and_then(|shown| shown.failed_trace()),
        });
        journal.push(Arc::clone(&entry));
        drop(journal);
        if let Some(shown) = shown {
            shown.set_entry(entry.number);
        }
        log(&entry);
        if let Some(endpoint) = endpoint {
            endpoint.last = Some(entry);
            if ejects(&event.what) {
                endpoint.metrics.ejected();
            }
        }
    }
}

impl EndpointRecord {
    fn new(watch: &Watch, endpoint: &Endpoint, record: &Record, since: SystemTime) -> Self {
        let pool = &watch.pool.settings.name;
        let metrics = record.registry.endpoint_health(pool, &endpoint.name, &endpoint.gauge);
        Self { name: endpoint.name.as_str().into(), metrics, shown: None, since, last: None }
    }

    /// Shows what changed. Most endpoints stay as they are, and are spared the visit to their metrics.
    fn show(&mut self, standing: &Standing, disagrees: bool, at: SystemTime) {
        let shown = self.shown.replace((*standing, disagrees));
        if shown == self.shown {
            return;
        }
        self.metrics.stands(standing, disagrees);
        if shown.is_some_and(|(before, _)| before.state != standing.state) {
            self.since = at;
        }
    }
}

fn metrics(watch: &Watch, registry: &Registry) -> Arc<PoolHealthMetrics> {
    let detectors = watch.health.detectors.iter().map(|chosen| chosen.kind.name);
    registry.pool_health(&watch.pool.settings.name, detectors)
}

/// Whom intervals are about.
fn members(watch: &Watch) -> Members {
    let shown = watch.pool.endpoints.iter().map(|endpoint| endpoint.name.clone());
    let endpoints = shown.zip(watch.levels()).collect();
    Members { pool: watch.pool.settings.name.clone(), endpoints }
}

fn ejects(what: &What) -> bool {
    matches!(what, What::Detected { effect: Effect::Ejected { .. }, .. } | What::TrialFailed { .. })
}

/// Whether it came of what became of requests.
fn follows_requests(what: &What) -> bool {
    matches!(what, What::Detected { .. } | What::TrialFailed { .. } | What::BreakerOpened { .. })
}

fn log(entry: &Entry) {
    let pool = &entry.pool;
    let endpoint = entry.endpoint.as_deref().map(field::display);
    let state = entry.state().map(State::name).map(field::display);
    let trace_id = entry.trace.map(field::display);
    let words = entry.words();
    match Weight::of(&entry.event.what) {
        Weight::Warning => tracing::warn!(target: TARGET, %pool, endpoint, state, trace_id, "{words}"),
        Weight::News => tracing::info!(target: TARGET, %pool, endpoint, state, trace_id, "{words}"),
        Weight::Detail => tracing::debug!(target: TARGET, %pool, endpoint, state, trace_id, "{words}"),
    }
}

/// How much an event matters to those who read the log.
enum Weight {
    /// Something is wrong, and something was done about it or cannot be.
    Warning,
    /// It is well again, or was asked for.
    News,
    /// Of interest to those who ask.
    Detail,
}

impl Weight {
    fn of(what: &What) -> Self {
        match what {
            What::Detected { effect: Effect::Observed, .. } => Self::News,
            What::WentDown
            | What::Detected { .. }
            | What::TrialFailed { .. }
            | What::Disagreement
            | What::CorrelatedFailure { .. }
            | What::FailedOpen { .. }
            | What::OpenedUnchecked { .. }
            | What::BreakerOpened { .. }
            | What::LadderDown { .. } => Self::Warning,
            What::Joined | What::TrialPassed { .. } => Self::Detail,
            What::Checked { result, .. } if result.failure.is_none() => Self::Detail,
            What::Checked { .. }
            | What::CameUp
            | What::OnTrial
            | What::Returned { .. }
            | What::Recovered
            | What::Ordered(_)
            | What::OrderOver(_)
            | What::CorrelationOver
            | What::FailOpenOver
            | What::BreakerHalfOpened
            | What::BreakerClosed { .. }
            | What::Left
            | What::LadderUp { .. } => Self::News,
        }
    }
}

/// What log filters know events of health by.
const TARGET: &str = "forebay::health";
