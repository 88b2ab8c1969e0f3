//! Hosts as routes name them. Whether one exists is not known here.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use thiserror::Error;

use crate::model::options::{Fault, FromValue, Value};

/// A host to match, without port, in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostMatch {
    /// This one.
    Exact(String),
    /// `*.example.com`: any host below this suffix (kept without `*.`), at any depth.
    Below(String),
}

/// Why a string is no [`HostMatch`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BadHost {
    /// `*`, or `*` elsewhere than in front.
    #[error("`*` stands in front of a domain, as in `*.example.com`")]
    Star,
    /// There is a port.
    #[error("{0:?} has a port; routes match hosts without it")]
    Port(String),
    /// Characters that no host has.
    #[error("{0:?} is not a host")]
    Host(String),
}

impl FromStr for HostMatch {
    type Err = BadHost;

    fn from_str(text: &str) -> Result<Self, BadHost> {
        let lower = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        match lower.strip_prefix("*.") {
            Some(suffix) => checked(suffix, text).map(|()| Self::Below(suffix.to_owned())),
            None => checked(&lower, text).map(|()| Self::Exact(lower)),
        }
    }
}

fn checked(host: &str, text: &str) -> Result<(), BadHost> {
    let bad = || text.to_owned();
    if host.contains('*') {
        return Err(BadHost::Star);
    }
    if let Some(inside) = host.strip_prefix('[') {
        let inside = inside.strip_suffix(']').ok_or_else(|| BadHost::Host(bad()))?;
        return inside.parse::<Ipv6Addr>().map(drop).map_err(|_| BadHost::Host(bad()));
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let label = |label: &str| (1..=63).contains(&label.len()) && label.chars().all(plain);
    match host.rsplit_once(':') {
        Some((_, port)) if port.parse::<u16>().is_ok() => Err(BadHost::Port(bad())),
        _ if host.len() <= 253 && host.split('.').all(label) => Ok(()),
        _ => Err(BadHost::Host(bad())),
    }
}

impl fmt::Display for HostMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(host) => f.write_str(host),
            Self::Below(suffix) => write!(f, "*.{suffix}"),
        }
    }
}

impl FromValue for HostMatch {
    fn from_value(value: &Value) -> Result<Self, Fault> {
        let text = value.text("a host such as \"api.example.com\" or \"*.example.com\"")?;
        text.parse().map_err(|fault: BadHost| match fault {
            BadHost::Star if text == "*" => Fault::new(fault).hint("without `host` a route takes every host"),
            BadHost::Host(_) if !text.is_ascii() => {
                Fault::new(fault).hint("write it in its ASCII form, which begins with `xn--`")
            }
            _ => Fault::new(fault),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_in_any_case() {
        for (text, shown) in [
            ("API.example.com", "api.example.com"),
            ("a.example.", "a.example"),
            ("*.Example.com", "*.example.com"),
            ("localhost", "localhost"),
            ("app_1", "app_1"),
            ("127.0.0.1", "127.0.0.1"),
            ("[::1]", "[::1]"),
        ] {
            assert_eq!(text.parse::<HostMatch>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn what_is_no_host_is_refused() {
        let fault = |text: &str| text.parse::<HostMatch>().unwrap_err();
        for star in ["*", "*.", "a.*.example", "*a.example", "*.*.example"] {
            assert_eq!(fault(star), BadHost::Star, "{star}");
        }
        assert_eq!(fault("a.example:80"), BadHost::Port("a.example:80".into()));
        for bad in ["", ".", "a..b", "a b", "http://a", "a/b", "bücher.example", "[::1", "[a]", "::1x"] {
            assert_eq!(fault(bad), BadHost::Host(bad.into()), "{bad}");
        }
    }
}
