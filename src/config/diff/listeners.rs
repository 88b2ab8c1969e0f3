//! How listeners differ.

use super::{Changes, ListenerChange, Pair, Paired, keys, names_at, tables};
use crate::config::plan::ListenerPlan;
use crate::config::secret::Place;
use crate::model::Address;

pub(super) fn changes(pair: &Pair<'_>) -> Changes<ListenerChange> {
    let (before, after) = (&pair.before.listeners, &pair.after.listeners);
    let paired = Paired::by_name(before.iter().map(|one| &one.name), after.iter().map(|one| &one.name));
    let (earlier, later) = (tables(pair.before, "listener"), tables(pair.after, "listener"));
    let change = |(was, is): &(usize, usize)| {
        let (old, new) = (before.get(*was)?, after.get(*is)?);
        if old.fingerprint == new.fingerprint {
            return None;
        }
        let place = Place::default().key("listener").key(new.name.as_str());
        let (binds_added, binds_removed) = (missing(new, old), missing(old, new));
        let change = ListenerChange {
            name: new.name.clone(),
            keys: keys::of_tables(&place, earlier.get(*was)?, later.get(*is)?, &[]),
            binds_added,
            binds_removed,
            tls: old.tls_fingerprint != new.tls_fingerprint,
            files: pair.files_of(&format!("listener[{is}]")),
        };
        Some(change)
    };
    Changes {
        added: names_at(after, &paired.added, |one| &one.name),
        removed: names_at(before, &paired.removed, |one| &one.name),
        changed: paired.both.iter().filter_map(change).collect(),
    }
}

/// The addresses of `one` that `other` does not bind.
fn missing(one: &ListenerPlan, other: &ListenerPlan) -> Vec<Address> {
    one.bind.iter().filter(|address| !other.bind.contains(address)).cloned().collect()
}
