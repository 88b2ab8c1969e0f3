//! Connecting a client to an endpoint, whatever that takes: which endpoint is chosen, and what follows
//! when it cannot be connected to. Nothing of the client's has been sent yet, so that another may be
//! asked as often as the pool's retries allow.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::waiting::{Queued, until_reset};
use crate::ambient;
use crate::balance::Origin;
use crate::health::Outcome;
use crate::limit::Rejection;
use crate::limit::retry::{Case, Cause, Decision, Failed, Load, Reason, decide};
use crate::model::RequestHead;
use crate::model::settings::{Priority, Retry};
use crate::net::connect::{DialError, DialTimeouts, Onward, dial};
use crate::net::stream::Stream;
use crate::observe::ended::StreamResult;
use crate::proxy::admit::{Asking, Denied};
use crate::proxy::passage::Passage;
use crate::proxy::proxy_protocol::preface;
use crate::proxy::{Arrival, unconnected};
use crate::upstream::connection::OpenConnection;
use crate::upstream::guard::Retrying;
use crate::upstream::{Choosing, Lease, LocalPool, NoPick, Permit};

/// A client's connection on its way to a pool.
pub(super) struct Opening<'a> {
    /// The connection.
    pub(super) arrival: &'a Arrival,
    /// What is counted of it.
    pub(super) passage: &'a Passage,
    /// The pool.
    pub(super) pool: &'a LocalPool,
    /// When another endpoint is asked.
    pub(super) retry: &'a Retry,
    /// When it must be over, if it must.
    pub(super) until: Option<Instant>,
}

/// A connection to an endpoint, with all that counts it.
pub(super) struct Opened<'a> {
    /// The bytes.
    pub(super) stream: Stream,
    /// The use of the endpoint.
    pub(super) lease: Lease,
    /// Counts the connection to the endpoint.
    _open: OpenConnection,
    /// Counts it as under way in the pool.
    _permit: Permit<'a>,
}

/// Why an endpoint was not connected to.
enum Unopened {
    /// It has as many connections as it may.
    Full,
    Dial(DialError),
}

/// What was tried so far.
#[derive(Default)]
struct Course<'a> {
    /// Indexes of endpoints that failed.
    tried: Vec<usize>,
    /// Further tries, those after a trial left out.
    tries: u32,
    unconnected: u32,
    /// Whether an endpoint on trial failed.
    trial: bool,
    retrying: Option<Retrying<'a>>,
}

impl<'a> Opening<'a> {
    /// Connects the client at the other end of `client` to an endpoint.
    ///
    /// # Errors
    /// What became of the connection, when that cannot be.
    pub(super) async fn run(&self, client: &Stream) -> Result<Opened<'a>, StreamResult> {
        let mut opening = pin!(self.open(client));
        let mut reset = pin!(until_reset(client));
        tokio::select! {
            biased;
            opened = &mut opening => opened,
            () = &mut reset => Err(StreamResult::ClientReset),
        }
    }

    async fn open(&self, client: &Stream) -> Result<Opened<'a>, StreamResult> {
        self.pool.count_request(ambient::now());
        let asking = Asking {
            pool: self.pool,
            shard: self.arrival.worker.shard,
            priority: Priority::default(),
            deadline: self.until,
        };
        let mut queued = Queued(client);
        let admitted = asking.admit(&mut queued).await.map_err(denied)?;
        let mut course = Course::default();
        let opened = match asking.first(&mut queued, || self.pick(&[])).await.map_err(denied) {
            Ok(lease) => self.connect(client, lease, &mut course).await,
            Err(denied) => Err(denied),
        };
        if let Some(trial) = admitted.trial {
            trial.end(outcome(&opened), ambient::now());
            self.pool.shared.alarm.raise();
        }
        let (stream, lease, open) = opened?;
        Ok(Opened { stream, lease, _open: open, _permit: admitted.permit })
    }

    /// Connects to the endpoint of `lease`, or to another.
    async fn connect(
        &self,
        client: &Stream,
        mut lease: Lease,
        course: &mut Course<'a>,
    ) -> Result<(Stream, Lease, OpenConnection), StreamResult> {
        loop {
            self.passage.ask(lease.endpoint());
            let failure = match self.dial(client, &lease).await {
                Ok((stream, open)) => {
                    let now = ambient::now();
                    lease.answered(Outcome::Success, now);
                    self.passage.connected(now);
                    return Ok((stream, lease, open));
                }
                Err(failure) => failure,
            };
            self.charge(&lease, &failure);
            lease = self.after(lease, course).await.ok_or(failure.result())?;
        }
    }

    async fn dial(&self, client: &Stream, lease: &Lease) -> Result<(Stream, OpenConnection), Unopened> {
        let seat = lease.seat().map_err(|rejection| {
            self.pool.shared.guard.metrics.rejected(self.arrival.worker.shard, rejection);
            Unopened::Full
        })?;
        let endpoint = &lease.endpoint().shared;
        let pool = &self.pool.shared.settings.timeouts;
        let timeouts = DialTimeouts { connect: pool.connect, tls_handshake: pool.tls_handshake };
        let headers = self.pool.shared.settings.headers;
        let own = || client.socket().local_addr();
        let preface = headers.map(|headers| preface(&self.arrival.live, headers, None, own));
        let source = self.arrival.client.map(|client| client.ip());
        let onward = Onward { preface: preface.as_deref().unwrap_or_default(), source };
        let dialled = dial(&endpoint.dial, timeouts, &onward, &lease.connects()).await;
        let stream = dialled.map_err(Unopened::Dial)?;
        Ok((stream, OpenConnection::new(Arc::clone(endpoint), self.arrival.worker.shard, seat)))
    }

    /// Has the endpoint charged with a failure, if it is its own.
    fn charge(&self, lease: &Lease, failure: &Unopened) {
        let outcome = match failure {
            Unopened::Full => Outcome::Cancelled,
            Unopened::Dial(error) => {
                let endpoint = lease.endpoint();
                endpoint.shared.metrics.failed(self.arrival.worker.shard, unconnected::kind(error));
                tracing::debug!(
                    pool = %self.pool.shared.settings.name,
                    endpoint = endpoint.shared.name,
                    error = error as &dyn std::error::Error,
                    "connecting failed"
                );
                unconnected::outcome(error)
            }
        };
        lease.finish(outcome, ambient::now());
    }

    /// The endpoint to ask next, after that of `lease` failed, once it may be asked.
    async fn after(&self, lease: Lease, course: &mut Course<'a>) -> Option<Lease> {
        let guard = &self.pool.shared.guard;
        let shard = self.arrival.worker.shard;
        course.retrying = None;
        course.tried.push(lease.index());
        course.unconnected += 1;
        let (cause, after) = match self.decide(&lease, course) {
            Decision::Again { cause, after } => (cause, after),
            Decision::No(reason) => return self.give_up(reason),
        };
        drop(lease);
        if cause != Cause::Trial {
            course.retrying = Some(guard.retry());
        }
        if after > Duration::ZERO {
            tokio::time::sleep(after).await;
        }
        let Some(other) = self.other(course, cause) else { return self.give_up(Reason::NoEndpoint) };
        guard.metrics.retried(shard, cause);
        if cause == Cause::Trial {
            course.trial = true;
        } else {
            course.tries += 1;
        }
        Some(other)
    }

    fn give_up(&self, reason: Reason) -> Option<Lease> {
        if reason != Reason::NotListed {
            self.pool.shared.guard.metrics.not_retried(self.arrival.worker.shard, reason);
        }
        None
    }

    fn decide(&self, lease: &Lease, course: &Course<'_>) -> Decision {
        if lease.is_on_trial() && !course.trial {
            return Decision::Again { cause: Cause::Trial, after: Duration::ZERO };
        }
        let now = ambient::now();
        let guard = &self.pool.shared.guard;
        let recent = self.pool.recent();
        let case = Case {
            failed: Failed::Connect,
            unsent: true,
            idempotent: true,
            body_kept: true,
            tries: course.tries,
            unconnected: course.unconnected,
            retry_after: None,
            left: self.until.map(|until| until.saturating_duration_since(now)),
            load: Load { retrying: guard.retrying(), in_flight: guard.in_flight(), recent: &recent },
            draw: ambient::draw(),
        };
        decide(self.retry, &case)
    }

    /// An endpoint that was not tried, or, where all were, any.
    fn other(&self, course: &mut Course<'_>, cause: Cause) -> Option<Lease> {
        match self.pick(&course.tried) {
            Ok(lease) => Some(lease),
            // Whoever failed its trial is not asked again at once.
            Err(_) if cause == Cause::Trial => None,
            Err(_) => {
                course.tried.clear();
                self.pick(&course.tried).ok()
            }
        }
    }

    fn pick(&self, tried: &[usize]) -> Result<Lease, NoPick> {
        let choosing = Choosing {
            tried,
            key: self.key(),
            sticky: None,
            // Another endpoint is connected to where one on trial is not.
            safe: true,
            draw: ambient::draw(),
            now: ambient::now(),
        };
        self.pool.pick(&choosing)
    }

    /// What binds the client to an endpoint, if the policy cares.
    fn key(&self) -> Option<u64> {
        let settings = &self.pool.shared.settings;
        if !settings.policy.hashes() {
            return None;
        }
        let client = self.arrival.client.map(|client| client.ip());
        settings.hash_key.of(&RequestHead::default(), Origin { client, source: client })
    }
}

impl Unopened {
    fn result(&self) -> StreamResult {
        match self {
            Self::Full => StreamResult::Rejected,
            Self::Dial(_) => StreamResult::ConnectFailed,
        }
    }
}

fn denied(denied: Denied) -> StreamResult {
    match denied {
        Denied::Rejected(Rejection::Deadline) => StreamResult::Expired,
        Denied::Rejected(_) => StreamResult::Rejected,
        Denied::NoEndpoint => StreamResult::NoEndpoint,
        Denied::Gone => StreamResult::ClientReset,
    }
}

/// What the pool's breaker learns of a trial.
fn outcome<T>(opened: &Result<T, StreamResult>) -> Outcome {
    match opened {
        Ok(_) => Outcome::Success,
        Err(StreamResult::ConnectFailed) => Outcome::Failure(crate::health::Failure::Connect),
        Err(_) => Outcome::Cancelled,
    }
}
