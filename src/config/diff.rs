//! What changes between two plans, in the words of the configuration. Things are matched by name, which
//! is also how what runs is carried over. Pure: knows nothing of what runs, of its load and its health;
//! who does may add to [`Diff::warnings`].

mod defaults;
mod keys;
mod listeners;
mod moved;
mod pools;
mod routes;
mod show;
#[cfg(test)]
mod tests;
mod warnings;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::time::Instant;

use serde_json::Value as Json;

pub use moved::{Hashed, Share, moved_share};
use routes::Matched;
pub use routes::same_routes;

use super::Plan;
use super::origin::is_text;
use crate::model::Name;
use crate::model::options::{Data, Key, Value};
use crate::model::{Address, Fingerprint};

/// What changes from one plan to another.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Diff {
    /// Keys of the process as a whole.
    pub process: Vec<KeyChange>,
    /// Listeners by name.
    pub listeners: Changes<ListenerChange>,
    /// Routes by name; those without one by what they say.
    pub routes: Changes<RouteChange>,
    /// Routes that come before or after others than they did, where that decides who takes a request.
    pub reordered: Vec<Name>,
    /// Pools by name.
    pub pools: Changes<PoolChange>,
    /// Files that hold something else under the same name: certificates, keys and the like.
    pub files: Vec<PathBuf>,
    /// What is probably not meant so.
    pub warnings: Vec<Warning>,
}

/// Things of one kind that come, go and change, each in the order of the configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Changes<T> {
    /// Only after.
    pub added: Vec<Name>,
    /// Only before.
    pub removed: Vec<Name>,
    /// In both, with another meaning.
    pub changed: Vec<T>,
}

impl<T> Default for Changes<T> {
    fn default() -> Self {
        Self { added: Vec::new(), removed: Vec::new(), changed: Vec::new() }
    }
}

impl<T> Changes<T> {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }
}

/// A key with another value.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyChange {
    /// As in `pool.app.limits.in_flight`; listeners and routes by name, as in `route.api.path`.
    pub key: String,
    /// What was written.
    pub before: Side,
    /// What is written.
    pub after: Side,
    /// Whether it has an effect only when the process starts.
    pub restart: bool,
}

/// One side of a change.
#[derive(Clone, Debug, PartialEq)]
pub enum Side {
    /// As written, secrets masked.
    Written(Json),
    /// Left out: the default, where there is one that does not depend on other keys.
    Default(Option<Json>),
}

/// A listener that changes.
#[derive(Clone, Debug, PartialEq)]
pub struct ListenerChange {
    /// Which.
    pub name: Name,
    /// Its keys.
    pub keys: Vec<KeyChange>,
    /// Addresses that are bound now.
    pub binds_added: Vec<Address>,
    /// Addresses that are not bound any more: their connections drain.
    pub binds_removed: Vec<Address>,
    /// Whether new handshakes are served with other certificates or versions of TLS.
    pub tls: bool,
    /// Files it names that hold something else.
    pub files: Vec<PathBuf>,
}

/// A route that changes.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteChange {
    /// Which; the name after the change.
    pub name: Name,
    /// Its keys.
    pub keys: Vec<KeyChange>,
    /// Files it names that hold something else.
    pub files: Vec<PathBuf>,
}

/// A pool that changes.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolChange {
    /// Which.
    pub name: Name,
    /// Its keys, endpoints left out.
    pub keys: Vec<KeyChange>,
    /// Endpoints that join, as written.
    pub endpoints_added: Vec<String>,
    /// Endpoints that leave, as written: they drain.
    pub endpoints_removed: Vec<String>,
    /// Endpoints that stay, with another weight, priority or zone.
    pub endpoints_changed: Vec<EndpointChange>,
    /// The share of hash keys, 0 to 1, whose requests go to another endpoint; for policies that hash, in
    /// pools whose endpoints are all written down.
    pub moved_keys: Option<f64>,
    /// The share of sticky sessions, 0 to 1, whose endpoint is gone, if all endpoints have as many as
    /// their weights say; likewise.
    pub lost_sessions: Option<f64>,
    /// Files it names that hold something else.
    pub files: Vec<PathBuf>,
}

/// An endpoint that changes.
#[derive(Clone, Debug, PartialEq)]
pub struct EndpointChange {
    /// Which, as written.
    pub endpoint: String,
    /// Its keys.
    pub keys: Vec<KeyChange>,
}

/// Something that is probably not meant so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// As in `pool.app` or `pool.app.limits.in_flight`.
    pub place: String,
    /// What it is: lower case, no full stop.
    pub words: String,
}

impl Warning {
    /// A warning of what stands at `place`.
    #[must_use]
    pub fn new(place: impl Into<String>, words: impl Into<String>) -> Self {
        Self { place: place.into(), words: words.into() }
    }
}

/// What changes from `before` to `after`. Policies that hash are asked at `now`.
#[must_use]
pub fn diff(before: &Plan, after: &Plan, now: Instant) -> Diff {
    let files = changed_files(before, after);
    let pair = Pair { before, after, routes: Matched::of(before, after), files };
    let mut diff = Diff {
        process: keys::process(&pair),
        listeners: listeners::changes(&pair),
        routes: routes::changes(&pair),
        reordered: routes::reordered(&pair),
        pools: pools::changes(&pair, now),
        files: files_by_path(&pair),
        warnings: Vec::new(),
    };
    diff.warnings = warnings::of(&pair, &diff);
    diff
}

impl Diff {
    /// Whether nothing changes. Comments, the order of keys and the division into files are nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.process.is_empty()
            && self.listeners.is_empty()
            && self.routes.is_empty()
            && self.reordered.is_empty()
            && self.pools.is_empty()
            && self.files.is_empty()
    }

    /// The keys whose change has an effect only when the process starts.
    pub fn needs_restart(&self) -> impl Iterator<Item = &str> {
        self.process.iter().filter(|change| change.restart).map(|change| change.key.as_str())
    }
}

/// Two plans, which routes are the same, and the keys after that name files whose contents changed.
struct Pair<'a> {
    before: &'a Plan,
    after: &'a Plan,
    routes: Matched,
    /// By the key that names it.
    files: Vec<(&'a str, &'a PathBuf)>,
}

impl Pair<'_> {
    /// The changed files that are named below `prefix`, as in `listener[1]`.
    fn files_of(&self, prefix: &str) -> Vec<PathBuf> {
        let below = |key: &str| key.strip_prefix(prefix).is_some_and(|rest| rest.starts_with(['.', '[']));
        let mut found: Vec<_> =
            self.files.iter().filter(|(key, _)| below(key)).map(|(_, path)| (*path).clone()).collect();
        found.dedup();
        found
    }
}

fn changed_files<'a>(before: &Plan, after: &'a Plan) -> Vec<(&'a str, &'a PathBuf)> {
    let earlier = before.origin.reads.iter().map(|file| (&file.path, file.contents));
    let earlier: HashMap<&PathBuf, Option<Fingerprint>> = earlier.collect();
    let named = after.origin.reads.iter().filter(|file| !is_text(file));
    let changed = named.filter(|file| earlier.get(&file.path).is_some_and(|was| *was != file.contents));
    changed.map(|file| (file.key.as_str(), &file.path)).collect()
}

fn files_by_path(pair: &Pair<'_>) -> Vec<PathBuf> {
    let mut seen = HashSet::new();
    pair.files.iter().filter(|(_, path)| seen.insert(*path)).map(|(_, path)| (*path).clone()).collect()
}

/// The value of a key at the top.
fn section<'a>(plan: &'a Plan, key: &str) -> Option<&'a Value> {
    plan.origin.written.iter().find(|(known, _)| known.name == key).map(|(_, value)| value)
}

/// The tables of a list of tables, as many as there are things in the plan.
fn tables<'a>(plan: &'a Plan, key: &str) -> Vec<&'a [(Key, Value)]> {
    let table = |value: &'a Value| match &value.data {
        Data::Table(entries) => entries.as_slice(),
        _ => &[],
    };
    match section(plan, key) {
        Some(Value { data: Data::Array(items), .. }) => items.iter().map(table).collect(),
        Some(value) => vec![table(value)],
        None => Vec::new(),
    }
}

/// Things before and after, paired by name: their indexes.
struct Paired {
    both: Vec<(usize, usize)>,
    added: Vec<usize>,
    removed: Vec<usize>,
}

impl Paired {
    fn by_name<'a>(before: impl Iterator<Item = &'a Name>, after: impl Iterator<Item = &'a Name>) -> Self {
        let mut earlier: HashMap<_, _> = before.enumerate().map(|(index, name)| (name, index)).collect();
        let (mut both, mut added) = (Vec::new(), Vec::new());
        for (index, name) in after.enumerate() {
            match earlier.remove(name) {
                Some(was) => both.push((was, index)),
                None => added.push(index),
            }
        }
        let mut removed: Vec<_> = earlier.into_values().collect();
        removed.sort_unstable();
        Self { both, added, removed }
    }
}

/// The names at these indexes.
fn names_at<'a, T>(things: &'a [T], indexes: &[usize], name: fn(&'a T) -> &'a Name) -> Vec<Name> {
    indexes.iter().filter_map(|index| things.get(*index)).map(|thing| name(thing).clone()).collect()
}
