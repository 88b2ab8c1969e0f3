//! The health of a pool: takes samples, check results and orders, and decides each endpoint's
//! standing. What concerns one endpoint alone is in `endpoint`, what concerns a level in `level`;
//! here they meet. No clock: `now` and `draw` are arguments.

mod adopt;
mod effects;
mod endpoint;
mod findings;
mod level;
mod recent;
mod settings;
mod standing;
mod verdict;

use std::time::{Duration, Instant};

pub use adopt::Members;
pub use findings::Count;
pub use settings::{Ejection, HealthSettings, SLOW_START};
pub use standing::{Standing, State};

use super::check::CheckResult;
use super::detector::{Chosen, Detector, Finding, Mode, Seen};
use super::journal::{Event, Order, What};
use super::{Sample, Trial};
use crate::model::mix::{STEP, mix};
use endpoint::Endpoint;
use findings::Findings;
use level::Level;
use verdict::Checks;

/// The health of one pool.
#[derive(Debug)]
pub struct PoolHealth {
    settings: HealthSettings,
    judges: Vec<Judge>,
    endpoints: Vec<Endpoint>,
    levels: Vec<Level>,
    findings: Findings,
    standings: Vec<Standing>,
    version: u64,
    /// Indexes of the endpoints about which something may change by itself; each once.
    awake: Vec<usize>,
    /// Whether each endpoint is in `awake`.
    is_awake: Vec<bool>,
    /// How many endpoints are available as a rule.
    available: usize,
    opening: Opening,
    is_announced: bool,
}

/// Whether a pool may still be opened although no check has passed.
#[derive(Clone, Copy, Debug)]
enum Opening {
    /// If none has passed by then.
    At(Instant),
    /// It is open.
    Over,
}

/// A detector at work.
#[derive(Debug)]
struct Judge {
    detector: Box<dyn Detector>,
    name: &'static str,
    mode: Mode,
}

/// What a decision depends on besides what happened.
#[derive(Clone, Copy, Debug)]
struct Moment {
    now: Instant,
    draw: u64,
}

impl PoolHealth {
    /// The health of a pool whose endpoints are in these failover levels, from `now` on, which is the
    /// start of the process: nobody starts slowly.
    #[must_use]
    pub fn new(settings: HealthSettings, levels: &[u32], now: Instant) -> Self {
        let chosen = settings.detectors.iter().filter(|chosen| chosen.mode != Mode::Off);
        let judges: Vec<_> = chosen.map(Judge::of).collect();
        let (numbers, place) = places(levels);
        let checked = settings.checks.is_some();
        let endpoints: Vec<_> = (0..)
            .zip(levels)
            .map(|(index, number)| Endpoint::new(index, place(*number), checked, now))
            .collect();
        let mut health = Self {
            findings: Findings::new(judges.iter().map(|judge| judge.name)),
            judges,
            levels: numbers.into_iter().map(Level::new).collect(),
            standings: Vec::new(),
            version: 0,
            awake: (0..endpoints.len()).collect(),
            is_awake: vec![true; endpoints.len()],
            available: 0,
            opening: if checked { Opening::At(now + OPEN_AFTER) } else { Opening::Over },
            is_announced: false,
            endpoints,
            settings,
        };
        let slow_start = health.settings.slow_start;
        health.standings =
            health.endpoints.iter().map(|endpoint| endpoint.standing(false, slow_start, now)).collect();
        health.settle(now, &mut Vec::new());
        health
    }

    /// Takes the result of an active check.
    pub fn on_check(&mut self, endpoint: usize, result: &CheckResult, now: Instant, log: &mut Vec<Event>) {
        self.announce(log);
        let Some(checked) = self.endpoints.get_mut(endpoint) else { return };
        if checked.is_disabled() {
            return;
        }
        if result.failure.is_none() {
            self.opening = Opening::Over;
        }
        if checked.checked(result, &self.settings, now, log) {
            self.forget(endpoint);
        }
        self.wake(endpoint);
        self.settle(now, log);
    }

    /// Takes what happened since the last call, one sample for each endpoint, and moves on to `now`.
    /// To be called several times a second. `draw` is a uniformly distributed random number.
    pub fn on_tick(&mut self, samples: &[Sample], now: Instant, draw: u64, log: &mut Vec<Event>) {
        self.announce(log);
        self.open_unchecked(now, log);
        let moment = Moment { now, draw };
        self.move_on(samples, moment, log);
        let found = self.judge(samples, now);
        self.correlate(now, log);
        self.act_on(found, moment, log);
        self.settle(now, log);
    }

    /// The orders that hold, each with its endpoint and for what is left of its time.
    pub fn orders(&self, now: Instant) -> impl Iterator<Item = (usize, Order)> {
        let endpoints = self.endpoints.iter().enumerate();
        endpoints.filter_map(move |(index, endpoint)| Some((index, endpoint.standing_order(now)?)))
    }

    /// Takes an order from outside.
    pub fn on_order(&mut self, endpoint: usize, order: Order, now: Instant, log: &mut Vec<Event>) {
        self.announce(log);
        let Some(ordered) = self.endpoints.get_mut(endpoint) else { return };
        ordered.obey(order, &self.settings, now);
        log.push(ordered.event(What::Ordered(order)));
        self.forget(endpoint);
        self.wake(endpoint);
        self.settle(now, log);
    }

    /// When to check the endpoint next, after a check that ended at `now`; `None` while it is not to
    /// be checked.
    #[must_use]
    pub fn next_check(&self, endpoint: usize, draw: u64) -> Option<Duration> {
        let endpoint = self.endpoints.get(endpoint).filter(|endpoint| !endpoint.is_disabled())?;
        let rhythm = self.settings.checks.as_ref()?;
        endpoint.checks.as_ref().map(|checks| checks.next(rhythm, draw))
    }

    /// What is to be done with each endpoint.
    #[must_use]
    pub fn standings(&self) -> &[Standing] {
        &self.standings
    }

    /// Counts the changes of [`Self::standings`].
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Whether all of a level degrade together.
    #[must_use]
    pub fn is_correlated(&self) -> bool {
        self.levels.iter().any(|level| level.together.is_some())
    }

    /// Whether checks of the endpoint pass while its requests fail.
    #[must_use]
    pub fn disagrees(&self, endpoint: usize) -> bool {
        self.endpoints.get(endpoint).is_some_and(Endpoint::is_disagreeing)
    }

    /// What each detector that is not off did so far.
    #[must_use]
    pub fn counts(&self) -> &[Count] {
        self.findings.counts()
    }
}

/// The steps of a tick, in their order.
impl PoolHealth {
    fn announce(&mut self, log: &mut Vec<Event>) {
        if !std::mem::replace(&mut self.is_announced, true) {
            log.extend(self.endpoints.iter().map(|endpoint| endpoint.event(What::Joined)));
        }
    }

    fn open_unchecked(&mut self, now: Instant, log: &mut Vec<Event>) {
        if !matches!(self.opening, Opening::At(at) if at <= now) {
            return;
        }
        self.opening = Opening::Over;
        let mut opened = false;
        for index in 0..self.endpoints.len() {
            let checks = self.endpoints.get_mut(index).and_then(|endpoint| endpoint.checks.as_mut());
            if checks.is_some_and(Checks::assume) {
                opened = true;
                self.wake(index);
            }
        }
        if opened {
            let what = What::OpenedUnchecked { after: OPEN_AFTER };
            log.push(Event { endpoint: None, what, state: None });
        }
    }

    fn move_on(&mut self, samples: &[Sample], moment: Moment, log: &mut Vec<Event>) {
        for (index, sample) in samples.iter().enumerate().take(self.endpoints.len()) {
            if !sample.is_idle() {
                self.wake(index);
            }
        }
        self.findings.pass(moment.now);
        for at in 0..self.awake.len() {
            let Some(index) = self.awake.get(at).copied() else { return };
            let Some(endpoint) = self.endpoints.get_mut(index) else { continue };
            endpoint.pass(&self.settings, moment.now, log);
            let Some(sample) = samples.get(index).filter(|sample| !sample.is_idle()) else { continue };
            endpoint.recent.take(sample, moment.now);
            if let Some(trial) = sample.trial {
                self.on_trial(index, trial, moment, log);
            }
        }
    }

    fn on_trial(&mut self, index: usize, trial: Trial, moment: Moment, log: &mut Vec<Event>) {
        let Moment { now, draw } = moment;
        let Some(endpoint) = self.endpoints.get_mut(index).filter(|e| e.is_on_trial()) else { return };
        if trial == Trial::Passed {
            if endpoint.passed_trial(&self.settings, now, log) {
                self.forget(index);
            }
            return;
        }
        let together = self.levels.get(endpoint.level).is_some_and(|level| level.together.is_some());
        if together || self.available == 0 {
            endpoint.excuse_trial();
            return;
        }
        let times = endpoint.times_if_ejected();
        let ejected_for = self.settings.ejection.drawn(times, mixed(draw, index));
        endpoint.eject(ejected_for, now);
        log.push(endpoint.event(What::TrialFailed { ejected_for, times }));
    }

    /// Asks the detectors. What they found, with the index of each, about endpoints that may be
    /// ejected.
    fn judge(&mut self, samples: &[Sample], now: Instant) -> Vec<(usize, Finding)> {
        let active = samples.iter().zip(&self.endpoints).filter(|(sample, _)| !sample.is_idle());
        let seen: Vec<_> = active
            .map(|(sample, endpoint)| Seen {
                endpoint: endpoint.index,
                level: self.levels.get(endpoint.level).map_or(0, |level| level.number),
                serving: endpoint.is_available(),
                sample,
            })
            .collect();
        let mut found = Vec::new();
        for (place, judge) in self.judges.iter_mut().enumerate() {
            found.extend(
                judge.detector.judge(&seen, now).into_iter().map(|finding| (place, finding, judge.mode)),
            );
        }
        let mut kept = Vec::new();
        for (place, finding, mode) in found {
            let Some(endpoint) = self.endpoints.get_mut(finding.endpoint) else { continue };
            if !endpoint.is_available() {
                continue;
            }
            if mode == Mode::Enforce {
                endpoint.complained_at = Some(now);
            }
            self.wake(finding.endpoint);
            kept.push((place, finding));
        }
        kept
    }

    /// Brings standings up to date: after everything that may have changed them.
    fn settle(&mut self, now: Instant, log: &mut Vec<Event>) {
        let Self { endpoints, awake, standings, .. } = self;
        for index in awake.iter() {
            let Some(endpoint) = endpoints.get_mut(*index) else { continue };
            let is_available = endpoint.is_available();
            let was_available = std::mem::replace(&mut endpoint.counted, is_available);
            self.available = self.available + usize::from(is_available) - usize::from(was_available);
        }
        let alone = self.available == 0;
        let mut changed = false;
        for index in awake.iter() {
            let Some(endpoint) = endpoints.get_mut(*index) else { continue };
            if alone {
                endpoint.put_on_trial(log);
            }
            let after = endpoint.standing(alone, self.settings.slow_start, now);
            if let Some(standing) = standings.get_mut(*index).filter(|standing| **standing != after) {
                *standing = after;
                changed = true;
            }
        }
        self.version += u64::from(changed);
        let is_awake = &mut self.is_awake;
        awake.retain(|index| {
            let at_rest = endpoints.get(*index).is_none_or(|endpoint| endpoint.is_at_rest(now));
            if let Some(is_awake) = is_awake.get_mut(*index) {
                *is_awake = !at_rest;
            }
            !at_rest
        });
    }

    fn wake(&mut self, index: usize) {
        if let Some(is_awake) = self.is_awake.get_mut(index)
            && !std::mem::replace(is_awake, true)
        {
            self.awake.push(index);
        }
    }

    /// Has the detectors begin anew with an endpoint.
    fn forget(&mut self, index: usize) {
        self.judges.iter_mut().for_each(|judge| judge.detector.forget(index));
    }
}

impl Judge {
    fn of(chosen: &Chosen) -> Self {
        Self { detector: chosen.make.make(), name: chosen.kind.name, mode: chosen.mode }
    }
}

/// The numbers of the levels in their order, each once, and the place of each among them.
fn places(levels: &[u32]) -> (Vec<u32>, impl Fn(u32) -> usize + use<>) {
    let mut numbers = levels.to_vec();
    numbers.sort_unstable();
    numbers.dedup();
    let known = numbers.clone();
    (numbers, move |number| known.binary_search(&number).unwrap_or_default())
}

/// A draw of its own for each endpoint.
fn mixed(draw: u64, index: usize) -> u64 {
    mix(draw ^ (index as u64).wrapping_add(1).wrapping_mul(STEP))
}

/// How long after the start of the process a pool waits for the first check that passes.
const OPEN_AFTER: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;
