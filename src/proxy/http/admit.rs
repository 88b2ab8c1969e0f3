//! Whether a request is let through to a pool now, later, or not at all: the breaker, admission
//! control, the number of requests under way, and the wait for one's turn.

use super::Connection;
use super::account::Account;
use super::client::Client;
use super::error::ProxyError;
use crate::ambient;
use crate::limit::Rejection;
use crate::model::settings::Priority;
use crate::upstream::valve::Trial;
use crate::upstream::{LocalPool, Permit};

/// A request that was let through.
#[derive(Debug)]
pub(super) struct Admitted<'a> {
    /// Counts it as under way.
    pub(super) permit: Permit<'a>,
    /// The breaker's trial, if it is one.
    pub(super) trial: Option<Trial<'a>>,
}

/// Lets the request through to `pool`, which may take a while.
///
/// # Errors
/// When a limit turns it away, or the client leaves meanwhile.
pub(super) async fn admit<'a>(
    cx: &Connection,
    pool: &'a LocalPool,
    account: &Account<'_>,
    _client: &mut Client,
) -> Result<Admitted<'a>, ProxyError> {
    let guard = &pool.shared.guard;
    let admitted = guard.pass(priority(), ambient::now, draw).and_then(|trial| {
        let permit = match account.deadline {
            Some(deadline) if deadline <= ambient::now() => Err(Rejection::Deadline),
            _ => guard.enter(),
        };
        Ok(Admitted { permit: permit?, trial })
    });
    admitted.map_err(|rejection| {
        guard.metrics.rejected(cx.worker.shard, rejection);
        ProxyError::Rejected(rejection)
    })
}

/// Until routes tell priorities.
fn priority() -> Priority {
    Priority::default()
}

fn draw() -> u32 {
    (ambient::draw() >> 32) as u32
}
