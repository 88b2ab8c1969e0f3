//! A connection whose bytes are passed on as they are: TLS is terminated if the listener does so, an
//! endpoint is chosen and connected to, then bytes move both ways. Knows nothing of what they mean.

mod open;
mod waiting;

use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;

use self::open::Opening;
use super::handshake::end_tls;
use super::passage::{Passage, Passing};
use super::told::told_of_none;
use super::{Arrival, Live};
use crate::ambient;
use crate::health::{Failure, Outcome};
use crate::model::settings::StreamTimeouts;
use crate::net::relay::{End, Limits, Pair, Side, relay};
use crate::net::stream::{Socket, Stream};
use crate::net::timer::Timer;
use crate::observe::connections::Protocol;
use crate::observe::ended::StreamResult;
use crate::observe::metrics::{FailureKind, StreamMetrics};
use crate::upstream::service::{Split, StreamBranch};
use crate::upstream::{Lease, Listener, LocalPool};

/// A client's stream that is to be passed on.
#[derive(Debug)]
pub(super) struct Accepted {
    /// The stream.
    pub(super) stream: Stream,
    /// What was read of it already.
    pub(super) first: Bytes,
    /// When it was accepted.
    pub(super) begun: Instant,
}

/// Ends TLS on a connection that was let in, if the listener does so. `None` where that fails.
pub(super) async fn begin(
    mut arrival: Arrival,
    listener: &Arc<Listener>,
    timeouts: &StreamTimeouts,
    socket: Socket,
) -> Option<(Arrival, Accepted)> {
    let begun = ambient::now();
    if listener.tls.is_none() {
        return Some((arrival, Accepted { stream: Stream::Plain(socket), first: Bytes::new(), begun }));
    }
    let secured = Box::pin(end_tls(&arrival, listener, timeouts.tls_handshake, socket)).await;
    arrival.first = Bytes::new();
    let Some(stream) = secured.map(Stream::ServerTls) else {
        told_of_none(&arrival.worker, listener, &arrival.live, StreamResult::Malformed);
        return None;
    };
    Some((arrival, Accepted { stream, first: Bytes::new(), begun }))
}

/// Passes a connection on to an endpoint of one of the pools, until it ends.
pub(super) async fn pass(
    arrival: Arrival,
    listener: &Arc<Listener>,
    (split, timeouts): (&Split, &StreamTimeouts),
    accepted: Accepted,
) {
    let Arrival { worker, live, client, .. } = &arrival;
    live.protocol.set(Protocol::Tcp);
    let Some((branch, metrics, pool)) = branch(&arrival, split) else { return };
    let until = timeouts.max_duration.map(|most| accepted.begun + most);
    let limits = Limits { idle: timeouts.idle, until };
    let passage = Passage::new(worker.shard, listener, (&pool, metrics), (*client, accepted.begun));
    let passage = Passing::begin(live, passage, &live.listening.local(worker).snapshot.tap);
    let opening = Opening { arrival: &arrival, passage: &passage, pool: &pool, retry: &branch.retry, until };
    // Boxed, so that an open connection does not hold room for what came before.
    let opened = match Box::pin(opening.run(&accepted.stream)).await {
        Ok(opened) => opened,
        Err(result) => {
            passage.result.set(result);
            accepted.stream.reset_on_drop();
            return;
        }
    };
    // Not taken apart, for each part would have room of its own for as long as the connection lasts.
    let lease = &opened.lease;
    let mut watch =
        Watch { arrival: &arrival, lease, passage: &passage, is_told: false, end: Timer::default() };
    let pair = Pair { client: accepted.stream, endpoint: opened.stream, first: accepted.first };
    let end = relay(pair, &limits, &passage.progress, |task| watch.poll(task)).await;
    settle(&end, &passage, lease);
}

/// Which branch the connection takes, and its pool.
fn branch<'a>(
    arrival: &Arrival,
    split: &'a Split,
) -> Option<(&'a StreamBranch, &'a Arc<StreamMetrics>, Rc<LocalPool>)> {
    let local = arrival.live.listening.local(&arrival.worker);
    let branch = split.branch(ambient::draw())?;
    let is_it = |pool: &&Rc<LocalPool>| pool.shared.settings.name == branch.name;
    let pool = local.pools.get(branch.pool).filter(is_it).or_else(|| {
        // The view may be newer than the listener is.
        local.pools.get(local.snapshot.index_of(&branch.name)?)
    })?;
    Some((branch, &branch.metrics, Rc::clone(pool)))
}

/// What a connection does each time that it is looked at, besides moving bytes.
struct Watch<'a> {
    arrival: &'a Arrival,
    lease: &'a Lease,
    passage: &'a Passage,
    /// Whether the endpoint's health has learnt of it.
    is_told: bool,
    /// When it ends, once its listener is gone.
    end: Timer,
}

impl Watch<'_> {
    fn poll(&mut self, task: &mut Context<'_>) -> Poll<()> {
        if !self.is_told && self.passage.progress.down() > 0 {
            self.is_told = true;
            self.lease.finish(Outcome::Success, ambient::now());
        }
        let live: &Live = &self.arrival.live;
        if !live.listening.is_closing() {
            return Poll::Pending;
        }
        if self.end.is_clear() {
            let left = live.listening.local(&self.arrival.worker).snapshot.drain;
            self.end.set(ambient::now() + left);
        }
        self.end.poll_expired(task)
    }
}

/// Takes note of how a connection ended, and has the endpoint's health learn of it.
fn settle(end: &End, passage: &Passage, lease: &Lease) {
    let result = match end {
        End::Done => StreamResult::Done,
        End::Idle => StreamResult::Idle,
        End::Expired => StreamResult::Expired,
        End::Told => StreamResult::Aborted,
        End::Reset(Side::Client) | End::Broken(Side::Client, _) => StreamResult::ClientReset,
        End::Reset(Side::Endpoint) | End::Broken(Side::Endpoint, _) => StreamResult::EndpointReset,
    };
    passage.result.set(result);
    // An endpoint is not to blame for what comes after its first byte, which may be the client's doing.
    let outcome = match result {
        _ if passage.progress.down() > 0 => Outcome::Success,
        StreamResult::Done => Outcome::Success,
        StreamResult::EndpointReset => {
            lease.endpoint().shared.metrics.failed(lease.endpoint().shard, FailureKind::Reset);
            Outcome::Failure(Failure::Reset)
        }
        _ => Outcome::Cancelled,
    };
    lease.finish(outcome, ambient::now());
}

#[cfg(test)]
mod tests {
    use tokio::time::Sleep;

    use super::*;

    fn size_of_future<A, B, C, D, F>(_: impl FnOnce(A, B, C, D) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn an_idle_connection_takes_little_memory() {
        let serving = size_of_future(crate::proxy::serve);
        let parts =
            [serving, size_of_future(pass), size_of::<Live>(), size_of::<Passage>(), size_of::<Sleep>()];
        assert!(parts.iter().sum::<usize>() < 2560, "{parts:?}");
    }
}
