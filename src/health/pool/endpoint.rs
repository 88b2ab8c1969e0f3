//! One endpoint: what keeps it from its traffic, and when that ends by itself. Knows nothing of its
//! siblings; what depends on them is decided in the pool.

mod change;

use std::time::{Duration, Instant};

use super::HealthSettings;
use super::level::BEFORE;
use super::recent::Recent;
use super::settings::Ejection;
use super::standing::{Standing, State};
use super::verdict::{Checks, Verdict};
use crate::balance::FULL;
use crate::health::check::CheckResult;
use crate::health::journal::{Command, Event, Order, What};

/// An endpoint's health.
#[derive(Debug)]
pub(super) struct Endpoint {
    /// Its index in the pool.
    pub(super) index: usize,
    /// The index of its level.
    pub(super) level: usize,
    pub(super) checks: Option<Checks>,
    pub(super) absence: Option<Absence>,
    pub(super) recent: Recent,
    /// Whether the pool counts it among the available.
    pub(super) counted: bool,
    /// When a detector that is enforced last found it wanting.
    pub(super) complained_at: Option<Instant>,
    order: Option<StandingOrder>,
    offences: Offences,
    degraded_until: Option<Instant>,
    warm_since: Option<Instant>,
    /// Whether its first pass brings all of its weight, as at the start of the process.
    starts_at_once: bool,
    /// Whether it is to be checked before it stands beside those that it has joined.
    joining: bool,
    disagreement: Disagreement,
}

/// An order that holds.
#[derive(Clone, Copy, Debug)]
struct StandingOrder {
    /// Drain or disable.
    command: Command,
    until: Option<Instant>,
}

/// An ejection, to the end of its trial.
#[derive(Clone, Copy, Debug)]
pub(super) struct Absence {
    pub(super) since: Instant,
    /// Whether it follows upon another without a return between them.
    again: bool,
    /// Whether requests were failing when it began.
    failing: bool,
    pub(super) phase: Phase,
}

/// How far an ejection is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Phase {
    /// No traffic.
    Ejected {
        /// Then it is put on trial.
        until: Instant,
    },
    /// One request at a time.
    OnTrial {
        /// Trials that ended well, in a row.
        passes: u32,
        /// The longest such row that was recorded.
        told: u32,
    },
}

/// How often it was ejected, less what health has made good: one for each time, in health, as long
/// as the last ejection.
#[derive(Clone, Copy, Debug)]
struct Offences {
    times: u32,
    /// Since when it has been healthy, or the count was last lowered.
    healthy_since: Instant,
}

/// Whether checks pass while requests fail.
#[derive(Clone, Copy, Debug, Default)]
struct Disagreement {
    holds: bool,
    /// When it last held.
    last: Option<Instant>,
}

impl Endpoint {
    pub(super) fn new(index: usize, level: usize, checked: bool, now: Instant) -> Self {
        Self {
            index,
            level,
            checks: checked.then(|| Checks::new(now)),
            absence: None,
            recent: Recent::default(),
            counted: false,
            complained_at: None,
            order: None,
            offences: Offences { times: 0, healthy_since: now },
            degraded_until: None,
            warm_since: None,
            starts_at_once: true,
            joining: false,
            disagreement: Disagreement::default(),
        }
    }

    /// An event of this endpoint, with its state after it.
    pub(super) fn event(&self, what: What) -> Event {
        Event { endpoint: Some(self.index), what, state: Some(self.state()) }
    }

    fn state(&self) -> State {
        let verdict = self.checks.map(|checks| checks.verdict);
        let phase = self.absence.map(|absence| absence.phase);
        match (self.order.map(|order| order.command), verdict, phase) {
            (Some(Command::Disable), ..) => State::Disabled,
            (Some(_), ..) => State::Draining,
            (_, Some(Verdict::Down), _) => State::Down,
            (_, Some(Verdict::Unproven), _) => State::Unchecked,
            (.., Some(Phase::Ejected { .. })) => State::Ejected,
            (.., Some(Phase::OnTrial { .. })) => State::OnTrial,
            _ if self.degraded_until.is_some() => State::Degraded,
            _ if self.warm_since.is_some() => State::Warming,
            _ => State::Up,
        }
    }

    /// What is to be done with it; `alone` if the pool has nobody who is available.
    pub(super) fn standing(&self, alone: bool, slow_start: Duration, now: Instant) -> Standing {
        let state = self.state();
        let on_trial = state == State::OnTrial;
        Standing {
            state,
            available: self.is_available() || (alone && on_trial),
            excluded: self.order.is_some() || (self.joining && !alone),
            on_trial,
            factor: self.factor(slow_start, now),
        }
    }

    fn factor(&self, slow_start: Duration, now: Instant) -> u32 {
        if self.degraded_until.is_some() {
            return LEAST;
        }
        let Some(since) = self.warm_since else { return FULL };
        let part = now.saturating_duration_since(since).as_secs_f64() / slow_start.as_secs_f64();
        LEAST + (f64::from(FULL - LEAST) * part.clamp(0.0, 1.0)) as u32
    }

    /// Whether checks and orders let it have traffic.
    pub(super) fn is_usable(&self) -> bool {
        self.order.is_none() && self.checks.is_none_or(|checks| checks.is_usable())
    }

    /// Whether it may get traffic as a rule.
    pub(super) fn is_available(&self) -> bool {
        self.is_usable() && self.absence.is_none()
    }

    /// Whether it counts among those of which only so many may be ejected.
    pub(super) fn takes_part(&self) -> bool {
        let unknown = self.checks.is_some_and(|checks| checks.verdict == Verdict::Unproven);
        self.order.is_none() && !unknown
    }

    fn down_since(&self) -> Option<Instant> {
        self.checks.filter(|checks| checks.verdict == Verdict::Down).map(|checks| checks.since)
    }

    fn gone_since(&self) -> Option<Instant> {
        self.down_since().or(self.absence.map(|absence| absence.since))
    }

    /// Whether its failure at `now` might have the same cause as that of others: it takes part, and
    /// is not gone already for reasons of its own.
    pub(super) fn may_fail_together(&self, now: Instant) -> bool {
        let is_fresh = |since| now.saturating_duration_since(since) <= BEFORE;
        self.takes_part() && self.gone_since().is_none_or(is_fresh)
    }

    /// Whether it looks bad, by whatever sign.
    pub(super) fn is_suspect(&self, now: Instant) -> bool {
        self.may_fail_together(now)
            && (self.gone_since().is_some() || self.is_complained_of(now) || self.recent.is_failing(now))
    }

    fn is_complained_of(&self, now: Instant) -> bool {
        self.complained_at.is_some_and(|at| now.saturating_duration_since(at) < LAPSE)
    }

    pub(super) fn is_disagreeing(&self) -> bool {
        self.disagreement.holds
    }

    /// Whether nothing about it changes until something happens to it.
    pub(super) fn is_at_rest(&self, now: Instant) -> bool {
        let waits = self.order.is_some_and(|order| order.until.is_some())
            || self.absence.is_some()
            || self.offences.times > 0
            || self.degraded_until.is_some()
            || self.warm_since.is_some()
            || self.joining
            || self.disagreement.holds
            || self.is_complained_of(now)
            || self.down_since().is_some_and(|since| now.saturating_duration_since(since) <= BEFORE);
        !waits && self.recent.is_quiet(now)
    }
}

/// What happens to it.
impl Endpoint {
    /// Moves on to `now`: what was to last for a time ends.
    pub(super) fn pass(&mut self, settings: &HealthSettings, now: Instant, log: &mut Vec<Event>) {
        self.end_order(settings, now, log);
        if let Some(Phase::Ejected { until }) = self.absence.map(|absence| absence.phase)
            && until <= now
        {
            self.put_on_trial(log);
        }
        if self.degraded_until.is_some_and(|until| until <= now) {
            self.degraded_until = None;
            self.begin_slowly(settings, now);
            if self.warm_since.is_none() && self.is_available() {
                log.push(self.event(What::Recovered));
            }
        }
        let is_warm = |since| now.saturating_duration_since(since) >= settings.slow_start;
        if self.degraded_until.is_none() && self.warm_since.is_some_and(is_warm) {
            self.warm_since = None;
            if self.is_available() {
                log.push(self.event(What::Recovered));
            }
        }
        self.make_good(&settings.ejection, now);
        self.watch_disagreement(now);
    }

    fn end_order(&mut self, settings: &HealthSettings, now: Instant, log: &mut Vec<Event>) {
        if let Some(order) = self.order
            && order.until.is_some_and(|until| until <= now)
        {
            self.release(settings, now);
            log.push(self.event(What::OrderOver(order.command)));
        }
    }

    fn make_good(&mut self, ejection: &Ejection, now: Instant) {
        let offences = &mut self.offences;
        if offences.times == 0 {
            return;
        }
        let healthy = now.saturating_duration_since(offences.healthy_since);
        if !self.counted || self.absence.is_some() {
            offences.healthy_since = now;
        } else if healthy >= ejection.length(offences.times) {
            (offences.times, offences.healthy_since) = (offences.times - 1, now);
        }
    }

    pub(super) fn obey(&mut self, order: Order, settings: &HealthSettings, now: Instant) {
        let held = self.order.map(|order| order.command);
        match (order.command, held) {
            (Command::Drain | Command::Disable, _) => {
                let until = order.lasts.and_then(|lasts| now.checked_add(lasts));
                self.order = Some(StandingOrder { command: order.command, until });
            }
            (Command::Undrain, Some(Command::Drain)) | (Command::Enable, Some(Command::Disable)) => {
                self.release(settings, now);
            }
            _ => {}
        }
    }

    /// Ends the order that holds. Who was disabled begins anew: an operator's word ends an ejection,
    /// and checks have to pass again.
    fn release(&mut self, settings: &HealthSettings, now: Instant) {
        if self.order.take().is_some_and(|order| order.command == Command::Disable) {
            self.checks = settings.checks.as_ref().map(|_| Checks::new(now));
            self.absence = None;
            self.offences = Offences { times: 0, healthy_since: now };
            self.recent = Recent::default();
            (self.degraded_until, self.complained_at) = (None, None);
            self.starts_at_once = false;
        }
        self.begin_slowly(settings, now);
    }

    pub(super) fn begin_slowly(&mut self, settings: &HealthSettings, now: Instant) {
        self.warm_since = (!settings.slow_start.is_zero()).then_some(now);
    }

    pub(super) fn is_disabled(&self) -> bool {
        self.order.is_some_and(|order| order.command == Command::Disable)
    }

    /// Takes a check's result. Whether it came up.
    pub(super) fn checked(
        &mut self,
        result: &CheckResult,
        settings: &HealthSettings,
        now: Instant,
        log: &mut Vec<Event>,
    ) -> bool {
        let (Some(rhythm), Some(checks)) = (&settings.checks, &mut self.checks) else { return false };
        let passed = result.failure.is_none();
        let step = checks.take(passed, rhythm, now);
        self.joining &= checks.verdict == Verdict::Unproven;
        if let Some(step) = step {
            let what = What::Checked { result: result.clone(), row: step.row, needed: step.needed };
            log.push(self.event(what));
        }
        let turned = step.and_then(|step| step.turned);
        let came_up = passed && matches!(turned, Some(Verdict::Unproven | Verdict::Down));
        if came_up {
            if turned == Some(Verdict::Down) || !self.starts_at_once {
                self.begin_slowly(settings, now);
            }
            log.push(self.event(What::CameUp));
        } else if turned.is_some() && !passed {
            log.push(self.event(What::WentDown));
        }
        if passed {
            self.compare(result.took, now, log);
        } else {
            self.disagreement.holds = false;
        }
        came_up
    }

    /// Compares a check that passed with what requests met with since before it began.
    fn compare(&mut self, took: Duration, now: Instant, log: &mut Vec<Event>) {
        let away = self.absence.filter(|absence| absence.failing).map(|absence| absence.since);
        let failing_since = away.or(self.recent.failing_since(now));
        let is_before = |since| now.saturating_duration_since(since) >= took;
        let is_up = self.checks.is_some_and(|checks| checks.verdict == Verdict::Up);
        if !is_up || !failing_since.is_some_and(is_before) {
            return;
        }
        let before = self.disagreement;
        self.disagreement = Disagreement { holds: true, last: Some(now) };
        let is_new = |last| now.saturating_duration_since(last) >= DISAGREEMENT_GAP;
        if !before.holds && before.last.is_none_or(is_new) {
            log.push(self.event(What::Disagreement));
        }
    }

    fn watch_disagreement(&mut self, now: Instant) {
        if self.disagreement.holds {
            self.disagreement.last = Some(now);
            self.disagreement.holds =
                self.absence.is_some_and(|absence| absence.failing) || self.recent.is_failing(now);
        }
    }

    /// Cuts its weight until it has not been found slow for a time.
    pub(super) fn degrade(&mut self, now: Instant) {
        self.degraded_until = Some(now + LAPSE);
    }

    /// Ejects it until `now + lasts`.
    pub(super) fn eject(&mut self, lasts: Duration, now: Instant) {
        let failing = self.recent.is_failing(now) || self.absence.is_some_and(|absence| absence.failing);
        let again = self.absence.is_some();
        let phase = Phase::Ejected { until: now + lasts };
        self.absence = Some(Absence { since: now, again, failing, phase });
        self.offences.times = self.times_if_ejected();
        (self.degraded_until, self.warm_since) = (None, None);
    }

    /// Which ejection in a row the next will be.
    pub(super) fn times_if_ejected(&self) -> u32 {
        self.offences.times.saturating_add(1)
    }

    /// Ends an ejection, but for the trial, if orders and checks let it.
    pub(super) fn put_on_trial(&mut self, log: &mut Vec<Event>) {
        if !self.is_usable() {
            return;
        }
        if let Some(absence) = &mut self.absence
            && matches!(absence.phase, Phase::Ejected { .. })
        {
            absence.phase = Phase::OnTrial { passes: 0, told: 0 };
            log.push(self.event(What::OnTrial));
        }
    }

    /// A trial request ended well. Whether the endpoint is back.
    pub(super) fn passed_trial(
        &mut self,
        settings: &HealthSettings,
        now: Instant,
        log: &mut Vec<Event>,
    ) -> bool {
        let Some(Absence { phase: Phase::OnTrial { passes, told }, .. }) = &mut self.absence else {
            return false;
        };
        *passes += 1;
        let left = TRIALS.saturating_sub(*passes);
        if left > 0 {
            if *passes > *told {
                *told = *passes;
                log.push(self.event(What::TrialPassed { left }));
            }
            return false;
        }
        self.come_back(now);
        self.begin_slowly(settings, now);
        log.push(self.event(What::Returned { slow_start: settings.slow_start }));
        true
    }

    /// A trial request failed for reasons that are not its own: trials begin again.
    pub(super) fn excuse_trial(&mut self) {
        if let Some(Absence { phase: Phase::OnTrial { passes, .. }, .. }) = &mut self.absence {
            *passes = 0;
        }
    }

    pub(super) fn is_on_trial(&self) -> bool {
        matches!(self.absence, Some(Absence { phase: Phase::OnTrial { .. }, .. }))
    }

    /// Undoes an ejection that was nobody's fault: it is back at once, or where it had been.
    /// Whether it is back.
    pub(super) fn lift(&mut self, now: Instant, log: &mut Vec<Event>) -> bool {
        match self.absence {
            None => return false,
            Some(Absence { again: true, phase: Phase::OnTrial { .. }, .. }) => return false,
            Some(Absence { again: true, .. }) => {
                self.offences.times = self.offences.times.saturating_sub(1);
                self.put_on_trial(log);
                return false;
            }
            Some(_) => {}
        }
        self.offences.times = self.offences.times.saturating_sub(1);
        self.come_back(now);
        log.push(self.event(What::Returned { slow_start: Duration::ZERO }));
        true
    }

    fn come_back(&mut self, now: Instant) {
        self.absence = None;
        self.offences.healthy_since = now;
    }
}

/// The factor that slow start begins with, and that of a degraded endpoint, in thousandths.
const LEAST: u32 = FULL / 10;
/// For how long a finding holds that is not repeated.
const LAPSE: Duration = Duration::from_millis(2500);
/// Trial requests that must end well, in a row.
const TRIALS: u32 = 3;
/// A disagreement that comes back sooner is the same.
const DISAGREEMENT_GAP: Duration = Duration::from_secs(10);
