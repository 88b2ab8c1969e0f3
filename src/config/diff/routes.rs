//! How routes differ, and whether their order does where it matters. Routes without a name are called by
//! their place, which says little: they are matched by what they say.

use std::collections::HashMap;

use super::{Changes, Pair, RouteChange, keys, names_at, tables};
use crate::config::Plan;
use crate::config::plan::RoutePlan;
use crate::config::secret::Place;
use crate::model::Name;
use crate::model::options::{Key, Value};
use crate::route::{HostMatch, PathMatch, Rank, Rule, ValueMatch};

pub(super) fn changes(pair: &Pair<'_>) -> Changes<RouteChange> {
    let (before, after) = (&pair.before.routes, &pair.after.routes);
    let (earlier, later) = (tables(pair.before, "route"), tables(pair.after, "route"));
    let matched = &pair.routes;
    let change = |(was, is): &(usize, usize)| {
        let (old, new) = (before.get(*was)?, after.get(*is)?);
        if old.fingerprint == new.fingerprint {
            return None;
        }
        let place = Place::default().key("route").key(new.name.as_str());
        Some(RouteChange {
            name: new.name.clone(),
            keys: keys::of_tables(&place, earlier.get(*was)?, later.get(*is)?, &[]),
            files: pair.files_of(&format!("route[{is}]")),
        })
    };
    Changes {
        added: names_at(after, &matched.added, |route| &route.name),
        removed: names_at(before, &matched.removed, |route| &route.name),
        changed: matched.both.iter().filter_map(change).collect(),
    }
}

/// The routes before and after that are the same ones, as pairs of their places. Those with a name have the
/// same one.
#[must_use]
pub fn same_routes(before: &Plan, after: &Plan) -> Vec<(usize, usize)> {
    Matched::of(before, after).both
}

/// How many routes without a name are called by another now.
pub(super) fn renamed(pair: &Pair<'_>) -> usize {
    let other = |(was, is): &&(usize, usize)| {
        let name = |plan: &Plan, index: usize| plan.routes.get(index).map(|route| route.name.clone());
        name(pair.before, *was) != name(pair.after, *is)
    };
    pair.routes.both.iter().filter(other).count()
}

/// Routes before and after that are the same ones: their indexes, in the order after.
pub(super) struct Matched {
    both: Vec<(usize, usize)>,
    added: Vec<usize>,
    removed: Vec<usize>,
}

impl Matched {
    pub(super) fn of(before: &Plan, after: &Plan) -> Self {
        let (earlier, later) = (tables(before, "route"), tables(after, "route"));
        let mut matching = Matching {
            before: remaining(before, &earlier),
            after: remaining(after, &later),
            both: Vec::new(),
        };
        matching.join(|one| (!one.unnamed).then(|| one.route.name.to_string()));
        // Word by word, then what takes the same requests, then what stands at the same place.
        matching.join(|one| one.unnamed.then(|| one.route.fingerprint.to_string()));
        matching.join(|one| one.unnamed.then(|| format!("{:?} {:?}", one.route.rule, one.listeners())));
        matching.join(|one| one.unnamed.then(|| one.route.name.to_string()));
        let Matching { before, after, mut both } = matching;
        both.sort_unstable_by_key(|(_, is)| *is);
        let indexes = |rest: Vec<Remaining<'_>>| rest.into_iter().map(|one| one.index).collect();
        Self { both, added: indexes(after), removed: indexes(before) }
    }
}

/// A route that is not matched yet.
struct Remaining<'a> {
    index: usize,
    route: &'a RoutePlan,
    plan: &'a Plan,
    unnamed: bool,
}

impl<'a> Remaining<'a> {
    fn listeners(&self) -> Vec<&'a str> {
        listeners(self.plan, self.route).collect()
    }
}

fn remaining<'a>(plan: &'a Plan, written: &[&[(Key, Value)]]) -> Vec<Remaining<'a>> {
    let unnamed = |index: usize| {
        !written.get(index).is_some_and(|table| table.iter().any(|(key, _)| key.name == "name"))
    };
    let one = |(index, route)| Remaining { index, route, plan, unnamed: unnamed(index) };
    plan.routes.iter().enumerate().map(one).collect()
}

struct Matching<'a> {
    before: Vec<Remaining<'a>>,
    after: Vec<Remaining<'a>>,
    both: Vec<(usize, usize)>,
}

impl Matching<'_> {
    /// Joins those of equal `key`, the first with the first.
    fn join(&mut self, key: impl Fn(&Remaining<'_>) -> Option<String>) {
        let mut earlier: HashMap<String, Vec<usize>> = HashMap::new();
        for one in self.before.iter().rev() {
            if let Some(key) = key(one) {
                earlier.entry(key).or_default().push(one.index);
            }
        }
        let mut joined = HashMap::new();
        self.after.retain(|one| {
            let was = key(one).and_then(|key| earlier.get_mut(&key)?.pop());
            joined.extend(was.map(|was| (was, one.index)));
            was.is_none()
        });
        self.before.retain(|one| !joined.contains_key(&one.index));
        self.both.extend(joined);
    }
}

fn listeners<'a>(plan: &'a Plan, route: &'a RoutePlan) -> impl Iterator<Item = &'a str> {
    route.listeners.iter().filter_map(|index| plan.listeners.get(*index)).map(|one| one.name.as_str())
}

/// The routes that stand before one now that stood before them, where both may take the same request and
/// nothing but their order says which does.
pub(super) fn reordered(pair: &Pair<'_>) -> Vec<Name> {
    let after = pair.after;
    let mut tied: HashMap<Tie<'_>, Vec<(usize, usize)>> = HashMap::new();
    for (was, is) in pair.routes.both.iter().copied() {
        let Some(route) = after.routes.get(is) else { continue };
        for tie in Tie::all(after, route) {
            tied.entry(tie).or_default().push((was, is));
        }
    }
    let mut found: Vec<usize> =
        tied.into_values().flat_map(|tied| overtaking(&tied, &after.routes)).collect();
    found.sort_unstable();
    found.dedup();
    names_at(&after.routes, &found, |route| &route.name)
}

/// What routes have in common of which only the first that matches is taken.
#[derive(PartialEq, Eq, Hash)]
struct Tie<'a> {
    listener: &'a str,
    host: Option<&'a HostMatch>,
    /// All expressions are equally specific.
    path: Option<(&'static str, &'a str)>,
    rank: Rank,
}

impl<'a> Tie<'a> {
    fn all(plan: &'a Plan, route: &'a RoutePlan) -> Vec<Self> {
        let path = match &route.rule.path {
            PathMatch::Any => None,
            PathMatch::Exact(path) => Some(("exact", path.as_str())),
            PathMatch::Prefix(path) => Some(("prefix", path.strip_suffix('/').unwrap_or(path))),
            PathMatch::Regex(_) => Some(("regex", "")),
        };
        let rank = Rank::of(&route.rule);
        let hosts: Vec<_> = match route.rule.hosts.as_slice() {
            [] => vec![None],
            hosts => hosts.iter().map(Some).collect(),
        };
        let on = |listener| hosts.iter().map(move |host| Self { listener, host: *host, path, rank });
        listeners(plan, route).flat_map(on).collect()
    }
}

/// Of routes in the order after, with their indexes before and after, those that came before another.
fn overtaking(tied: &[(usize, usize)], routes: &[RoutePlan]) -> Vec<usize> {
    // Few routes tie; where many do, their neighbours tell enough.
    let reach = if tied.len() > MANY { 1 } else { tied.len() };
    let rule = |index: usize| routes.get(index).map(|route| &route.rule);
    let mut found = Vec::new();
    for (place, (was, is)) in tied.iter().enumerate() {
        let overtaken = tied.iter().skip(place + 1).take(reach).any(|(other_was, other_is)| {
            let meet = rule(*is).zip(rule(*other_is)).is_some_and(|(a, b)| may_meet(a, b));
            was > other_was && meet
        });
        found.extend(overtaken.then_some(*is));
    }
    found
}

/// Whether one request may be what both ask for, as far as is plain to see.
fn may_meet(a: &Rule, b: &Rule) -> bool {
    let methods =
        a.methods.is_empty() || b.methods.is_empty() || a.methods.iter().any(|one| b.methods.contains(one));
    // One field may have several values, and then both may be there; it rarely is so.
    let apart = a.headers.iter().any(|ours| {
        b.headers.iter().any(|theirs| {
            ours.name.eq_ignore_ascii_case(&theirs.name)
                && matches!((&ours.value, &theirs.value), (ValueMatch::Exact(x), ValueMatch::Exact(y)) if x != y)
        })
    });
    methods && !apart
}

const MANY: usize = 100;
