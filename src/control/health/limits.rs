//! The loops of one pool at work: feeds the adaptive limit, admission control and breakers with what
//! workers counted, and puts what they decide into force. Decides nothing itself.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::Watch;
use crate::health::journal::{Event, Tripped, What};
use crate::health::{Failure, Latencies, Sample};
use crate::limit::Rejection;
use crate::limit::breaker::{Breaker, BreakerSettings, Cause, Change, Ended, State};
use crate::limit::gradient::{Flow, Gradient, GradientSettings};
use crate::limit::loops::Scope;
use crate::limit::throttle::{self, Throttle};
use crate::observe::metrics::{BreakerMetrics, BreakerState, LoopMetrics, Registry};
use crate::upstream::{Pool, Valve};

/// The loops of one pool.
#[derive(Debug)]
pub(super) struct PoolLimits {
    /// With whether it is in force.
    adaptive: Option<(Gradient, bool)>,
    admission: Option<(Throttle, bool)>,
    breakers: Vec<Watched>,
    metrics: Arc<LoopMetrics>,
    /// Requests that were turned away before the last look, by limit.
    rejections: [u64; Rejection::ALL.len()],
}

/// One breaker.
#[derive(Debug)]
struct Watched {
    /// The endpoint's index; `None` for the pool as a whole.
    endpoint: Option<usize>,
    breaker: Breaker,
    /// How long a trial is waited for.
    patience: Duration,
    /// When the trial that is under way was first seen.
    trying: Option<Instant>,
    metrics: Arc<BreakerMetrics>,
}

impl PoolLimits {
    /// The loops that `watch` asks for.
    pub(super) fn new(watch: &Watch, registry: &Registry) -> Self {
        let (loops, pool) = (&watch.loops, &watch.pool);
        let gradient =
            |settings: &GradientSettings| (Gradient::new(settings.clone(), settings.max), settings.enforced);
        let breakers = scopes(watch).into_iter().zip(loops.breaker.iter().cycle());
        let breakers =
            breakers.filter_map(|(endpoint, (_, settings))| Watched::new(endpoint, settings, pool, registry));
        Self {
            adaptive: loops.adaptive.as_ref().map(gradient),
            admission: loops.admission.as_ref().map(|settings| (Throttle::new(settings), settings.enforced)),
            breakers: breakers.collect(),
            metrics: registry.loops(&pool.settings.name),
            rejections: pool.guard.metrics.rejections(),
        }
    }

    /// Goes on for a pool that has changed, from the one `before` to the one after; `from` has the index
    /// before of each endpoint. Loops that are set as before go on; an adaptive limit that is set
    /// otherwise begins where it was, the others begin anew.
    pub(super) fn adopt(
        &mut self,
        (before, watch): (&Watch, &Watch),
        from: &[Option<usize>],
        registry: &Registry,
        now: Instant,
    ) {
        let (loops, pool) = (&watch.loops, &watch.pool);
        let mut known = std::mem::replace(self, Self::new(watch, registry));
        self.rejections = known.rejections;
        if let (Some((gradient, _)), Some(settings)) = (known.adaptive.take(), &loops.adaptive) {
            let is_same = before.loops.adaptive == loops.adaptive;
            let start = gradient.limit().clamp(settings.min, settings.max);
            let gradient = if is_same { gradient } else { Gradient::new(settings.clone(), start) };
            self.adaptive = Some((gradient, settings.enforced));
        }
        if known.admission.is_some() && before.loops.admission == loops.admission {
            self.admission = known.admission.take();
        }
        let has_same = before.loops.breaker == loops.breaker;
        let breakers = known.breakers.into_iter().filter(|_| has_same);
        let mut breakers: HashMap<_, _> = breakers.map(|watched| (watched.endpoint, watched)).collect();
        for watched in &mut self.breakers {
            let origin = match watched.endpoint {
                Some(index) => from.get(index).copied().flatten().map(Some),
                None => Some(None),
            };
            if let Some(known) = origin.and_then(|origin| breakers.remove(&origin)) {
                (watched.breaker, watched.trying) = (known.breaker, known.trying);
            }
        }
        self.put_into_force(pool, now);
    }

    /// Has the pool let through what the loops say, whatever it let through before.
    fn put_into_force(&mut self, pool: &Pool, now: Instant) {
        let adaptive = self.adaptive.as_ref().filter(|(_, enforced)| *enforced);
        let limit = adaptive.map_or(pool.settings.limits.in_flight, |(gradient, _)| gradient.limit());
        if pool.guard.limit() != limit {
            pool.guard.set_limit(limit);
        }
        let shedding = self.admission.as_ref().filter(|(_, enforced)| *enforced);
        let bits = shedding.map_or(0, |(throttle, _)| throttle::as_bits(throttle.probability()));
        pool.guard.shedding.store(bits, Ordering::Relaxed);
        self.metrics.show(self.adaptive.is_some(), self.admission.is_some());
        let all = std::iter::once(None).chain((0..pool.endpoints.len()).map(Some));
        // Both are in the same order.
        let mut breakers = self.breakers.iter().peekable();
        for of in all {
            let Some(valve) = valve(pool, of) else { continue };
            match breakers.next_if(|watched| watched.endpoint == of) {
                Some(watched) => watched.put_into_force(valve, now),
                None => valve.close(),
            }
        }
    }

    /// Takes what happened at each endpoint until `now`.
    pub(super) fn on_tick(&mut self, pool: &Pool, samples: &[Sample], now: Instant, log: &mut Vec<Event>) {
        if self.adaptive.is_some() || self.admission.is_some() {
            let rejections = pool.guard.metrics.rejections();
            let before = std::mem::replace(&mut self.rejections, rejections);
            let since = |by: Rejection| {
                let count = |counts: &[u64]| counts.get(by as usize).copied().unwrap_or_default();
                count(&rejections).saturating_sub(count(&before))
            };
            self.adapt(pool, samples, HELD_BACK.into_iter().map(since).sum(), now);
            self.throttle(pool, samples, since(Rejection::Admission), now);
        }
        for watched in &mut self.breakers {
            let samples = match watched.endpoint {
                Some(index) => samples.get(index..=index).unwrap_or_default(),
                None => samples,
            };
            let Some(valve) = valve(pool, watched.endpoint) else { continue };
            log.extend(watched.on_tick(valve, samples, now));
        }
    }

    fn adapt(&mut self, pool: &Pool, samples: &[Sample], held_back: u64, now: Instant) {
        let Some((gradient, enforced)) = &mut self.adaptive else { return };
        let mut latencies = Latencies::default();
        samples.iter().for_each(|sample| latencies.merge(&sample.latencies));
        let flow = Flow {
            answers: small(latencies.count()),
            latency: latencies.mean(),
            timeouts: small(samples.iter().map(|sample| sample.failed_by(Failure::Timeout)).sum()),
            in_flight: pool.guard.in_flight(),
            held_back: small(held_back),
        };
        gradient.on_flow(&flow, now);
        if *enforced && pool.guard.limit() != gradient.limit() {
            pool.guard.set_limit(gradient.limit());
        }
        let long = gradient.long().unwrap_or_default();
        self.metrics.set_limit(gradient.limit(), long, gradient.short());
    }

    fn throttle(&mut self, pool: &Pool, samples: &[Sample], shed: u64, now: Instant) {
        let Some((throttle, enforced)) = &mut self.admission else { return };
        let ended: u64 = samples.iter().map(Sample::ended).sum();
        let refused = |sample: &Sample| NOT_ACCEPTED.into_iter().map(|by| sample.failed_by(by)).sum::<u64>();
        let refused: u64 = samples.iter().map(refused).sum();
        throttle.on_tick(ended + shed, ended.saturating_sub(refused), now);
        let bits = throttle::as_bits(throttle.probability());
        if *enforced {
            pool.guard.shedding.store(bits, Ordering::Relaxed);
        }
        self.metrics.set_probability(bits);
    }
}

impl Watched {
    fn new(
        endpoint: Option<usize>,
        settings: &BreakerSettings,
        pool: &Pool,
        registry: &Registry,
    ) -> Option<Self> {
        let shown = endpoint.and_then(|index| pool.endpoints.get(index)).map(|own| own.name.as_str());
        let valve = valve(pool, endpoint)?;
        valve.set_slow(settings.latency.as_ref().map(|slow| slow.over));
        Some(Self {
            endpoint,
            breaker: Breaker::new(settings.clone()),
            patience: settings.open.max(LEAST_PATIENCE),
            trying: None,
            metrics: registry.breaker(&pool.settings.name, shown),
        })
    }

    fn put_into_force(&self, valve: &Valve, now: Instant) {
        match self.breaker.state() {
            State::Closed => {
                valve.close();
                self.metrics.set(BreakerState::Closed);
            }
            State::Open(until) => valve.open(until.saturating_duration_since(now)),
            // Unless it is the same valve, at which a trial may be under way.
            State::HalfOpen(_) if !valve.is_closed() => {}
            State::HalfOpen(_) => valve.half_open(),
        }
    }

    fn on_tick(&mut self, valve: &Valve, samples: &[Sample], now: Instant) -> Option<Event> {
        let (trials_passed, trials_failed) = valve.results();
        let slow = self.breaker.slow();
        let late = |sample: &Sample| slow.map_or(0, |slow| sample.latencies.above(slow.over));
        let ended = Ended {
            ended: samples.iter().map(Sample::ended).sum(),
            failed: samples.iter().map(Sample::failed).sum(),
            answered: samples.iter().map(|sample| sample.latencies.count()).sum(),
            slow: samples.iter().map(late).sum(),
            trials_passed,
            trials_failed,
        };
        let change = self.breaker.on_tick(&ended, now);
        match self.breaker.state() {
            State::Open(until) => valve.open(until.saturating_duration_since(now)),
            State::HalfOpen(_) => self.wait_for_trial(valve, change, now),
            State::Closed => {}
        }
        let what = match change? {
            Change::Opened { cause, lasts, times } => {
                self.metrics.set(BreakerState::Open);
                What::BreakerOpened { tripped: tripped(cause), lasts, times }
            }
            Change::HalfOpened => {
                self.metrics.set(BreakerState::HalfOpen);
                What::BreakerHalfOpened
            }
            Change::Closed(trials) => {
                valve.close();
                self.metrics.set(BreakerState::Closed);
                What::BreakerClosed { trials }
            }
        };
        Some(Event { endpoint: self.endpoint, what, state: None })
    }

    /// Lets the first trial through, and another where one does not end.
    fn wait_for_trial(&mut self, valve: &Valve, change: Option<Change>, now: Instant) {
        if !valve.is_trying() {
            self.trying = None;
        }
        let overdue = self.trying.is_some_and(|since| now >= since + self.patience);
        if change == Some(Change::HalfOpened) || overdue {
            valve.half_open();
            self.trying = None;
        } else if valve.is_trying() {
            self.trying.get_or_insert(now);
        }
    }
}

/// Before what there is a breaker: endpoints, by their indexes; `None` for the pool as a whole.
fn scopes(watch: &Watch) -> Vec<Option<usize>> {
    match &watch.loops.breaker {
        None => Vec::new(),
        Some((Scope::Pool, _)) => vec![None],
        Some((Scope::Endpoint, _)) => (0..watch.pool.endpoints.len()).map(Some).collect(),
    }
}

fn valve(pool: &Pool, endpoint: Option<usize>) -> Option<&Valve> {
    match endpoint {
        None => Some(&pool.guard.breaker),
        Some(index) => pool.endpoints.get(index).map(|endpoint| &*endpoint.breaker),
    }
}

fn tripped(cause: Cause) -> Tripped {
    match cause {
        Cause::Failures { share, requests } => Tripped::Failures { share, requests },
        Cause::Latency { slow, share, requests } => {
            Tripped::Latency { quantile: slow.quantile, over: slow.over, share, requests }
        }
        Cause::Trial => Tripped::Trial,
    }
}

fn small(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// What turns requests away because as many are under way as may be.
const HELD_BACK: [Rejection; 3] = [Rejection::QueueFull, Rejection::QueueTimeout, Rejection::Displaced];
/// What says that the pool did not accept a request; other errors are answers of the application.
const NOT_ACCEPTED: [Failure; 4] = [Failure::Connect, Failure::Reset, Failure::Timeout, Failure::Gateway];
/// The least time that a trial has.
const LEAST_PATIENCE: Duration = Duration::from_secs(1);
