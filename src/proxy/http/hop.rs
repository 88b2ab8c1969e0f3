//! Fields that speak to the next hop only (RFC 9110 §7.6.1): taken out of what is forwarded, with
//! what they said kept as values.

use http::Version;

use crate::model::field::Known;
use crate::model::{Fields, RequestHead, ResponseHead};

/// What a request's hop-by-hop fields asked of us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct HopRequest {
    /// The connection may carry another request.
    pub(super) persist: bool,
    /// Another protocol is asked for.
    pub(super) upgrade: bool,
}

/// Takes the hop-by-hop fields out of a request. `TE: trailers` is put back, and `Upgrade` when the
/// request asks for one and its version has it.
pub(super) fn of_request(head: &mut RequestHead) -> HopRequest {
    let old = head.version < Version::HTTP_11;
    if !head.fields.has_any(HOP_BITS) {
        return HopRequest { persist: !old, upgrade: false };
    }
    let fields = &mut head.fields;
    let asked = |token: &[u8]| list(fields, Known::Connection).any(|t| t.eq_ignore_ascii_case(token));
    let persist = if old { asked(b"keep-alive") } else { !asked(b"close") };
    // A tunnel of HTTP/2 would carry requests past routes and filters.
    let to_http2 = list(fields, Known::Upgrade).any(|t| t.eq_ignore_ascii_case(b"h2c"));
    let upgrade = (head.version == Version::HTTP_11 && asked(b"upgrade") && !to_http2)
        .then(|| fields.get(Known::Upgrade).map(<[u8]>::to_vec))
        .flatten();
    let trailers = list(fields, Known::Te).any(|t| t.eq_ignore_ascii_case(b"trailers"));
    strip(fields);
    if trailers {
        fields.append_known(Known::Te, b"trailers");
    }
    if let Some(protocol) = &upgrade {
        fields.append_known(Known::Upgrade, protocol);
    }
    HopRequest { persist, upgrade: upgrade.is_some() }
}

/// Takes the hop-by-hop fields out of a response; says whether the connection may carry another.
/// `Upgrade` is put back when the response switches protocols.
pub(super) fn of_response(head: &mut ResponseHead) -> bool {
    let old = head.version < Version::HTTP_11;
    if !head.fields.has_any(HOP_BITS) {
        return !old;
    }
    let fields = &mut head.fields;
    let asked = |token: &[u8]| list(fields, Known::Connection).any(|t| t.eq_ignore_ascii_case(token));
    let persist = if old { asked(b"keep-alive") } else { !asked(b"close") };
    let switching = head.status == http::StatusCode::SWITCHING_PROTOCOLS;
    let upgrade = switching.then(|| fields.get(Known::Upgrade).map(<[u8]>::to_vec)).flatten();
    strip(fields);
    if let Some(protocol) = upgrade {
        fields.append_known(Known::Upgrade, &protocol);
    }
    persist
}

/// The elements of a list field.
fn list(fields: &Fields, known: Known) -> impl Iterator<Item = &[u8]> {
    let elements = fields.get_all(known).flat_map(|value| value.split(|b| *b == b','));
    elements.map(<[u8]>::trim_ascii).filter(|element| !element.is_empty())
}

fn strip(fields: &mut Fields) {
    let usual = |name: &[u8]| Known::of(name).is_hop_by_hop() || name.eq_ignore_ascii_case(b"close");
    let named: Vec<Vec<u8>> =
        list(fields, Known::Connection).filter(|name| !usual(name)).map(<[u8]>::to_vec).collect();
    fields.retain(|known, _, _| !known.is_hop_by_hop());
    for name in named.iter().filter(|name| !is_end_to_end(Known::of(name))) {
        fields.remove(name);
    }
}

/// Fields that `Connection` cannot take away, because what they say was already acted upon.
fn is_end_to_end(known: Known) -> bool {
    matches!(known, Known::ContentLength | Known::Host | Known::Authorization | Known::Cookie | Known::Expect)
}

const HOP_BITS: u32 = Known::Connection.bit()
    | Known::KeepAlive.bit()
    | Known::ProxyAuthenticate.bit()
    | Known::ProxyAuthorization.bit()
    | Known::ProxyConnection.bit()
    | Known::Te.bit()
    | Known::TransferEncoding.bit()
    | Known::Upgrade.bit();

#[cfg(test)]
mod tests {
    use super::*;

    fn request(version: Version, fields: &[(&str, &str)]) -> (HopRequest, String) {
        let mut head = RequestHead::default();
        head.version = version;
        fields.iter().for_each(|(n, v)| head.fields.append(n.as_bytes(), v.as_bytes()));
        let asked = of_request(&mut head);
        let names: Vec<_> =
            head.fields.iter().map(|(_, n, _)| String::from_utf8_lossy(n).into_owned()).collect();
        (asked, names.join(" "))
    }

    #[test]
    fn hop_by_hop_fields_stay_behind() {
        let fields = [
            ("Connection", "X-Secret, keep-alive,,close"),
            ("X-Secret", "1"),
            ("Keep-Alive", "timeout=5"),
            ("Proxy-Connection", "x"),
            ("TE", "gzip, trailers"),
            ("Upgrade", "websocket"),
            ("Accept", "*/*"),
        ];
        let (asked, left) = request(Version::HTTP_11, &fields);
        assert_eq!(asked, HopRequest { persist: false, upgrade: false });
        assert_eq!(left, "Accept te");
    }

    #[test]
    fn persistence_follows_the_version() {
        let persist = |version, value| request(version, &[("connection", value)]).0.persist;
        assert!(persist(Version::HTTP_11, "x") && !persist(Version::HTTP_11, "Close"));
        assert!(persist(Version::HTTP_10, "Keep-Alive") && !persist(Version::HTTP_10, "x"));
        assert!(request(Version::HTTP_11, &[]).0.persist && !request(Version::HTTP_10, &[]).0.persist);
    }

    #[test]
    fn an_upgrade_is_asked_for_in_two_fields() {
        let both = [("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")];
        assert_eq!(
            request(Version::HTTP_11, &both),
            (HopRequest { persist: true, upgrade: true }, "upgrade".into())
        );
        let http2 = [("connection", "upgrade"), ("upgrade", "websocket, H2C")];
        assert_eq!(request(Version::HTTP_11, &http2).1, "");
        assert!(!request(Version::HTTP_11, &both[1..]).0.upgrade);
        assert!(!request(Version::HTTP_10, &both).0.upgrade);
    }

    #[test]
    fn connection_cannot_take_away_what_was_acted_upon() {
        let fields = [("connection", "content-length, x-a"), ("content-length", "5"), ("x-a", "1")];
        assert_eq!(request(Version::HTTP_11, &fields).1, "content-length");
    }
}
