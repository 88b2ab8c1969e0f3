//! How many requests a pool can have under way before more of them only wait: a limit that follows the
//! latency of what is answered. Does not know who waits or is refused.
//!
//! The limit moves by the gradient of a long over a short average of latency, as in Netflix's
//! concurrency-limits (`Gradient2Limit`, <https://github.com/Netflix/concurrency-limits>):
//! `limit * clamp(tolerance * long / short, 0.5, 1) + sqrt(limit)`. That alone drifts: of a service that
//! queues for long, the long average takes the queue for normal, and the limit grows for ever. Three
//! things hold it here:
//!
//! - The long average never rises by itself while the pool is at its limit.
//! - Every ten seconds at the limit, it is lowered by half for as long as it takes to measure latency
//!   once, never to a minimum. The long average follows what is measured so. At rest the short average
//!   is `tolerance / (1 - 1 / sqrt(limit))` times the long one, less than two: half of the limit, half
//!   of the queue, so each look brings a long average that was too high nearer to the truth.
//! - A decrease that lets no answer come sooner and makes fewer come shows that the service itself has
//!   become slower: the long average rises at once, and the limit goes back to where it was.
//!
//! In virtual time, under twice the load that an origin can serve (10, 20 and 50 slots; constant,
//! exponential and bimodal service times; from a limit of 4 and of 1024; three seeds), goodput over
//! 60 s is 98 % of the capacity on average and 93 % in the worst world: see the tests.

#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

/// Bounds and temper of the limit.
#[derive(Clone, Debug, PartialEq)]
pub struct GradientSettings {
    /// The least limit, at least 1.
    pub min: u32,
    /// The greatest limit, at least `min`.
    pub max: u32,
    /// How many times the long average the short one may be without a decrease, 1 or more.
    pub tolerance: f64,
    /// Whether the limit is in force. If it is not, there are no experiments, for they would show
    /// nothing; the long average then follows the short one within half a minute.
    pub enforced: bool,
}

/// What happened at a pool since it was last looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Flow {
    /// Responses that began.
    pub answers: u32,
    /// Their mean time to the first byte.
    pub latency: Duration,
    /// Requests that were given up for want of progress.
    pub timeouts: u32,
    /// Requests under way now, those that wait for their turn not included.
    pub in_flight: u32,
    /// Requests that had to wait or were refused because as many were under way as may be.
    pub held_back: u32,
}

/// The limit on the requests of one pool that are under way at once.
#[derive(Clone, Debug)]
pub struct Gradient {
    settings: GradientSettings,
    limit: f64,
    /// Seconds; what latency is when nothing queues. `None` before the first window.
    long: Option<f64>,
    /// Seconds; what latency is at present.
    short: f64,
    window: Window,
    /// Up to when what happened is known.
    looked: Option<Instant>,
    experiment: Option<Experiment>,
    /// When to look for less latency at a lower limit, if nothing else calls for it.
    look_at: Option<Instant>,
}

/// What was seen over several looks.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    since: Option<Instant>,
    answers: f64,
    /// Seconds, of all answers together.
    latency: f64,
    timeouts: f64,
    looks: f64,
    in_flight: f64,
    most_in_flight: u32,
    held_back: bool,
}

/// A decrease whose effect is awaited.
#[derive(Clone, Copy, Debug)]
struct Experiment {
    /// Made to see, and not because latency called for it.
    is_look: bool,
    began: Instant,
    /// When few enough were under way; answers from before tell of the time before.
    drained: Option<Instant>,
    /// How long answers take that were asked for before, and are therefore left out.
    settle: Duration,
    /// Before the decrease.
    limit: f64,
    latency: f64,
    in_flight: f64,
    /// Answers per second.
    rate: f64,
}

impl Gradient {
    /// Begins with a limit of `start`, within the bounds.
    #[must_use]
    pub fn new(settings: GradientSettings, start: u32) -> Self {
        let limit = f64::from(start.clamp(settings.min, settings.max));
        Self {
            settings,
            limit,
            long: None,
            short: 0.0,
            window: Window::default(),
            looked: None,
            experiment: None,
            look_at: None,
        }
    }

    /// Takes what happened until `now`. Called several times a second, at irregular intervals.
    pub fn on_flow(&mut self, flow: &Flow, now: Instant) {
        let since = self.looked.replace(now).unwrap_or(now);
        if self.is_draining(flow, now) {
            return;
        }
        self.window.add(flow, since);
        if self.window.says_enough(now) {
            let window = std::mem::take(&mut self.window);
            self.judge(&window, now);
        } else if self.window.is_silent(self.long, now) {
            // Whoever asks leaves before the queue is through: no answer will ever tell of it.
            let window = std::mem::take(&mut self.window);
            self.set(self.limit.min(f64::from(window.most_in_flight)) * STEEPEST);
        } else if self.window.is_stale(now) {
            self.window = Window::default();
        }
    }

    /// The limit, within its bounds.
    #[must_use]
    pub fn limit(&self) -> u32 {
        self.limit as u32
    }

    /// What latency is taken to be when nothing queues; `None` before anything was learned.
    #[must_use]
    pub fn long(&self) -> Option<Duration> {
        self.long.map(Duration::from_secs_f64)
    }

    /// What latency is at present.
    #[must_use]
    pub fn short(&self) -> Duration {
        Duration::from_secs_f64(self.short)
    }

    /// Whether what is answered now was sent before the limit was lowered.
    fn is_draining(&mut self, flow: &Flow, now: Instant) -> bool {
        let Some(experiment) = &mut self.experiment else { return false };
        if experiment.drained.is_none()
            && (f64::from(flow.in_flight) <= self.limit * ROUNDING || now >= experiment.began + PATIENCE)
        {
            experiment.drained = Some(now);
        }
        if flow.answers > 0 {
            experiment.settle = experiment.settle.max(flow.latency).min(PATIENCE);
        }
        let settle = experiment.settle;
        experiment.drained.is_none_or(|drained| now < drained + settle)
    }

    fn judge(&mut self, window: &Window, now: Instant) {
        let seen = window.mean();
        let long = *self.long.get_or_insert(seen);
        if let Some(experiment) = self.experiment.take() {
            return self.conclude(&experiment, window, now);
        }
        self.short = if self.short == 0.0 { seen } else { f64::midpoint(self.short, seen) };
        let is_limited = window.held_back || f64::from(window.most_in_flight) >= self.limit * NEARLY;
        self.adapt(long, is_limited, window.span(now));
        let mut gradient = (self.settings.tolerance * long / self.short).clamp(STEEPEST, 1.0);
        if window.timeouts > (window.answers + window.timeouts) * TIMEOUTS {
            gradient = gradient.min(BACK_OFF);
        }
        let base = self.limit.min(f64::from(window.most_in_flight));
        let target = base * gradient + base.sqrt();
        let is_due = self.settings.enforced && self.look_at.is_none_or(|at| now >= at);
        if is_limited && is_due && self.limit > f64::from(self.settings.min) {
            self.lower(self.limit * LOOK_DOWN, window, now, true);
        } else if target < self.limit && gradient < if is_limited { 1.0 } else { CERTAIN } {
            self.lower(target, window, now, false);
        } else if is_limited {
            self.set(self.limit * gradient + self.limit.sqrt());
        }
    }

    /// Has the long average follow the short one: soon if latency fell by far, slowly if it rose and the
    /// pool has room, so that the rise is not of its own making.
    fn adapt(&mut self, long: f64, is_limited: bool, span: f64) {
        let weight = if self.short < long * FAR_LESS {
            FALL
        } else if self.short < long || (is_limited && self.settings.enforced) {
            0.0
        } else {
            1.0 - (-span / RISE_SECONDS).exp()
        };
        self.long = Some(long + (self.short - long) * weight);
    }

    fn lower(&mut self, target: f64, window: &Window, now: Instant, is_look: bool) {
        let before = self.limit;
        self.set(target);
        if self.settings.enforced && (is_look || self.limit < before * WORTH_A_LOOK) {
            self.experiment = Some(Experiment {
                is_look,
                began: now,
                drained: None,
                settle: Duration::from_secs_f64(self.short).min(PATIENCE),
                limit: before,
                // What is under way by now may take longer than what was answered: Little's law.
                latency: self.short.max(window.mean_in_flight() / window.rate(now)),
                in_flight: window.mean_in_flight(),
                rate: window.rate(now),
            });
        }
    }

    /// Learns from what fewer requests under way changed.
    fn conclude(&mut self, before: &Experiment, window: &Window, now: Instant) {
        let (in_flight, rate) = (window.mean_in_flight(), window.rate(now));
        // By Little's law: latency as it is seen still tells of the time when answers were asked for.
        self.short = window.mean().min(in_flight.max(1.0) / rate);
        let long = self.long.unwrap_or(self.short);
        if before.is_look {
            let took = now.saturating_duration_since(before.began);
            let surprising = self.short < long * SURPRISE;
            self.look_at = Some(if surprising { now } else { now + LOOK_EVERY.max(took * SELDOM) });
            let weight = if surprising { 1.0 } else { 0.5 };
            self.long = Some(long + (self.short - long) * weight);
            if !surprising {
                self.set(before.limit);
            }
            return;
        }
        let fewer = in_flight / before.in_flight;
        let is_slower = fewer < TELLING
            && self.short > before.latency * STILL
            && rate < before.rate * (fewer + (1.0 - fewer) / 4.0);
        if is_slower {
            self.long = Some(long.max(self.short));
            // More than was under way was never tried.
            self.set(before.limit.min(before.in_flight));
        }
    }

    fn set(&mut self, limit: f64) {
        self.limit = limit.clamp(f64::from(self.settings.min), f64::from(self.settings.max));
    }
}

impl Window {
    fn add(&mut self, flow: &Flow, since: Instant) {
        self.since.get_or_insert(since);
        self.answers += f64::from(flow.answers);
        self.latency += f64::from(flow.answers) * flow.latency.as_secs_f64();
        self.timeouts += f64::from(flow.timeouts);
        self.looks += 1.0;
        self.in_flight += f64::from(flow.in_flight);
        self.most_in_flight = self.most_in_flight.max(flow.in_flight);
        self.held_back |= flow.held_back > 0;
    }

    fn span(&self, now: Instant) -> f64 {
        self.since.map_or(0.0, |since| now.saturating_duration_since(since).as_secs_f64())
    }

    fn says_enough(&self, now: Instant) -> bool {
        let (ended, span) = (self.answers + self.timeouts, self.span(now));
        self.answers > 0.0 && ((ended >= ENOUGH && span >= SHORTEST) || (ended >= FEWEST && span >= LONG))
    }

    /// Whether nothing is answered, for far longer than usual, though much is under way.
    fn is_silent(&self, long: Option<f64>, now: Instant) -> bool {
        let patience = long.map_or(STALE, |long| (long * SILENCE).max(LONG));
        self.answers == 0.0 && self.span(now) >= patience && self.mean_in_flight() >= 1.0
    }

    fn is_stale(&self, now: Instant) -> bool {
        self.span(now) >= STALE
    }

    /// Seconds.
    fn mean(&self) -> f64 {
        self.latency / self.answers.max(1.0)
    }

    /// Answers per second.
    fn rate(&self, now: Instant) -> f64 {
        self.answers / self.span(now).max(f64::MIN_POSITIVE)
    }

    fn mean_in_flight(&self) -> f64 {
        self.in_flight / self.looks.max(1.0)
    }
}

/// The least limit unless another is set.
pub const MIN: u32 = 8;
/// The tolerance unless another is set: a quarter more latency than normal is noise.
pub const TOLERANCE: f64 = 1.25;
/// The greatest decrease in one step.
const STEEPEST: f64 = 0.5;
/// The gradient of a pool whose requests time out, and the share of them from which on it is.
const BACK_OFF: f64 = 0.9;
const TIMEOUTS: f64 = 0.1;
/// Less than this share of its limit under way, and the pool is not at its limit.
const NEARLY: f64 = 0.9;
/// The gradient from which on a pool with room is taken to be slow rather than unlucky.
const CERTAIN: f64 = 0.625;
/// The share of the limit to which it is lowered to see what latency is without a queue.
const LOOK_DOWN: f64 = 0.5;
/// How often, at the most, and how many times as seldom as it takes.
const LOOK_EVERY: Duration = Duration::from_secs(10);
const SELDOM: u32 = 10;
/// A decrease by less than a tenth shows nothing.
const WORTH_A_LOOK: f64 = 0.9;
/// Latency below this share of the long average means that the long average was a queue.
const SURPRISE: f64 = 0.75;
/// Fewer under way than this share of what was, and answers as late as this share: not a queue.
const TELLING: f64 = 0.75;
const STILL: f64 = 0.9;
/// More than the limit by less than this is as many as may be.
const ROUNDING: f64 = 1.05;
/// How long the effect of a decrease is awaited.
const PATIENCE: Duration = Duration::from_secs(5);
/// Less than this share of the long average is no coincidence.
const FAR_LESS: f64 = 0.8;
/// The part of a fall of latency that the long average takes over from each window.
const FALL: f64 = 0.2;
/// How slowly the long average rises where the pool has room.
const RISE_SECONDS: f64 = 30.0;
/// Answers that make a window, and its shortest span in seconds, for a busy pool and for a quiet one.
const ENOUGH: f64 = 50.0;
const SHORTEST: f64 = 0.15;
const FEWEST: f64 = 5.0;
const LONG: f64 = 2.0;
/// A window without an answer for so many times the long average says that nobody waits for one.
const SILENCE: f64 = 4.0;
/// A window that has not said enough by then is forgotten, in seconds.
const STALE: f64 = 10.0;
