//! What an access log says of one request, and what each of its fields is of that.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use http::Version;

use crate::model::settings::LogField;
use crate::observe::ended::{Ended, StreamResult};
use crate::trace::TraceId;

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
    /// The trace that it is part of, as in `traceparent`.
    pub trace_id: Option<TraceId>,
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
    /// Which timer, limit or rule that was, in words.
    pub details: Option<&'a str>,
    /// How often an endpoint was asked.
    pub tries: u32,
    /// What stood in for the pool, if anything did.
    pub rung: Option<&'a str>,
    /// Why it ended as it did, if it did not go well.
    pub cause: Cause,
    /// The version of TLS, as in `TLSv1.3`; `None` without TLS.
    pub tls_version: Option<&'a str>,
    /// The server name that the client indicated.
    pub sni: Option<&'a str>,
    /// What is known of a connection or flow that was passed on unread, in place of a request.
    pub passed: Option<Passed>,
}

/// What there is to say of a connection or flow that was passed on unread.
#[derive(Clone, Copy, Debug)]
pub struct Passed {
    /// What became of it.
    pub result: StreamResult,
    /// From its beginning until the endpoint was connected to.
    pub connect: Option<Duration>,
    /// Datagrams from and to the client; `None` for connections.
    pub datagrams: Option<(u64, u64)>,
}

impl Passed {
    /// The protocol.
    fn protocol(self) -> &'static str {
        if self.datagrams.is_some() { "udp" } else { "tcp" }
    }
}

impl<'a> From<&Ended<'a>> for Record<'a> {
    /// Its status is 0, for it has none.
    fn from(ended: &Ended<'a>) -> Self {
        let Ended { result, connect, datagrams, .. } = *ended;
        Self {
            time: ended.time,
            client: ended.client,
            user: None,
            method: "",
            target: &[],
            version: Version::HTTP_09,
            host: None,
            referer: None,
            user_agent: None,
            request_id: None,
            trace_id: None,
            status: 0,
            sent: ended.sent,
            received: ended.received,
            duration: ended.duration,
            first_byte: None,
            listener: ended.listener,
            route: None,
            pool: ended.pool,
            endpoint: ended.endpoint,
            error: None,
            details: None,
            tries: ended.tries,
            rung: None,
            cause: Cause::from(result),
            tls_version: ended.tls_version,
            sni: ended.sni,
            passed: Some(Passed { result, connect, datagrams }),
        }
    }
}

impl From<StreamResult> for Cause {
    fn from(result: StreamResult) -> Self {
        let (timer, closed_by) = match result {
            StreamResult::Done => (None, None),
            StreamResult::Idle => (Some("idle"), Some("forebay")),
            StreamResult::Expired => (Some("max_duration"), Some("forebay")),
            StreamResult::ClientReset => (None, Some("client")),
            StreamResult::EndpointReset | StreamResult::ConnectFailed => (None, Some("upstream")),
            _ => (None, Some("forebay")),
        };
        Self { timer, limit: None, closed_by }
    }
}

/// Why a request did not go well, in words that do not change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cause {
    /// The time limit that ran out.
    pub timer: Option<&'static str>,
    /// The other limit that it hit.
    pub limit: Option<&'static str>,
    /// Who broke it off: `client`, `upstream` or `forebay`.
    pub closed_by: Option<&'static str>,
}

/// What a field is of one request.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    Nothing,
    Time,
    Client(IpAddr),
    Trace(TraceId),
    Text(&'a [u8]),
    Number(u64),
    Seconds(Duration),
}

impl<'a> Record<'a> {
    /// What `field` is.
    pub(super) fn value(&self, field: LogField) -> Value<'a> {
        let text = |value: Option<&'a str>| bytes(value.map(str::as_bytes));
        let asked = !self.method.is_empty();
        match field {
            LogField::Time => Value::Time,
            LogField::Client => self.client.map_or(Value::Nothing, Value::Client),
            LogField::User => bytes(self.user),
            LogField::Method => text(asked.then_some(self.method)),
            LogField::Target => bytes(asked.then_some(self.target)),
            LogField::Version => text(asked.then(|| version(self.version))),
            LogField::Host => bytes(self.host),
            LogField::Referer => bytes(self.referer),
            LogField::UserAgent => bytes(self.user_agent),
            LogField::RequestId => bytes(self.request_id),
            LogField::TraceId => self.trace_id.map_or(Value::Nothing, Value::Trace),
            LogField::Status if self.passed.is_some() => Value::Nothing,
            LogField::Status => Value::Number(self.status.into()),
            LogField::SentBytes => Value::Number(self.sent),
            LogField::ReceivedBytes => Value::Number(self.received),
            LogField::DurationSeconds => Value::Seconds(self.duration),
            LogField::FirstByteSeconds => self.first_byte.map_or(Value::Nothing, Value::Seconds),
            LogField::Listener => Value::Text(self.listener.as_bytes()),
            LogField::Route => text(self.route),
            LogField::Pool => text(self.pool),
            LogField::Endpoint => text(self.endpoint),
            LogField::Tries => Value::Number(self.tries.into()),
            LogField::Rung => text(self.rung),
            LogField::Error => text(self.error),
            LogField::Details => text(self.details),
            LogField::Timer => text(self.cause.timer),
            LogField::Limit => text(self.cause.limit),
            LogField::ClosedBy => text(self.cause.closed_by),
            LogField::TlsVersion => text(self.tls_version),
            LogField::Sni => text(self.sni),
            LogField::Protocol => text(Some(self.passed.map_or("http", Passed::protocol))),
            LogField::Result => text(self.passed.map(|passed| passed.result.word())),
            LogField::ConnectSeconds => {
                self.passed.and_then(|passed| passed.connect).map_or(Value::Nothing, Value::Seconds)
            }
            LogField::ReceivedDatagrams => {
                self.datagrams().map_or(Value::Nothing, |(in_, _)| Value::Number(in_))
            }
            LogField::SentDatagrams => self.datagrams().map_or(Value::Nothing, |(_, out)| Value::Number(out)),
        }
    }

    fn datagrams(&self) -> Option<(u64, u64)> {
        self.passed.and_then(|passed| passed.datagrams)
    }
}

fn bytes(value: Option<&[u8]>) -> Value<'_> {
    value.map_or(Value::Nothing, Value::Text)
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
