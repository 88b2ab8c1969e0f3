//! HTTP through the proxy. A connection is served by `http1` or `http2`, which read heads; every
//! request of either goes through `handle`; `forward` and `exchange` take it to an endpoint.

mod account;
mod admit;
mod attempt;
mod channel;
mod client;
mod deadline;
mod degrade;
mod error;
mod exchange;
mod forward;
mod handle;
mod head2;
mod hedge;
mod hop;
mod http1;
mod http2;
mod identity;
mod keep;
mod onward;
mod refuse;
mod respond;
mod serve;
mod spans;
mod trace;
mod tunnel;
mod watch;

use std::rc::Rc;
use std::time::Duration;

use identity::Peer;
pub(in crate::proxy) use refuse::Refused;
pub(in crate::proxy) use serve::accepted;

use super::{Live, Worker};
use crate::model::{RequestHead, ResponseHead};
use crate::upstream::Local;

/// What the requests of one client connection have in common.
#[derive(Debug)]
struct Connection {
    /// The worker.
    worker: Rc<Worker>,
    /// What the worker knows of it.
    live: Rc<Live>,
    /// Who is at the other end.
    peer: Peer,
}

impl Connection {
    /// What a request that begins now runs under.
    fn local(&self) -> Rc<Local> {
        self.live.listening.local(&self.worker)
    }

    /// Whether it is to end after the request under way.
    fn is_ending(&self) -> bool {
        self.live.is_ending(&self.worker)
    }

    /// How long it is kept while idle, if it were for `usual`.
    fn keep_alive(&self, usual: Duration) -> Duration {
        self.worker.keep_alive(usual, self.is_ending())
    }
}

/// Memory for one request, used again for the next.
#[derive(Debug, Default)]
pub struct Scratch {
    request: RequestHead,
    response: ResponseHead,
    watch: watch::Watch,
    /// The host in lower case, without port.
    host: String,
    /// The target as received, when there is a log to write it to.
    target: Vec<u8>,
}
