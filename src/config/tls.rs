//! TLS as configured: certificates of listeners, and what pools trust and present. Makes rustls'
//! own configurations, so that a plan holds no certificate without its key.

mod believed;
mod pem;
mod server;
mod sni;
#[cfg(test)]
mod tests;
mod upstream;

use std::sync::{Arc, LazyLock};

use rustls::SupportedProtocolVersion;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::version::TLS13;

pub use believed::Believed;
pub(super) use server::{Termination, admin, clients, server};
pub(super) use upstream::{Trust, client};

use crate::model::options::OneOf;

/// The cryptography that both sides use.
static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(aws_lc_rs::default_provider()));

/// The oldest version of TLS to speak.
#[derive(Clone, Copy, Debug, Default)]
enum MinTls {
    #[default]
    V12,
    V13,
}

impl MinTls {
    fn versions(self) -> &'static [&'static SupportedProtocolVersion] {
        match self {
            Self::V12 => rustls::ALL_VERSIONS,
            Self::V13 => ONLY_TLS13,
        }
    }
}

impl OneOf for MinTls {
    const NOUN: &'static str = "TLS version";
    const WORDS: &'static [(&'static str, Self)] = &[("1.2", Self::V12), ("1.3", Self::V13)];
}

static ONLY_TLS13: &[&SupportedProtocolVersion] = &[&TLS13];

/// Protocol ids for ALPN (RFC 7301 §6, RFC 9113 §3.1).
const H2: &[u8] = b"h2";
const HTTP11: &[u8] = b"http/1.1";
/// Why building a configuration cannot fail on account of its versions.
const VERSIONS_FIT: &str = "the provider has suites for TLS 1.2 and 1.3";
