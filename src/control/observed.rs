//! The quantiles of routes that go by what they observe: reads what workers counted, several times a
//! second, keeps a window of it, and writes back what is learned.
//!
//! What was cut off by a learned time limit is known to have taken at least that long, no more. So it
//! counts as slower than everything else: where it is more than the quantile leaves, the quantile is
//! unknown, and what was learned stays. Neither does the limit come down because it cuts, nor do a few
//! tries that hang push it up. Only when most tries are cut off is it taken to be wrong, and grows.

use std::collections::{HashMap, VecDeque};
use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::ambient;
use crate::health::Latencies;
use crate::model::Name;
use crate::model::settings::TryTimeout;
use crate::observe::times::TimesReader;
use crate::upstream::{Observed, Snapshot};

/// Learns about the routes of what is `published`, which counts its `changes`. Never ends.
pub async fn run(published: Arc<ArcSwap<Snapshot>>, mut changes: watch::Receiver<u64>) {
    let mut learners = Vec::new();
    attend(&mut learners, &published.load());
    loop {
        let ticks = async {
            if learners.is_empty() {
                pending::<()>().await;
            }
            tokio::time::sleep(TICK).await;
        };
        tokio::select! {
            () = ticks => learners.iter_mut().for_each(|learner| learner.look(ambient::now())),
            Ok(()) = changes.changed() => attend(&mut learners, &published.load()),
            else => return pending().await,
        }
    }
}

/// Looks at the routes of `snapshot` from now on; what was seen of those that stay is kept.
fn attend(learners: &mut Vec<Learner>, snapshot: &Snapshot) {
    let mut known: HashMap<_, _> =
        learners.drain(..).map(|learner| (Arc::as_ptr(&learner.route), learner)).collect();
    let now = ambient::now();
    let learner = |(_, route): &(Name, Arc<Observed>)| {
        known.remove(&Arc::as_ptr(route)).unwrap_or_else(|| Learner::new(Arc::clone(route), now))
    };
    learners.extend(snapshot.observed.iter().map(learner));
}

/// One route, and what was seen of it.
#[derive(Debug)]
struct Learner {
    route: Arc<Observed>,
    reader: TimesReader,
    window: Window,
}

impl Learner {
    fn new(route: Arc<Observed>, now: Instant) -> Self {
        Self { route, reader: TimesReader::default(), window: Window::new(now) }
    }

    fn look(&mut self, now: Instant) {
        let (times, cut) = self.reader.read(&self.route.times);
        self.window.take(&times, cut, now);
        if let Some((p99, hedge_after)) = self.window.learn(&self.route) {
            self.route.set(p99, hedge_after);
        }
    }
}

/// What there was lately, in slots, the newest last. A slot takes at least [`SLOT`] and
/// [`SLOT_TRIES`] tries, so that the window reaches further back where there is little.
#[derive(Debug)]
struct Window {
    slots: VecDeque<Slot>,
    since: Instant,
}

#[derive(Debug, Default)]
struct Slot {
    times: Latencies,
    cut: u64,
}

impl Slot {
    fn count(&self) -> u64 {
        self.times.count() + self.cut
    }

    /// The quantile `q`, if it is not among what was cut off.
    fn quantile(&self, q: f64) -> Option<Duration> {
        let (seen, all) = (self.times.count() as f64, self.count() as f64);
        let rank = (all * q).ceil();
        if rank > seen { None } else { self.times.quantile(rank / seen) }
    }
}

impl Window {
    fn new(now: Instant) -> Self {
        Self { slots: VecDeque::from([Slot::default()]), since: now }
    }

    fn take(&mut self, times: &Latencies, cut: u64, now: Instant) {
        let Some(slot) = self.slots.back_mut() else { return };
        slot.times.merge(times);
        slot.cut += cut;
        if now.saturating_duration_since(self.since) >= SLOT && slot.count() >= SLOT_TRIES {
            self.slots.push_back(Slot::default());
            self.since = now;
            if self.slots.len() > SLOTS {
                self.slots.pop_front();
            }
        }
    }

    /// The 99th percentile and the hedge's quantile; `None` where nothing new is known.
    fn learn(&mut self, route: &Observed) -> Option<(Duration, Duration)> {
        let before = (route.p99(), route.hedge_after());
        if let ((Some(p99), Some(hedge_after)), Some(limit)) = (before, self.limit_too_short(route, before.0))
        {
            self.slots = VecDeque::from([Slot::default()]);
            return Some((limit.max(p99), hedge_after));
        }
        let mut all = Slot::default();
        for slot in &self.slots {
            all.times.merge(&slot.times);
            all.cut += slot.cut;
        }
        if all.count() < TRIES {
            return None;
        }
        let p99 = all.quantile(0.99).or(before.0).or_else(|| all.times.quantile(1.0))?;
        let hedge_after = all.quantile(route.hedge_quantile).or(before.1).unwrap_or(p99);
        Some((p99, hedge_after))
    }

    /// The limit in force, if most of the tries of the last whole slot were cut off by it.
    fn limit_too_short(&self, route: &Observed, p99: Option<Duration>) -> Option<Duration> {
        let Some(TryTimeout::Learned { factor, floor }) = route.attempt else { return None };
        let last = self.slots.len().checked_sub(2).and_then(|index| self.slots.get(index))?;
        (last.cut * 2 > last.count()).then(|| p99.map(|p99| p99.mul_f64(factor).max(floor)))?
    }
}

/// How often is looked.
const TICK: Duration = Duration::from_millis(200);
/// How long a slot is, where there are tries enough.
const SLOT: Duration = Duration::from_secs(1);
/// Tries in a slot.
const SLOT_TRIES: u64 = 10;
/// How many slots there are: 20 seconds, or 200 tries.
const SLOTS: usize = 20;
/// Tries before anything is learned.
const TRIES: u64 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn route() -> Observed {
        let attempt = TryTimeout::Learned { factor: 3.0, floor: Duration::from_millis(1) };
        Observed::new(1, 0.95, Some(attempt))
    }

    /// A second of tries that take so long, and of tries that are cut off.
    fn second(window: &mut Window, route: &Observed, (ms, seen, cut): (u64, u32, u64), now: Instant) {
        let mut times = Latencies::default();
        (0..seen).for_each(|_| times.record(Duration::from_millis(ms)));
        window.take(&times, cut, now);
        if let Some((p99, hedge_after)) = window.learn(route) {
            route.set(p99, hedge_after);
        }
    }

    fn p99(route: &Observed) -> Option<u128> {
        route.p99().map(|p99| p99.as_millis())
    }

    #[test]
    fn nothing_is_learned_from_few() {
        let (route, start) = (route(), ambient::now());
        let mut window = Window::new(start);
        second(&mut window, &route, (10, 99, 0), start);
        assert_eq!(p99(&route), None);
        second(&mut window, &route, (10, 1, 0), start);
        assert!(p99(&route).is_some_and(|ms| (9..=11).contains(&ms)), "{:?}", p99(&route));
    }

    #[test]
    fn a_few_that_hang_do_not_move_the_limit() {
        let (route, start) = (route(), ambient::now());
        let mut window = Window::new(start);
        second(&mut window, &route, (10, 200, 0), start);
        let before = p99(&route);
        for i in 1..120 {
            second(&mut window, &route, (10, 75, 25), start + SLOT * i);
            assert_eq!(p99(&route), before, "after {i} s");
        }
    }

    #[test]
    fn a_limit_that_cuts_off_most_grows_until_it_does_not() {
        let (route, start) = (route(), ambient::now());
        let mut window = Window::new(start);
        second(&mut window, &route, (10, 200, 0), start);
        // From now on everything takes 200 ms.
        for i in 1..60 {
            let limit = p99(&route).map_or(u128::MAX, |ms| ms * 3);
            let what = if limit < 200 { (200, 0, 100) } else { (200, 100, 0) };
            second(&mut window, &route, what, start + SLOT * i);
        }
        assert!(p99(&route).is_some_and(|ms| (190..=215).contains(&ms)), "{:?}", p99(&route));
    }

    #[test]
    fn what_is_long_ago_is_forgotten() {
        let (route, start) = (route(), ambient::now());
        let mut window = Window::new(start);
        (0..5).for_each(|i| second(&mut window, &route, (500, 100, 0), start + SLOT * i));
        (5..40).for_each(|i| second(&mut window, &route, (5, 100, 0), start + SLOT * i));
        assert!(p99(&route).is_some_and(|ms| ms < 7), "{:?}", p99(&route));
        assert!(window.slots.len() <= SLOTS);
    }
}
