//! The state of each endpoint of a pool, from checks, findings and commands.

use std::time::{Duration, Instant};

use super::Sample;
use super::check::{CheckResult, Rhythm};
use super::detector::Chosen;
use super::journal::{Event, Order};

/// What endpoints are judged by, per pool.
#[derive(Clone, Debug)]
pub struct HealthSettings {
    /// The rhythm of active checks; `None` when there are none.
    pub checks: Option<Rhythm>,
    /// Detectors in force.
    pub detectors: Vec<Chosen>,
    /// Bounds on ejection.
    pub ejection: Ejection,
    /// How long an endpoint takes from a tenth of its weight to all of it. Zero for at once.
    pub slow_start: Duration,
}

/// The default of [`HealthSettings::slow_start`].
pub const SLOW_START: Duration = Duration::from_secs(10);

/// Bounds on ejection.
#[derive(Clone, Debug, PartialEq)]
pub struct Ejection {
    /// How long the first lasts; the nth lasts n times as long.
    pub base: Duration,
    /// The longest.
    pub max: Duration,
    /// By which share, 0 to 1, each is varied at random, either way.
    pub jitter: f64,
    /// The greatest share of a level's endpoints, 0 to 1, that may be ejected at once; at least one
    /// where there are two or more, never the last.
    pub max_ejected: f64,
}

impl Default for Ejection {
    fn default() -> Self {
        Self { base: Duration::from_secs(10), max: Duration::from_secs(300), jitter: 0.1, max_ejected: 0.5 }
    }
}

/// The state of an endpoint, by what keeps it from all of its traffic; the first that holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum State {
    /// Taken out by command.
    Disabled,
    /// Given no new requests, by command.
    Draining,
    /// Active checks fail.
    Down,
    /// No active check has passed yet.
    Unchecked,
    /// An outlier, for a time.
    Ejected,
    /// After ejection: one request at a time decides.
    OnTrial,
    /// A tenth of its weight, because it is slow.
    Degraded,
    /// On its way to its whole weight.
    Warming,
    /// Nothing.
    Up,
}

impl State {
    /// Every state, in the order of the variants.
    pub const ALL: [Self; 9] = [
        Self::Disabled,
        Self::Draining,
        Self::Down,
        Self::Unchecked,
        Self::Ejected,
        Self::OnTrial,
        Self::Degraded,
        Self::Warming,
        Self::Up,
    ];

    /// The word for it in metrics, the journal and the terminal.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::Draining => "draining",
            Self::Down => "down",
            Self::Unchecked => "unchecked",
            Self::Ejected => "ejected",
            Self::OnTrial => "on_trial",
            Self::Degraded => "degraded",
            Self::Warming => "warming",
            Self::Up => "up",
        }
    }
}

/// What the rest of the program does with an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its state.
    pub state: State,
    /// Whether it may get traffic as a rule.
    pub available: bool,
    /// Whether it was taken out by command, so that it is not even tried when too few are available.
    pub excluded: bool,
    /// Whether a trial request may go there.
    pub on_trial: bool,
    /// Its part of its weight, in thousandths.
    pub factor: u32,
}

/// The health of one pool.
#[derive(Debug)]
pub struct PoolHealth {
    settings: HealthSettings,
    standings: Vec<Standing>,
}

impl PoolHealth {
    /// The health of a pool whose endpoints are in these failover levels, from `now` on, which is the
    /// start of the process: nobody starts slowly.
    #[must_use]
    pub fn new(settings: HealthSettings, levels: &[u32], now: Instant) -> Self {
        let _ = now;
        let up = Standing {
            state: State::Up,
            available: true,
            excluded: false,
            on_trial: false,
            factor: crate::balance::FULL,
        };
        Self { settings, standings: levels.iter().map(|_| up).collect() }
    }

    /// Takes the result of an active check.
    pub fn on_check(&mut self, endpoint: usize, result: &CheckResult, now: Instant, log: &mut Vec<Event>) {
        let _ = (endpoint, result, now, log);
    }

    /// Takes what happened since the last call, one sample for each endpoint, and moves on to `now`.
    /// To be called several times a second. `draw` is a uniformly distributed random number.
    pub fn on_tick(&mut self, samples: &[Sample], now: Instant, draw: u64, log: &mut Vec<Event>) {
        let _ = (samples, now, draw, log);
    }

    /// Takes an order from outside.
    pub fn on_order(&mut self, endpoint: usize, order: Order, now: Instant, log: &mut Vec<Event>) {
        let _ = (endpoint, order, now, log);
    }

    /// When to check the endpoint next, after a check that ended at `now`; `None` while it is not to
    /// be checked.
    #[must_use]
    pub fn next_check(&self, endpoint: usize, draw: u64) -> Option<Duration> {
        let _ = (endpoint, draw);
        self.settings.checks.as_ref().map(|rhythm| rhythm.interval)
    }

    /// What is to be done with each endpoint.
    #[must_use]
    pub fn standings(&self) -> &[Standing] {
        &self.standings
    }

    /// Counts the changes of [`Self::standings`].
    #[must_use]
    pub fn version(&self) -> u64 {
        0
    }

    /// Whether all degrade together.
    #[must_use]
    pub fn is_correlated(&self) -> bool {
        false
    }

    /// Whether checks of the endpoint pass while its requests fail.
    #[must_use]
    pub fn disagrees(&self, endpoint: usize) -> bool {
        let _ = endpoint;
        false
    }
}
