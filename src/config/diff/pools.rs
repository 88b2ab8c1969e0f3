//! How pools and their endpoints differ.

use std::collections::HashMap;
use std::time::Instant;

use serde_json::Value as Json;

use super::moved::{self, Hashed};
use super::{Changes, EndpointChange, KeyChange, Pair, Paired, PoolChange, Side, keys, names_at, section};
use crate::config::Plan;
use crate::config::plan::{EndpointPlan, PoolPlan};
use crate::config::secret::Place;
use crate::model::options::{Data, Key, Value};

pub(super) fn changes(pair: &Pair<'_>, now: Instant) -> Changes<PoolChange> {
    let (before, after) = (&pair.before.pools, &pair.after.pools);
    let paired = Paired::by_name(before.iter().map(|pool| &pool.name), after.iter().map(|pool| &pool.name));
    let (earlier, later) = (written(pair.before), written(pair.after));
    let change = |(was, is): &(usize, usize)| {
        let (old, new) = (before.get(*was)?, after.get(*is)?);
        if old.fingerprint == new.fingerprint {
            return None;
        }
        let name = new.name.as_str();
        let place = Place::default().key("pool").key(name);
        let (was, is) = (earlier.get(name)?, later.get(name)?);
        let change = PoolChange {
            keys: keys::of_tables(&place, was, is, &["endpoints"]),
            files: pair.files_of(&place.to_string()),
            ..endpoints(old, new, &place, now)
        };
        (!change.is_empty()).then_some(change)
    };
    Changes {
        added: names_at(after, &paired.added, |pool| &pool.name),
        removed: names_at(before, &paired.removed, |pool| &pool.name),
        changed: paired.both.iter().filter_map(change).collect(),
    }
}

impl PoolChange {
    /// Whether it is written differently and means the same.
    fn is_empty(&self) -> bool {
        self.keys.is_empty()
            && self.files.is_empty()
            && self.endpoints_added.is_empty()
            && self.endpoints_removed.is_empty()
            && self.endpoints_changed.is_empty()
    }
}

/// The table of each pool.
fn written(plan: &Plan) -> HashMap<&str, &[(Key, Value)]> {
    let Some(Value { data: Data::Table(pools), .. }) = section(plan, "pool") else { return HashMap::new() };
    pools
        .iter()
        .filter_map(|(key, value)| match &value.data {
            Data::Table(entries) => Some((key.name.as_str(), entries.as_slice())),
            _ => None,
        })
        .collect()
}

fn endpoints(old: &PoolPlan, new: &PoolPlan, place: &Place<'_>, now: Instant) -> PoolChange {
    let place = place.key("endpoints").to_string();
    let earlier: HashMap<_, _> = old.endpoints.iter().map(|one| (&one.target, one)).collect();
    let later: HashMap<_, _> = new.endpoints.iter().map(|one| (&one.target, one)).collect();
    let shown = |one: &EndpointPlan| one.target.to_string();
    let changed = new.endpoints.iter().filter_map(|one| {
        let was = earlier.get(&one.target).filter(|was| **was != one)?;
        Some(EndpointChange { endpoint: shown(one), keys: endpoint_keys(&place, was, one) })
    });
    let known = !old.discovery.finds_any() && !new.discovery.finds_any();
    let shares = known.then(|| moved::shares(&Hashed::of(old), &Hashed::of(new), now));
    let lost = shares.as_ref().filter(|_| old.sticky.is_some() && new.sticky.is_some()).map(|s| s.lost);
    PoolChange {
        name: new.name.clone(),
        keys: Vec::new(),
        endpoints_added: only(&new.endpoints, |one| !earlier.contains_key(&one.target)),
        endpoints_removed: only(&old.endpoints, |one| !later.contains_key(&one.target)),
        endpoints_changed: changed.collect(),
        moved_keys: shares.and_then(|shares| shares.moved),
        lost_sessions: lost,
        files: Vec::new(),
    }
}

fn only(endpoints: &[EndpointPlan], keep: impl Fn(&EndpointPlan) -> bool) -> Vec<String> {
    endpoints.iter().filter(|one| keep(one)).map(|one| one.target.to_string()).collect()
}

/// Priorities are compared as they are after backups have got theirs.
fn endpoint_keys(place: &str, was: &EndpointPlan, is: &EndpointPlan) -> Vec<KeyChange> {
    let zone = |one: &EndpointPlan| one.zone.as_ref().map(|zone| Json::from(zone.as_str()));
    let number = |number: u32, default: u32| match number == default {
        true => Side::Default(Some(default.into())),
        false => Side::Written(number.into()),
    };
    let named = |zone: Option<Json>| zone.map_or(Side::Default(None), Side::Written);
    let all = [
        ("weight", number(was.weight, 1), number(is.weight, 1)),
        ("priority", number(was.level, 0), number(is.level, 0)),
        ("zone", named(zone(was)), named(zone(is))),
    ];
    let changed = all.into_iter().filter(|(_, before, after)| before != after);
    let change = |(key, before, after): (&str, _, _)| KeyChange {
        key: format!("{place}.{}.{key}", is.target),
        before,
        after,
        restart: false,
    };
    changed.map(change).collect()
}
