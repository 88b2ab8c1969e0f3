//! What the answers of DNS say about endpoints: addresses as they are, and SRV records (RFC 2782) with
//! their priorities and weights as levels and weights of ours.

use std::net::IpAddr;
use std::sync::Arc;

/// One SRV record, with the addresses of its target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Targets with the lowest number come first.
    pub priority: u16,
    /// The target's share among those of its priority; 0 for hardly any.
    pub weight: u16,
    /// Where the service is on its target.
    pub port: u16,
    /// The name of the target, without the dot at its end.
    pub target: Arc<str>,
    /// Where the target is.
    pub addresses: Vec<IpAddr>,
}

/// An address that DNS gave, and what it said about it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sighting {
    /// How many priorities come before its own, at most [`LAST_LEVEL`].
    pub level: u32,
    /// Where it is.
    pub address: IpAddr,
    /// Its port; that of the configuration when unset.
    pub port: Option<u16>,
    /// Its own name, for TLS.
    pub host: Arc<str>,
    /// Its weight, 1 to 1000; that of the configuration when unset.
    pub weight: Option<u32>,
}

impl Sighting {
    /// An address of `host`, about which nothing else is known.
    #[must_use]
    pub fn of(host: &Arc<str>, address: IpAddr) -> Self {
        Self { level: 0, address, port: None, host: Arc::clone(host), weight: None }
    }
}

/// What these records say, in an order of its own: servers shuffle their answers.
///
/// Priorities count by their order and not by their number: the lowest that is there is level 0. Weights
/// are kept, 0 as 1; where one is greater than [`MOST`], all are made smaller in proportion. Each address
/// of a target has the target's weight.
#[must_use]
pub fn sightings(services: &[Service]) -> Vec<Sighting> {
    let mut priorities: Vec<u16> = services.iter().map(|service| service.priority).collect();
    priorities.sort_unstable();
    priorities.dedup();
    let heaviest = services.iter().map(|service| u32::from(service.weight)).max().unwrap_or(0);
    let mut found = Vec::new();
    for service in services {
        let rank = priorities.binary_search(&service.priority).unwrap_or_default();
        let level = u32::try_from(rank).unwrap_or(LAST_LEVEL).min(LAST_LEVEL);
        found.extend(service.addresses.iter().map(|address| Sighting {
            level,
            address: *address,
            port: Some(service.port),
            host: Arc::clone(&service.target),
            weight: Some(scaled(service.weight.into(), heaviest)),
        }));
    }
    found.sort();
    found.dedup();
    found
}

fn scaled(weight: u32, heaviest: u32) -> u32 {
    let weight = if heaviest > MOST { (weight * MOST).div_ceil(heaviest) } else { weight };
    weight.clamp(1, MOST)
}

/// The greatest weight of an endpoint.
pub const MOST: u32 = 1000;

/// The last level there is.
pub const LAST_LEVEL: u32 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn service(priority: u16, weight: u16, port: u16, last: u8) -> Service {
        let addresses = vec![IpAddr::from([10, 0, 0, last])];
        Service { priority, weight, port, target: format!("t{last}").into(), addresses }
    }

    fn shown(services: &[Service]) -> Vec<(u32, u16, u32)> {
        let show = |s: &Sighting| (s.level, s.port.unwrap(), s.weight.unwrap());
        sightings(services).iter().map(show).collect()
    }

    #[test]
    fn priorities_become_levels_by_their_order() {
        let services = [service(20, 1, 3, 3), service(5, 1, 1, 1), service(20, 2, 4, 4), service(5, 9, 2, 2)];
        assert_eq!(shown(&services), [(0, 1, 1), (0, 2, 9), (1, 3, 1), (1, 4, 2)]);
        let many: Vec<_> = (0..200).map(|n| service(n, 1, 1, 1)).collect();
        assert_eq!(sightings(&many).iter().map(|s| s.level).max(), Some(LAST_LEVEL));
    }

    #[test]
    fn weights_are_scaled_only_where_they_have_to_be() {
        let at = |weight, port| service(0, weight, port, port as u8);
        assert_eq!(shown(&[at(0, 1), at(7, 2), at(1000, 3)]), [(0, 1, 1), (0, 2, 7), (0, 3, 1000)]);
        assert_eq!(shown(&[at(0, 1), at(1, 2), at(65_535, 3)]), [(0, 1, 1), (0, 2, 1), (0, 3, 1000)]);
        assert_eq!(shown(&[at(20_000, 1), at(40_000, 2)]), [(0, 1, 500), (0, 2, 1000)]);
    }

    #[test]
    fn the_order_of_the_answer_does_not_matter() {
        let mut services = [service(1, 1, 1, 1), service(2, 2, 2, 2), service(1, 3, 3, 3)];
        let first = sightings(&services);
        services.reverse();
        assert_eq!(sightings(&services), first);
        assert_eq!(sightings(&[]), []);
    }
}
