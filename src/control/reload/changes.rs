//! What differs between two plans, in a line for each listener, route, pool and endpoint, and what of it
//! has to wait for a restart.

use std::collections::BTreeMap;

use crate::config::Plan;
use crate::model::Fingerprint;

/// What is different in `after`, a line each.
pub(super) fn changes(before: &Plan, after: &Plan) -> Vec<String> {
    let mut lines = Vec::new();
    let listeners = |plan: &Plan| -> BTreeMap<String, Fingerprint> {
        plan.listeners.iter().map(|l| (l.name.to_string(), l.fingerprint)).collect()
    };
    let routes = |plan: &Plan| -> BTreeMap<String, Fingerprint> {
        plan.routes.iter().map(|r| (r.name.to_string(), r.fingerprint)).collect()
    };
    let pools = |plan: &Plan| -> BTreeMap<String, Fingerprint> {
        plan.pools.iter().map(|p| (p.name.to_string(), p.fingerprint)).collect()
    };
    compare("listener", &listeners(before), &listeners(after), &mut lines);
    compare("route", &routes(before), &routes(after), &mut lines);
    compare("pool", &pools(before), &pools(after), &mut lines);
    lines
}

fn compare(
    what: &str,
    before: &BTreeMap<String, Fingerprint>,
    after: &BTreeMap<String, Fingerprint>,
    lines: &mut Vec<String>,
) {
    let added = after.keys().filter(|name| !before.contains_key(*name));
    lines.extend(added.map(|name| format!("{what} {name} added")));
    let removed = before.keys().filter(|name| !after.contains_key(*name));
    lines.extend(removed.map(|name| format!("{what} {name} removed")));
    let changed = after.iter().filter(|(name, own)| before.get(*name).is_some_and(|before| before != *own));
    lines.extend(changed.map(|(name, _)| format!("{what} {name} changed")));
}

/// What is written differently and has no effect before the process starts anew.
pub(super) fn needs_restart(before: &Plan, after: &Plan) -> Vec<&'static str> {
    let rows = [
        ("workers", before.workers != after.workers),
        ("admin", before.admin != after.admin),
        ("log", before.log != after.log),
        ("state_dir", before.state_dir != after.state_dir),
    ];
    rows.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
}
