//! Header field names that the proxy itself reads or writes. A name is classified once, when a
//! head is read; every later question is a comparison of small integers.

/// A field name that means something to a proxy; everything else is [`Known::Other`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[expect(missing_docs, reason = "each variant is the field of the same name; see `NAMES`")]
pub enum Known {
    Other,
    Authorization,
    Connection,
    ContentLength,
    Cookie,
    Date,
    Expect,
    Forwarded,
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
const NAMES: [(Known, &str); 26] = [
    (Known::Authorization, "authorization"),
    (Known::Connection, "connection"),
    (Known::ContentLength, "content-length"),
    (Known::Cookie, "cookie"),
    (Known::Date, "date"),
    (Known::Expect, "expect"),
    (Known::Forwarded, "forwarded"),
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
        let candidates: &[Self] = match name.len() {
            2 => &[Self::Te],
            3 => &[Self::Via],
            4 => &[Self::Host, Self::Date],
            6 => &[Self::Expect, Self::Cookie, Self::Server],
            7 => &[Self::Upgrade, Self::Referer, Self::Trailer],
            8 => &[Self::Location],
            9 => &[Self::Forwarded],
            10 => &[Self::Connection, Self::UserAgent, Self::KeepAlive],
            12 => &[Self::XRequestId, Self::ProxyStatus],
            13 => &[Self::Authorization],
            14 => &[Self::ContentLength],
            15 => &[Self::XForwardedFor],
            16 => &[Self::XForwardedHost, Self::ProxyConnection],
            17 => &[Self::TransferEncoding, Self::XForwardedProto],
            18 => &[Self::ProxyAuthenticate],
            19 => &[Self::ProxyAuthorization],
            _ => &[],
        };
        let same = |known: &&Self| name.eq_ignore_ascii_case(known.name().as_bytes());
        candidates.iter().find(same).copied().unwrap_or(Self::Other)
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
