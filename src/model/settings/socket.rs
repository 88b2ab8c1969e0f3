//! What may be set of sockets, and from which address a connection to an endpoint begins. Says what is
//! wanted; whether the kernel permits it shows where it is set.

use std::net::IpAddr;
use std::time::Duration;

/// Options of the sockets towards clients, or towards endpoints.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SocketOptions {
    /// Whether small writes are sent at once (`TCP_NODELAY`).
    pub no_delay: bool,
    /// Whether an idle peer is asked if it is still there, and how often; not asked when unset.
    pub keep_alive: Option<KeepAlive>,
    /// How long sent bytes may stay unacknowledged before the connection is given up
    /// (`TCP_USER_TIMEOUT`, RFC 5482); the kernel's own bound when unset.
    pub user_timeout: Option<Duration>,
    /// The mark of its packets, by which routes and filters of the kernel tell them (`SO_MARK`).
    pub mark: Option<u32>,
    /// The class of its packets, 0 to 63 (RFC 2474).
    pub dscp: Option<u8>,
    /// Whether it may have an address that is not this machine's (`IP_TRANSPARENT`). Towards endpoints:
    /// connections come from the client's address.
    pub transparent: bool,
}

impl Default for SocketOptions {
    fn default() -> Self {
        Self {
            no_delay: true,
            keep_alive: None,
            user_timeout: None,
            mark: None,
            dscp: None,
            transparent: false,
        }
    }
}

/// How an idle peer is asked if it is still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeepAlive {
    /// Without a byte before it is asked first; whole seconds, as the kernel counts them.
    pub idle: Duration,
    /// Between two questions; whole seconds.
    pub interval: Duration,
    /// Questions without answer before the connection is given up.
    pub count: u32,
}

impl Default for KeepAlive {
    fn default() -> Self {
        Self { idle: Duration::from_secs(60), interval: Duration::from_secs(10), count: 6 }
    }
}

/// The sockets towards the endpoints of a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct UpstreamSocket {
    /// What is set of each.
    pub options: SocketOptions,
    /// Addresses of this machine that connections come from; the kernel chooses where there is none of
    /// the endpoint's family.
    pub sources: Vec<IpAddr>,
    /// Whether the first bytes go with the first packet (RFC 7413).
    pub fast_open: bool,
}

impl UpstreamSocket {
    /// The same for checks: what goes with the first packet only waits for a reason to be sent, and would
    /// connect to anything.
    #[must_use]
    pub fn of_checks(&self) -> Self {
        Self { fast_open: false, ..self.clone() }
    }

    /// The address that a connection to an endpoint at `remote` comes from: the `client`'s where that is
    /// wanted and of the same family, or one of `sources` by the uniformly distributed `draw`.
    #[must_use]
    pub fn source(&self, remote: IpAddr, client: Option<IpAddr>, draw: u64) -> Option<Source> {
        let client = client.map(|client| client.to_canonical()).filter(|_| self.options.transparent);
        if let Some(client) = client.filter(|client| client.is_ipv4() == remote.is_ipv4()) {
            return Some(Source { address: client, is_foreign: true });
        }
        let fitting = || self.sources.iter().filter(|source| source.is_ipv4() == remote.is_ipv4());
        let count = u64::try_from(fitting().count()).ok()?;
        let place = usize::try_from(draw.checked_rem(count)?).ok()?;
        fitting().nth(place).map(|address| Source { address: *address, is_foreign: false })
    }
}

/// An address that a connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// The address.
    pub address: IpAddr,
    /// Whether it is a client's rather than this machine's.
    pub is_foreign: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(socket: &UpstreamSocket, remote: &str, client: Option<&str>, draw: u64) -> Option<String> {
        let client = client.map(|client| client.parse().unwrap());
        socket.source(remote.parse().unwrap(), client, draw).map(|source| source.address.to_string())
    }

    #[test]
    fn a_source_is_of_the_endpoints_family_whatever_the_clients_is() {
        let sources = ["10.0.0.5", "fd00::5", "10.0.0.6"].map(|source| source.parse().unwrap());
        let own = UpstreamSocket { sources: sources.into(), ..UpstreamSocket::default() };
        assert_eq!(source(&own, "10.1.0.1", Some("fd00::9"), 0).unwrap(), "10.0.0.5");
        assert_eq!(source(&own, "10.1.0.1", None, 3).unwrap(), "10.0.0.6");
        assert_eq!(source(&own, "fd01::1", Some("10.9.9.9"), 1).unwrap(), "fd00::5");
        let v4 = UpstreamSocket { sources: vec!["10.0.0.5".parse().unwrap()], ..own };
        assert_eq!(source(&v4, "fd01::1", None, 0), None);
    }

    #[test]
    fn a_transparent_one_is_the_clients_where_that_can_be() {
        let options = SocketOptions { transparent: true, ..SocketOptions::default() };
        let own = UpstreamSocket {
            options,
            sources: vec!["10.0.0.5".parse().unwrap()],
            ..UpstreamSocket::default()
        };
        assert_eq!(source(&own, "10.1.0.1", Some("192.0.2.7"), 0).unwrap(), "192.0.2.7");
        assert_eq!(source(&own, "10.1.0.1", Some("::ffff:192.0.2.7"), 0).unwrap(), "192.0.2.7");
        assert_eq!(source(&own, "10.1.0.1", Some("2001:db8::7"), 0).unwrap(), "10.0.0.5");
        assert_eq!(source(&own, "fd01::1", Some("192.0.2.7"), 0), None);
    }
}
