//! What keys are when they are left out. The reference says it, and a test holds the reference to the
//! code, so that no default is stated a second time.

use std::collections::HashMap;
use std::sync::LazyLock;

use serde_json::Value as Json;

use crate::config::parse::parse;
use crate::config::secret::{self, Place, Step};
use crate::model::options::{Data, Key, Sink, Value};

/// The default of the key that [`pattern`] names, where the reference shows one.
pub(super) fn of(pattern: &str) -> Option<Json> {
    DEFAULTS.get(pattern).cloned()
}

/// Which key it is, whatever its pool, listener or route: `pool.*.limits.in_flight`.
pub(super) fn pattern(place: &Place<'_>) -> String {
    let mut pattern = String::new();
    for (index, step) in place.0.iter().enumerate() {
        let free = index == 1 && matches!(place.0.first(), Some(Step::Key("pool" | "listener" | "route")));
        match step {
            _ if free => pattern.push_str(".*"),
            Step::Item(_) => pattern.push_str(".[]"),
            Step::Key(key) => {
                pattern.push_str(if index == 0 { "" } else { "." });
                pattern.push_str(key);
            }
        }
    }
    pattern
}

static DEFAULTS: LazyLock<HashMap<String, Json>> = LazyLock::new(|| {
    let entries = parse(REFERENCE, 0, &|_| None, &Sink::default());
    let mut found = HashMap::new();
    collect(&Place::default(), &entries, &mut found);
    found
});

fn collect<'a>(place: &Place<'a>, entries: &'a [(Key, Value)], found: &mut HashMap<String, Json>) {
    for (key, value) in entries {
        let place = place.key(&key.name);
        match &value.data {
            Data::Table(entries) if !shows_default(key) => collect(&place, entries, found),
            Data::Array(items) if !shows_default(key) => {
                for (index, item) in items.iter().enumerate() {
                    if let Data::Table(entries) = &item.data {
                        collect(&place.item(index), entries, found);
                    }
                }
            }
            _ if shows_default(key) => {
                found.entry(pattern(&place)).or_insert_with(|| secret::shown(&place, value));
            }
            _ => {}
        }
    }
}

/// Whether the line of the reference on which `key` stands first shows a default; the head of the
/// reference says which lines do.
fn shows_default(key: &Key) -> bool {
    let (before, rest) = REFERENCE.split_at_checked(key.span.start).unwrap_or_default();
    let line = rest.lines().next().unwrap_or_default();
    let first = before.is_empty() || before.ends_with('\n');
    let assigned = line.strip_prefix(key.name.as_str()).is_some_and(|rest| rest.starts_with(" = "));
    first && assigned && !line.contains("# required") && !line.contains("# example")
}

const REFERENCE: &str = include_str!("../../../config/reference.toml");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_knows_the_defaults() {
        for (pattern, default) in [
            ("pool.*.limits.in_flight", Some(Json::from(1024))),
            ("listener.*.timeouts.header", Some("10s".into())),
            ("drain.timeout", Some("30s".into())),
            ("pool.*.policy", Some("peak_ewma".into())),
            ("listener.*.access_log", Some("off".into())),
            ("listener.*.bind", None),
            ("workers", None),
            ("pool.*.limits.connections", None),
        ] {
            assert_eq!(of(pattern), default, "{pattern}");
        }
    }

    #[test]
    fn a_pattern_leaves_names_open() {
        let place = Place::default().key("pool").key("app").key("limits").key("wait");
        assert_eq!(pattern(&place), "pool.*.limits.wait");
        assert_eq!(pattern(&Place::default().key("listener").item(3).key("via")), "listener.*.via");
    }
}
