//! What in a change is probably not meant so, as far as the two plans tell.

use std::collections::{HashMap, HashSet};

use serde_json::Value as Json;

use super::{Diff, KeyChange, Pair, Side, Warning, routes};
use crate::config::Plan;
use crate::config::lower::used_pools;
use crate::config::plan::PoolPlan;
use crate::model::Name;

pub(super) fn of(pair: &Pair<'_>, diff: &Diff) -> Vec<Warning> {
    let mut warnings = Vec::new();
    warnings.extend(lonely_pools(pair));
    warnings.extend(forsaken_pools(pair));
    warnings.extend(fallen_limits(diff));
    warnings.extend(lost_sockets(diff));
    match routes::renamed(pair) {
        0 => {}
        count => {
            let words = format!(
                "{count} of the routes without a name are called by another number now, in metrics and \
                 by their rate limits; a `name` would stay"
            );
            warnings.push(Warning::new("route", words));
        }
    }
    warnings
}

/// Pools that have one endpoint left, or none.
fn lonely_pools(pair: &Pair<'_>) -> Vec<Warning> {
    let count = |pool: &PoolPlan| pool.endpoints.len();
    let earlier: HashMap<_, _> = pair.before.pools.iter().map(|pool| (&pool.name, count(pool))).collect();
    let few = pair.after.pools.iter().filter(|pool| count(pool) < 2 && !pool.discovery.finds_any());
    few.filter(|pool| earlier.get(&pool.name).is_some_and(|was| *was >= 2))
        .map(|pool| {
            let words = format!("has {} left: nothing takes over when it fails", endpoints(count(pool)));
            Warning::new(format!("pool.{}", pool.name), words)
        })
        .collect()
}

fn endpoints(count: usize) -> String {
    if count == 1 { "one endpoint".to_owned() } else { format!("{count} endpoints") }
}

/// Pools that routes led to and none leads to any more.
fn forsaken_pools(pair: &Pair<'_>) -> Vec<Warning> {
    let used = |plan: &Plan| -> HashSet<Name> {
        let used = used_pools(&plan.listeners, &plan.routes, &plan.pools);
        used.into_iter().filter_map(|pool| plan.pools.get(pool)).map(|pool| pool.name.clone()).collect()
    };
    let (before, after) = (used(pair.before), used(pair.after));
    let still = pair.after.pools.iter().map(|pool| &pool.name);
    still
        .filter(|name| before.contains(*name) && !after.contains(*name))
        .map(|name| Warning::new(format!("pool.{name}"), "no route leads to it any more"))
        .collect()
}

/// Limits that fell by more than half.
fn fallen_limits(diff: &Diff) -> Vec<Warning> {
    let listeners = diff.listeners.changed.iter().flat_map(|change| &change.keys);
    let pools = diff.pools.changed.iter().flat_map(|change| &change.keys);
    let fallen = |change: &&KeyChange| {
        let last = change.key.rsplit('.').next().unwrap_or_default();
        let (before, after) = (number(&change.before), number(&change.after));
        LIMITS.contains(&last) && before.zip(after).is_some_and(|(before, after)| after * 2.0 < before)
    };
    let all = diff.process.iter().chain(listeners).chain(pools);
    all.filter(fallen)
        .map(|change| Warning::new(change.key.clone(), "the limit falls by more than half"))
        .collect()
}

fn number(side: &Side) -> Option<f64> {
    match side {
        Side::Written(value) | Side::Default(Some(value)) => Json::as_f64(value),
        Side::Default(None) => None,
    }
}

/// Listeners and addresses that clients cannot reach any more.
fn lost_sockets(diff: &Diff) -> Vec<Warning> {
    let gone = |name: &Name| {
        Warning::new(
            format!("listener.{name}"),
            "is removed: its connections drain, and no new ones are taken",
        )
    };
    let unbound = diff.listeners.changed.iter().filter(|change| !change.binds_removed.is_empty());
    let moved = unbound.map(|change| {
        let addresses: Vec<_> = change.binds_removed.iter().map(ToString::to_string).collect();
        let words = format!("no longer listens on {}: the connections there drain", addresses.join(", "));
        Warning::new(format!("listener.{}", change.name), words)
    });
    diff.listeners.removed.iter().map(gone).chain(moved).collect()
}

/// Bounds on what goes on at once, by the last part of their keys.
const LIMITS: [&str; 7] = [
    "in_flight",
    "waiting",
    "connections",
    "endpoint_in_flight",
    "endpoint_connections",
    "max_connections",
    "max_concurrent_streams",
];
