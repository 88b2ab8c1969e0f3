//! Answers that Forebay gives itself: those of filters, and errors with `Proxy-Status` (RFC 9209).

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;

use super::account::Account;
use super::error::{DENIED, ProxyError};
use crate::limit::{Refusal, Rejection};
use crate::model::field::Known;
use crate::model::{Fields, RequestHead, ResponseHead};
use crate::route::filter::Reply;

/// The answer to `request`, which failed.
#[must_use]
pub(super) fn to_error(error: &ProxyError, account: &Account<'_>, request: &RequestHead) -> Reply {
    let status = error.status();
    let mut fields = Fields::default();
    let next_hop = account.endpoint.as_ref().map(|endpoint| endpoint.shared.name.as_str());
    let pool = account.pool.map(|pool| pool.shared.settings.name.as_str());
    let details = match pool {
        Some(pool) => format!("{error}; pool {pool}"),
        None => error.to_string(),
    };
    fields.append_known(Known::ProxyStatus, &proxy_status(error.error_type(), next_hop, &details));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        let wait = match (error, account.pool) {
            (ProxyError::Rejected(Rejection::Breaker), Some(pool)) => pool.shared.guard.breaker.wait(),
            // By then, whoever waits now has had a turn or given up.
            (ProxyError::Rejected(_), Some(pool)) => seconds(pool.shared.settings.limits.wait),
            _ => 1,
        };
        fields.append(b"retry-after", wait.to_string().as_bytes());
    }
    let reason = status.canonical_reason().unwrap_or("Error");
    let body = if is_grpc(request) {
        fields.append(b"content-type", b"application/grpc");
        fields
            .append(b"grpc-status", if error.is_overdue() { DEADLINE_EXCEEDED } else { grpc_status(status) });
        fields.append(b"grpc-message", details.as_bytes());
        String::new()
    } else {
        fields.append(b"content-type", b"text/plain; charset=utf-8");
        format!("{} {reason}\n{error}\n", status.as_u16())
    };
    Reply { status, fields, body: Bytes::from(body), details: None }
}

/// What a filter answers, as the client of `request` understands it. A call of gRPC that is refused ends
/// as one that an endpoint refuses: with a status in trailers alone, which stand in the head
/// (`PROTOCOL-HTTP2.md` of gRPC, `Trailers-Only`).
#[must_use]
pub(super) fn to_refused(mut reply: Box<Reply>, request: &RequestHead) -> Box<Reply> {
    if let Some(details) = &reply.details
        && is_grpc(request)
    {
        reply.fields.set(b"content-type", b"application/grpc");
        reply.fields.append(b"grpc-status", grpc_status(reply.status));
        reply.fields.append(b"grpc-message", details.as_bytes());
        reply.status = StatusCode::OK;
        reply.body = Bytes::new();
    }
    reply
}

/// The whole response on a connection that is not taken, before anything was read of it.
#[must_use]
pub(super) fn to_connection(why: Refusal) -> Vec<u8> {
    let status = proxy_status("connection_limit_reached", None, why.words());
    let body = format!("503 Service Unavailable\n{}\n", why.words());
    let head = format!(
        "HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\n\
         content-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\nproxy-status: ",
        body.len()
    );
    [head.as_bytes(), &status, b"\r\n\r\n", body.as_bytes()].concat()
}

/// The status of gRPC of a call that took longer than its client waits.
const DEADLINE_EXCEEDED: &[u8] = b"4";

/// Whole seconds, rounded up; at least one.
fn seconds(time: Duration) -> u32 {
    u32::try_from(time.as_millis().div_ceil(1000)).unwrap_or(u32::MAX).max(1)
}

/// Whether the client would take a body for a message of gRPC.
fn is_grpc(request: &RequestHead) -> bool {
    request.fields.get_named(b"content-type").any(|value| value.starts_with(b"application/grpc"))
}

/// The status of gRPC that its clients derive from one of HTTP (`http-grpc-status-mapping.md` of gRPC).
fn grpc_status(status: StatusCode) -> &'static [u8] {
    match status.as_u16() {
        400 => b"13",
        401 => b"16",
        403 => b"7",
        404 => b"12",
        429 | 502..=504 => b"14",
        _ => b"2",
    }
}

/// The head of `reply`. A refusal says so in `Proxy-Status`.
pub(super) fn head_of(reply: &Reply, head: &mut ResponseHead) {
    head.clear();
    head.status = reply.status;
    head.version = http::Version::HTTP_11;
    for (_, name, value) in reply.fields.iter() {
        head.fields.append(name, value);
    }
    if let Some(details) = &reply.details {
        head.fields.append_known(Known::ProxyStatus, &proxy_status(DENIED, None, details));
    }
}

/// The value of `Proxy-Status` (RFC 9209 §2), with strings as RFC 8941 §3.3.3 has them.
fn proxy_status(error_type: &str, next_hop: Option<&str>, details: &str) -> Vec<u8> {
    let mut value = format!("forebay; error={error_type}").into_bytes();
    let next_hop = next_hop.map(|name| ("next-hop", name));
    for (name, text) in next_hop.into_iter().chain([("details", details)]) {
        value.extend_from_slice(format!("; {name}=\"").as_bytes());
        for byte in text.bytes() {
            match byte {
                b'"' | b'\\' => value.extend([b'\\', byte]),
                b' '..=b'~' => value.push(byte),
                _ => value.push(b'?'),
            }
        }
        value.push(b'"');
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxy_status_is_a_structured_field() {
        let value = proxy_status("connection_timeout", Some("127.0.0.1:9001"), "a \"b\" \\ ü");
        let text = String::from_utf8(value).unwrap();
        let expected =
            r#"forebay; error=connection_timeout; next-hop="127.0.0.1:9001"; details="a \"b\" \\ ??""#;
        assert_eq!(text, expected);
    }
}
