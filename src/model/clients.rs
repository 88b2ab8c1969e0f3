//! Clients by where they come from: networks, and Unix sockets. Whether an address can be believed has
//! been decided before.

use std::net::IpAddr;

use ipnet::IpNet;

use super::options::{Data, Given};

/// A set of clients. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clients {
    networks: Vec<IpNet>,
    /// Those that come over a Unix socket, written `"unix"`.
    unix: bool,
}

impl Clients {
    /// One network or a list: `["10.0.0.0/8", "::1", "unix"]`. `None` for what is none, which is reported.
    #[must_use]
    pub fn parse(given: &Given<'_>) -> Option<Self> {
        let mut clients = Self { networks: Vec::new(), unix: false };
        let items = given.items();
        if items.is_empty() {
            given.fault("the list is empty", Some("name a network, such as \"10.0.0.0/8\"".into()));
            return None;
        }
        for item in items {
            match &item.value().data {
                Data::String(word) if word == "unix" => clients.unix = true,
                _ => clients.networks.push(item.read()?),
            }
        }
        Some(clients)
    }

    /// Whether a client is among them; `None` came over a Unix socket. An IPv4 client of an IPv6 socket
    /// counts as what it is.
    #[must_use]
    pub fn contain(&self, client: Option<IpAddr>) -> bool {
        let Some(client) = client.map(|address| address.to_canonical()) else { return self.unix };
        self.networks.iter().any(|network| network.contains(&client))
    }
}

/// What tells a client from others that are counted: an IPv4 address; the first half of an IPv6 address,
/// of which a client has the second to choose from (RFC 4291 §2.5.1); nothing of those that come over Unix
/// sockets.
#[must_use]
pub fn key_of(client: Option<IpAddr>) -> [u8; 9] {
    let (kind, octets) = match client.map(|address| address.to_canonical()) {
        Some(IpAddr::V4(address)) => (4, u64::from(u32::from(address))),
        Some(IpAddr::V6(address)) => (6, (u128::from(address) >> 64) as u64),
        None => (0, 0),
    };
    let [a, b, c, d, e, f, g, h] = octets.to_be_bytes();
    [kind, a, b, c, d, e, f, g, h]
}
