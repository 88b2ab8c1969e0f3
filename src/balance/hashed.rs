//! What the policies that hash have in common: the same key goes to the same endpoint, and when one
//! endpoint is lost only its own keys move. Knows neither of the two tables.
//!
//! A table is made of all endpoints of the pool and their configured weights, so it does not change
//! with their state. Along the table each key meets endpoints in an order of its own and takes the
//! first that is usable, below the bound on load, and holds for it: an endpoint that gets a part of
//! its weight holds for that part of the keys, always the same ones. Hence an endpoint that
//! recovers takes its keys back a few at a time, and no others move.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Instant;

use super::bounded::Bounded;
use super::level::weight_of;
use super::lots::{REFRESH, mix, part, scaled};
use super::{FULL, Gauge, Pick, Policy, Setup};

/// A table that says for each key in which order it meets the endpoints.
pub(super) trait Table: Sized {
    /// Makes the table of these endpoints; not empty.
    fn new(entries: &[Entry]) -> Self;

    /// The first endpoint that `key` meets and `holds` says yes to; `None` after enough tries. The
    /// second argument of `holds` is a number that depends on the key and the place in the order.
    fn find(&self, key: u64, holds: impl FnMut(u32, u64) -> bool) -> Option<u32>;
}

/// An endpoint as a table sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// What tells it from all others.
    pub(super) identity: u64,
    /// The weight of the configuration.
    pub(super) weight: u32,
    /// Its index.
    pub(super) index: u32,
}

/// A policy that hashes, with a table made at the first choice.
pub(super) struct Hashed<T> {
    identities: Vec<u64>,
    state: RefCell<State<T>>,
}

struct State<T> {
    table: Option<T>,
    /// What the table was made of, by index.
    entries: Vec<Entry>,
    /// When it is next compared with the weights.
    due: Option<Instant>,
    bound: Option<Bounded>,
}

impl<T: Table> Hashed<T> {
    pub(super) fn new(setup: &Setup<'_>) -> Self {
        let bound = setup.balance_factor.map(Bounded::new);
        let state = State { table: None, entries: Vec::new(), due: None, bound };
        Self { identities: setup.identities.to_vec(), state: RefCell::new(state) }
    }
}

impl<T: Table> Policy for Hashed<T> {
    fn pick(&self, gauges: &[Arc<Gauge>], pick: &Pick<'_>) -> Option<usize> {
        if pick.usable.is_empty() {
            return None;
        }
        let mut state = self.state.borrow_mut();
        state.refresh(&self.identities, gauges, pick.now);
        if let Some(bound) = &mut state.bound {
            bound.prepare(gauges, pick);
        }
        // Keys may be numbers in sequence.
        state.choose(gauges, pick.usable, mix(pick.key)).map(|index| index as usize)
    }
}

impl<T: Table> State<T> {
    /// Makes the table anew when configured weights have changed, which is looked for now and then.
    fn refresh(&mut self, identities: &[u64], gauges: &[Arc<Gauge>], now: Instant) {
        if self.due.is_some_and(|due| now < due) && self.entries.len() == gauges.len() {
            return;
        }
        self.due = Some(now + REFRESH);
        let same = |(entry, gauge): (&Entry, &Arc<Gauge>)| entry.weight == gauge.base_weight();
        if self.entries.len() == gauges.len() && self.entries.iter().zip(gauges).all(same) {
            return;
        }
        self.entries = entries(identities, gauges);
        self.table = Some(T::new(&self.entries));
    }

    fn choose(&self, gauges: &[Arc<Gauge>], usable: &[u32], key: u64) -> Option<u32> {
        let all = usable.len() == gauges.len();
        let may = |index: u32| all || usable.binary_search(&index).is_ok();
        let below = |index: u32| match (&self.bound, gauges.get(index as usize)) {
            (Some(bound), Some(gauge)) => bound.admits(gauge),
            (_, gauge) => gauge.is_some(),
        };
        let holds = |index: u32, lot: u64| {
            let factor = gauges.get(index as usize).map_or(0, |gauge| gauge.factor());
            may(index) && (factor == FULL || scaled(lot, u64::from(FULL)) < u64::from(factor)) && below(index)
        };
        let found = self.table.as_ref().and_then(|table| table.find(key, holds));
        found
            .or_else(|| self.highest(gauges, usable.iter().copied().filter(|index| below(*index)), key))
            .or_else(|| self.highest(gauges, usable.iter().copied(), key))
    }

    /// The endpoint with the highest score for the key: weighted rendezvous hashing (C. Schindelhauer
    /// and G. Schomaker 2005), for keys that met nobody. It takes time in proportion to the endpoints,
    /// which then are few as a rule.
    fn highest(&self, gauges: &[Arc<Gauge>], usable: impl Iterator<Item = u32>, key: u64) -> Option<u32> {
        let score = |index: u32| {
            let identity = self.entries.get(index as usize).map_or(0, |entry| entry.identity);
            f64::from(weight_of(gauges, index)) / -part(mix(key ^ identity)).ln()
        };
        usable.map(|index| (score(index), index)).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, index)| index)
    }
}

/// The endpoints as tables see them. One without an identity, or with that of another, gets its own.
fn entries(identities: &[u64], gauges: &[Arc<Gauge>]) -> Vec<Entry> {
    let known = identities.iter().copied().map(Some).chain(std::iter::repeat(None));
    let mut entries: Vec<_> = (0..)
        .zip(gauges.iter().zip(known))
        .map(|(index, (gauge, identity))| {
            let identity = identity.unwrap_or_else(|| mix(u64::from(index)));
            Entry { identity, weight: gauge.base_weight(), index }
        })
        .collect();
    entries.sort_unstable_by_key(|entry| (entry.identity, entry.index));
    let mut last = None;
    for entry in &mut entries {
        if last.replace(entry.identity) == Some(entry.identity) {
            entry.identity = mix(entry.identity ^ u64::from(entry.index));
        }
    }
    entries.sort_unstable_by_key(|entry| entry.index);
    entries
}
