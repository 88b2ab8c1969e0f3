//! Where things listen and where endpoints are: IP sockets, Unix sockets, and host names that are
//! resolved before use. Parsing only; nothing here opens or resolves anything.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

/// A socket that can be bound or connected to as it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// An IPv4 or IPv6 address with a port.
    Inet(SocketAddr),
    /// A Unix stream socket, written `unix:/path`.
    Unix(Arc<Path>),
    /// An IPv4 or IPv6 address with a port for datagrams, written `udp:ADDRESS:PORT`.
    Udp(SocketAddr),
}

/// Where an endpoint is, as written: an [`Address`], or a host name with a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// Known as it is.
    Address(Address),
    /// To be resolved; every address of the name becomes an endpoint.
    Host {
        /// A DNS name, in lower case.
        name: Arc<str>,
        /// The TCP or UDP port.
        port: u16,
    },
}

/// Why a string is no address.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BadAddress {
    /// `unix:` without a path.
    #[error("`unix:` is followed by the path of a socket")]
    EmptyPath,
    /// No `:port`.
    #[error("the port is missing, as in `{0}:8080`")]
    NoPort(String),
    /// The port is not a number from 0 to 65535.
    #[error("{0:?} is not a port (0 to 65535)")]
    Port(String),
    /// Neither an IP address nor a host name.
    #[error("{0:?} is not an IP address, `[IPv6]`, host name or `unix:/path`")]
    Host(String),
}

impl Address {
    /// The IP socket address, when it is one.
    #[must_use]
    pub fn inet(&self) -> Option<SocketAddr> {
        match self {
            Self::Inet(address) | Self::Udp(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }

    /// Whether only this machine reaches it: loopback and Unix sockets.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.inet().is_none_or(|address| address.ip().to_canonical().is_loopback())
    }
}

impl FromStr for Address {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, BadAddress> {
        match text.parse()? {
            Target::Address(address) => Ok(address),
            Target::Host { name, .. } => Err(BadAddress::Host(name.to_string())),
        }
    }
}

impl FromStr for Target {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, BadAddress> {
        if let Some(path) = text.strip_prefix("unix:") {
            if path.is_empty() {
                return Err(BadAddress::EmptyPath);
            }
            return Ok(Self::Address(Address::Unix(PathBuf::from(path).into())));
        }
        if let Some(address) = text.strip_prefix("udp:").and_then(|address| address.parse().ok()) {
            return Ok(Self::Address(Address::Udp(address)));
        }
        if let Ok(address) = text.parse() {
            return Ok(Self::Address(Address::Inet(address)));
        }
        let Some((host, port)) = text.rsplit_once(':') else {
            return Err(BadAddress::NoPort(text.to_owned()));
        };
        let port = port.parse().map_err(|_| BadAddress::Port(port.to_owned()))?;
        if !is_host_name(host) {
            return Err(BadAddress::Host(host.to_owned()));
        }
        Ok(Self::Host { name: host.to_ascii_lowercase().into(), port })
    }
}

/// Whether `host` can be a DNS name (RFC 1123 §2.1, underscores allowed as in practice) and is not
/// an attempt at an IPv4 address: its last label has a letter.
pub(crate) fn is_host_name(host: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let label = |l: &str| !l.is_empty() && l.len() <= 63 && l.chars().all(plain);
    let last = host.rsplit('.').next().unwrap_or_default();
    host.len() <= 253 && host.split('.').all(label) && last.chars().any(|c| !c.is_ascii_digit())
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Udp(address) => write!(f, "udp:{address}"),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Host { name, port } => write!(f, "{name}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_shown() {
        for text in ["127.0.0.1:80", "[::1]:8080", "unix:/run/app.sock", "app.internal:9001", "app_1:1"] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let fault = |text: &str| text.parse::<Target>().unwrap_err();
        assert_eq!(fault("unix:"), BadAddress::EmptyPath);
        assert_eq!(fault("127.0.0.1"), BadAddress::NoPort("127.0.0.1".into()));
        assert_eq!(fault("app:70000"), BadAddress::Port("70000".into()));
        assert_eq!(fault("300.0.0.1:80"), BadAddress::Host("300.0.0.1".into()));
        assert_eq!(fault("a b:80"), BadAddress::Host("a b".into()));
    }

    #[test]
    fn a_listener_is_not_bound_to_a_name() {
        assert_eq!("localhost:80".parse::<Address>(), Err(BadAddress::Host("localhost".into())));
    }
}
