//! Settings that the data plane works by, as values with their defaults. Each default is stated
//! here and nowhere else; `config/reference.toml` is tested against them.

mod access_log;
mod layer4;
mod limits;
mod metrics;
mod overload;
mod proxy_protocol;
mod retry;
mod socket;
mod tracing;

use std::time::Duration;

use ipnet::IpNet;

pub use access_log::{Facility, LogField, LogSample, LogTarget, Outline, Syslog, SyslogPeer};
pub use layer4::{FlowSettings, StreamTimeouts};
pub use limits::{Limits, Priorities, Priority};
pub use metrics::{BadBuckets, Buckets, Metrics};
pub use overload::Overload;
pub use proxy_protocol::{HeaderValues, HeaderVersion, HeadersIn, HeadersOut};
pub use retry::{Hedge, HedgeAfter, Retry, RetryOn, RouteRetry, TryTimeout};
pub use socket::{KeepAlive, SocketOptions, Source, UpstreamSocket};
pub use tracing::{Parents, Propagation, Tracing};

/// Time limits towards clients, per listener.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientTimeouts {
    /// From accept to the last byte of a PROXY protocol header, where one is read.
    pub proxy_protocol: Duration,
    /// From accept, or the end of such a header, to the end of the TLS handshake.
    pub tls_handshake: Duration,
    /// From the first byte of a request head to its end.
    pub header: Duration,
    /// Without progress, while a request or response is under way.
    pub idle: Duration,
    /// Between requests on a kept connection.
    pub keep_alive: Duration,
    /// Bytes per second that a client has to send or take while it is what is waited for, on average
    /// over five seconds. Off when unset.
    pub min_rate: Option<u64>,
}

impl Default for ClientTimeouts {
    fn default() -> Self {
        Self {
            proxy_protocol: HeadersIn::TIMEOUT,
            tls_handshake: Duration::from_secs(5),
            header: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            keep_alive: Duration::from_secs(75),
            min_rate: None,
        }
    }
}

/// Time limits towards endpoints, per pool.
#[derive(Clone, Debug, PartialEq)]
pub struct UpstreamTimeouts {
    /// From the start of a connection to its being open, TLS not included.
    pub connect: Duration,
    /// From the open connection to the end of the TLS handshake.
    pub tls_handshake: Duration,
    /// Without a byte from or to the endpoint, while a request is under way.
    pub idle: Duration,
    /// How long an unused connection is kept.
    pub keep_alive: Duration,
    /// Without a byte either way, once the protocol was switched, as for WebSocket.
    pub tunnel: Duration,
    /// For one try, from its start to the head of its response. Off when unset.
    pub attempt: Option<TryTimeout>,
    /// Bytes per second that an endpoint has to send once its response has begun, while it is what is
    /// waited for, on average over five seconds. Off when unset.
    pub min_rate: Option<u64>,
}

impl Default for UpstreamTimeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(2),
            tls_handshake: Duration::from_secs(5),
            idle: Duration::from_secs(60),
            keep_alive: Duration::from_secs(75),
            tunnel: Duration::from_secs(3600),
            attempt: None,
            min_rate: None,
        }
    }
}

/// Time limits of one route; what is unset is the pool's.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RouteTimeouts {
    /// From the whole request head to the last byte of the response. Off when unset.
    pub request: Option<Duration>,
    /// Overrides [`UpstreamTimeouts::connect`].
    pub connect: Option<Duration>,
    /// Overrides [`UpstreamTimeouts::idle`].
    pub idle: Option<Duration>,
    /// Overrides [`UpstreamTimeouts::attempt`].
    pub attempt: Option<TryTimeout>,
}

/// Bounds on what a client may send, per listener.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientLimits {
    /// Bytes of a request head, request line included. 431 or 414 past it.
    pub head_bytes: usize,
    /// Header fields of a request. 431 past it. At most 256.
    pub fields: usize,
    /// Streams that one HTTP/2 connection may have open.
    pub concurrent_streams: u32,
    /// Connections to the listener, over all workers. 503 past it. Any number when unset.
    pub connections: Option<u64>,
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self { head_bytes: 32 * 1024, fields: 100, concurrent_streams: 256, connections: None }
    }
}

/// The greatest value of [`ClientLimits::fields`].
pub const MAX_FIELDS: usize = 256;

/// What becomes of a family of forwarding fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forwarding {
    /// Our hop is added after those of trusted peers; untrusted peers' fields are dropped first.
    Append,
    /// Whatever was there is replaced by our hop.
    Replace,
    /// Nothing is added. Untrusted peers' fields still are dropped, unless both families are off.
    Off,
}

/// How a listener tells endpoints who the client is.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientIdentity {
    /// `X-Forwarded-For`, `-Proto` and `-Host`.
    pub x_forwarded: Forwarding,
    /// RFC 7239 `Forwarded`.
    pub forwarded: Forwarding,
    /// Peers whose forwarding fields are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether `X-Request-Id` is made where there is none to keep. A sane one is kept from anybody.
    pub request_id: bool,
    /// Whether `Via` is added to requests and responses (RFC 9110 §7.6.3).
    pub via: bool,
}

impl Default for ClientIdentity {
    fn default() -> Self {
        Self {
            x_forwarded: Forwarding::Append,
            forwarded: Forwarding::Off,
            trusted_proxies: Vec::new(),
            request_id: true,
            via: true,
        }
    }
}

/// The protocol spoken to a pool's endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UpstreamProtocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2, by prior knowledge or ALPN.
    Http2,
}

/// Bounds on the connections that each worker keeps to each endpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct ConnectionLimits {
    /// Idle HTTP/1.1 connections kept for reuse, per worker and endpoint.
    pub idle: usize,
    /// Requests after which a connection is closed rather than reused; none when unset.
    pub requests: Option<u64>,
    /// Streams at once on one HTTP/2 connection before another is opened, endpoint's own limit permitting.
    pub concurrent_streams: usize,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self { idle: 256, requests: None, concurrent_streams: 100 }
    }
}

/// How the process ends.
#[derive(Clone, Debug, PartialEq)]
pub struct Drain {
    /// From the signal, when `/readyz` begins to fail, to the end of accepting.
    pub delay: Duration,
    /// From the end of accepting to the end of waiting for requests under way.
    pub timeout: Duration,
}

impl Default for Drain {
    fn default() -> Self {
        Self { delay: Duration::ZERO, timeout: Duration::from_secs(30) }
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people: the combined format (access log), or plain lines.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Sessions that stay with the endpoint that served them first, by a cookie of ours. The cookie is
/// passed on to endpoints, as any other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sticky {
    /// The name of the cookie.
    pub cookie: String,
    /// How long the client keeps it; until it closes when unset.
    pub max_age: Option<Duration>,
    /// The path for which it is sent.
    pub path: String,
    /// Whether it is sent over TLS only.
    pub secure: bool,
    /// Whether scripts are kept from it.
    pub http_only: bool,
    /// Whether it goes with requests from other sites.
    pub same_site: SameSite,
}

impl Default for Sticky {
    fn default() -> Self {
        Self {
            cookie: "forebay".to_owned(),
            max_age: None,
            path: "/".to_owned(),
            secure: false,
            http_only: true,
            same_site: SameSite::Lax,
        }
    }
}

impl Sticky {
    /// The value of the `Set-Cookie` field that binds a session to the endpoint called `id`.
    #[must_use]
    pub fn set_cookie(&self, id: &str) -> String {
        let mut value = format!("{}={id}; Path={}", self.cookie, self.path);
        if let Some(max_age) = self.max_age {
            value.push_str(&format!("; Max-Age={}", max_age.as_secs()));
        }
        if self.secure {
            value.push_str("; Secure");
        }
        if self.http_only {
            value.push_str("; HttpOnly");
        }
        value.push_str(match self.same_site {
            SameSite::Strict => "; SameSite=Strict",
            SameSite::Lax => "; SameSite=Lax",
            SameSite::None => "; SameSite=None",
        });
        value
    }
}

/// Which requests from other sites carry a cookie (RFC 6265bis §5.6.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameSite {
    /// None.
    Strict,
    /// Navigation.
    Lax,
    /// All; browsers want it with `Secure`.
    None,
}
