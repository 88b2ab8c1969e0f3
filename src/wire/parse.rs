//! Heads from bytes. The tokenising is httparse's; what it lets pass and HTTP does not is refused
//! here: the forms of a request target, `Host`, and limits.

use std::mem::MaybeUninit;

use http::{Method, StatusCode, Version};

use super::Malformed;
use crate::model::field::Known;
use crate::model::head::Span;
use crate::model::settings::MAX_FIELDS;
use crate::model::{Fields, RequestHead, ResponseHead};

/// How large a head may be.
#[derive(Debug, Clone, Copy)]
pub struct HeadLimits {
    /// Bytes, first line and empty line included.
    pub bytes: usize,
    /// Fields, at most [`MAX_FIELDS`].
    pub fields: usize,
}

/// Reads a request head from the front of `buf` into `head`. Gives the head's length, or `None`
/// when `buf` holds only a part of one.
///
/// # Errors
/// When the bytes are not, or not only, an HTTP/1 request head within `limits`.
pub fn request(buf: &[u8], head: &mut RequestHead, limits: HeadLimits) -> Result<Option<usize>, Malformed> {
    head.clear();
    let mut slots = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut parsed = httparse::Request::new(&mut []);
    let len = match parsed.parse_with_uninit_headers(buf, &mut slots) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) if buf.len() < limits.bytes => return Ok(None),
        Ok(httparse::Status::Partial) => return Err(too_large(buf, limits.bytes)),
        Err(httparse::Error::Version) if !names_version(buf) => return Err(Malformed::RequestLine),
        Err(error) => return Err(malformed(error, Malformed::RequestLine)),
    };
    if len > limits.bytes {
        return Err(too_large(buf, limits.bytes));
    }
    let (Some(method), Some(target), Some(minor)) = (parsed.method, parsed.path, parsed.version) else {
        return Err(Malformed::RequestLine);
    };
    head.method = Method::from_bytes(method.as_bytes()).map_err(|_| Malformed::RequestLine)?;
    head.version = version(minor);
    let raw = buf.get(..len).unwrap_or_default();
    load_fields(&mut head.fields, raw, parsed.headers, limits.fields)?;
    take_target(head, raw, target.as_bytes())?;
    take_host(head)?;
    Ok(Some(len))
}

/// Reads a response head from the front of `buf` into `head`. Gives the head's length, or `None`
/// when `buf` holds only a part of one.
///
/// # Errors
/// When the bytes are not an HTTP/1 response head within `limits`.
pub fn response(buf: &[u8], head: &mut ResponseHead, limits: HeadLimits) -> Result<Option<usize>, Malformed> {
    head.clear();
    let mut slots = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let len = match config.parse_response_with_uninit_headers(&mut parsed, buf, &mut slots) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) if buf.len() < limits.bytes => return Ok(None),
        Ok(httparse::Status::Partial) => return Err(Malformed::HeadTooLarge),
        Err(error) => return Err(malformed(error, Malformed::StatusLine)),
    };
    let (Some(code), Some(minor)) = (parsed.code, parsed.version) else {
        return Err(Malformed::StatusLine);
    };
    head.status = StatusCode::from_u16(code).map_err(|_| Malformed::StatusLine)?;
    if code >= 600 {
        return Err(Malformed::StatusLine);
    }
    head.version = version(minor);
    let raw = buf.get(..len).unwrap_or_default();
    load_fields(&mut head.fields, raw, parsed.headers, limits.fields)?;
    if let Some(reason) = parsed.reason {
        head.set_reason_span(Span::within(raw, reason.as_bytes()));
    }
    Ok(Some(len))
}

/// Whether `authority` is a host with an optional port (RFC 3986 §3.2, without user information).
#[must_use]
pub fn is_authority(authority: &[u8]) -> bool {
    let (host, port) = split_port(authority);
    let host_ok = match host {
        [] => false,
        [b'[', inside @ .., b']'] => inside.iter().all(|b| b.is_ascii_hexdigit() || matches!(b, b':' | b'.')),
        name => name.iter().all(|b| b.is_ascii_alphanumeric() || b"-._~!$&'()*+;=%".contains(b)),
    };
    host_ok && port.is_none_or(|port| port.len() <= 5 && port.iter().all(u8::is_ascii_digit))
}

/// Host and port of an authority; the brackets of an IPv6 address stay with the host.
#[must_use]
pub fn split_port(authority: &[u8]) -> (&[u8], Option<&[u8]>) {
    match authority.iter().rposition(|b| matches!(b, b':' | b']')) {
        Some(at) if authority.get(at) == Some(&b':') => {
            let (host, port) = authority.split_at(at);
            (host, port.get(1..))
        }
        _ => (authority, None),
    }
}

fn load_fields(
    fields: &mut Fields,
    raw: &[u8],
    parsed: &[httparse::Header<'_>],
    limit: usize,
) -> Result<(), Malformed> {
    if parsed.len() > limit {
        return Err(Malformed::TooManyFields);
    }
    fields.load(raw);
    for field in parsed {
        fields.push_span(Span::within(raw, field.name.as_bytes()), Span::within(raw, field.value));
    }
    Ok(())
}

/// Takes the target in its origin, absolute or asterisk form (RFC 9112 §3.2). `CONNECT` keeps its
/// authority form, so that it can be answered for what it is.
fn take_target(head: &mut RequestHead, raw: &[u8], target: &[u8]) -> Result<(), Malformed> {
    match target {
        [b'/', ..] => head.set_target_span(Span::within(raw, target)),
        _ if head.method == Method::CONNECT => head.set_target_span(Span::within(raw, target)),
        b"*" if head.method == Method::OPTIONS => head.set_target_span(Span::within(raw, target)),
        _ => take_absolute_target(head, target)?,
    }
    Ok(())
}

/// The authority of an absolute target counts, whatever `Host` says (RFC 9112 §3.2.2).
fn take_absolute_target(head: &mut RequestHead, target: &[u8]) -> Result<(), Malformed> {
    let scheme_len = match target {
        [b'h' | b'H', b't' | b'T', b't' | b'T', b'p' | b'P', b':', b'/', b'/', ..] => 7,
        [b'h' | b'H', b't' | b'T', b't' | b'T', b'p' | b'P', b's' | b'S', b':', b'/', b'/', ..] => 8,
        _ => return Err(Malformed::Target),
    };
    let rest = target.get(scheme_len..).unwrap_or_default();
    let path_at = rest.iter().position(|b| matches!(b, b'/' | b'?')).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(path_at);
    if !is_authority(authority) {
        return Err(Malformed::Target);
    }
    match path.first() {
        Some(b'/') => head.set_target(path),
        // RFC 9112 §3.2.4: meant for the server as a whole.
        None if head.method == Method::OPTIONS => head.set_target(b"*"),
        _ => head.set_target(&[b"/", path].concat()),
    }
    head.set_authority(authority);
    Ok(())
}

fn take_host(head: &mut RequestHead) -> Result<(), Malformed> {
    let mut hosts = head.fields.get_all(Known::Host);
    match (hosts.next(), hosts.next()) {
        (Some(_), Some(_)) => return Err(Malformed::HostRepeated),
        (Some(host), None) if !host.is_empty() && !is_authority(host) => return Err(Malformed::HostInvalid),
        (Some(_), None) => {}
        (None, _) if head.version >= Version::HTTP_11 => return Err(Malformed::HostMissing),
        (None, _) => {}
    }
    drop(hosts);
    head.take_host();
    Ok(())
}

fn version(minor: u8) -> Version {
    if minor == 0 { Version::HTTP_10 } else { Version::HTTP_11 }
}

/// Whether what stands behind the target is a version at all, and not the rest of a target that
/// holds a space.
fn names_version(buf: &[u8]) -> bool {
    buf.splitn(3, |b| *b == b' ').nth(2).is_some_and(|rest| rest.starts_with(b"HTTP/"))
}

/// Which part of a head of more than `limit` bytes is too large: the first line, or the fields.
#[must_use]
pub fn too_large(buf: &[u8], limit: usize) -> Malformed {
    let first_line = memchr::memchr(b'\n', buf);
    let fits = first_line.is_some_and(|end| end < limit);
    if fits { Malformed::HeadTooLarge } else { Malformed::TargetTooLong }
}

fn malformed(error: httparse::Error, first_line: Malformed) -> Malformed {
    match error {
        httparse::Error::HeaderName => Malformed::FieldName,
        httparse::Error::HeaderValue => Malformed::FieldValue,
        httparse::Error::NewLine => Malformed::LineEnding,
        httparse::Error::TooManyHeaders => Malformed::TooManyFields,
        httparse::Error::Version => Malformed::Version,
        httparse::Error::Status | httparse::Error::Token => first_line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HeadLimits = HeadLimits { bytes: 1024, fields: 8 };

    fn read(raw: &str) -> Result<RequestHead, Malformed> {
        let mut head = RequestHead::default();
        let len = request(raw.as_bytes(), &mut head, LIMITS)?;
        assert_eq!(len, Some(raw.len()), "{raw:?}");
        Ok(head)
    }

    fn text(bytes: &[u8]) -> &str {
        std::str::from_utf8(bytes).unwrap()
    }

    #[test]
    fn targets_come_in_four_forms() {
        let cases = [
            ("GET /a?b=c HTTP/1.1\r\nHost: h:80\r\n\r\n", "/a?b=c", Some("h:80")),
            ("GET http://x/y?z HTTP/1.1\r\nHost: h\r\n\r\n", "/y?z", Some("x")),
            ("GET HTTP://x?z HTTP/1.1\r\nHost: h\r\n\r\n", "/?z", Some("x")),
            ("GET https://[::1]:443 HTTP/1.1\r\nHost: h\r\n\r\n", "/", Some("[::1]:443")),
            ("OPTIONS * HTTP/1.1\r\nhost: h\r\n\r\n", "*", Some("h")),
            ("GET / HTTP/1.0\r\n\r\n", "/", None),
            ("CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n", "h:443", Some("h:443")),
        ];
        for (raw, target, authority) in cases {
            let head = read(raw).unwrap();
            assert_eq!((text(head.target()), head.authority().map(text)), (target, authority), "{raw:?}");
            assert!(!head.fields.has(Known::Host));
        }
    }

    #[test]
    fn what_is_ambiguous_or_malformed_is_refused() {
        let cases = [
            ("GET / HTTP/1.1\r\n\r\n", Malformed::HostMissing),
            ("GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n", Malformed::HostRepeated),
            ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", Malformed::HostInvalid),
            ("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", Malformed::HostInvalid),
            ("GET / HTTP/1.1\r\nHost: a:1x\r\n\r\n", Malformed::HostInvalid),
            ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", Malformed::FieldName),
            ("GET / HTTP/1.1\r\nHost: a\r\n folded: b\r\n\r\n", Malformed::FieldName),
            ("GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", Malformed::FieldValue),
            ("GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", Malformed::FieldValue),
            ("GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", Malformed::FieldName),
            ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", Malformed::RequestLine),
            ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", Malformed::Version),
            ("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", Malformed::RequestLine),
            ("GET a HTTP/1.1\r\nHost: a\r\n\r\n", Malformed::Target),
            ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", Malformed::Target),
            ("GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", Malformed::Target),
            ("GET http:///a HTTP/1.1\r\nHost: a\r\n\r\n", Malformed::Target),
            ("\u{16}\u{3}\u{1}", Malformed::RequestLine),
        ];
        for (raw, fault) in cases {
            let read = request(raw.as_bytes(), &mut RequestHead::default(), LIMITS);
            let read = read.map(|len| assert_eq!(len, Some(raw.len())));
            let same_kind = read == Err(fault)
                || matches!((read, fault), (Err(Malformed::LineEnding), Malformed::FieldValue));
            assert!(same_kind, "{raw:?}: {read:?} is not {fault:?}");
        }
    }

    #[test]
    fn limits_hold() {
        let get = |target: &str, fields: &str| {
            let raw = format!("GET {target} HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
            request(raw.as_bytes(), &mut RequestHead::default(), LIMITS).map(|_| ())
        };
        assert_eq!(get("/", &"a: b\r\n".repeat(7)), Ok(()));
        assert_eq!(get("/", &"a: b\r\n".repeat(8)), Err(Malformed::TooManyFields));
        assert_eq!(get("/", &format!("a: {}\r\n", "b".repeat(1024))), Err(Malformed::HeadTooLarge));
        let endless = format!("GET /{}", "a".repeat(1024));
        let read = request(endless.as_bytes(), &mut RequestHead::default(), LIMITS);
        assert_eq!(read, Err(Malformed::TargetTooLong));
    }

    #[test]
    fn a_part_of_a_head_is_not_yet_a_head() {
        let raw = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";
        for cut in 0..raw.len() {
            assert_eq!(request(&raw[..cut], &mut RequestHead::default(), LIMITS), Ok(None), "{cut}");
        }
    }

    #[test]
    fn a_status_line_may_lack_its_reason() {
        let mut head = ResponseHead::default();
        let raw = b"HTTP/1.0 418 I'm a teapot\r\nA: b\r\n\r\n";
        assert_eq!(response(raw, &mut head, LIMITS), Ok(Some(raw.len())));
        assert_eq!((head.status.as_u16(), text(head.reason())), (418, "I'm a teapot"));
        assert_eq!(response(b"HTTP/1.1 200\r\n\r\n", &mut head, LIMITS), Ok(Some(16)));
        assert_eq!(text(head.reason()), "OK");
        assert_eq!(response(b"HTTP/1.1 99 x\r\n\r\n", &mut head, LIMITS), Err(Malformed::StatusLine));
        assert_eq!(response(b"SSH-2.0-x\r\n", &mut head, LIMITS), Err(Malformed::Version));
    }
}
