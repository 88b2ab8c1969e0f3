//! `grpc`: the health checking protocol of gRPC, `grpc.health.v1.Health/Check`. Its two messages are
//! small enough to be written and read here by hand.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header, response};

use super::http::uri;
use super::{Call, Check, Judgement, Kind, USER_AGENT, shown};
use crate::model::options::Options;

pub(super) const KIND: Kind = Kind {
    name: "grpc",
    summary: "the service grpc.health.v1.Health answers SERVING",
    keys: &["service"],
    read: |options, _| Grpc::read(options).map(|grpc| Check::Call(Arc::new(grpc))),
};

#[derive(Debug)]
struct Grpc {
    /// The service that is asked about; empty for the endpoint as a whole.
    service: String,
}

impl Call for Grpc {
    fn request(&self, authority: &str, https: bool) -> (Request<()>, Bytes) {
        let authority = authority.parse().unwrap_or(Authority::from_static("localhost"));
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri(authority, PathAndQuery::from_static(CHECK), https);
        for (name, value) in [
            (header::CONTENT_TYPE, "application/grpc"),
            (header::TE, "trailers"),
            (header::USER_AGENT, USER_AGENT),
        ] {
            request.headers_mut().append(name, HeaderValue::from_static(value));
        }
        (request, self.message())
    }

    fn judge(&self, head: &response::Parts, body: &[u8], end: Option<&HeaderMap>) -> Judgement {
        match self.verdict(head, body, end) {
            Ok(Some(())) => Judgement::Pass,
            Ok(None) => Judgement::More,
            Err(why) => Judgement::Fail(why),
        }
    }
}

impl Grpc {
    fn read(options: &Options<'_>) -> Option<Self> {
        let service = options.get_or("service", String::new());
        if service.len() > LONGEST_SERVICE {
            options.problem("service", format!("a name has {LONGEST_SERVICE} bytes at most"), None);
            return None;
        }
        Some(Self { service })
    }

    /// `HealthCheckRequest { string service = 1; }` behind the prefix of a gRPC message.
    fn message(&self) -> Bytes {
        let mut message = BytesMut::new();
        if !self.service.is_empty() {
            message.put_u8(SERVICE << 3 | LENGTH_DELIMITED);
            put_varint(&mut message, self.service.len() as u64);
            message.put_slice(self.service.as_bytes());
        }
        let mut whole = BytesMut::with_capacity(PREFIX + message.len());
        whole.put_u8(0); // not compressed
        whole.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
        whole.put_slice(&message);
        whole.freeze()
    }

    fn verdict(
        &self,
        head: &response::Parts,
        body: &[u8],
        end: Option<&HeaderMap>,
    ) -> Result<Option<()>, String> {
        if head.status != StatusCode::OK {
            return Err(format!("status {} where gRPC has 200", head.status.as_u16()));
        }
        let kind = head.headers.get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
        if !kind.starts_with(b"application/grpc") {
            return Err(format!("content-type {} is not gRPC's", shown(kind)));
        }
        // Where there is nothing but a status, it is in the head.
        let ended = if head.headers.contains_key(GRPC_STATUS) { Some(&head.headers) } else { end };
        let Some(trailers) = ended else { return Ok(None) };
        self.judge_status(trailers)?;
        match serving_status(body) {
            Some(SERVING) => Ok(Some(())),
            Some(2) => Err("NOT_SERVING".to_owned()),
            Some(3) => Err(format!("the service {:?} is unknown there", self.service)),
            Some(other) => Err(format!("serving status {other}, expected SERVING")),
            None => Err("the answer is not a HealthCheckResponse".to_owned()),
        }
    }

    fn judge_status(&self, trailers: &HeaderMap) -> Result<(), String> {
        let status = trailers.get(GRPC_STATUS).ok_or("the answer has no grpc-status")?;
        let code = status.to_str().ok().and_then(|text| text.parse::<usize>().ok());
        let name = code.and_then(|code| CODES.get(code)).copied();
        match name {
            Some("OK") => Ok(()),
            Some("UNIMPLEMENTED") => {
                Err("the endpoint has no grpc.health.v1 service (UNIMPLEMENTED)".to_owned())
            }
            Some("NOT_FOUND") if !self.service.is_empty() => {
                Err(format!("the service {:?} is unknown there (NOT_FOUND)", self.service))
            }
            _ => {
                let name = name.map_or_else(|| shown(status.as_bytes()), str::to_owned);
                let message = trailers.get("grpc-message").map(|message| shown(message.as_bytes()));
                Err(format!("grpc-status {name} {}", message.unwrap_or_default()).trim_end().to_owned())
            }
        }
    }
}

/// The field `ServingStatus status = 1` of the one `HealthCheckResponse` in `body`; 0 when it is left
/// out, `None` when this is no such message.
fn serving_status(body: &[u8]) -> Option<u64> {
    let [0, a, b, c, d, message @ ..] = body else { return None };
    let length = usize::try_from(u32::from_be_bytes([*a, *b, *c, *d])).ok()?;
    let mut fields = Some(message).filter(|message| message.len() == length)?;
    let mut status = 0;
    while !fields.is_empty() {
        let key = take_varint(&mut fields)?;
        match (key >> 3, key & 7) {
            (1, 0) => status = take_varint(&mut fields)?,
            (1.., 0) => drop(take_varint(&mut fields)?),
            (1.., 1) => fields = fields.get(8..)?,
            (1.., 2) => {
                let length = usize::try_from(take_varint(&mut fields)?).ok()?;
                fields = fields.get(length..)?;
            }
            (1.., 5) => fields = fields.get(4..)?,
            _ => return None,
        }
    }
    Some(status)
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn put_varint(bytes: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        bytes.put_u8(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    bytes.put_u8(value.to_le_bytes()[0]);
}

/// The method of the health checking protocol.
const CHECK: &str = "/grpc.health.v1.Health/Check";
const GRPC_STATUS: &str = "grpc-status";
/// The number of the field `service`.
const SERVICE: u8 = 1;
const LENGTH_DELIMITED: u8 = 2;
/// The serving status that passes.
const SERVING: u64 = 1;
/// Bytes before a message: whether it is compressed, and its length.
const PREFIX: usize = 5;
/// Longer names are mistakes.
const LONGEST_SERVICE: usize = 1024;
/// The status codes of gRPC, by their numbers.
const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::probe::tests::{call, random_bytes};

    fn judged(head: &[(&str, &str)], body: &[u8], end: Option<&[(&str, &str)]>) -> Judgement {
        let mut response = http::Response::builder().status(200);
        for (name, value) in head {
            response = response.header(*name, *value);
        }
        let (head, ()) = response.body(()).unwrap().into_parts();
        let end = end.map(|fields| {
            let field = |(name, value): &(&'static str, &'static str)| {
                (http::HeaderName::from_static(name), HeaderValue::from_static(value))
            };
            let fields: Vec<(&'static str, &'static str)> = fields
                .iter()
                .map(|(name, value)| (&*name.to_string().leak(), &*value.to_string().leak()))
                .collect();
            fields.iter().map(field).collect::<HeaderMap>()
        });
        call("kind = \"grpc\"\nservice = \"a.B\"").judge(&head, body, end.as_ref())
    }

    const GRPC: &[(&str, &str)] = &[("content-type", "application/grpc+proto")];
    const OK: &[(&str, &str)] = &[("grpc-status", "0")];

    #[test]
    fn it_asks_as_the_protocol_has_it() {
        let (request, body) = call("kind = \"grpc\"\nservice = \"a.B\"").request("10.0.0.1:50051", true);
        assert_eq!(request.uri(), "https://10.0.0.1:50051/grpc.health.v1.Health/Check");
        assert_eq!(
            (request.method().as_str(), request.headers()["te"].to_str().unwrap()),
            ("POST", "trailers")
        );
        assert_eq!(body, &b"\0\0\0\0\x05\x0a\x03a.B"[..]);
        let (request, body) = call("kind = \"grpc\"").request("not a host", false);
        assert_eq!(request.uri(), "http://localhost/grpc.health.v1.Health/Check");
        assert_eq!(body, &b"\0\0\0\0\0"[..]);
        let long = "s".repeat(300);
        let (_, body) = call(&format!("kind = \"grpc\"\nservice = \"{long}\"")).request("h", false);
        assert_eq!(body, [&b"\0\0\0\x01\x2f\x0a\xac\x02"[..], long.as_bytes()].concat());
    }

    #[test]
    fn serving_passes_and_the_rest_is_told_in_words() {
        let serving = b"\0\0\0\0\x02\x08\x01";
        assert_eq!(judged(GRPC, serving, Some(OK)), Judgement::Pass);
        assert_eq!(judged(GRPC, serving, None), Judgement::More);
        // A field that is not known, of each wire type, does no harm.
        let more = b"\0\0\0\0\x1a\x10\x80\x01\x19abcdefgh\x22\x02hi\x2dabcd\x08\x02\x08\x01\x30\x00";
        let length = u8::try_from(more.len() - 5).unwrap();
        let mut more = more.to_vec();
        more[4] = length;
        assert_eq!(judged(GRPC, &more, Some(OK)), Judgement::Pass);
        let failed = [("grpc-status", "14"), ("grpc-message", "try%20later")];
        for (head, body, end, words) in [
            (GRPC, &b"\0\0\0\0\x02\x08\x02"[..], OK, "NOT_SERVING"),
            (GRPC, b"\0\0\0\0\x02\x08\x03", OK, "the service \"a.B\" is unknown there"),
            (GRPC, b"\0\0\0\0\0", OK, "serving status 0, expected SERVING"),
            (GRPC, b"\x01\0\0\0\x02\x08\x01", OK, "the answer is not a HealthCheckResponse"),
            (GRPC, b"\0\0\0\0\x03\x08\x01", OK, "the answer is not a HealthCheckResponse"),
            (GRPC, b"\0\0\0\0\x02\x00\x01", OK, "the answer is not a HealthCheckResponse"),
            (GRPC, b"", &[], "the answer has no grpc-status"),
            (GRPC, b"", &failed, "grpc-status UNAVAILABLE \"try%20later\""),
            (GRPC, b"", &[("grpc-status", "99")], "grpc-status \"99\""),
            (
                GRPC,
                b"",
                &[("grpc-status", "12")],
                "the endpoint has no grpc.health.v1 service (UNIMPLEMENTED)",
            ),
            (GRPC, b"", &[("grpc-status", "5")], "the service \"a.B\" is unknown there (NOT_FOUND)"),
            (&[("content-type", "text/html")], b"", &[], "content-type \"text/html\" is not gRPC's"),
        ] {
            assert_eq!(judged(head, body, Some(end)), Judgement::Fail(words.to_owned()), "{body:?}");
        }
        let alone = [("content-type", "application/grpc"), ("grpc-status", "12")];
        assert!(matches!(judged(&alone, b"", None), Judgement::Fail(_)));
    }

    #[test]
    fn no_bytes_make_it_panic() {
        for seed in 0..2000 {
            let mut body = random_bytes(seed, 24);
            if let [_, _, _, _, length, message @ ..] = &mut body[..] {
                *length = u8::try_from(message.len()).unwrap();
                body[..4].fill(0);
            }
            assert_ne!(judged(GRPC, &body, Some(OK)), Judgement::More, "seed {seed}");
        }
    }
}
