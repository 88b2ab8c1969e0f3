//! Everything that can go wrong with a request, as data: who is to blame, what the client is told,
//! and how it is counted. One table each, so that no step decides it by itself.

use std::io;
use std::time::Duration;

use http::StatusCode;

use crate::health::{Failure, Outcome};
use crate::limit::Rejection;
use crate::net::connect::DialError;
use crate::net::http1::ReadError;
use crate::observe::access_log::Cause;
use crate::observe::metrics::FailureKind;
use crate::proxy::unconnected;
use crate::upstream::http2_pool::OpenError;
use crate::wire::Malformed;

/// Why a request did not get its answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProxyError {
    /// The request head is malformed or ambiguous.
    #[error("{}", wrong_with(.0))]
    Malformed(#[from] Malformed),
    /// The path climbs above the root or holds what no path may.
    #[error("malformed request: unacceptable path")]
    Path,
    /// `CONNECT`.
    #[error("CONNECT is not supported")]
    Connect,
    /// The request head did not come in time.
    #[error("the request head did not come within {0:?} (timeouts.header of the listener)")]
    HeaderTimeout(Duration),
    /// The request body did not come in time.
    #[error("the request body made no progress for {0:?} (timeouts.idle of the listener)")]
    ClientIdle(Duration),
    /// The client went away.
    #[error("the client closed the connection")]
    ClientGone,
    /// The request body could not be read.
    #[error("malformed request body: {0}")]
    ClientBody(Malformed),
    /// The request body exceeds the route's limit.
    #[error("the request body exceeds {0} bytes (max_body of the route)")]
    TooLarge(u64),
    /// No route takes the request.
    #[error("no route matches")]
    NoRoute,
    /// A limit turned the request away.
    #[error("{}", .0.words())]
    Rejected(Rejection),
    /// No endpoint of the pool may be used.
    #[error("no endpoint of the pool is available")]
    NoEndpoint,
    /// No connection to the endpoint.
    #[error("{0}")]
    Dial(#[from] DialError),
    /// No HTTP/2 with the endpoint.
    #[error("{0}")]
    Http2(#[source] OpenError),
    /// The endpoint closed the connection before it answered.
    #[error("the endpoint closed the connection before a response")]
    NoResponse(#[source] io::Error),
    /// The endpoint refused the stream without having processed it.
    #[error("the endpoint refused the stream")]
    Refused,
    /// The endpoint closes the connection, and left the request out.
    #[error("the endpoint closed the connection without processing the request")]
    LeftOut,
    /// What the endpoint sent is no HTTP.
    #[error("malformed response: {0}")]
    BadResponse(Malformed),
    /// The response ended early.
    #[error("the response ended early")]
    Truncated(#[source] ReadError),
    /// The endpoint gave no response head in the time that one try has.
    #[error("the endpoint gave no response within {0:?} (timeouts.try of the pool or route)")]
    TryTimeout(Duration),
    /// The endpoint made no progress in time.
    #[error("the endpoint made no progress for {0:?} (timeouts.idle of the pool or route)")]
    UpstreamIdle(Duration),
    /// The client did not take the response in time.
    #[error("the client took no byte of the response for {0:?} (timeouts.idle of the listener)")]
    ClientStalled(Duration),
    /// The client sent or took the body too slowly.
    #[error("the client sent or took less than {0} bytes a second (timeouts.min_rate of the listener)")]
    ClientSlow(u64),
    /// The endpoint sent the response too slowly.
    #[error("the endpoint sent less than {0} bytes a second (timeouts.min_rate of the pool)")]
    UpstreamSlow(u64),
    /// The whole request took too long.
    #[error("the request was not over within {0:?} (timeouts.request of the route)")]
    RequestTimeout(Duration),
    /// The client waits no longer.
    #[error("the request was not over within {0:?}, as its client asked ({1})")]
    Overdue(Duration, &'static str),
}

impl ProxyError {
    /// The status to answer with; 499, as in logs, where nobody is there to read it.
    #[must_use]
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Malformed(Malformed::TargetTooLong) => StatusCode::URI_TOO_LONG,
            Self::Malformed(Malformed::HeadTooLarge | Malformed::TooManyFields) => {
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
            }
            Self::Malformed(Malformed::TransferCoding) | Self::Connect => StatusCode::NOT_IMPLEMENTED,
            Self::Malformed(Malformed::Version) => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Self::Malformed(_) | Self::Path | Self::ClientBody(_) => StatusCode::BAD_REQUEST,
            Self::HeaderTimeout(_) | Self::ClientIdle(_) | Self::ClientSlow(_) => StatusCode::REQUEST_TIMEOUT,
            Self::ClientGone | Self::ClientStalled(_) => {
                StatusCode::from_u16(CLIENT_CLOSED).unwrap_or(StatusCode::BAD_REQUEST)
            }
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::NoRoute => StatusCode::NOT_FOUND,
            Self::Rejected(Rejection::Deadline) => StatusCode::GATEWAY_TIMEOUT,
            Self::NoEndpoint | Self::Rejected(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::UpstreamIdle(_)
            | Self::UpstreamSlow(_)
            | Self::TryTimeout(_)
            | Self::RequestTimeout(_)
            | Self::Overdue(..) => StatusCode::GATEWAY_TIMEOUT,
            Self::Dial(error) if is_timeout(error) => StatusCode::GATEWAY_TIMEOUT,
            Self::Http2(OpenError::HandshakeTimeout(_)) => StatusCode::GATEWAY_TIMEOUT,
            Self::Http2(OpenError::Dial(error)) if is_timeout(error) => StatusCode::GATEWAY_TIMEOUT,
            Self::Dial(_)
            | Self::Http2(_)
            | Self::NoResponse(_)
            | Self::Refused
            | Self::LeftOut
            | Self::BadResponse(_)
            | Self::Truncated(_) => StatusCode::BAD_GATEWAY,
        }
    }

    /// The error type of RFC 9209 §2.3.
    #[must_use]
    pub(super) fn error_type(&self) -> &'static str {
        match self {
            Self::Malformed(_)
            | Self::Path
            | Self::Connect
            | Self::HeaderTimeout(_)
            | Self::ClientIdle(_)
            | Self::ClientGone
            | Self::ClientStalled(_)
            | Self::ClientSlow(_)
            | Self::ClientBody(_)
            | Self::TooLarge(_) => "http_request_error",
            Self::NoRoute => "destination_not_found",
            Self::NoEndpoint => "destination_unavailable",
            Self::Rejected(rejection) => rejection_type(*rejection),
            Self::Dial(error) | Self::Http2(OpenError::Dial(error)) => dial_error_type(error),
            Self::Http2(OpenError::Full(rejection)) => rejection_type(*rejection),
            Self::Http2(OpenError::Handshake(_)) => "http_protocol_error",
            Self::Http2(OpenError::HandshakeTimeout(_)) => "connection_timeout",
            Self::NoResponse(_) | Self::Refused | Self::LeftOut => "connection_terminated",
            Self::BadResponse(_) => "http_protocol_error",
            Self::Truncated(_) => "http_response_incomplete",
            Self::UpstreamIdle(_) | Self::UpstreamSlow(_) => "connection_read_timeout",
            Self::TryTimeout(_) | Self::RequestTimeout(_) | Self::Overdue(..) => "http_response_timeout",
        }
    }

    /// How the endpoint's failure is counted; `None` when it is not the endpoint's.
    #[must_use]
    pub(super) fn failure(&self) -> Option<FailureKind> {
        match self {
            Self::Dial(error) | Self::Http2(OpenError::Dial(error)) => Some(unconnected::kind(error)),
            Self::Http2(OpenError::Handshake(_)) | Self::BadResponse(_) => Some(FailureKind::Protocol),
            Self::Http2(OpenError::HandshakeTimeout(_)) => Some(FailureKind::ConnectTimeout),
            Self::Truncated(ReadError::Malformed(_)) => Some(FailureKind::Protocol),
            Self::NoResponse(_) | Self::Truncated(_) => Some(FailureKind::Reset),
            Self::Refused | Self::LeftOut => Some(FailureKind::Refused),
            Self::UpstreamIdle(_)
            | Self::UpstreamSlow(_)
            | Self::TryTimeout(_)
            | Self::RequestTimeout(_)
            | Self::Overdue(..) => Some(FailureKind::Timeout),
            _ => None,
        }
    }

    /// What access logs say of it: which timer or limit it was, and who broke off. Nobody did where the
    /// request was answered instead of being let through.
    #[must_use]
    pub(super) fn cause(&self) -> Cause {
        let by = |closed_by| Cause { closed_by: Some(closed_by), ..Cause::default() };
        let timer = |timer| Cause { timer: Some(timer), ..by(FOREBAY) };
        let limit = |limit| Cause { limit: Some(limit), ..by(FOREBAY) };
        match self {
            Self::HeaderTimeout(_) => timer("client_header"),
            Self::ClientIdle(_) | Self::ClientStalled(_) => timer("client_idle"),
            Self::ClientSlow(_) => timer("client_min_rate"),
            Self::TryTimeout(_) => timer("try"),
            Self::UpstreamIdle(_) => timer("idle"),
            Self::UpstreamSlow(_) => timer("min_rate"),
            Self::RequestTimeout(_) => timer("request"),
            Self::Overdue(..) => timer("deadline"),
            Self::Dial(DialError::ConnectTimeout(_))
            | Self::Http2(OpenError::Dial(DialError::ConnectTimeout(_))) => timer("connect"),
            Self::Dial(DialError::TlsTimeout(_)) | Self::Http2(OpenError::Dial(DialError::TlsTimeout(_))) => {
                timer("tls_handshake")
            }
            Self::Http2(OpenError::HandshakeTimeout(_)) => timer("http2_handshake"),
            Self::Rejected(rejection) | Self::Http2(OpenError::Full(rejection)) => {
                Cause { limit: Some(rejection.name()), ..Cause::default() }
            }
            Self::TooLarge(_) => limit("max_body"),
            Self::Malformed(Malformed::TargetTooLong | Malformed::HeadTooLarge) => limit("max_head"),
            Self::Malformed(Malformed::TooManyFields) => limit("max_fields"),
            Self::ClientGone => by("client"),
            Self::Malformed(_) | Self::ClientBody(_) | Self::BadResponse(_) => by(FOREBAY),
            Self::Dial(_)
            | Self::Http2(_)
            | Self::NoResponse(_)
            | Self::Refused
            | Self::LeftOut
            | Self::Truncated(_) => by("upstream"),
            Self::Path | Self::Connect | Self::NoRoute | Self::NoEndpoint => Cause::default(),
        }
    }

    /// What it says of the endpoint; `by_client` when the client was what was waited for.
    #[must_use]
    pub(super) fn outcome(&self, by_client: bool) -> Outcome {
        Outcome::Failure(match self {
            Self::Dial(error) | Self::Http2(OpenError::Dial(error)) => return unconnected::outcome(error),
            Self::Http2(_) => Failure::Connect,
            Self::NoResponse(_) | Self::Refused => Failure::Reset,
            Self::BadResponse(_) | Self::Truncated(ReadError::Malformed(_)) => Failure::Protocol,
            Self::Truncated(_) => Failure::Truncated,
            Self::UpstreamIdle(_) | Self::UpstreamSlow(_) => Failure::Timeout,
            Self::TryTimeout(_) if !by_client => Failure::Timeout,
            Self::RequestTimeout(_) if !by_client => Failure::Timeout,
            // Clients in a hurry must not be able to have an endpoint ejected.
            Self::Overdue(given, _) if !by_client && *given >= LEAST_DEADLINE => Failure::Timeout,
            _ => return Outcome::Cancelled,
        })
    }

    /// Whether the time of the whole request was over.
    #[must_use]
    pub(super) fn is_overdue(&self) -> bool {
        matches!(self, Self::RequestTimeout(_) | Self::Overdue(..) | Self::Rejected(Rejection::Deadline))
    }

    /// Whether nothing was sent to the endpoint, so that another one may be asked instead.
    #[must_use]
    pub(super) fn is_unsent(&self) -> bool {
        matches!(self, Self::Dial(_) | Self::Http2(_) | Self::Rejected(Rejection::Connections))
    }
}

impl From<OpenError> for ProxyError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Dial(error) => Self::Dial(error),
            OpenError::Full(rejection) => Self::Rejected(rejection),
            other => Self::Http2(other),
        }
    }
}

/// What is wrong with a request head: a limit that it exceeds is named, the rest is malformed.
fn wrong_with(fault: &Malformed) -> String {
    match fault {
        Malformed::TargetTooLong | Malformed::HeadTooLarge => format!("{fault} (max_head of the listener)"),
        Malformed::TooManyFields => format!("{fault} (max_fields of the listener)"),
        _ => format!("malformed request: {fault}"),
    }
}

fn rejection_type(rejection: Rejection) -> &'static str {
    match rejection {
        Rejection::Deadline => "http_response_timeout",
        Rejection::Breaker | Rejection::Admission => "destination_unavailable",
        Rejection::QueueFull
        | Rejection::QueueTimeout
        | Rejection::Displaced
        | Rejection::EndpointsFull
        | Rejection::Connections => "connection_limit_reached",
    }
}

fn is_timeout(error: &DialError) -> bool {
    matches!(error, DialError::ConnectTimeout(_) | DialError::TlsTimeout(_))
}

fn dial_error_type(error: &DialError) -> &'static str {
    match error {
        DialError::Connect(cause) if cause.kind() == io::ErrorKind::ConnectionRefused => "connection_refused",
        DialError::Connect(_) => "destination_ip_unroutable",
        DialError::ConnectTimeout(_) => "connection_timeout",
        DialError::Tls(cause) if is_certificate_error(cause) => "tls_certificate_error",
        DialError::Tls(_) => "tls_protocol_error",
        DialError::TlsTimeout(_) => "connection_timeout",
    }
}

fn is_certificate_error(cause: &io::Error) -> bool {
    let tls = cause.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(tls, Some(rustls::Error::InvalidCertificate(_)))
}

/// The error type of what a filter refuses (RFC 9209 §2.3).
pub(super) const DENIED: &str = "http_request_denied";
/// Who breaks off what takes too long or is too much.
const FOREBAY: &str = "forebay";
/// The shortest deadline of a client that an endpoint is blamed for.
const LEAST_DEADLINE: Duration = Duration::from_secs(1);
/// What logs have instead of a status when the client left before there was one.
pub(super) const CLIENT_CLOSED: u16 = 499;
