//! How much each pool was used lately, and how many endpoints it should have by that: looked at once a
//! second with the history, and kept as means. Whoever starts endpoints and ends them asks for it here or reads
//! the metrics; nothing here does either.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::health::Watch;
use super::history::Times;
use crate::limit::scale::{Load, Recent, Scale, ScaleSettings};
use crate::model::Name;

/// How much each pool was used lately.
#[derive(Debug, Default)]
pub struct Scaling(Mutex<State>);

/// What is known of a pool, the mean over the window where nothing else is said.
#[derive(Clone, Debug, PartialEq)]
pub struct Signals {
    /// Requests under way.
    pub in_flight: f64,
    /// Requests that wait for their turn.
    pub waiting: f64,
    /// How many could be under way, by the limits and what endpoints that get traffic are good for.
    pub capacity: f64,
    /// The 99th percentile of the time that requests waited for their turn, of those of the window that had to.
    pub queue_wait: Option<Duration>,
    /// Endpoints, at the last look.
    pub total: u32,
    /// Those of them that got traffic.
    pub available: u32,
    /// What the number of endpoints follows, and what it should be, if that is to be told.
    pub scale: Option<(ScaleSettings, Scale)>,
}

/// A pool at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Look {
    /// Requests under way.
    pub(super) in_flight: u32,
    /// Requests that wait for their turn.
    pub(super) waiting: u32,
    /// How many may be under way in the pool.
    pub(super) limit: u32,
    /// How many could be under way.
    pub(super) capacity: u32,
    /// Endpoints that get traffic.
    pub(super) available: u32,
    /// Endpoints.
    pub(super) total: u32,
    /// How long requests waited for their turn so far.
    pub(super) waits: Times,
}

#[derive(Debug, Default)]
struct State {
    pools: BTreeMap<Name, Lately>,
    round: u64,
}

/// One pool.
#[derive(Debug, Default)]
struct Lately {
    in_flight: Recent,
    waiting: Recent,
    limit: Recent,
    capacity: Recent,
    /// What was counted at each look.
    waits: VecDeque<Times>,
    settings: Option<ScaleSettings>,
    total: u32,
    available: u32,
    round: u64,
}

impl Signals {
    /// Requests under way of those that could be; 0 where none could.
    #[must_use]
    pub fn utilisation(&self) -> f64 {
        if self.capacity > 0.0 { self.in_flight / self.capacity } else { 0.0 }
    }
}

impl Scaling {
    /// What is known of a pool, once it was looked at.
    #[must_use]
    pub fn signals(&self, pool: &Name) -> Option<Signals> {
        self.state().pools.get(pool).map(Lately::signals)
    }

    /// Takes a look at each pool, and has metrics show what follows. To be called once a second.
    pub(super) fn on_looks<'a>(&self, looks: impl Iterator<Item = (&'a Watch, &'a Look)>) {
        let mut state = self.state();
        state.round += 1;
        let round = state.round;
        for (watch, look) in looks {
            let settings = &watch.pool.settings;
            let lately = state.pools.entry(settings.name.clone()).or_default();
            lately.round = round;
            lately.take(look, watch.scale.as_ref());
            let signals = lately.signals();
            let scale = signals.scale.as_ref().map(|(_, scale)| scale);
            watch.pool.guard.metrics.set_scale(signals.utilisation(), scale);
        }
        state.pools.retain(|_, lately| lately.round == round);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Look {
    /// A look at what is `watched`, of which so many endpoints are available, and so many there.
    pub(super) fn at(watch: &Watch, (available, total): (usize, usize)) -> Self {
        let small = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let (guard, limits) = (&watch.pool.guard, &watch.pool.settings.limits);
        let each = watch.scale.as_ref().and_then(|scale| scale.each).or(limits.endpoint_in_flight);
        let available = small(available);
        let all = each.map_or(u32::MAX, |each| each.saturating_mul(available));
        Self {
            in_flight: guard.in_flight(),
            waiting: guard.gate.waiting(),
            limit: guard.limit(),
            capacity: guard.limit().min(all),
            available,
            total: small(total),
            waits: Times::new(&guard.metrics.waits()),
        }
    }
}

impl Lately {
    fn take(&mut self, look: &Look, settings: Option<&ScaleSettings>) {
        let window = settings.map_or(WINDOW, |settings| settings.window);
        self.in_flight.take(look.in_flight.into(), window);
        self.waiting.take(look.waiting.into(), window);
        self.limit.take(look.limit.into(), window);
        self.capacity.take(look.capacity.into(), window);
        let most = usize::try_from(window.as_secs()).unwrap_or(usize::MAX).max(1);
        self.waits.push_back(look.waits.clone());
        // One more than looks in the window: what it began with.
        let surplus = self.waits.len().saturating_sub(most.saturating_add(1));
        self.waits.drain(..surplus);
        self.settings = settings.cloned();
        (self.available, self.total) = (look.available, look.total);
    }

    fn signals(&self) -> Signals {
        let (in_flight, waiting) = (self.in_flight.mean(), self.waiting.mean());
        let waits = match (self.waits.front(), self.waits.back()) {
            (Some(before), Some(now)) => now.since(before),
            _ => Times::default(),
        };
        let scale = self.settings.as_ref().map(|settings| {
            // A limit that adapts is found out with the endpoints that get traffic.
            let found = || self.limit.mean() / f64::from(self.available.max(1));
            let each = settings.each.map_or_else(found, f64::from);
            let (total, available) = (self.total, self.available);
            let load = Load { demand: in_flight + waiting, each, total, available };
            (settings.clone(), settings.scale(&load))
        });
        Signals {
            in_flight,
            waiting,
            capacity: self.capacity.mean(),
            queue_wait: waits.quantile(0.99),
            total: self.total,
            available: self.available,
            scale,
        }
    }
}

/// Over which time is averaged where nothing else is said.
const WINDOW: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    fn look(in_flight: u32) -> Look {
        Look { in_flight, limit: 60, capacity: 60, available: 2, total: 3, ..Look::default() }
    }

    fn settings(each: Option<u32>) -> ScaleSettings {
        ScaleSettings { target: 0.5, tolerance: 0.1, bounds: (1, 9), each, window: Duration::from_secs(3) }
    }

    fn desired(lately: &Lately) -> Option<u32> {
        lately.signals().scale.map(|(_, scale)| scale.desired)
    }

    #[test]
    fn the_mean_of_the_window_decides() {
        let mut lately = Lately::default();
        for in_flight in [1000, 20, 30, 40] {
            lately.take(&look(in_flight), Some(&settings(Some(10))));
        }
        let signals = lately.signals();
        assert_eq!((signals.in_flight, signals.utilisation(), desired(&lately)), (30.0, 0.5, Some(6)));
        lately.take(&Look { waiting: 30, ..look(40) }, Some(&settings(Some(10))));
        assert!(desired(&lately) > Some(6), "who waits counts");
    }

    #[test]
    fn what_an_endpoint_is_good_for_is_found_out_where_it_is_not_said() {
        let mut lately = Lately::default();
        lately.take(&look(60), Some(&settings(None)));
        // 60 may be under way at the two that are available: 30 at each, of which 15 are to be.
        assert_eq!(desired(&lately), Some(4));
    }

    #[test]
    fn without_settings_no_number_is_told() {
        let mut lately = Lately::default();
        lately.take(&look(30), None);
        assert_eq!((desired(&lately), lately.signals().utilisation()), (None, 0.5));
        assert_eq!(lately.signals().queue_wait, None);
        assert_eq!(Lately::default().signals().utilisation(), 0.0);
    }
}
