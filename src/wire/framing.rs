//! How long a message's body is (RFC 9112 §6). Where two readers could disagree, the message is
//! refused.

use http::{Method, StatusCode, Version};

use super::Malformed;
use crate::model::field::Known;
use crate::model::{Fields, RequestHead, ResponseHead};

/// How the end of a body is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// After so many bytes.
    Exact(u64),
    /// After the last chunk.
    Chunked,
    /// When the connection closes. Responses and tunnels only.
    UntilClose,
}

impl Length {
    /// Whether there is no body.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self == Self::Exact(0)
    }

    /// The number of bytes, when it is known beforehand.
    #[must_use]
    pub fn exact(self) -> Option<u64> {
        match self {
            Self::Exact(n) => Some(n),
            Self::Chunked | Self::UntilClose => None,
        }
    }
}

/// The body length of a request.
///
/// # Errors
/// When it is stated more than once, in two ways, or not in a way of RFC 9112 §6.
pub fn of_request(head: &RequestHead) -> Result<Length, Malformed> {
    let fields = &head.fields;
    if !fields.has(Known::TransferEncoding) {
        return Ok(Length::Exact(content_length(fields)?.unwrap_or(0)));
    }
    if fields.has(Known::ContentLength) {
        return Err(Malformed::BothLengths);
    }
    if head.version < Version::HTTP_11 {
        return Err(Malformed::TransferEncoding);
    }
    chunked_only(fields)?;
    Ok(Length::Chunked)
}

/// The body length of a response to a request of `method`.
///
/// # Errors
/// When it is stated more than once or not in a way of RFC 9112 §6.
pub fn of_response(method: &Method, head: &ResponseHead) -> Result<Length, Malformed> {
    if !may_have_body(method, head.status) {
        return Ok(Length::Exact(0));
    }
    if head.fields.has(Known::TransferEncoding) {
        if head.fields.has(Known::ContentLength) {
            return Err(Malformed::BothLengths);
        }
        if head.version < Version::HTTP_11 {
            return Err(Malformed::TransferEncoding);
        }
        chunked_only(&head.fields)?;
        return Ok(Length::Chunked);
    }
    Ok(content_length(&head.fields)?.map_or(Length::UntilClose, Length::Exact))
}

/// Whether a response to `method` with `status` can have a body at all (RFC 9112 §6.3).
#[must_use]
pub fn may_have_body(method: &Method, status: StatusCode) -> bool {
    method != Method::HEAD
        && !status.is_informational()
        && status != StatusCode::NO_CONTENT
        && status != StatusCode::NOT_MODIFIED
}

/// The stated `Content-Length`, if any.
///
/// # Errors
/// When it is not exactly one decimal number that fits 64 bits.
pub fn content_length(fields: &Fields) -> Result<Option<u64>, Malformed> {
    if !fields.has(Known::ContentLength) {
        return Ok(None);
    }
    let mut values = fields.get_all(Known::ContentLength);
    match (values.next(), values.next()) {
        (Some(value), None) => decimal(value).map(Some).ok_or(Malformed::ContentLength),
        _ => Err(Malformed::ContentLength),
    }
}

fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |n, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        n.checked_mul(10)?.checked_add(digit)
    })
}

fn chunked_only(fields: &Fields) -> Result<(), Malformed> {
    let mut codings = fields.get_all(Known::TransferEncoding);
    match (codings.next(), codings.next()) {
        (Some(one), None) if one.eq_ignore_ascii_case(b"chunked") => Ok(()),
        (Some(one), None) if is_coding_then_chunked(one) => Err(Malformed::TransferCoding),
        _ => Err(Malformed::TransferEncoding),
    }
}

fn is_coding_then_chunked(value: &[u8]) -> bool {
    let mut codings = value.split(|b| *b == b',').map(<[u8]>::trim_ascii);
    let last_is_chunked = codings.next_back().is_some_and(|c| c.eq_ignore_ascii_case(b"chunked"));
    last_is_chunked && !codings.any(|c| c.is_empty() || c.eq_ignore_ascii_case(b"chunked"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(version: Version, fields: &[(&str, &str)]) -> Result<Length, Malformed> {
        let mut head = RequestHead::default();
        head.version = version;
        fields.iter().for_each(|(n, v)| head.fields.append(n.as_bytes(), v.as_bytes()));
        of_request(&head)
    }

    #[test]
    fn a_request_has_one_length() {
        let ok = |fields: &[(&str, &str)]| request(Version::HTTP_11, fields).unwrap();
        assert_eq!(ok(&[]), Length::Exact(0));
        assert_eq!(ok(&[("content-length", "42")]), Length::Exact(42));
        assert_eq!(ok(&[("Transfer-Encoding", "Chunked")]), Length::Chunked);
    }

    #[test]
    fn ambiguous_lengths_are_refused() {
        let bad = |fields: &[(&str, &str)]| request(Version::HTTP_11, fields).unwrap_err();
        for length in ["", "+5", "-5", "5,5", "0x5", "5 5", "18446744073709551616"] {
            assert_eq!(bad(&[("content-length", length)]), Malformed::ContentLength, "{length}");
        }
        assert_eq!(bad(&[("content-length", "5"), ("Content-Length", "5")]), Malformed::ContentLength);
        assert_eq!(bad(&[("content-length", "5"), ("transfer-encoding", "chunked")]), Malformed::BothLengths);
        for coding in ["", "identity", "chunked, chunked", "chunked,gzip", "xchunked", ",chunked"] {
            assert_eq!(bad(&[("transfer-encoding", coding)]), Malformed::TransferEncoding, "{coding}");
        }
        let twice = [("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")];
        assert_eq!(bad(&twice), Malformed::TransferEncoding);
        assert_eq!(bad(&[("transfer-encoding", "gzip, chunked")]), Malformed::TransferCoding);
        let old = request(Version::HTTP_10, &[("transfer-encoding", "chunked")]);
        assert_eq!(old, Err(Malformed::TransferEncoding));
    }

    #[test]
    fn a_response_may_end_with_its_connection() {
        let of = |method: &Method, status: u16, fields: &[(&str, &str)]| {
            let mut head = ResponseHead::new(StatusCode::from_u16(status).unwrap());
            fields.iter().for_each(|(n, v)| head.fields.append(n.as_bytes(), v.as_bytes()));
            of_response(method, &head)
        };
        assert_eq!(of(&Method::GET, 200, &[]), Ok(Length::UntilClose));
        assert_eq!(of(&Method::GET, 200, &[("content-length", "3")]), Ok(Length::Exact(3)));
        assert_eq!(of(&Method::HEAD, 200, &[("content-length", "3")]), Ok(Length::Exact(0)));
        assert_eq!(of(&Method::GET, 304, &[("content-length", "3")]), Ok(Length::Exact(0)));
        assert_eq!(of(&Method::GET, 204, &[("transfer-encoding", "chunked")]), Ok(Length::Exact(0)));
        assert_eq!(of(&Method::GET, 200, &[("transfer-encoding", "gzip")]), Err(Malformed::TransferEncoding));
    }
}
