//! Active checks: what is sent to an endpoint and how its answer is judged. A probe never sees a
//! socket; connecting, TLS, deadlines and scheduling are done once for all kinds. To add one: one
//! file, and one line in [`KINDS`].

mod grpc;
mod http;
mod payload;
mod status;
mod tcp;
#[cfg(test)]
mod tests;
mod udp;

use std::fmt;
use std::sync::Arc;

use ::http::{HeaderMap, Request, response};
use bytes::Bytes;

use crate::model::options::Options;
use crate::model::settings::UpstreamProtocol;
pub use udp::Datagram;

/// A check over bytes: something may be sent, and what comes back is judged.
pub trait Probe: fmt::Debug + Send + Sync {
    /// What is sent once the connection is open, if anything. `authority` is the endpoint's address as
    /// a `Host` field has it.
    fn hello(&self, authority: &str) -> Option<Bytes>;

    /// Judges all that has come so far; `closed` when no more will come: then there is a verdict. It
    /// may be asked before anything has come.
    fn judge(&self, received: &[u8], closed: bool) -> Judgement;

    /// The protocol to ask for by ALPN where TLS is spoken; `None` for the pool's.
    fn alpn(&self) -> Option<&'static [u8]> {
        None
    }
}

/// What an answer means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Not yet known.
    More,
    /// The endpoint is well.
    Pass,
    /// It is not, and why: in words, without its name.
    Fail(String),
}

/// A check over one HTTP/2 request (HTTP/2 checks and gRPC).
pub trait Call: fmt::Debug + Send + Sync {
    /// The request: its head, and its whole body.
    fn request(&self, authority: &str, https: bool) -> (Request<()>, Bytes);

    /// Judges the answer as far as it has come: its head, the beginning of its body, and once it is
    /// whole its trailers, empty where there are none: then there is a verdict.
    fn judge(&self, head: &response::Parts, body: &[u8], end: Option<&HeaderMap>) -> Judgement;
}

/// A check as configured.
#[derive(Clone, Debug)]
pub enum Check {
    /// Over bytes.
    Bytes(Arc<dyn Probe>),
    /// Over HTTP/2.
    Call(Arc<dyn Call>),
    /// Over datagrams.
    Datagram(Arc<Datagram>),
}

/// A kind of check: its row in [`KINDS`].
#[derive(Debug)]
pub struct Kind {
    /// The name in the configuration.
    pub name: &'static str,
    /// One line for help and reference.
    pub summary: &'static str,
    /// The keys of its own options.
    pub keys: &'static [&'static str],
    /// Reads its own options, for a pool that is spoken to by this protocol; `None` when they are
    /// unfit and reported.
    pub read: fn(&Options<'_>, UpstreamProtocol) -> Option<Check>,
}

/// Every kind of check there is.
pub const KINDS: &[Kind] = &[tcp::KIND, http::KIND, grpc::KIND, udp::KIND];

/// How checks introduce themselves where the protocol has a place for it.
const USER_AGENT: &str = concat!("forebay-check/", env!("CARGO_PKG_VERSION"));
/// How much of an answer is looked at, in bytes.
const SEARCHED: usize = 64 * 1024;

/// The beginning of some bytes, as they would be written in a string.
fn shown(bytes: &[u8]) -> String {
    let beginning = bytes.get(..SHOWN).unwrap_or(bytes);
    let dots = if bytes.len() > SHOWN { "…" } else { "" };
    format!("\"{}{dots}\"", beginning.escape_ascii())
}

/// How many bytes of an answer go into a message.
const SHOWN: usize = 40;
