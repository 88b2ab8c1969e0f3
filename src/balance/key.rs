//! What binds a request to an endpoint, for policies that hash. Knows no policy.

use std::net::IpAddr;

use crate::model::RequestHead;

/// Where the key of a request is taken from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum HashKey {
    /// The client's address, as believed after `trusted_proxies`.
    #[default]
    Client,
    /// The address at the other end of the connection.
    Source,
    /// The path, without the query.
    Path,
    /// A header field.
    Header(String),
    /// A cookie.
    Cookie(String),
    /// A parameter of the query.
    Query(String),
}

/// The addresses that a request came from.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    /// The client, as believed.
    pub client: Option<IpAddr>,
    /// The other end of the connection.
    pub source: Option<IpAddr>,
}

impl HashKey {
    /// The key of a request; `None` when it has none, so that it may go anywhere.
    #[must_use]
    pub fn of(&self, request: &RequestHead, origin: Origin) -> Option<u64> {
        let _ = (request, origin);
        None
    }
}
