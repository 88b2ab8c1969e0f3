//! What a route does to heads on their way. Filters are synchronous and see heads only. To add
//! one: one file, and one line in `KINDS`.

use std::fmt;
use std::net::IpAddr;

use http::StatusCode;

use crate::model::{Fields, RequestHead, ResponseHead};

/// A step that reads and changes heads.
pub trait Filter: fmt::Debug + Send + Sync {
    /// Sees the request before an endpoint is chosen.
    fn on_request(&self, _head: &mut RequestHead, _cx: &mut FilterCx<'_>) -> Verdict {
        Verdict::Continue
    }

    /// Sees the response, ours included, before it goes to the client.
    fn on_response(&self, _head: &mut ResponseHead) {}
}

/// The filters of one route, in order.
pub type Filters = Vec<Box<dyn Filter>>;

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
    pub body: bytes::Bytes,
    /// When it is an error that Forebay made: what `Proxy-Status` says of it (RFC 9209 `details`).
    pub details: Option<&'static str>,
}

/// What filters know of a request besides its head, and what they decide about it.
#[derive(Debug)]
pub struct FilterCx<'a> {
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
}
