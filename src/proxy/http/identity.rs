//! Who the client is, and how endpoints learn it: `X-Forwarded-*`, `Forwarded` (RFC 7239),
//! `X-Request-Id` and `Via`. What a peer says of others is believed only if the peer is trusted.

use std::io::Write;
use std::net::IpAddr;

use http::Version;

use crate::model::field::Known;
use crate::model::settings::{ClientIdentity, Forwarding};
use crate::model::{Fields, RequestHead};
use crate::wire::encode::via_version;

/// The peer of a connection.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    /// Its address; `None` for Unix sockets.
    pub ip: Option<IpAddr>,
    /// The address as text, `unix` without one.
    pub text: Box<str>,
    /// `http` or `https`.
    pub scheme: &'static str,
}

impl Peer {
    /// The peer with this address on a connection of this scheme.
    #[must_use]
    pub(super) fn new(ip: Option<IpAddr>, scheme: &'static str) -> Self {
        let ip = ip.map(|ip| ip.to_canonical());
        let text = ip.map_or_else(|| "unix".into(), |ip| ip.to_string().into());
        Self { ip, text, scheme }
    }

    /// Whether what it says of others is believed.
    #[must_use]
    pub(super) fn is_trusted(&self, identity: &ClientIdentity) -> bool {
        self.ip.is_some_and(|ip| is_trusted(ip, identity))
    }

    /// The client: the peer, or whom trusted peers say they forward for. The last address in
    /// `X-Forwarded-For` that is not a trusted proxy's is the one nobody could have made up.
    #[must_use]
    pub(super) fn client(&self, fields: &Fields, identity: &ClientIdentity) -> Option<IpAddr> {
        if !self.is_trusted(identity) || !fields.has(Known::XForwardedFor) {
            return self.ip;
        }
        let mut chain = Vec::new();
        for value in fields.get_all(Known::XForwardedFor) {
            chain.extend(value.split(|b| *b == b',').map(address_of));
        }
        let mut client = self.ip;
        for hop in chain.into_iter().rev() {
            let Some(hop) = hop else { break };
            client = Some(hop);
            if !is_trusted(hop, identity) {
                break;
            }
        }
        client
    }
}

/// Adds what the endpoint is to know to the request's fields, and drops what is not believed.
pub(super) fn forward(head: &mut RequestHead, peer: &Peer, identity: &ClientIdentity, draw: (u64, u64)) {
    let trusted = peer.is_trusted(identity);
    let both_off = identity.x_forwarded == Forwarding::Off && identity.forwarded == Forwarding::Off;
    if !trusted && !both_off {
        drop_claims(&mut head.fields);
    }
    x_forwarded(head, peer, identity.x_forwarded);
    forwarded(head, peer, identity.forwarded);
    if identity.request_id {
        request_id(&mut head.fields, draw);
    }
    if identity.via {
        let version = head.version;
        via(&mut head.fields, version);
    }
}

/// Adds our `Via` for a message received in `version` (RFC 9110 §7.6.3).
pub(super) fn via(fields: &mut Fields, version: Version) {
    let mut value = [0; 16];
    let mut rest = &mut value[..];
    // Sixteen bytes hold every version and the name.
    let _ = rest.write_all(via_version(version).as_bytes());
    let _ = rest.write_all(b" forebay");
    let left = rest.len();
    append_to_list(fields, Known::Via, value.get(..value.len() - left).unwrap_or_default());
}

fn drop_claims(fields: &mut Fields) {
    let claims = [Known::XForwardedFor, Known::XForwardedProto, Known::XForwardedHost, Known::Forwarded];
    if fields.has_any(claims.iter().fold(0, |bits, known| bits | known.bit())) {
        fields.retain(|known, _, _| !claims.contains(&known));
    }
}

fn x_forwarded(head: &mut RequestHead, peer: &Peer, how: Forwarding) {
    match how {
        Forwarding::Off => return,
        Forwarding::Append => append_to_list(&mut head.fields, Known::XForwardedFor, peer.text.as_bytes()),
        Forwarding::Replace => {
            for known in [Known::XForwardedFor, Known::XForwardedProto, Known::XForwardedHost] {
                head.fields.remove_known(known);
            }
            head.fields.append_known(Known::XForwardedFor, peer.text.as_bytes());
        }
    }
    if !head.fields.has(Known::XForwardedProto) {
        head.fields.append_known(Known::XForwardedProto, peer.scheme.as_bytes());
    }
    if !head.fields.has(Known::XForwardedHost) {
        head.append_authority(Known::XForwardedHost);
    }
}

fn forwarded(head: &mut RequestHead, peer: &Peer, how: Forwarding) {
    if how == Forwarding::Off {
        return;
    }
    let node = match peer.ip {
        Some(IpAddr::V4(ip)) => ip.to_string(),
        Some(IpAddr::V6(ip)) => format!("\"[{ip}]\""),
        None => "unknown".to_owned(),
    };
    let mut element = format!("for={node};proto={}", peer.scheme).into_bytes();
    if let Some(authority) = head.authority() {
        element.extend_from_slice(b";host=\"");
        element.extend_from_slice(authority);
        element.push(b'"');
    }
    if how == Forwarding::Replace {
        head.fields.remove_known(Known::Forwarded);
    }
    append_to_list(&mut head.fields, Known::Forwarded, &element);
}

fn request_id(fields: &mut Fields, draw: (u64, u64)) {
    let sane = |id: &[u8]| (1..=MAX_REQUEST_ID).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic);
    let mut ids = fields.get_all(Known::XRequestId);
    if let (Some(id), None) = (ids.next(), ids.next())
        && sane(id)
    {
        return;
    }
    drop(ids);
    let mut id = [0; 32];
    let bits = u128::from(draw.0) << 64 | u128::from(draw.1);
    for (place, digit) in id.iter_mut().enumerate() {
        let nibble = u8::try_from(bits >> (124 - 4 * place) & 15).unwrap_or(0);
        *digit = if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
    }
    fields.set_known(Known::XRequestId, &id);
}

/// Adds an element to a field whose value is a list, in the one line that is already there.
fn append_to_list(fields: &mut Fields, known: Known, element: &[u8]) {
    if !fields.has(known) {
        return fields.append_known(known, element);
    }
    let mut list = fields.get_all(known).collect::<Vec<_>>().join(&b", "[..]);
    list.extend_from_slice(b", ");
    list.extend_from_slice(element);
    fields.set_known(known, &list);
}

fn is_trusted(ip: IpAddr, identity: &ClientIdentity) -> bool {
    identity.trusted_proxies.iter().any(|net| net.contains(&ip))
}

/// An address as `X-Forwarded-For` writes it, some with a port.
fn address_of(element: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(element.trim_ascii()).ok()?;
    let ip = text.parse().ok().or_else(|| Some(text.parse::<std::net::SocketAddr>().ok()?.ip()));
    ip.map(|ip: IpAddr| ip.to_canonical())
}

/// Characters of a request id that is kept rather than replaced.
const MAX_REQUEST_ID: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    fn head(fields: &[(&str, &str)]) -> RequestHead {
        let mut head = RequestHead::default();
        head.set_authority(b"shop.example");
        fields.iter().for_each(|(n, v)| head.fields.append(n.as_bytes(), v.as_bytes()));
        head
    }

    fn identity(trusted: &str) -> ClientIdentity {
        let trusted_proxies = trusted.split_whitespace().map(|net| net.parse().unwrap()).collect();
        ClientIdentity { trusted_proxies, forwarded: Forwarding::Append, ..ClientIdentity::default() }
    }

    fn value(head: &RequestHead, known: Known) -> String {
        String::from_utf8_lossy(head.fields.get(known).unwrap_or(b"-")).into_owned()
    }

    #[test]
    fn what_strangers_claim_is_dropped() {
        let mut head =
            head(&[("x-forwarded-for", "1.1.1.1"), ("forwarded", "for=1.1.1.1"), ("via", "1.0 x")]);
        let peer = Peer::new(Some("9.9.9.9".parse().unwrap()), "https");
        assert_eq!(peer.client(&head.fields, &identity("10.0.0.0/8")), peer.ip);
        forward(&mut head, &peer, &identity("10.0.0.0/8"), (1, 2));
        assert_eq!(value(&head, Known::XForwardedFor), "9.9.9.9");
        assert_eq!(value(&head, Known::XForwardedProto), "https");
        assert_eq!(value(&head, Known::XForwardedHost), "shop.example");
        assert_eq!(value(&head, Known::Forwarded), "for=9.9.9.9;proto=https;host=\"shop.example\"");
        assert_eq!(value(&head, Known::Via), "1.0 x, 1.1 forebay");
        assert_eq!(value(&head, Known::XRequestId), "00000000000000010000000000000002");
    }

    #[test]
    fn trusted_peers_are_believed_up_to_the_first_stranger() {
        let mut head = head(&[("x-forwarded-for", "6.6.6.6, 1.1.1.1"), ("x-forwarded-for", "10.0.0.2:80")]);
        let peer = Peer::new(Some("::ffff:10.0.0.1".parse().unwrap()), "http");
        let identity = identity("10.0.0.0/8");
        assert_eq!(peer.client(&head.fields, &identity), Some("1.1.1.1".parse().unwrap()));
        forward(&mut head, &peer, &identity, (1, 2));
        assert_eq!(value(&head, Known::XForwardedFor), "6.6.6.6, 1.1.1.1, 10.0.0.2:80, 10.0.0.1");
    }

    #[test]
    fn a_sane_request_id_is_kept() {
        for (given, kept) in [("abc-1", true), ("", false), ("a b", false), (&"x".repeat(129), false)] {
            let mut head = head(&[("x-request-id", given)]);
            request_id(&mut head.fields, (0, 0));
            assert_eq!(value(&head, Known::XRequestId) == given, kept, "{given:?}");
        }
    }

    #[test]
    fn off_means_hands_off() {
        let off = ClientIdentity {
            x_forwarded: Forwarding::Off,
            forwarded: Forwarding::Off,
            request_id: false,
            via: false,
            ..ClientIdentity::default()
        };
        let mut head = head(&[("x-forwarded-for", "1.1.1.1")]);
        forward(&mut head, &Peer::new(None, "http"), &off, (1, 2));
        assert_eq!(head.fields.len(), 1);
        assert_eq!(value(&head, Known::XForwardedFor), "1.1.1.1");
    }
}
