//! Header field names that the proxy itself reads or writes. A name is classified once, when a
//! head is read; every later question is a comparison of small integers.

/// A field name that means something to a proxy; everything else is [`Known::Other`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[expect(missing_docs, reason = "each variant is the field of the same name; see `NAMES`")]
pub enum Known {
    Other,
    Authorization,
    B3,
    Connection,
    ContentLength,
    Cookie,
    Date,
    Expect,
    Forwarded,
    GrpcTimeout,
    Host,
    KeepAlive,
    Location,
    ProxyAuthenticate,
    ProxyAuthorization,
    ProxyConnection,
    ProxyStatus,
    Referer,
    Server,
    Te,
    Traceparent,
    Tracestate,
    Trailer,
    TransferEncoding,
    Upgrade,
    UserAgent,
    Via,
    XForwardedFor,
    XForwardedHost,
    XForwardedProto,
    XRequestId,
}

/// Every known field with its name in lower case, as HTTP/2 wants it (RFC 9113 §8.2).
const NAMES: [(Known, &str); 30] = [
    (Known::Authorization, "authorization"),
    (Known::B3, "b3"),
    (Known::Connection, "connection"),
    (Known::ContentLength, "content-length"),
    (Known::Cookie, "cookie"),
    (Known::Date, "date"),
    (Known::Expect, "expect"),
    (Known::Forwarded, "forwarded"),
    (Known::GrpcTimeout, "grpc-timeout"),
    (Known::Host, "host"),
    (Known::KeepAlive, "keep-alive"),
    (Known::Location, "location"),
    (Known::ProxyAuthenticate, "proxy-authenticate"),
    (Known::ProxyAuthorization, "proxy-authorization"),
    (Known::ProxyConnection, "proxy-connection"),
    (Known::ProxyStatus, "proxy-status"),
    (Known::Referer, "referer"),
    (Known::Server, "server"),
    (Known::Te, "te"),
    (Known::Traceparent, "traceparent"),
    (Known::Tracestate, "tracestate"),
    (Known::Trailer, "trailer"),
    (Known::TransferEncoding, "transfer-encoding"),
    (Known::Upgrade, "upgrade"),
    (Known::UserAgent, "user-agent"),
    (Known::Via, "via"),
    (Known::XForwardedFor, "x-forwarded-for"),
    (Known::XForwardedHost, "x-forwarded-host"),
    (Known::XForwardedProto, "x-forwarded-proto"),
    (Known::XRequestId, "x-request-id"),
];

impl Known {
    /// The field that `name` is, in whatever case it is written.
    #[must_use]
    pub fn of(name: &[u8]) -> Self {
        let Some(first) = name.first() else { return Self::Other };
        let known = match (name.len(), first.to_ascii_lowercase()) {
            (2, b't') => Self::Te,
            (2, b'b') => Self::B3,
            (3, b'v') => Self::Via,
            (4, b'h') => Self::Host,
            (4, b'd') => Self::Date,
            (6, b'e') => Self::Expect,
            (6, b'c') => Self::Cookie,
            (6, b's') => Self::Server,
            (7, b'u') => Self::Upgrade,
            (7, b'r') => Self::Referer,
            (7, b't') => Self::Trailer,
            (8, b'l') => Self::Location,
            (9, b'f') => Self::Forwarded,
            (10, b'c') => Self::Connection,
            (10, b't') => Self::Tracestate,
            (10, b'u') => Self::UserAgent,
            (10, b'k') => Self::KeepAlive,
            (11, b't') => Self::Traceparent,
            (12, b'g') => Self::GrpcTimeout,
            (12, b'x') => Self::XRequestId,
            (12, b'p') => Self::ProxyStatus,
            (13, b'a') => Self::Authorization,
            (14, b'c') => Self::ContentLength,
            (15, b'x') => Self::XForwardedFor,
            (16, b'x') => Self::XForwardedHost,
            (16, b'p') => Self::ProxyConnection,
            (17, b't') => Self::TransferEncoding,
            (17, b'x') => Self::XForwardedProto,
            (18, b'p') => Self::ProxyAuthenticate,
            (19, b'p') => Self::ProxyAuthorization,
            _ => return Self::Other,
        };
        if name.eq_ignore_ascii_case(known.name().as_bytes()) { known } else { Self::Other }
    }

    /// The name in lower case; empty for [`Known::Other`].
    #[must_use]
    pub const fn name(self) -> &'static str {
        match (self as usize).checked_sub(1) {
            #[expect(
                clippy::indexing_slicing,
                reason = "NAMES has one row per known field, in order; a test holds them together"
            )]
            Some(row) => NAMES[row].1,
            None => "",
        }
    }

    /// Whether the field speaks to the next hop only and is never forwarded (RFC 9110 §7.6.1, and
    /// by custom those that older software still sends). `TE` and `Upgrade` are put back where
    /// they are meant for the next hop too.
    #[must_use]
    pub const fn is_hop_by_hop(self) -> bool {
        matches!(
            self,
            Self::Connection
                | Self::KeepAlive
                | Self::ProxyAuthenticate
                | Self::ProxyAuthorization
                | Self::ProxyConnection
                | Self::Te
                | Self::TransferEncoding
                | Self::Upgrade
        )
    }

    /// The bit of this field in a set of known fields.
    #[must_use]
    pub const fn bit(self) -> u32 {
        1 << self as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_in_any_case_and_stands_in_its_row() {
        for (row, (known, name)) in NAMES.into_iter().enumerate() {
            assert_eq!(known as usize, row + 1, "{name}");
            assert_eq!(known.name(), name);
            assert_eq!(Known::of(name.as_bytes()), known);
            assert_eq!(Known::of(name.to_ascii_uppercase().as_bytes()), known);
        }
    }

    #[test]
    fn other_names_are_other() {
        for name in ["", "x", "hosts", "content-type", "x-forwarded-port"] {
            assert_eq!(Known::of(name.as_bytes()), Known::Other, "{name}");
        }
        assert_eq!(Known::Other.name(), "");
    }
}
