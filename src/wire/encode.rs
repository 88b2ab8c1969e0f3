//! Heads and chunks to bytes, in the one form that every reader understands alike.

use http::{StatusCode, Version};

use super::Length;
use crate::model::field::Known;
use crate::model::{Fields, RequestHead, ResponseHead};

/// What is said about the connection in a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Persistence {
    /// Nothing: the version's default is meant.
    Default,
    /// `Connection: close`.
    Close,
    /// `Connection: keep-alive`, for HTTP/1.0 clients that asked for it.
    KeepAlive,
    /// `Connection: Upgrade`; the `Upgrade` field itself is among the fields.
    Upgrade,
}

/// Appends a request head for an HTTP/1.1 endpoint. The fields have neither `Host` nor any that
/// state a length or speak of the connection.
pub fn request(out: &mut Vec<u8>, head: &RequestHead, length: Length, upgrade: bool) {
    put(out, &[head.method.as_str().as_bytes(), b" ", head.target(), b" HTTP/1.1\r\nHost: "]);
    put(out, &[head.authority().unwrap_or_default(), b"\r\n"]);
    head.fields.write_lines(out);
    match length {
        Length::Exact(n) if !head.fields.has(Known::ContentLength) && (n > 0 || expects_length(head)) => {
            content_length(out, n);
        }
        Length::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        Length::Exact(_) | Length::UntilClose => {}
    }
    if upgrade {
        out.extend_from_slice(b"Connection: Upgrade\r\n");
    } else if head.fields.has(Known::Te) {
        out.extend_from_slice(b"Connection: TE\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends a response head for a client of HTTP/1.1 or HTTP/1.0. The fields have none that state
/// a transfer coding or speak of the connection; a `Content-Length` among them is kept.
pub fn response(out: &mut Vec<u8>, head: &ResponseHead, chunked: bool, persistence: Persistence) {
    out.extend_from_slice(b"HTTP/1.1 ");
    put(out, &[head.status.as_str().as_bytes(), b" ", head.reason(), b"\r\n"]);
    head.fields.write_lines(out);
    if chunked {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    out.extend_from_slice(match persistence {
        Persistence::Default => b"\r\n",
        Persistence::Close => b"Connection: close\r\n\r\n",
        Persistence::KeepAlive => b"Connection: keep-alive\r\n\r\n",
        Persistence::Upgrade => b"Connection: Upgrade\r\n\r\n",
    });
}

/// Appends an interim response (1xx), which has no body and leaves the connection as it is.
pub fn interim(out: &mut Vec<u8>, head: &ResponseHead) {
    debug_assert!(head.status.is_informational() && head.status != StatusCode::SWITCHING_PROTOCOLS);
    response(out, head, false, Persistence::Default);
}

/// Appends `Content-Length: n`.
pub fn content_length(out: &mut Vec<u8>, n: u64) {
    out.extend_from_slice(b"Content-Length: ");
    decimal(out, n);
    out.extend_from_slice(b"\r\n");
}

/// Appends the line that begins a chunk of `len` bytes, which are followed by CR LF.
pub fn chunk_size(out: &mut Vec<u8>, len: usize) {
    let digits = (usize::BITS - len.leading_zeros()).div_ceil(4).max(1);
    for place in (0..digits).rev() {
        let digit = u32::try_from(len >> (4 * place) & 15).unwrap_or(0);
        out.push(char::from_digit(digit, 16).map_or(b'0', |c| c as u8));
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends the last chunk and the trailer fields.
pub fn last_chunk(out: &mut Vec<u8>, trailers: Option<&Fields>) {
    out.extend_from_slice(b"0\r\n");
    if let Some(trailers) = trailers {
        trailers.write_lines(out);
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends a decimal number.
pub fn decimal(out: &mut Vec<u8>, mut n: u64) {
    let start = out.len();
    loop {
        out.push(b'0' + u8::try_from(n % 10).unwrap_or(0));
        n /= 10;
        if n == 0 {
            break;
        }
    }
    if let Some(digits) = out.get_mut(start..) {
        digits.reverse();
    }
}

/// The name of a protocol version as `Via` writes it (RFC 9110 §7.6.3).
#[must_use]
pub fn via_version(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2.0",
        _ => "1.1",
    }
}

/// Whether a request of this method says that its body is empty (RFC 9110 §8.6).
fn expects_length(head: &RequestHead) -> bool {
    matches!(head.method.as_str(), "POST" | "PUT" | "PATCH")
}

fn put(out: &mut Vec<u8>, parts: &[&[u8]]) {
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_are_written_as_http_reads_them() {
        for (n, text) in [(0, "0"), (7, "7"), (10, "10"), (u64::MAX, "18446744073709551615")] {
            assert_eq!(shown(|out| decimal(out, n)), text);
        }
        for (n, text) in [(0, "0\r\n"), (15, "f\r\n"), (16, "10\r\n"), (0x1_0000, "10000\r\n")] {
            assert_eq!(shown(|out| chunk_size(out, n)), text);
        }
    }

    #[test]
    fn a_request_states_one_length() {
        let mut head = RequestHead::default();
        head.method = http::Method::POST;
        head.set_target(b"/a");
        head.set_authority(b"h");
        let lines = |length| shown(|out| request(out, &head, length, false));
        let first = "POST /a HTTP/1.1\r\nHost: h\r\n";
        assert_eq!(lines(Length::Exact(0)), format!("{first}Content-Length: 0\r\n\r\n"));
        assert_eq!(lines(Length::Exact(5)), format!("{first}Content-Length: 5\r\n\r\n"));
        assert_eq!(lines(Length::Chunked), format!("{first}Transfer-Encoding: chunked\r\n\r\n"));
    }
}
