//! What binds a request to an endpoint, for policies that hash. Knows no policy.

use std::net::IpAddr;

use twox_hash::XxHash3_64;

use crate::model::field::Known;
use crate::model::{RequestHead, cookie};

/// Where the key of a request is taken from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum HashKey {
    /// The client's address, as believed after `trusted_proxies`.
    #[default]
    Client,
    /// The address at the other end of the connection.
    Source,
    /// The path as endpoints see it, without the query.
    Path,
    /// The first field of this name that there is.
    Header(String),
    /// The first cookie of this name.
    Cookie(String),
    /// The first parameter of the query whose name is written like this: escapes are not decoded.
    Query(String),
}

/// The addresses that a request came from.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    /// The client, as believed.
    pub client: Option<IpAddr>,
    /// The other end of the connection.
    pub source: Option<IpAddr>,
}

impl HashKey {
    /// The key of a request: a hash (xxHash3) of what it is taken from. `None` when that is absent
    /// or empty, so that the request may go anywhere.
    #[must_use]
    pub fn of(&self, request: &RequestHead, origin: Origin) -> Option<u64> {
        match self {
            Self::Client => origin.client.map(of_address),
            Self::Source => origin.source.map(of_address),
            Self::Path => of_bytes(request.path()),
            Self::Header(name) => of_bytes(header(request, name.as_bytes())?),
            Self::Cookie(name) => of_bytes(cookie::find(&request.fields, name.as_bytes())?),
            Self::Query(name) => of_bytes(parameter(request.query()?, name.as_bytes())?),
        }
    }
}

fn of_address(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(address) => XxHash3_64::oneshot(&address.octets()),
        IpAddr::V6(address) => XxHash3_64::oneshot(&address.octets()),
    }
}

fn of_bytes(bytes: &[u8]) -> Option<u64> {
    (!bytes.is_empty()).then(|| XxHash3_64::oneshot(bytes))
}

fn header<'a>(request: &'a RequestHead, name: &'a [u8]) -> Option<&'a [u8]> {
    match Known::of(name) {
        // It is kept in one place, which is not among the fields.
        Known::Host => request.authority(),
        Known::Other => request.fields.get_named(name).next(),
        known => request.fields.get(known),
    }
}

fn parameter<'a>(query: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    query.split(|byte| *byte == b'&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix(b"="))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(target: &str, fields: &[(&str, &str)]) -> RequestHead {
        let mut head = RequestHead::default();
        head.set_target(target.as_bytes());
        fields.iter().for_each(|(name, value)| head.fields.append(name.as_bytes(), value.as_bytes()));
        head.take_host();
        head
    }

    fn key(key: &HashKey, request: &RequestHead) -> Option<u64> {
        let origin = Origin { client: "192.0.2.1".parse().ok(), source: "::ffff:10.0.0.1".parse().ok() };
        key.of(request, origin)
    }

    fn hash(text: &str) -> Option<u64> {
        Some(XxHash3_64::oneshot(text.as_bytes()))
    }

    #[test]
    fn keys_are_taken_from_where_they_are_said_to_be() {
        let header = |name: &str| HashKey::Header(name.to_owned());
        let cookie = |name: &str| HashKey::Cookie(name.to_owned());
        let query = |name: &str| HashKey::Query(name.to_owned());
        let fields =
            [("X-User", "a"), ("x-user", "b"), ("Host", "h:1"), ("Cookie", "s=1; t=2"), ("Via", "v")];
        let head = request("/p?q=1&r=&q=2&%71=3&s", &fields);
        for (from, wanted) in [
            (HashKey::Path, hash("/p")),
            (header("x-user"), hash("a")),
            (header("host"), hash("h:1")),
            (header("via"), hash("v")),
            (header("x-none"), None),
            (cookie("t"), hash("2")),
            (cookie("u"), None),
            (query("q"), hash("1")),
            (query("%71"), hash("3")),
            (query("r"), None),
            (query("s"), None),
            (query("z"), None),
        ] {
            assert_eq!(key(&from, &head), wanted, "{from:?}");
        }
        assert_eq!(key(&query("q"), &request("/", &[])), None);
    }

    #[test]
    fn addresses_are_the_same_however_they_are_written() {
        let head = RequestHead::default();
        let of = |text: &str| {
            let source = text.parse().ok();
            HashKey::Source.of(&head, Origin { client: None, source })
        };
        assert_eq!(key(&HashKey::Source, &head), of("10.0.0.1"));
        assert_ne!(key(&HashKey::Client, &head), of("10.0.0.1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8::2"));
        assert_eq!(of("unix"), None);
    }
}
