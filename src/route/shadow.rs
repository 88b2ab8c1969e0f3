//! Whether a rule can never match because an earlier one takes everything that it would. Certain
//! when it says so; silent in every case that would need more than comparing what is written.

use std::collections::HashMap;

use super::conditions::Rank;
use super::table::bare_prefix;
use super::{FieldMatch, PathMatch, Rule, ValueMatch};

/// Rules in the order of the file, arranged so that a rule is compared with few of those before it: with
/// those of one of its hosts and of its path, and of these with those that ask for a value that it asks
/// for as well.
#[derive(Debug, Default)]
pub struct Earlier {
    by_sort: HashMap<Sort, Vec<usize>>,
    count: usize,
}

/// What a rule has in common with every rule that it shadows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Sort {
    /// Of any of its hosts; none means every host.
    host: Option<String>,
    path: Option<(&'static str, String)>,
    /// Of the first header field or query parameter of which it asks for one value.
    value: Option<(bool, String, String)>,
}

impl Earlier {
    /// Adds a rule; its place, from 0.
    pub fn add(&mut self, rule: &Rule) -> usize {
        let place = self.count;
        self.count += 1;
        let value = values(rule).next();
        for host in hosts(rule) {
            let sort = Sort { host, path: path_of(rule), value: value.clone() };
            self.by_sort.entry(sort).or_default().push(place);
        }
        place
    }

    /// The places of the rules so far that may shadow `rule`, ascending; no other does.
    #[must_use]
    pub fn candidates(&self, rule: &Rule) -> Vec<usize> {
        let (host, path) = (hosts(rule).into_iter().next().flatten(), path_of(rule));
        let values = values(rule).map(Some).chain([None]);
        let sorts = values.map(|value| Sort { host: host.clone(), path: path.clone(), value });
        let mut found: Vec<_> = sorts.filter_map(|sort| self.by_sort.get(&sort)).flatten().copied().collect();
        found.sort_unstable();
        found.dedup();
        found
    }
}

fn hosts(rule: &Rule) -> Vec<Option<String>> {
    match rule.hosts.as_slice() {
        [] => vec![None],
        hosts => hosts.iter().map(|host| Some(host.to_string())).collect(),
    }
}

fn path_of(rule: &Rule) -> Option<(&'static str, String)> {
    match &rule.path {
        PathMatch::Any => None,
        PathMatch::Exact(path) => Some(("exact", path.clone())),
        PathMatch::Prefix(path) => Some(("prefix", bare_prefix(path).to_owned())),
        PathMatch::Regex(pattern) => Some(("regex", pattern.as_str().to_owned())),
    }
}

/// Every exact value that a rule asks for: whether it is a header field's, its name and itself.
fn values(rule: &Rule) -> impl Iterator<Item = (bool, String, String)> + '_ {
    let exact = |wanted: &FieldMatch| match &wanted.value {
        ValueMatch::Exact(value) => Some(value.clone()),
        ValueMatch::Present | ValueMatch::Regex(_) => None,
    };
    let headers = rule.headers.iter();
    let headers = headers.filter_map(move |one| Some((true, one.name.to_ascii_lowercase(), exact(one)?)));
    headers.chain(rule.query.iter().filter_map(move |one| Some((false, one.name.clone(), exact(one)?))))
}

impl Rule {
    /// Whether `earlier`, which stands before this rule in the file, takes every request that this
    /// rule matches. `false` when that is not certain.
    #[must_use]
    pub fn shadowed_by(&self, earlier: &Self) -> bool {
        // A wider host or path is a less specific one and comes second, so these must be the same.
        let hosts = match (self.hosts.as_slice(), earlier.hosts.as_slice()) {
            ([], theirs) => theirs.is_empty(),
            (ours, theirs) => ours.iter().all(|host| theirs.contains(host)),
        };
        hosts
            && same_path(&self.path, &earlier.path)
            && Rank::of(earlier) >= Rank::of(self)
            && self.implies_methods(earlier)
            && implied(&earlier.headers, &self.headers, str::eq_ignore_ascii_case)
            && implied(&earlier.query, &self.query, str::eq)
    }

    fn implies_methods(&self, earlier: &Self) -> bool {
        let ours = &self.methods;
        earlier.methods.is_empty()
            || (!ours.is_empty() && ours.iter().all(|method| earlier.methods.contains(method)))
    }
}

fn same_path(ours: &PathMatch, theirs: &PathMatch) -> bool {
    match (ours, theirs) {
        (PathMatch::Prefix(ours), PathMatch::Prefix(theirs)) => bare_prefix(ours) == bare_prefix(theirs),
        (ours, theirs) => ours == theirs,
    }
}

/// Whether whatever fulfils all of `ours` fulfils all of `theirs`.
fn implied(theirs: &[FieldMatch], ours: &[FieldMatch], same: fn(&str, &str) -> bool) -> bool {
    theirs.iter().all(|their| ours.iter().any(|our| same(&our.name, &their.name) && within(our, their)))
}

fn within(our: &FieldMatch, their: &FieldMatch) -> bool {
    match (&our.value, &their.value) {
        (_, ValueMatch::Present) => true,
        (ValueMatch::Exact(text), theirs) => theirs.fits(text.as_bytes()),
        (ours, theirs) => ours == theirs,
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::route::tests::{exact, regex, rule};

    #[test]
    fn the_same_again_is_shadowed() {
        let host = |rule: Rule| Rule { hosts: vec!["a.example".parse().unwrap()], ..rule };
        for one in [
            Rule::default(),
            host(Rule::default()),
            rule("/a"),
            rule("= /a"),
            rule("~ /a.*"),
            Rule { methods: vec![Method::GET], ..rule("/a") },
            Rule {
                headers: vec![exact("X-A", "1"), regex("b", ".")],
                query: vec![exact("q", "1")],
                ..rule("/")
            },
        ] {
            assert!(one.shadowed_by(&one), "{one:?}");
        }
    }

    #[test]
    fn a_part_of_an_earlier_rule_is_shadowed_only_when_it_is_no_more_specific() {
        let get = |rule: Rule| Rule { methods: vec![Method::GET], ..rule };
        let both = |rule: Rule| Rule { methods: vec![Method::GET, Method::PUT], ..rule };
        let with = |headers: &[FieldMatch]| Rule { headers: headers.into(), ..rule("/a") };
        let asking = |query: &[FieldMatch]| Rule { query: query.into(), ..rule("/a") };
        for (earlier, later, shadowed) in [
            (rule("/a"), rule("/a/"), true),
            (rule("/a"), rule("/a/b"), false),
            (rule("/"), Rule::default(), false),
            (rule("~ /.*"), rule("= /a"), false),
            (both(rule("/a")), get(rule("/a")), true),
            (get(rule("/a")), both(rule("/a")), false),
            (rule("/a"), get(rule("/a")), false),
            (get(rule("/a")), rule("/a"), false),
            (with(&[exact("X-A", "1")]), with(&[exact("x-a", "1")]), true),
            (with(&[exact("x-a", "1")]), with(&[exact("x-a", "2")]), false),
            (with(&[regex("x-a", "[12]")]), with(&[regex("x-a", "[12]")]), true),
            (with(&[regex("x-a", "[12]")]), with(&[exact("x-a", "1")]), false),
            (asking(&[exact("q", "1")]), asking(&[exact("Q", "1")]), false),
            (asking(&[exact("q", "1")]), asking(&[exact("q", "1"), exact("r", "1")]), false),
        ] {
            assert_eq!(later.shadowed_by(&earlier), shadowed, "{earlier:?} before {later:?}");
        }
    }

    /// Rules that have much in common, drawn so that many shadow others.
    fn drawn(seed: u64) -> Rule {
        let bit = |n: u32| seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (20 + n) & 1 == 1;
        let hosts = [(0, "a.example"), (1, "*.b.example")].into_iter().filter(|(n, _)| bit(*n));
        let fields =
            |n: u32, value: &str| if bit(n) { vec![exact("X", value), regex("y", ".")] } else { vec![] };
        Rule {
            hosts: hosts.map(|(_, host)| host.parse().unwrap()).collect(),
            methods: if bit(2) { vec![Method::GET] } else { vec![] },
            headers: fields(3, if bit(4) { "1" } else { "2" }),
            query: fields(5, "1"),
            ..rule(if bit(6) { "/a" } else { "~ /.*" })
        }
    }

    #[test]
    fn no_rule_that_shadows_is_passed_over() {
        let rules: Vec<_> = (0..300).map(drawn).collect();
        let mut earlier = Earlier::default();
        let mut shadowed = 0;
        for (place, rule) in rules.iter().enumerate() {
            let wanted = rules[..place].iter().position(|other| rule.shadowed_by(other));
            let found = earlier.candidates(rule).into_iter().find(|other| rule.shadowed_by(&rules[*other]));
            assert_eq!(found, wanted, "rule {place}: {rule:?}");
            shadowed += usize::from(wanted.is_some());
            assert_eq!(earlier.add(rule), place);
        }
        assert!(shadowed > 100, "{shadowed}");
    }

    #[test]
    fn few_rules_are_compared_however_many_there_are() {
        let of_host = |n: usize| Rule { hosts: vec![format!("h{n}.example").parse().unwrap()], ..rule("/a") };
        let of_path = |n: usize| rule(&format!("/{n}"));
        let of_value = |n: usize| Rule { headers: vec![exact("x", &n.to_string())], ..rule("/a") };
        for make in [&of_host as &dyn Fn(usize) -> Rule, &of_path, &of_value] {
            let mut earlier = Earlier::default();
            let mut compared = 0;
            for n in 0..2000 {
                compared += earlier.candidates(&make(n)).len();
                earlier.add(&make(n));
            }
            assert_eq!(compared, 0);
        }
    }

    #[test]
    fn every_host_must_be_taken() {
        let on = |hosts: &[&str]| Rule {
            hosts: hosts.iter().map(|host| host.parse().unwrap()).collect(),
            ..Rule::default()
        };
        for (earlier, later, shadowed) in [
            (&["a.example", "b.example"][..], &["b.example"][..], true),
            (&["a.example"], &["a.example", "b.example"], false),
            (&["*.example"], &["a.example"], false),
            (&["*.example"], &["*.example"], true),
            (&[], &["a.example"], false),
            (&["a.example"], &[], false),
        ] {
            assert_eq!(on(later).shadowed_by(&on(earlier)), shadowed, "{earlier:?} before {later:?}");
        }
    }
}
