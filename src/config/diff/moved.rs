//! How many keys go to another endpoint when a pool that hashes changes: both policies are built and
//! asked. Every endpoint is taken to be well, and none to have its fill.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use twox_hash::XxHash3_64;

use crate::balance::{Choice, Gauge, HashKey, Pick, Policy, Setup};
use crate::config::plan::PoolPlan;

/// What decides which endpoint a key goes to.
#[derive(Clone, Debug, PartialEq)]
pub struct Hashed {
    /// The endpoints.
    pub endpoints: Vec<Share>,
    /// The policy.
    pub policy: Choice,
    /// What is hashed.
    pub key: HashKey,
}

/// An endpoint and its share.
#[derive(Clone, Debug, PartialEq)]
pub struct Share {
    /// Its address as text.
    pub address: String,
    /// Its weight, from 1.
    pub weight: u32,
    /// Its priority: those of the lowest are used.
    pub level: u32,
}

impl Hashed {
    /// As the pool is written. Names stand for their addresses, which are not known here.
    #[must_use]
    pub fn of(pool: &PoolPlan) -> Self {
        let share = |one: &crate::config::plan::EndpointPlan| Share {
            address: one.target.to_string(),
            weight: one.weight,
            level: one.level,
        };
        let endpoints = pool.endpoints.iter().map(share).collect();
        Self { endpoints, policy: pool.policy, key: pool.hash_key.clone() }
    }

    /// The endpoints that serve while all are well.
    fn serving(&self) -> impl Iterator<Item = (u32, &Share)> {
        let lowest = self.endpoints.iter().map(|one| one.level).min();
        (0..).zip(&self.endpoints).filter(move |(_, one)| Some(one.level) == lowest)
    }
}

/// The share of keys, 0 to 1, that go to another endpoint after than before. `None` when they went to no
/// endpoint of their own before; all of them when they do not after.
#[must_use]
pub fn moved_share(before: &Hashed, after: &Hashed, now: Instant) -> Option<f64> {
    if !before.policy.hashes() {
        return None;
    }
    if before == after {
        return Some(0.0);
    }
    if !after.policy.hashes() {
        return Some(1.0);
    }
    let (old, new) = (Placement::of(before, now), Placement::of(after, now));
    // When something else is hashed, one key has nothing to do with the other.
    let shift = if before.key == after.key { 0 } else { KEYS };
    let moved = (0..KEYS).filter(|key| old.address(*key) != new.address(*key + shift)).count();
    Some(moved as f64 / KEYS as f64)
}

/// What changes for requests that are bound to an endpoint.
pub(super) struct Shares {
    /// Of keys that are hashed; see [`moved_share`].
    pub(super) moved: Option<f64>,
    /// Of sessions whose endpoint is gone.
    pub(super) lost: f64,
}

pub(super) fn shares(before: &Hashed, after: &Hashed, now: Instant) -> Shares {
    Shares { moved: moved_share(before, after, now), lost: lost(before, after) }
}

fn lost(before: &Hashed, after: &Hashed) -> f64 {
    let kept: HashSet<_> = after.endpoints.iter().map(|one| one.address.as_str()).collect();
    let (mut gone, mut all) = (0_u64, 0_u64);
    for (_, one) in before.serving() {
        all += u64::from(one.weight);
        gone += if kept.contains(one.address.as_str()) { 0 } else { u64::from(one.weight) };
    }
    if all == 0 { 0.0 } else { gone as f64 / all as f64 }
}

/// A policy with its endpoints.
struct Placement<'a> {
    endpoints: &'a [Share],
    gauges: Vec<Arc<Gauge>>,
    policy: Box<dyn Policy>,
    usable: Vec<u32>,
    now: Instant,
}

impl<'a> Placement<'a> {
    fn of(pool: &'a Hashed, now: Instant) -> Self {
        // As endpoints get their identities when a plan is made to run.
        let identity = |one: &Share| XxHash3_64::oneshot(one.address.as_bytes());
        let identities: Vec<_> = pool.endpoints.iter().map(identity).collect();
        Self {
            endpoints: &pool.endpoints,
            gauges: pool.endpoints.iter().map(|one| Arc::new(Gauge::new(one.weight, now))).collect(),
            policy: pool.policy.build(&Setup { identities: &identities, balance_factor: None }),
            usable: pool.serving().map(|(index, _)| index).collect(),
            now,
        }
    }

    fn address(&self, key: u64) -> Option<&'a str> {
        let pick = Pick { usable: &self.usable, key, draw: key, now: self.now };
        let index = self.policy.pick(&self.gauges, &pick)?;
        self.endpoints.get(index).map(|one| one.address.as_str())
    }
}

/// How many keys are asked for: enough for a standard error below half a per cent.
const KEYS: u64 = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(policy: &str, addresses: impl IntoIterator<Item = u32>) -> Hashed {
        let share = |n: u32| Share { address: format!("10.0.0.{n}:80"), weight: 1, level: 0 };
        let policy = Choice::named(policy).unwrap();
        Hashed { endpoints: addresses.into_iter().map(share).collect(), policy, key: HashKey::Client }
    }

    fn moved(before: &Hashed, after: &Hashed) -> Option<f64> {
        moved_share(before, after, crate::ambient::now())
    }

    #[test]
    fn one_of_ten_moves_a_tenth() {
        for policy in ["ring_hash", "maglev"] {
            let (ten, nine) = (pool(policy, 0..10), pool(policy, 0..9));
            for share in [moved(&ten, &nine).unwrap(), moved(&nine, &ten).unwrap()] {
                assert!((0.07..0.16).contains(&share), "{policy}: {share}");
            }
            assert_eq!(moved(&ten, &ten), Some(0.0));
            assert_eq!(moved(&ten, &pool(policy, (0..10).rev())), Some(0.0), "order is nothing");
        }
    }

    #[test]
    fn other_keys_are_all_over_the_place() {
        let ten = pool("maglev", 0..10);
        let other = Hashed { key: HashKey::Path, ..ten.clone() };
        assert!((0.85..0.95).contains(&moved(&ten, &other).unwrap()));
        assert_eq!(moved(&ten, &pool("random", 0..10)), Some(1.0));
        assert_eq!(moved(&pool("random", 0..10), &ten), None);
    }

    #[test]
    fn backups_take_no_keys_while_others_serve() {
        let four = pool("ring_hash", 0..4);
        let mut five = pool("ring_hash", 0..5);
        five.endpoints[4].level = 1;
        assert_eq!(moved(&four, &five), Some(0.0));
        assert_eq!(lost(&five, &four), 0.0);
    }

    #[test]
    fn sessions_are_lost_by_weight() {
        let mut before = pool("random", 0..3);
        before.endpoints[0].weight = 2;
        assert_eq!(lost(&before, &pool("random", 1..3)), 0.5);
        assert_eq!(lost(&before, &pool("random", 0..9)), 0.0);
    }
}
