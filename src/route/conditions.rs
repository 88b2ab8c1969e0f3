//! What a rule asks of a request besides host and path, and how much it asks.

use http::Method;

use super::{FieldMatch, Rule, ValueMatch, View, query};
use crate::model::{Fields, field::Known};

/// Methods, header fields and query parameters, made ready to be tested.
#[derive(Clone, Debug)]
pub(super) struct Conditions {
    methods: Box<[Method]>,
    headers: Box<[HeaderTest]>,
    query: Box<[FieldMatch]>,
}

#[derive(Clone, Debug)]
struct HeaderTest {
    known: Known,
    name: Box<[u8]>,
    value: ValueMatch,
}

impl Conditions {
    pub(super) fn of(rule: &Rule) -> Self {
        Self {
            methods: rule.methods.as_slice().into(),
            headers: rule.headers.iter().map(HeaderTest::of).collect(),
            query: rule.query.as_slice().into(),
        }
    }

    pub(super) fn hold(&self, view: &View<'_>) -> bool {
        (self.methods.is_empty() || self.methods.contains(view.method))
            && self.headers.iter().all(|test| test.holds(view.fields))
            && self.query.iter().all(|wanted| {
                view.query.is_some_and(|query| query::has(query, wanted.name.as_bytes(), &wanted.value))
            })
    }
}

impl HeaderTest {
    fn of(wanted: &FieldMatch) -> Self {
        let name = wanted.name.as_bytes();
        Self { known: Known::of(name), name: name.into(), value: wanted.value.clone() }
    }

    /// Whether one of the fields of this name has a value that fits.
    fn holds(&self, fields: &Fields) -> bool {
        let fits = |value: &[u8]| self.value.fits(value);
        match self.known {
            Known::Other => fields.get_named(&self.name).any(fits),
            known => fields.has(known) && fields.get_all(known).any(fits),
        }
    }
}

impl ValueMatch {
    /// Whether `value` is such a value.
    #[must_use]
    pub fn fits(&self, value: &[u8]) -> bool {
        match self {
            Self::Present => true,
            Self::Exact(text) => text.as_bytes() == value,
            Self::Regex(pattern) => pattern.matches(value),
        }
    }
}

/// How specific the conditions of a rule are; the greater goes first. Compared in the order of the
/// fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rank {
    methods: bool,
    headers: usize,
    query: usize,
    /// Of headers and query parameters, those that say exactly which value.
    exact: usize,
    /// Those that give an expression for it.
    regex: usize,
}

impl Rank {
    /// That of a rule.
    #[must_use]
    pub fn of(rule: &Rule) -> Self {
        let values = || rule.headers.iter().chain(&rule.query).map(|wanted| &wanted.value);
        Self {
            methods: !rule.methods.is_empty(),
            headers: rule.headers.len(),
            query: rule.query.len(),
            exact: values().filter(|value| matches!(value, ValueMatch::Exact(_))).count(),
            regex: values().filter(|value| matches!(value, ValueMatch::Regex(_))).count(),
        }
    }
}
