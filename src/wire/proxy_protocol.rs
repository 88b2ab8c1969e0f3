//! The PROXY protocol: the few bytes before a connection's own in which a proxy says who its client is
//! (HAProxy's `doc/proxy-protocol.txt`, 2.0). Pure: reads and writes bytes. Whether a peer may say such
//! things at all is not decided here.

mod crc32c;
pub mod v1;
pub mod v2;

use std::net::{IpAddr, SocketAddr};

/// What a header says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Header {
    /// Between whom the first connection is. `None` when the proxy speaks for itself, as in a check, or
    /// cannot say: then the connection's own addresses are all there is.
    pub ends: Option<Ends>,
    /// What else is told.
    pub told: Told,
}

/// Both ends of a connection, as the first proxy saw them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    /// The client.
    pub source: SocketAddr,
    /// What the client connected to.
    pub destination: SocketAddr,
}

/// What a header of version 2 may tell beside addresses. Boxed where it is kept, as few headers do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// The application protocol that was agreed on, as in `h2`; 1 to 255 bytes.
    pub alpn: Option<Box<[u8]>>,
    /// The host that the client asked for, such as TLS's server name; 1 to 255 bytes.
    pub authority: Option<Box<str>>,
    /// An id of the connection; 1 to 128 bytes.
    pub unique_id: Option<Box<[u8]>>,
    /// What is known of the client's TLS; `None` when it used none, as far as is known.
    pub tls: Option<ToldTls>,
}

/// What a header says of TLS between the client and the first proxy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ToldTls {
    /// As in `TLSv1.3`.
    pub version: Option<Box<str>>,
    /// The common name of the client's certificate.
    pub subject: Option<Box<str>>,
    /// How the client showed its certificate, as bits: 2, on this connection; 4, in this TLS session.
    pub shown: u8,
    /// Whether the client showed a certificate, and it was valid.
    pub verified: bool,
}

/// What the first bytes of a connection begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beginning {
    /// A header of version 1.
    V1,
    /// A header of version 2.
    V2,
    /// Neither.
    Other,
    /// There are too few to tell.
    Undecided,
}

/// What is wrong with a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The first bytes are of neither version.
    #[error("not a PROXY protocol header")]
    Signature,
    /// There are more bytes than such a header may have.
    #[error("PROXY protocol header too long")]
    TooLong,
    /// A line of version 1 that cannot be read.
    #[error("malformed PROXY protocol line")]
    Line,
    /// An unknown version, command, address family or transport.
    #[error("unknown PROXY protocol version, command or address family")]
    Kind,
    /// Fewer bytes than the addresses need.
    #[error("PROXY protocol addresses cut short")]
    Addresses,
    /// Additional values that do not fill the header exactly, or are of a length they cannot have.
    #[error("malformed PROXY protocol values")]
    Values,
    /// The checksum is not that of the header.
    #[error("wrong PROXY protocol checksum")]
    Checksum,
}

impl Header {
    /// That `source` is connected to `destination`, and nothing else.
    #[must_use]
    pub fn between(source: SocketAddr, destination: SocketAddr) -> Self {
        Self { ends: Some(Ends { source, destination }), told: Told::default() }
    }
}

impl Ends {
    /// The same, in one address family: an IPv4 address is written as IPv6 beside an IPv6 address
    /// (RFC 4291 §2.5.5.2), and an IPv6 address that is one of IPv4 as that where both are.
    fn aligned(self) -> Self {
        let (source, destination) = (canonical(self.source), canonical(self.destination));
        if source.is_ipv4() == destination.is_ipv4() {
            return Self { source, destination };
        }
        let mapped = |end: SocketAddr| match end.ip() {
            IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), end.port()),
            IpAddr::V6(_) => end,
        };
        Self { source: mapped(source), destination: mapped(destination) }
    }
}

/// The same end, as IPv4 where it is an IPv4 address written as IPv6 (RFC 4291 §2.5.5.2).
#[must_use]
pub fn canonical(end: SocketAddr) -> SocketAddr {
    match end {
        SocketAddr::V4(_) => end,
        SocketAddr::V6(v6) => {
            v6.ip().to_ipv4_mapped().map_or(end, |ip| SocketAddr::new(ip.into(), v6.port()))
        }
    }
}

/// Reads a header of either version from the front of `bytes`, with the number of its bytes. `None` when
/// there is more to come.
///
/// # Errors
/// When it is none, or malformed.
pub fn parse(bytes: &[u8]) -> Result<Option<(Header, usize)>, Malformed> {
    match beginning(bytes) {
        Beginning::V1 => v1::parse(bytes),
        Beginning::V2 => v2::parse(bytes),
        Beginning::Other => Err(Malformed::Signature),
        Beginning::Undecided => Ok(None),
    }
}

/// What `first`, the first bytes of a connection, begin. Twelve are always enough to tell.
#[must_use]
pub fn beginning(first: &[u8]) -> Beginning {
    let begins = |signature: &[u8]| {
        let known = first.len().min(signature.len());
        (first.get(..known) == signature.get(..known)).then_some(known == signature.len())
    };
    match (begins(v1::SIGNATURE), begins(v2::SIGNATURE)) {
        (Some(true), _) => Beginning::V1,
        (_, Some(true)) => Beginning::V2,
        (None, None) => Beginning::Other,
        _ => Beginning::Undecided,
    }
}

#[cfg(test)]
mod tests;
