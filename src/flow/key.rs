//! What tells one flow from another: who sends, and to which of our addresses. Knows nothing of what a
//! flow holds.

use std::hash::{BuildHasher, Hash, Hasher};
use std::net::{IpAddr, SocketAddr};

use crate::model::mix::mix;

/// What makes datagrams of a client one flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FlowBy {
    /// They come from one address and port.
    #[default]
    AddressAndPort,
    /// They come from one address. Replies go to the port that the client used last: right for a client
    /// whose port changes on the way, wrong for one that uses several ports at the same time.
    Address,
}

/// The two ends of a datagram of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Peer {
    /// Who sent it.
    pub client: SocketAddr,
    /// Which of our addresses it was sent to, where the listener is bound to all of them: replies have
    /// to come from the same, and a client that speaks to two of them has two flows. `None` for a
    /// listener with one address.
    pub local: Option<IpAddr>,
}

/// A [`Peer`] as far as it counts, packed. An IPv4 address and the same mapped into IPv6 are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    client: u128,
    local: u128,
    /// The port, and above it the scope of a link-local address.
    rest: u64,
}

/// The hashing of keys, by a seed that no client knows: who could choose addresses that fall on one
/// place of the table would make each datagram search long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seeded(pub(super) u64);

#[derive(Debug)]
pub(super) struct Mixed(u64);

impl FlowBy {
    /// The part of `peer` that tells flows apart.
    pub(super) fn key(self, peer: &Peer) -> Key {
        let scope = match peer.client {
            SocketAddr::V4(_) => 0,
            SocketAddr::V6(client) => client.scope_id(),
        };
        let port = match self {
            Self::AddressAndPort => peer.client.port(),
            Self::Address => 0,
        };
        Key {
            client: bits(peer.client.ip()),
            local: peer.local.map_or(0, bits),
            rest: u64::from(scope) << 16 | u64::from(port),
        }
    }
}

/// An address as one number, of IPv6.
fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u128(self.client);
        state.write_u128(self.local);
        state.write_u64(self.rest);
    }
}

impl BuildHasher for Seeded {
    type Hasher = Mixed;

    fn build_hasher(&self) -> Mixed {
        Mixed(self.0)
    }
}

impl Hasher for Mixed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, bits: u64) {
        self.0 = mix(self.0 ^ bits);
    }

    fn write_u128(&mut self, bits: u128) {
        self.write_u64((bits >> 64) as u64);
        self.write_u64(bits as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(by: FlowBy, client: &str, local: Option<&str>) -> Key {
        by.key(&Peer { client: client.parse().unwrap(), local: local.map(|ip| ip.parse().unwrap()) })
    }

    #[test]
    fn a_flow_is_told_by_what_counts() {
        let (port, address) = (FlowBy::AddressAndPort, FlowBy::Address);
        let base = key(port, "10.0.0.1:53", None);
        for (other, same) in [
            (key(port, "10.0.0.1:53", None), true),
            (key(port, "[::ffff:10.0.0.1]:53", None), true),
            (key(port, "10.0.0.1:54", None), false),
            (key(port, "10.0.0.2:53", None), false),
            (key(port, "10.0.0.1:53", Some("10.0.0.9")), false),
        ] {
            assert_eq!(base == other, same, "{other:?}");
        }
        assert_eq!(key(address, "10.0.0.1:53", None), key(address, "10.0.0.1:54", None));
        assert_ne!(key(address, "[fe80::1%2]:53", None), key(address, "[fe80::1%3]:53", None));
    }

    #[test]
    fn hashes_depend_on_the_seed_and_spread() {
        let by = FlowBy::AddressAndPort;
        let low =
            |seed: u64, port: u16| Seeded(seed).hash_one(key(by, &format!("10.0.0.1:{port}"), None)) & 0xff;
        let alike = (0..1000).filter(|port| low(1, *port) == low(2, *port)).count();
        assert!(alike < 20, "{alike}");
        let mut places = [0u32; 256];
        (0..25_600).for_each(|port| places[usize::try_from(low(7, port)).unwrap()] += 1);
        assert!(places.iter().all(|n| (50..160).contains(n)), "{places:?}");
    }
}
