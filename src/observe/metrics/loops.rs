//! What is measured of the loops that adjust what is let through: breakers, adaptive limits, admission
//! control. The control thread writes all of it; nothing here is on a request's path.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::exposition::{Exposition, Labels, Title, labels};
use super::seats::Seat;
use crate::model::Name;

/// A breaker: of a pool, or of one of its endpoints.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct BreakerLabels {
    pub(super) pool: Name,
    pub(super) endpoint: Option<String>,
}

/// What is shown of one breaker.
#[derive(Debug, Default)]
pub struct BreakerMetrics {
    state: AtomicU8,
    opened: AtomicU64,
    /// That of the endpoint, if it is an endpoint's.
    seat: Option<Arc<Seat>>,
}

/// The states of a breaker, in the order in which they are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum BreakerState {
    /// Everything passes.
    Closed,
    /// Nothing does.
    Open,
    /// One request at a time does.
    HalfOpen,
}

/// What is shown of one pool's loops. Nothing is shown of loops that are off.
#[derive(Debug)]
pub struct LoopMetrics {
    /// 0 when there is none.
    limit: AtomicU32,
    /// Microseconds: the long average, and the short one.
    latencies: [AtomicU64; 2],
    /// In 2^-32; `NONE` when there is none.
    probability: AtomicU64,
}

impl BreakerMetrics {
    pub(super) fn new(seat: Option<Arc<Seat>>) -> Self {
        Self { seat, ..Self::default() }
    }

    /// How often it opened.
    pub(super) fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    /// Whether it has series of its own.
    pub(super) fn is_own(&self) -> bool {
        self.seat.as_ref().is_none_or(|seat| seat.is_own())
    }

    /// It is in this state from now on.
    pub fn set(&self, state: BreakerState) {
        if state == BreakerState::Open {
            self.opened.fetch_add(1, Ordering::Relaxed);
        }
        self.state.store(state as u8, Ordering::Relaxed);
    }
}

impl BreakerState {
    /// Every state.
    pub const ALL: [Self; 3] = [Self::Closed, Self::Open, Self::HalfOpen];

    /// The value of the label `state`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

impl Default for LoopMetrics {
    fn default() -> Self {
        Self { limit: AtomicU32::new(0), latencies: Default::default(), probability: AtomicU64::new(NONE) }
    }
}

impl LoopMetrics {
    /// The adaptive limit, and the averages of latency, long and short, that it follows.
    pub fn set_limit(&self, limit: u32, long: Duration, short: Duration) {
        for (shown, latency) in self.latencies.iter().zip([long, short]) {
            shown.store(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// Shows from now on only what is known of loops that there are: of an adaptive limit, and of admission
    /// control.
    pub fn show(&self, limit: bool, probability: bool) {
        if !limit {
            self.limit.store(0, Ordering::Relaxed);
        }
        if !probability {
            self.probability.store(NONE, Ordering::Relaxed);
        }
    }

    /// The part that admission control turns away, or would, in 2^-32.
    pub fn set_probability(&self, bits: u32) {
        self.probability.store(u64::from(bits), Ordering::Relaxed);
    }
}

/// Adds what is known of breakers. Of the `others`, which are shown together, how often they opened.
pub(super) fn expose_breakers<'a>(
    breakers: impl Iterator<Item = (&'a BreakerLabels, &'a BreakerMetrics)> + Clone,
    others: impl Iterator<Item = (&'a BreakerLabels, u64)>,
    out: &mut Exposition,
) {
    let states = breakers.clone().flat_map(|(of, breaker)| {
        let now = breaker.state.load(Ordering::Relaxed);
        BreakerState::ALL
            .into_iter()
            .map(move |state| (of.labels(Some(state.name())), f64::from(u8::from(state as u8 == now))))
    });
    out.gauge(STATE, states);
    let opened = breakers.map(|(of, breaker)| (of, breaker.opened())).chain(others);
    out.counter(OPENED, opened.map(|(of, opened)| (of.labels(None), opened as f64)));
}

/// Adds what is known of pools' loops.
pub(super) fn expose_loops<'a>(
    pools: impl Iterator<Item = (&'a Name, &'a LoopMetrics)> + Clone,
    out: &mut Exposition,
) {
    let of = |pool: &Name| labels([("pool", pool.as_str())]);
    let limited = pools.clone().filter(|(_, loops)| loops.limit.load(Ordering::Relaxed) > 0);
    let limits = limited.clone();
    out.gauge(LIMIT, limits.map(|(pool, loops)| (of(pool), f64::from(loops.limit.load(Ordering::Relaxed)))));
    let latencies = limited.flat_map(|(pool, loops)| {
        loops.latencies.iter().zip(["long", "short"]).map(|(micros, average)| {
            let seconds = Duration::from_micros(micros.load(Ordering::Relaxed)).as_secs_f64();
            (labels([("pool", pool.as_str()), ("average", average)]), seconds)
        })
    });
    out.gauge(LATENCY, latencies);
    let probabilities = pools.filter_map(|(pool, loops)| {
        let bits = loops.probability.load(Ordering::Relaxed);
        (bits != NONE).then(|| (of(pool), bits as f64 / f64::from(u32::MAX)))
    });
    out.gauge(PROBABILITY, probabilities);
}

impl BreakerLabels {
    fn labels(&self, state: Option<&'static str>) -> Labels {
        let endpoint = self.endpoint.as_deref().map(|endpoint| ("endpoint", endpoint));
        let all = [Some(("pool", self.pool.as_str())), endpoint, state.map(|state| ("state", state))];
        labels(all.into_iter().flatten())
    }
}

/// No probability, for those are less than 2^32.
const NONE: u64 = u64::MAX;

const STATE: Title = Title("forebay_breaker_state", "1 for the state that the breaker is in, 0 for others.");

const OPENED: Title = Title("forebay_breaker_opened_total", "How often the breaker opened.");

const LIMIT: Title = Title(
    "forebay_adaptive_limit",
    "Requests that the adaptive limit lets be under way, or would if it were enforced.",
);

const LATENCY: Title = Title(
    "forebay_adaptive_limit_latency_seconds",
    "Averages of the time to the first byte that the adaptive limit follows.",
);

const PROBABILITY: Title = Title(
    "forebay_admission_probability",
    "Part of the requests that admission control turns away, or would if it were enforced.",
);
