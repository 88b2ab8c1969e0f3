//! Whether a request is let through to a pool now, later, or not at all: the breaker, admission
//! control, the number of requests under way, and the wait for one's turn.

use super::Connection;
use super::account::Account;
use super::client::Client;
use super::error::ProxyError;
use crate::ambient;
use crate::limit::Rejection;
use crate::upstream::{LocalPool, Permit};

/// Lets the request through to `pool`, which may take a while.
///
/// # Errors
/// When a limit turns it away, or the client leaves meanwhile.
pub(super) async fn admit<'a>(
    cx: &Connection,
    pool: &'a LocalPool,
    account: &Account<'_>,
    _client: &mut Client,
) -> Result<Permit<'a>, ProxyError> {
    let guard = &pool.shared.guard;
    let entered = match account.deadline {
        Some(deadline) if deadline <= ambient::now() => Err(Rejection::Deadline),
        _ => guard.enter(),
    };
    entered.map_err(|rejection| {
        guard.metrics.rejected(cx.worker.shard, rejection);
        ProxyError::Rejected(rejection)
    })
}
