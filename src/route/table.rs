//! Rules arranged for look-up. The time to find one does not grow with the number of hosts, and
//! grows with the logarithm of the number of paths of a host. What a rule leads to is not known here.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

use super::conditions::{Conditions, Rank};
use super::{HostMatch, PathMatch, Pattern, Rule, View};

/// Rules with what they lead to, arranged for look-up.
#[derive(Debug)]
pub struct Table<T> {
    /// In the order of the file.
    targets: Vec<T>,
    exact: HashMap<Box<str>, Paths>,
    /// By suffix, without `*.`.
    below: HashMap<Box<str>, Paths>,
    longest_suffix: usize,
    any: Paths,
}

impl<T> Table<T> {
    /// Arranges `rules`, given in the order of the file.
    #[must_use]
    pub fn new(rules: Vec<(Rule, T)>) -> Self {
        let (rules, targets): (Vec<_>, Vec<_>) = rules.into_iter().unzip();
        let mut exact: HashMap<_, Sorted<'_>> = HashMap::new();
        let mut below: HashMap<_, Sorted<'_>> = HashMap::new();
        let mut any = Sorted::default();
        for (target, rule) in rules.iter().enumerate() {
            for host in &rule.hosts {
                let paths = match host {
                    HostMatch::Exact(name) => exact.entry(name.as_str()).or_default(),
                    HostMatch::Below(suffix) => below.entry(suffix.as_str()).or_default(),
                };
                paths.add(target, rule);
            }
            if rule.hosts.is_empty() {
                any.add(target, rule);
            }
        }
        let longest_suffix = below.keys().map(|suffix| suffix.len()).max().unwrap_or_default();
        let built = |by_host: HashMap<&str, Sorted<'_>>| {
            by_host.into_iter().map(|(host, sorted)| (host.into(), sorted.paths())).collect()
        };
        let (exact, below, any) = (built(exact), built(below), any.paths());
        Self { targets, exact, below, longest_suffix, any }
    }

    /// What its rules lead to, in the order of the file.
    #[must_use]
    pub fn targets(&self) -> &[T] {
        &self.targets
    }

    /// What the most specific rule that matches leads to. Allocates nothing, except for a query
    /// parameter with escapes whose value is to match an expression, and for the scratch memory of
    /// an expression's first uses.
    #[must_use]
    pub fn find(&self, view: &View<'_>) -> Option<&T> {
        let host = without_root(view.host);
        let target = self
            .exact
            .get(host)
            .and_then(|paths| paths.find(view))
            .or_else(|| self.find_below(host, view))
            .or_else(|| self.any.find(view))?;
        self.targets.get(target)
    }

    fn find_below(&self, host: &str, view: &View<'_>) -> Option<usize> {
        if self.below.is_empty() {
            return None;
        }
        let dots = memchr::memchr_iter(b'.', host.as_bytes());
        dots.filter_map(|dot| host.get(dot + 1..))
            .filter(|suffix| suffix.len() <= self.longest_suffix)
            .filter_map(|suffix| self.below.get(suffix))
            .find_map(|paths| paths.find(view))
    }
}

/// A host without the dot of the DNS root: `a.example.` is `a.example`.
pub(super) fn without_root(host: &str) -> &str {
    host.strip_suffix('.').unwrap_or(host)
}

/// A prefix without the slash at its end, which makes no difference: a prefix ends on a border
/// between segments.
pub(super) fn bare_prefix(prefix: &str) -> &str {
    prefix.strip_suffix('/').unwrap_or(prefix)
}

/// The rules of one host.
#[derive(Debug)]
struct Paths {
    /// Ascending by path.
    exact: Vec<(Box<[u8]>, Candidates)>,
    regexes: Vec<(Pattern, Candidate)>,
    /// Ascending by prefix.
    prefixes: Vec<Prefix>,
    any: Candidates,
}

#[derive(Debug)]
struct Prefix {
    bare: Box<[u8]>,
    /// The longest other prefix that this one begins with, as an index; always a smaller one.
    parent: Option<usize>,
    candidates: Candidates,
}

/// Rules of the same host and path, the most specific first.
#[derive(Debug)]
struct Candidates(Box<[Candidate]>);

/// What remains of a rule once host and path are known to match.
#[derive(Debug)]
struct Candidate {
    conditions: Conditions,
    target: usize,
}

impl Paths {
    fn find(&self, view: &View<'_>) -> Option<usize> {
        self.find_exact(view)
            .or_else(|| self.find_regex(view))
            .or_else(|| self.find_prefix(view))
            .or_else(|| self.any.find(view))
    }

    fn find_exact(&self, view: &View<'_>) -> Option<usize> {
        let at = self.exact.binary_search_by(|(path, _)| (**path).cmp(view.path)).ok()?;
        self.exact.get(at)?.1.find(view)
    }

    fn find_regex(&self, view: &View<'_>) -> Option<usize> {
        let matching = |(pattern, candidate): &&(Pattern, Candidate)| {
            candidate.conditions.hold(view) && pattern.matches(view.path)
        };
        self.regexes.iter().find(matching).map(|(_, candidate)| candidate.target)
    }

    /// Every prefix that the path begins with is a prefix of the last one that sorts before the
    /// path, so the parents of that one lead through all of them, from long to short.
    fn find_prefix(&self, view: &View<'_>) -> Option<usize> {
        let after = self.prefixes.partition_point(|prefix| *prefix.bare <= *view.path);
        let mut next = after.checked_sub(1);
        while let Some(prefix) = next.and_then(|at| self.prefixes.get(at)) {
            if prefix.takes(view.path)
                && let Some(target) = prefix.candidates.find(view)
            {
                return Some(target);
            }
            next = prefix.parent;
        }
        None
    }
}

impl Prefix {
    fn takes(&self, path: &[u8]) -> bool {
        matches!(path.strip_prefix(&*self.bare), Some([] | [b'/', ..]))
    }
}

impl Candidates {
    fn find(&self, view: &View<'_>) -> Option<usize> {
        self.0.iter().find(|candidate| candidate.conditions.hold(view)).map(|candidate| candidate.target)
    }
}

/// The rules of one host while the table is built.
#[derive(Default)]
struct Sorted<'a> {
    exact: BTreeMap<&'a [u8], Vec<(usize, &'a Rule)>>,
    regexes: Vec<(usize, &'a Rule)>,
    prefixes: BTreeMap<&'a [u8], Vec<(usize, &'a Rule)>>,
    any: Vec<(usize, &'a Rule)>,
}

impl<'a> Sorted<'a> {
    fn add(&mut self, target: usize, rule: &'a Rule) {
        let alike = match &rule.path {
            PathMatch::Any => &mut self.any,
            PathMatch::Exact(path) => self.exact.entry(path.as_bytes()).or_default(),
            PathMatch::Prefix(prefix) => self.prefixes.entry(bare_prefix(prefix).as_bytes()).or_default(),
            PathMatch::Regex(_) => &mut self.regexes,
        };
        alike.push((target, rule));
    }

    fn paths(self) -> Paths {
        let pattern = |(target, rule): (usize, &Rule)| match &rule.path {
            PathMatch::Regex(pattern) => Some((pattern.clone(), Candidate::of(target, rule))),
            _ => None,
        };
        Paths {
            exact: self.exact.into_iter().map(|(path, alike)| (path.into(), candidates(alike))).collect(),
            regexes: by_rank(self.regexes).into_iter().filter_map(pattern).collect(),
            prefixes: prefixes(self.prefixes),
            any: candidates(self.any),
        }
    }
}

fn prefixes(sorted: BTreeMap<&[u8], Vec<(usize, &Rule)>>) -> Vec<Prefix> {
    let mut open: Vec<(usize, &[u8])> = Vec::new();
    let mut all = Vec::with_capacity(sorted.len());
    for (index, (bare, alike)) in sorted.into_iter().enumerate() {
        while open.pop_if(|(_, longer)| !bare.starts_with(longer)).is_some() {}
        let parent = open.last().map(|(index, _)| *index);
        open.push((index, bare));
        all.push(Prefix { bare: bare.into(), parent, candidates: candidates(alike) });
    }
    all
}

fn candidates(alike: Vec<(usize, &Rule)>) -> Candidates {
    Candidates(by_rank(alike).into_iter().map(|(target, rule)| Candidate::of(target, rule)).collect())
}

/// The most specific first; the order of the file on ties, for the sort is stable.
fn by_rank(mut alike: Vec<(usize, &Rule)>) -> Vec<(usize, &Rule)> {
    alike.sort_by_key(|(_, rule)| Reverse(Rank::of(rule)));
    alike
}

impl Candidate {
    fn of(target: usize, rule: &Rule) -> Self {
        Self { conditions: Conditions::of(rule), target }
    }
}
