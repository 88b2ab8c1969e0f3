//! Whether a request or a connection is let through to a pool now, later, or not at all: the breaker,
//! admission control, the number under way, and the wait for one's turn or for an endpoint. Does not
//! know what it lets through.

use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::time::timeout_at;

use crate::ambient;
use crate::limit::{Rejection, Turn};
use crate::model::settings::Priority;
use crate::observe::metrics::Shard;
use crate::upstream::valve::Trial;
use crate::upstream::{Lease, LocalPool, NoPick, Permit};

/// Asks to be let through to a pool.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asking<'a> {
    /// Which.
    pub(super) pool: &'a LocalPool,
    /// Whose counters are written.
    pub(super) shard: Shard,
    /// Whether others come first where not all can.
    pub(super) priority: Priority,
    /// When it must be over.
    pub(super) deadline: Option<Instant>,
}

/// What was let through.
#[derive(Debug)]
pub(super) struct Admitted<'a> {
    /// Counts it as under way.
    pub(super) permit: Permit<'a>,
    /// The breaker's trial, if it is one.
    pub(super) trial: Option<Trial<'a>>,
}

/// Why something was not let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Denied {
    /// By a limit, which has counted it.
    Rejected(Rejection),
    /// No endpoint may be used.
    NoEndpoint,
    /// Whoever asked has left.
    Gone,
}

/// Whoever may have to wait.
pub(super) trait Waiter {
    /// The wait begins.
    fn begins(&mut self);
    /// Ready when nobody waits any more.
    fn poll_gone(&mut self, task: &mut Context<'_>) -> Poll<()>;
    /// It is over, whatever came of it.
    fn has_waited(&mut self, since: Instant, until: Instant);
}

impl<'a> Asking<'a> {
    /// Lets it through, which may take a while.
    ///
    /// # Errors
    /// When a limit turns it away, or `waiter` leaves meanwhile.
    pub(super) async fn admit(self, waiter: &mut impl Waiter) -> Result<Admitted<'a>, Denied> {
        let guard = &self.pool.shared.guard;
        let passed = match self.deadline {
            Some(deadline) if deadline <= ambient::now() => Err(Rejection::Deadline),
            _ => guard.pass(self.priority, ambient::now, draw),
        };
        let trial = passed.map_err(|rejection| self.reject(rejection))?;
        let permit = match guard.enter() {
            Some(permit) => permit,
            // Boxed, because most do not wait and need no room for it.
            None => Box::pin(self.wait_for_turn(waiter)).await?,
        };
        Ok(Admitted { permit, trial })
    }

    async fn wait_for_turn(self, waiter: &mut impl Waiter) -> Result<Permit<'a>, Denied> {
        let guard = &self.pool.shared.guard;
        let wait = Wait::begin(self, waiter);
        let joined = guard.wait(self.priority, wait.until);
        let mut waiting = joined.map_err(|rejection| self.reject(rejection))?;
        let turn = wait.until_ready(waiter, |task| waiting.poll(task).map(Ok)).await?;
        let entered =
            turn.ok_or_else(|| wait.is_over(Rejection::QueueTimeout)).and_then(|turn| guard.entered(turn));
        entered.map_err(|rejection| self.reject(rejection))
    }

    /// The endpoint to begin with, as `pick` has it: at once, if nobody is in line for one and one has a
    /// place.
    ///
    /// # Errors
    /// When none has in time, or `waiter` leaves meanwhile.
    pub(super) async fn first(
        self,
        waiter: &mut impl Waiter,
        mut pick: impl FnMut() -> Result<Lease, NoPick>,
    ) -> Result<Lease, Denied> {
        let picked = if self.pool.shared.guard.line.waiting() == 0 {
            pick()
        } else {
            Err(NoPick::Full(Rejection::EndpointsFull))
        };
        match picked {
            Ok(lease) => Ok(lease),
            Err(NoPick::None) => Err(Denied::NoEndpoint),
            // Boxed, because most do not wait and need no room for it.
            Err(NoPick::Full(reason)) => Box::pin(self.wait_for_place(waiter, reason, pick)).await,
        }
    }

    /// Waits for an endpoint that has a place, and `pick`s it; what it was that had none before is in
    /// `reason`. Whoever is first in line looks again at once, because a place may have come free before
    /// it was in line; whoever comes behind others does not overtake them.
    async fn wait_for_place(
        self,
        waiter: &mut impl Waiter,
        mut reason: Rejection,
        mut pick: impl FnMut() -> Result<Lease, NoPick>,
    ) -> Result<Lease, Denied> {
        let wait = Wait::begin(self, waiter);
        let line = &self.pool.shared.guard.line;
        let joined = line.join(self.priority, wait.until, self.shard.bit()).ok_or(Rejection::QueueFull);
        let mut place = joined.map_err(|rejection| self.reject(rejection))?;
        let found = wait.until_ready(waiter, |task| {
            loop {
                match std::task::ready!(place.poll(task)) {
                    Turn::Granted => {}
                    Turn::Displaced => return Poll::Ready(Ok(Err(Rejection::Displaced))),
                }
                match pick() {
                    Ok(lease) => return Poll::Ready(Ok(Ok(lease))),
                    Err(NoPick::None) => return Poll::Ready(Err(Denied::NoEndpoint)),
                    Err(NoPick::Full(still)) => reason = still,
                }
            }
        });
        let found = found.await?;
        found.unwrap_or_else(|| Err(wait.is_over(reason))).map_err(|rejection| self.reject(rejection))
    }

    fn reject(self, rejection: Rejection) -> Denied {
        self.pool.shared.guard.metrics.rejected(self.shard, rejection);
        Denied::Rejected(rejection)
    }
}

/// One wait.
struct Wait<'a> {
    asking: Asking<'a>,
    since: Instant,
    until: Instant,
}

impl<'a> Wait<'a> {
    fn begin(asking: Asking<'a>, waiter: &mut impl Waiter) -> Self {
        waiter.begins();
        let since = ambient::now();
        let until = since + asking.pool.shared.settings.limits.wait;
        let until = asking.deadline.map_or(until, |deadline| until.min(deadline));
        Self { asking, since, until }
    }

    /// Polls until it is ready or the time is up, which is `None`.
    async fn until_ready<T>(
        &self,
        waiter: &mut impl Waiter,
        mut poll: impl FnMut(&Context<'_>) -> Poll<Result<T, Denied>>,
    ) -> Result<Option<T>, Denied> {
        let waiting = poll_fn(|task| {
            if let Poll::Ready(done) = poll(task) {
                return Poll::Ready(done);
            }
            waiter.poll_gone(task).map(|()| Err(Denied::Gone))
        });
        let waited = timeout_at(self.until.into(), waiting).await;
        let now = ambient::now();
        let took = now.saturating_duration_since(self.since);
        self.asking.pool.shared.guard.metrics.waited(self.asking.shard, took);
        waiter.has_waited(self.since, now);
        waited.map_or(Ok(None), |done| done.map(Some))
    }

    /// Why the wait is over: the deadline, or else `reason`.
    fn is_over(&self, reason: Rejection) -> Rejection {
        if self.asking.deadline == Some(self.until) { Rejection::Deadline } else { reason }
    }
}

/// As [`Guard::pass`](crate::upstream::Guard::pass) wants it.
pub(super) fn draw() -> u32 {
    (ambient::draw() >> 32) as u32
}
