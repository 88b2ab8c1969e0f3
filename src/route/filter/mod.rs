//! What a route does to heads on their way. Filters are synchronous and see heads only. To add
//! one: one file, and one line in [`KINDS`].

mod access;
mod basic_auth;
mod headers;
mod max_body;
mod rate_limit;
mod redirect;
mod respond;
mod rewrite_host;
mod rewrite_prefix;
mod template;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::time::Instant;

use bytes::Bytes;
use http::StatusCode;

pub use rate_limit::{Mode, RateCounts, RateLimit};
pub use respond::fixed_reply;

use crate::model::options::Given;
use crate::model::{Fields, RequestHead, ResponseHead};

/// A step that reads and changes heads.
pub trait Filter: fmt::Debug + Send + Sync {
    /// Sees the request before an endpoint is chosen.
    fn on_request(&self, _head: &mut RequestHead, _cx: &mut FilterCx<'_>) -> Verdict {
        Verdict::Continue
    }

    /// Sees the response, ours included, before it goes to the client.
    fn on_response(&self, _head: &mut ResponseHead) {}

    /// Whether requests get past it to a pool.
    fn answers(&self) -> Answers {
        Answers::Never
    }

    /// The rate limit that it is, which is to be begun before it is used.
    fn rate_limit(&self) -> Option<&RateLimit> {
        None
    }
}

/// The filters of one route, in order.
pub type Filters = Vec<Box<dyn Filter>>;

/// Which requests a filter answers, refusals aside. The greatest of a route's filters counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Answers {
    /// None: the route needs a pool.
    Never,
    /// Those that it is there for. The route may have a pool for the others; without one, they are
    /// not found.
    Sometimes,
    /// All: a pool would never be reached.
    Always,
}

/// A kind of filter: its row in [`KINDS`].
#[derive(Debug)]
pub struct Kind {
    /// The name in the configuration.
    pub name: &'static str,
    /// One line for help and reference.
    pub summary: &'static str,
    /// Reads the options; `None` when they are unfit and reported.
    pub parse: fn(&Given<'_>) -> Option<Box<dyn Filter>>,
}

/// Every filter there is, in the order in which they make sense: who may come at all and how
/// often, before a password is asked for and sent in clear text, before anything is changed.
pub const KINDS: &[Kind] = &[
    access::ALLOW,
    access::DENY,
    rate_limit::KIND,
    redirect::KIND,
    basic_auth::KIND,
    max_body::KIND,
    headers::REQUEST,
    headers::RESPONSE,
    rewrite_prefix::KIND,
    rewrite_host::KIND,
    respond::KIND,
];

/// What a filter wants.
#[derive(Debug)]
pub enum Verdict {
    /// The next step.
    Continue,
    /// This answer instead of an endpoint's.
    Respond(Box<Reply>),
}

/// An answer that a route gives itself.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// Fields such as `Location`; framing is added later.
    pub fields: Fields,
    /// The whole body.
    pub body: Bytes,
    /// When it is an error that Forebay made: what `Proxy-Status` says of it (RFC 9209 `details`).
    pub details: Option<Cow<'static, str>>,
}

impl Reply {
    /// A refusal; `details` is its reason for people and for `Proxy-Status`.
    #[must_use]
    pub fn refusal(status: StatusCode, details: impl Into<Cow<'static, str>>) -> Self {
        let details = details.into();
        let mut fields = Fields::default();
        fields.append(b"content-type", PLAIN_TEXT);
        let body = match &details {
            Cow::Borrowed(text) => Bytes::from_static(text.as_bytes()),
            Cow::Owned(text) => Bytes::copy_from_slice(text.as_bytes()),
        };
        Self { status, fields, body, details: Some(details) }
    }
}

impl From<Reply> for Verdict {
    fn from(reply: Reply) -> Self {
        Self::Respond(Box::new(reply))
    }
}

/// What filters know of a request besides its head, and what they decide about it.
#[derive(Debug)]
pub struct FilterCx<'a> {
    /// When the request head was there.
    pub now: Instant,
    /// The client, as believed after `trusted_proxies`; `None` for Unix sockets.
    pub client: Option<IpAddr>,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// The host in lower case, without port.
    pub host: &'a str,
    /// The length of the request body when it is known before reading.
    pub body_length: Option<u64>,
    /// The greatest request body to let through, in bytes. Set by filters.
    pub max_body: Option<u64>,
    /// Fields that filters add to the response, whoever gives it.
    pub added: Fields,
    /// Whether somebody wants to know who authenticated.
    pub notes_user: bool,
    /// Who did, then. Set by filters.
    pub user: Option<Vec<u8>>,
}

const PLAIN_TEXT: &[u8] = b"text/plain; charset=utf-8";
