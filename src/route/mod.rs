//! Which route a request takes. The most specific rule wins, the first of the file on ties. Pure:
//! sees a request head and nothing else.
//!
//! Of two rules that match a request, the more specific is found by the first of these questions
//! that tells them apart (the order is the Kubernetes Gateway API's, where that has one):
//!
//! 1. host: exact, then the longer `*.wildcard`, then the shorter, then any;
//! 2. path: exact, then regex, then the longer prefix, then the shorter (`/` last), then any;
//! 3. whether it asks for methods;
//! 4. the number of header fields that it asks for, then of query parameters;
//! 5. of these, how many say exactly which value, then how many give an expression for it;
//! 6. the place in the file.
//!
//! All expressions for the path are equally specific: their length says nothing about what they
//! take. A rule that does not match as a whole leaves the request to the next, also to one for a
//! wider host.

mod conditions;
pub mod filter;
mod host;
pub mod path;
mod pattern;
mod query;
mod shadow;
pub mod sni;
mod table;
#[cfg(test)]
mod tests;

use http::Method;

pub use conditions::Rank;
pub use host::{BadHost, HostMatch};
pub use pattern::{BadPattern, Pattern};
pub use shadow::Earlier;
pub use table::Table;

use crate::model::Fields;

/// Which requests a route takes. What is unset matches everything.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rule {
    /// The hosts, any of which will do; none means every host.
    pub hosts: Vec<HostMatch>,
    /// The path.
    pub path: PathMatch,
    /// The methods, any of which will do; none means every method. `GET` does not imply `HEAD`.
    pub methods: Vec<Method>,
    /// Header fields, all of which must match. Where a request repeats a field, one of its values
    /// has to. `Host` is not among the fields of a request; see [`Self::hosts`].
    pub headers: Vec<FieldMatch>,
    /// Query parameters, all of which must match, after percent-decoding and with `+` as a space.
    /// Where a request repeats a parameter, one of its values has to.
    pub query: Vec<FieldMatch>,
}

/// A path to match.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum PathMatch {
    /// Every path, and the `*` of `OPTIONS *`.
    #[default]
    Any,
    /// This one.
    Exact(String),
    /// This one and those below it, on segment borders: `/a` takes `/a`, `/a/` and `/a/b`, not
    /// `/ab`. A slash at its end makes no difference; `/` takes every path.
    Prefix(String),
    /// Those that the expression matches as a whole.
    Regex(Pattern),
}

/// A named value to match: a header field or a query parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldMatch {
    /// The name; compared without case for header fields, with case for query parameters.
    pub name: String,
    /// The value.
    pub value: ValueMatch,
}

/// What a value must be.
#[derive(Clone, Debug, PartialEq)]
pub enum ValueMatch {
    /// Anything, so long as the name is there.
    Present,
    /// This.
    Exact(String),
    /// What the expression matches as a whole.
    Regex(Pattern),
}

/// What a rule is matched against.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The method.
    pub method: &'a Method,
    /// The host in lower case, without port; empty when the request names none.
    pub host: &'a str,
    /// The path, as [`path::normalise`] leaves it.
    pub path: &'a [u8],
    /// What follows the `?`.
    pub query: Option<&'a [u8]>,
    /// The header fields.
    pub fields: &'a Fields,
}
