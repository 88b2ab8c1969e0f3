//! Which addresses are bound, and which of them cannot be bound at once.

use std::collections::HashMap;
use std::net::SocketAddr;

use crate::model::Address;
use crate::model::options::{Given, Problem, Sink};

/// Every address bound so far.
#[derive(Debug, Default)]
pub(super) struct Binds<'a> {
    taken: Vec<(Address, Option<Given<'a>>)>,
    /// Where in `taken` the first of each [`Spot`] is.
    spots: HashMap<Spot, usize>,
}

/// What addresses may have in common.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Spot {
    /// All of it.
    Address(Address),
    /// The port of one family, and whether it is taken on all addresses of the family.
    Port { port: u16, ipv4: bool, udp: bool, everywhere: bool },
}

impl<'a> Binds<'a> {
    /// Takes `address`, written at `given` or else a default; a clash with an earlier one is
    /// reported.
    pub(super) fn take(&mut self, address: &Address, given: Option<&Given<'a>>, sink: &Sink) {
        if let Some((first, there)) = self.first_clash(address) {
            let (path, span) = match given {
                Some(given) => (given.path(), Some(given.span())),
                None => ("", there.as_ref().map(Given::span)),
            };
            let note = format!("{first} is bound here");
            let problem = Problem::new(path, span, fault(address, first, given.is_none()));
            sink.report(match given {
                Some(_) => problem.see(there.as_ref().map(Given::span), note),
                None => {
                    problem.hint("give one of them another port, as in `[admin] bind = \"127.0.0.1:9901\"`")
                }
            });
        }
        let place = self.taken.len();
        for spot in spots(address) {
            self.spots.entry(spot).or_insert(place);
        }
        self.taken.push((address.clone(), given.cloned()));
    }

    /// The first address that cannot be bound together with this one. Whatever clashes with it shares a
    /// spot with it, or is taken everywhere, or anywhere when this one is to be taken everywhere; the
    /// first of each kind will do.
    fn first_clash(&self, address: &Address) -> Option<&(Address, Option<Given<'a>>)> {
        let mut kin = spots(address);
        if let Some(inet) = address.inet() {
            let (port, ipv4, udp) = (inet.port(), inet.is_ipv4(), is_udp(address));
            kin.push(Spot::Port { port, ipv4, udp, everywhere: true });
            if inet.ip().is_unspecified() {
                kin.push(Spot::Port { port, ipv4, udp, everywhere: false });
            } else {
                kin.retain(|spot| !matches!(spot, Spot::Port { everywhere: false, .. }));
            }
        }
        let found = kin.iter().filter_map(|spot| self.spots.get(spot)).min();
        found.and_then(|place| self.taken.get(*place)).filter(|(taken, _)| clash(taken, address))
    }
}

fn spots(address: &Address) -> Vec<Spot> {
    let port = address.inet().map(|inet| Spot::Port {
        port: inet.port(),
        ipv4: inet.is_ipv4(),
        udp: is_udp(address),
        everywhere: inet.ip().is_unspecified(),
    });
    [Spot::Address(address.clone())].into_iter().chain(port).collect()
}

fn fault(address: &Address, first: &Address, default: bool) -> String {
    let what =
        if default { format!("the admin listener's default, {address},") } else { address.to_string() };
    if address == first {
        format!("{what} is bound twice")
    } else {
        format!("{what} cannot be bound together with {first}")
    }
}

/// Whether the second of the two could not be bound. IPv6 sockets take no IPv4 connections, so
/// that `[::]` and `0.0.0.0` get along.
fn clash(a: &Address, b: &Address) -> bool {
    match (a, b) {
        (Address::Inet(a), Address::Inet(b)) | (Address::Udp(a), Address::Udp(b)) => inet_clash(*a, *b),
        (Address::Unix(a), Address::Unix(b)) => a == b,
        _ => false,
    }
}

fn is_udp(address: &Address) -> bool {
    matches!(address, Address::Udp(_))
}

fn inet_clash(a: SocketAddr, b: SocketAddr) -> bool {
    let any = a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() == b.port() && a.port() != 0 && a.is_ipv4() == b.is_ipv4() && (any || a.ip() == b.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_clash_as_the_kernel_has_it() {
        for (a, b, clashes) in [
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("0.0.0.0:80", "127.0.0.1:80", true),
            ("[::1]:80", "[::]:80", true),
            ("[::]:80", "0.0.0.0:80", false),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            ("127.0.0.1:80", "127.0.0.1:81", false),
            ("127.0.0.1:0", "127.0.0.1:0", false),
            ("udp:127.0.0.1:80", "127.0.0.1:80", false),
            ("udp:0.0.0.0:80", "udp:127.0.0.1:80", true),
            ("unix:/a", "unix:/a", true),
            ("unix:/a", "unix:/b", false),
            ("unix:/a", "127.0.0.1:80", false),
        ] {
            let (x, y) = (a.parse().unwrap(), b.parse().unwrap());
            assert_eq!((clash(&x, &y), clash(&y, &x)), (clashes, clashes), "{a} {b}");
            for (first, second) in [(&x, &y), (&y, &x)] {
                let sink = Sink::default();
                let mut binds = Binds::default();
                binds.take(first, None, &sink);
                assert_eq!(binds.first_clash(second).is_some(), clashes, "{first} {second}");
            }
        }
    }
}
