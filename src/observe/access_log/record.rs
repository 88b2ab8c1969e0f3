//! What an access log says of one request.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use http::Version;

/// A request that is over, borrowed from whoever handled it. Bytes are as they were received: making
/// them harmless is the formats' business.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// When the request head was received.
    pub time: SystemTime,
    /// The client, as believed after `trusted_proxies`; `None` for Unix sockets.
    pub client: Option<IpAddr>,
    /// The user who authenticated.
    pub user: Option<&'a [u8]>,
    /// The method; empty when what was received was no request.
    pub method: &'a str,
    /// The target as received.
    pub target: &'a [u8],
    /// The client's version of HTTP.
    pub version: Version,
    /// The host that was asked for.
    pub host: Option<&'a [u8]>,
    /// The field `Referer`.
    pub referer: Option<&'a [u8]>,
    /// The field `User-Agent`.
    pub user_agent: Option<&'a [u8]>,
    /// The request's id.
    pub request_id: Option<&'a [u8]>,
    /// The status sent to the client, or 499 when it left before there was one.
    pub status: u16,
    /// Bytes of response body sent to the client.
    pub sent: u64,
    /// Bytes of request body received from the client.
    pub received: u64,
    /// From the whole request head to the last byte of the response.
    pub duration: Duration,
    /// From the whole request head to the first byte of the response.
    pub first_byte: Option<Duration>,
    /// The listener.
    pub listener: &'a str,
    /// The route, when one matched.
    pub route: Option<&'a str>,
    /// The pool, when the route led to one.
    pub pool: Option<&'a str>,
    /// The endpoint that answered or failed last.
    pub endpoint: Option<&'a str>,
    /// The error type of `Proxy-Status` (RFC 9209 §2.3) when Forebay made the response or gave up.
    pub error: Option<&'a str>,
    /// Which timer, limit or rule that was.
    pub details: Option<&'a str>,
    /// The version of TLS, as in `TLSv1.3`; `None` without TLS.
    pub tls_version: Option<&'a str>,
    /// The server name that the client indicated.
    pub sni: Option<&'a str>,
}

/// The version as request lines have it.
pub(super) fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "HTTP/0.9",
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        Version::HTTP_3 => "HTTP/3.0",
        _ => "HTTP/1.1",
    }
}
