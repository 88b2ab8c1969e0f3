//! Active checks: what is sent to an endpoint and how its answer is judged. A probe never sees a
//! socket; connecting, TLS, deadlines and scheduling are done once for all kinds. To add one: one
//! file, and one line in [`KINDS`].

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::model::options::Options;

/// A check over bytes: something may be sent, and what comes back is judged.
pub trait Probe: fmt::Debug + Send + Sync {
    /// What is sent once the connection is open, if anything. `authority` is the endpoint's address as
    /// a `Host` field has it.
    fn hello(&self, authority: &str) -> Option<Bytes>;

    /// Judges all that has come so far; `closed` when no more will come.
    fn judge(&self, received: &[u8], closed: bool) -> Judgement;
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
    fn request(&self, authority: &str, https: bool) -> (http::Request<()>, Bytes);

    /// Judges the whole answer: its head, the beginning of its body, and its trailers.
    fn judge(&self, head: &http::response::Parts, body: &[u8], trailers: &http::HeaderMap) -> Judgement;
}

/// A check as configured.
#[derive(Clone, Debug)]
pub enum Check {
    /// Over bytes.
    Bytes(Arc<dyn Probe>),
    /// Over HTTP/2.
    Call(Arc<dyn Call>),
}

/// A kind of check: its row in [`KINDS`].
#[derive(Debug)]
pub struct Kind {
    /// The name in the configuration.
    pub name: &'static str,
    /// One line for help and reference.
    pub summary: &'static str,
    /// Reads its own options; `None` when they are unfit and reported.
    pub read: fn(&Options<'_>) -> Option<Check>,
}

/// Every kind of check there is.
pub const KINDS: &[Kind] = &[];
