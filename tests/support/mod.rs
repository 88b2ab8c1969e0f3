//! What the tests over real sockets share: the proxy on port 0, scripted origins that are named for
//! what they do, and raw connections on which every wait has a deadline. Knows nothing of what is
//! tested with them.
//!
//! Everything blocks and runs on threads of its own, so that a test reads from top to bottom.
#![allow(dead_code, unused_imports, reason = "each test binary uses a part of this")]

mod gate;
mod message;
mod metrics;
mod origin;
mod peer;
mod pki;
mod process;
mod proxy;
mod scripts;
mod socket;

use std::time::Duration;

pub(crate) use gate::{Gate, answers_slow_requests_through};
pub(crate) use message::{Message, head_end};
pub(crate) use metrics::Metrics;
pub(crate) use origin::{Origin, OriginConn, Recorded};
pub(crate) use peer::{Peer, peer};
pub(crate) use pki::Pki;
pub(crate) use process::Process;
pub(crate) use proxy::{Plain, Proxy};
pub(crate) use scripts::*;
pub(crate) use socket::{Ended, Link};

/// How long anything may take that a test waits for.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// Polls a condition for which there is no event, such as a counter. Panics after [`DEADLINE`].
#[track_caller]
pub(crate) fn eventually(what: &str, holds: impl FnMut() -> bool) {
    within(DEADLINE, what, holds);
}

/// As [`eventually`], of something that takes its time.
#[track_caller]
pub(crate) fn within(limit: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let by = forebay::ambient::now() + limit;
    while !holds() {
        assert!(forebay::ambient::now() < by, "{what} did not come true in time");
        std::thread::sleep(Duration::from_millis(2));
    }
}
