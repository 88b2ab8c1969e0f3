//! Which keys differ between two tables, and what stood and stands there. Knows nothing of what they
//! mean, save which of them the process reads only when it starts.

use std::collections::HashSet;

use super::{KeyChange, Pair, Side, defaults};
use crate::config::secret::{self, Place};
use crate::model::options::{Data, Key, Value};

/// The keys that concern the process as a whole.
pub(super) fn process(pair: &Pair<'_>) -> Vec<KeyChange> {
    let (before, after) = (&pair.before.origin.written, &pair.after.origin.written);
    let mut differing = Differing::default();
    differing.tables(&Place::default(), before, after, &ELSEWHERE);
    let mut found = differing.found;
    let comes_or_goes = pair.before.admin.is_some() != pair.after.admin.is_some();
    for change in &mut found {
        let below = |key: &str| {
            change.key.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        change.restart = AT_START.into_iter().any(below) || (comes_or_goes && below("admin"));
    }
    found
}

/// The keys of two tables, both of which stand at `place`, that differ; `apart` are left out.
pub(super) fn of_tables(
    place: &Place<'_>,
    before: &[(Key, Value)],
    after: &[(Key, Value)],
    apart: &[&str],
) -> Vec<KeyChange> {
    let mut differing = Differing::default();
    differing.tables(place, before, after, apart);
    differing.found
}

/// Keys and values that differ, so far.
#[derive(Default)]
struct Differing {
    found: Vec<KeyChange>,
}

impl Differing {
    fn tables(&mut self, place: &Place<'_>, before: &[(Key, Value)], after: &[(Key, Value)], apart: &[&str]) {
        let mut seen = HashSet::new();
        let names = before.iter().chain(after).map(|(key, _)| key.name.as_str());
        for name in names.filter(|name| !apart.contains(name)) {
            if !seen.insert(name) {
                continue;
            }
            self.values(&place.key(name), find(before, name), find(after, name));
        }
    }

    fn values(&mut self, place: &Place<'_>, before: Option<&Value>, after: Option<&Value>) {
        match (before.map(|value| &value.data), after.map(|value| &value.data)) {
            (Some(Data::Table(before)), Some(Data::Table(after))) => self.tables(place, before, after, &[]),
            (Some(Data::Table(before)), None) if !before.is_empty() => self.tables(place, before, &[], &[]),
            (None, Some(Data::Table(after))) if !after.is_empty() => self.tables(place, &[], after, &[]),
            (Some(Data::Array(ours)), Some(Data::Array(theirs)))
                if ours.len() == theirs.len() && ours.iter().chain(theirs).all(is_table) =>
            {
                for (index, (before, after)) in ours.iter().zip(theirs).enumerate() {
                    self.values(&place.item(index), Some(before), Some(after));
                }
            }
            (Some(ours), Some(theirs)) if same(ours, theirs) => {}
            _ => {
                let (key, pattern) = (place.to_string(), defaults::pattern(place));
                let side = |value: Option<&Value>| match value {
                    Some(value) => Side::Written(secret::shown(place, value)),
                    None => Side::Default(defaults::of(&pattern)),
                };
                let (before, after) = (side(before), side(after));
                self.found.push(KeyChange { key, before, after, restart: false });
            }
        }
    }
}

fn find<'a>(entries: &'a [(Key, Value)], name: &str) -> Option<&'a Value> {
    entries.iter().find(|(key, _)| key.name == name).map(|(_, value)| value)
}

fn is_table(value: &Value) -> bool {
    matches!(value.data, Data::Table(_))
}

/// Whether two values are written alike, wherever they stand.
fn same(a: &Data, b: &Data) -> bool {
    match (a, b) {
        (Data::Array(a), Data::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(&a.data, &b.data))
        }
        (Data::Table(a), Data::Table(b)) => {
            let fits = |(key, a): &(Key, Value)| find(b, &key.name).is_some_and(|b| same(&a.data, &b.data));
            a.len() == b.len() && a.iter().all(fits)
        }
        _ => a == b,
    }
}

/// What has its own place in a diff, or none.
const ELSEWHERE: [&str; 4] = ["listener", "route", "pool", "include"];

/// What has an effect only when the process starts, with all that is below. Besides these, whether there is
/// an admin listener.
const AT_START: [&str; 7] =
    ["workers", "log.format", "admin.bind", "admin.mode", "state_dir", "upgrade", "metrics"];
