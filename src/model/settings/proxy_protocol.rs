//! Where connections begin with a PROXY protocol header: those of clients, and those to endpoints.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

/// A listener whose connections begin with a header, or may.
#[derive(Clone, Debug, PartialEq)]
pub struct HeadersIn {
    /// Whether a connection without one is closed.
    pub required: bool,
    /// Peers that are believed. Where it is empty and headers are required, all are.
    pub trusted: Vec<IpNet>,
    /// From accept to the last byte of the header.
    pub timeout: Duration,
}

/// How endpoints are told of clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HeadersOut {
    /// The form of the header.
    pub version: HeaderVersion,
    /// What else than addresses is told; nothing in version 1, which has no room for it.
    pub told: HeaderValues,
}

/// A version of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HeaderVersion {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

/// What a header of version 2 tells beside addresses, as far as it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct HeaderValues {
    /// The server name that the client indicated.
    pub sni: bool,
    /// The protocol that was agreed on with it.
    pub alpn: bool,
    /// An id: that of the request that the connection was opened for, or one made for it.
    pub unique_id: bool,
    /// The version of TLS and the subject of the client's certificate.
    pub tls: bool,
    /// A checksum of the header.
    pub checksum: bool,
}

impl HeadersIn {
    /// Whether the header of a connection from `peer` is read. Who is at the other end of a Unix socket has
    /// been let in by its permissions.
    #[must_use]
    pub fn believes(&self, peer: Option<IpAddr>) -> bool {
        let Some(peer) = peer.map(|peer| peer.to_canonical()) else { return true };
        (self.required && self.trusted.is_empty()) || self.trusted.iter().any(|net| net.contains(&peer))
    }

    /// How long a header may take when nothing else is said.
    pub const TIMEOUT: Duration = Duration::from_secs(5);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_believed() {
        let near: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap()];
        let table = [
            (true, vec![], "9.9.9.9", true),
            (true, near.clone(), "9.9.9.9", false),
            (true, near.clone(), "10.1.1.1", true),
            (false, near.clone(), "::ffff:10.1.1.1", true),
            (false, near, "9.9.9.9", false),
            (false, vec![], "10.1.1.1", false),
        ];
        for (required, trusted, peer, expected) in table {
            let headers = HeadersIn { required, trusted, timeout: HeadersIn::TIMEOUT };
            assert_eq!(headers.believes(Some(peer.parse().unwrap())), expected, "{headers:?} {peer}");
            assert!(headers.believes(None));
        }
    }
}
