//! Whether a request is let through to a pool now, later, or not at all: the breaker, admission
//! control, the number of requests under way, and the wait for one's turn or for an endpoint.

use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::time::timeout_at;

use super::Connection;
use super::account::Account;
use super::client::Client;
use super::error::ProxyError;
use super::trace::Traced;
use crate::ambient;
use crate::limit::{Rejection, Turn};
use crate::model::RequestHead;
use crate::model::settings::{Priorities, Priority};
use crate::upstream::valve::Trial;
use crate::upstream::{Lease, LocalPool, NoPick, Permit};

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
    client: &mut Client,
) -> Result<Admitted<'a>, ProxyError> {
    let guard = &pool.shared.guard;
    let passed = match account.deadline {
        Some(deadline) if deadline <= ambient::now() => Err(Rejection::Deadline),
        _ => guard.pass(account.priority, ambient::now, draw),
    };
    let trial = passed.map_err(|rejection| reject(cx, pool, rejection))?;
    let permit = match guard.enter() {
        Some(permit) => permit,
        // Boxed, because most requests do not wait and need no room for it.
        None => Box::pin(wait_for_turn(cx, pool, account, client)).await?,
    };
    Ok(Admitted { permit, trial })
}

/// Which priority the request has. A header that says something else is as one that says nothing.
pub(super) fn priority(rules: &Priorities, request: &RequestHead) -> Priority {
    let Some(header) = &rules.header else { return rules.default };
    let said = request.fields.get_named(header.as_bytes()).next();
    said.and_then(Priority::named).unwrap_or(rules.default)
}

async fn wait_for_turn<'a>(
    cx: &Connection,
    pool: &'a LocalPool,
    account: &Account<'_>,
    client: &mut Client,
) -> Result<Permit<'a>, ProxyError> {
    let guard = &pool.shared.guard;
    let wait = Wait::new(cx, pool, account);
    let joined = guard.wait(account.priority, wait.until);
    let mut waiting = joined.map_err(|rejection| reject(cx, pool, rejection))?;
    let turn = wait.until_ready(client, |task| waiting.poll(task).map(Ok)).await?;
    let entered =
        turn.ok_or_else(|| wait.is_over(Rejection::QueueTimeout)).and_then(|turn| guard.entered(turn));
    entered.map_err(|rejection| reject(cx, pool, rejection))
}

/// Waits for an endpoint that has a place, and `pick`s it; what it was that had none before is in
/// `reason`. Whoever is first in line looks again at once, because a place may have come free before it
/// was in line; whoever comes behind others does not overtake them.
///
/// # Errors
/// When none has in time, or the client leaves meanwhile.
pub(super) async fn wait_for_place(
    cx: &Connection,
    pool: &LocalPool,
    (account, client): (&Account<'_>, &mut Client),
    mut reason: Rejection,
    mut pick: impl FnMut() -> Result<Lease, NoPick>,
) -> Result<Lease, ProxyError> {
    let wait = Wait::new(cx, pool, account);
    let line = &pool.shared.guard.line;
    let joined = line.join(account.priority, wait.until, cx.worker.shard.bit()).ok_or(Rejection::QueueFull);
    let mut place = joined.map_err(|rejection| reject(cx, pool, rejection))?;
    let found = wait.until_ready(client, |task| {
        loop {
            match std::task::ready!(place.poll(task)) {
                Turn::Granted => {}
                Turn::Displaced => return Poll::Ready(Ok(Err(Rejection::Displaced))),
            }
            match pick() {
                Ok(lease) => return Poll::Ready(Ok(Ok(lease))),
                Err(NoPick::None) => return Poll::Ready(Err(ProxyError::NoEndpoint)),
                Err(NoPick::Full(still)) => reason = still,
            }
        }
    });
    let found = found.await?;
    found.unwrap_or_else(|| Err(wait.is_over(reason))).map_err(|rejection| reject(cx, pool, rejection))
}

/// The wait of one request.
struct Wait<'a> {
    cx: &'a Connection,
    pool: &'a LocalPool,
    since: Instant,
    until: Instant,
    deadline: Option<Instant>,
    trace: Option<&'a Traced<'a>>,
}

impl<'a> Wait<'a> {
    fn new(cx: &'a Connection, pool: &'a LocalPool, account: &'a Account<'_>) -> Self {
        account.waited.set(true);
        let since = ambient::now();
        let until = since + pool.shared.settings.limits.wait;
        let until = account.deadline.map_or(until, |deadline| until.min(deadline));
        Self { cx, pool, since, until, deadline: account.deadline, trace: account.trace.as_ref() }
    }

    /// Polls until it is ready or the time is up, which is `None`.
    async fn until_ready<T>(
        &self,
        client: &mut Client,
        mut poll: impl FnMut(&Context<'_>) -> Poll<Result<T, ProxyError>>,
    ) -> Result<Option<T>, ProxyError> {
        let waiting = poll_fn(|task| {
            if let Poll::Ready(done) = poll(task) {
                return Poll::Ready(done);
            }
            client.poll_gone(task).map(|()| Err(ProxyError::ClientGone))
        });
        let waited = timeout_at(self.until.into(), waiting).await;
        let now = ambient::now();
        let took = now.saturating_duration_since(self.since);
        self.pool.shared.guard.metrics.waited(self.cx.worker.shard, took);
        if let Some(trace) = self.trace {
            trace.waited(self.since, now);
        }
        waited.map_or(Ok(None), |done| done.map(Some))
    }

    /// Why the wait is over: the client's deadline, or else `reason`.
    fn is_over(&self, reason: Rejection) -> Rejection {
        if self.deadline == Some(self.until) { Rejection::Deadline } else { reason }
    }
}

fn reject(cx: &Connection, pool: &LocalPool, rejection: Rejection) -> ProxyError {
    pool.shared.guard.metrics.rejected(cx.worker.shard, rejection);
    ProxyError::Rejected(rejection)
}

fn draw() -> u32 {
    (ambient::draw() >> 32) as u32
}
