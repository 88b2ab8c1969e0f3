//! Whether a rule can never match because an earlier one takes everything that it would. Certain
//! when it says so; silent in every case that would need more than comparing what is written.

use super::conditions::Rank;
use super::table::bare_prefix;
use super::{FieldMatch, PathMatch, Rule, ValueMatch};

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
