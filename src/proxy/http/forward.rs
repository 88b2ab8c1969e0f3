//! Getting a request to an endpoint and a response head back, whatever that takes: which endpoint is
//! asked, and what follows from a failure. What one try does is in `attempt`, whether there is another
//! is decided in `limit::retry`.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use http::Method;

use super::account::Account;
use super::admit::{Waiting, asking};
use super::attempt::{Attempt, Failure};
use super::channel::Kept;
use super::client::Client;
use super::deadline::{self, Patience};
use super::error::ProxyError;
use super::exchange::Exchange;
use super::{Connection, Scratch};
use crate::ambient;
use crate::balance::Origin;
use crate::health::{Failure as EndpointFailure, Outcome};
use crate::limit::retry::{Case, Cause, Decision, Failed, Load, Reason, cause, decide};
use crate::model::ResponseHead;
use crate::model::settings::{ClientTimeouts, Retry, UpstreamProtocol};
use crate::upstream::guard::Retrying;
use crate::upstream::{Choosing, Lease, LocalPool, NoPick, Route};
use crate::wire::Length;

/// A request on its way to a pool.
#[derive(Debug)]
pub(super) struct Forward<'a> {
    /// The client's connection.
    pub(super) cx: &'a Connection,
    /// The pool.
    pub(super) pool: &'a LocalPool,
    /// The route.
    pub(super) route: &'a Route,
    /// When a request that failed is tried again.
    pub(super) retry: &'a Retry,
    /// The length of the request body.
    pub(super) body: Length,
    /// The most bytes of request body.
    pub(super) max_body: Option<u64>,
    /// Whether another protocol is asked for.
    pub(super) upgrade: bool,
    /// Time limits towards the client.
    pub(super) client: &'a ClientTimeouts,
    /// How long the client said that it waits.
    pub(super) patience: Option<Patience>,
}

/// What became of a request so far.
#[derive(Debug, Default)]
pub(super) struct Course<'a> {
    /// Indexes of endpoints that failed it.
    pub(super) tried: Vec<usize>,
    /// Further tries, those after a trial left out.
    pub(super) tries: u32,
    /// Failures to connect.
    unconnected: u32,
    /// How often it was sent again to the same endpoint.
    resends: usize,
    /// Whether an endpoint on trial failed it.
    trial: bool,
    /// Counts it as a retry under way.
    retrying: Option<Retrying<'a>>,
}

/// What follows from a failure.
enum Next {
    /// Another try.
    Again(Attempt),
    /// The end of it.
    Over(Result<Box<Exchange>, ProxyError>),
}

impl<'a> Forward<'a> {
    /// Sends the request in `scratch` until an endpoint gives a final response head, which is left
    /// in `scratch`. That is the last one, where there were several.
    ///
    /// # Errors
    /// When no endpoint does.
    pub(super) async fn run(
        &self,
        scratch: &mut Scratch,
        client: &mut Client,
        account: &mut Account<'_>,
    ) -> Result<Box<Exchange>, ProxyError> {
        self.pool.count_request(account.started);
        let mut course = Course::default();
        let lease = self.first(scratch, client, account).await?;
        let mut attempt = Attempt::new(lease, client.replay.take(), beginning(account));
        loop {
            account.ask(attempt.lease.endpoint());
            deadline::tell(account, self.route, &mut scratch.request, attempt.began);
            account.note_try(&attempt.lease, (attempt.began, false), &mut scratch.request.fields);
            let tried = match self.hedge_after(&course, scratch) {
                None => self.attempt(attempt, scratch, client, account).await,
                // Boxed, because most requests have no second try beside the first, nor another after it.
                Some(after) => {
                    Box::pin(self.race((attempt, after, &mut course), scratch, client, account)).await
                }
            };
            let failure = match tried {
                Ok((exchange, outcome)) if !self.refuses(&exchange, outcome, scratch) => return Ok(exchange),
                Ok((exchange, outcome)) => Box::new(Failure::Answered(exchange, outcome)),
                Err(failure) => failure,
            };
            account.note_failure(&failure);
            attempt = match Box::pin(self.after((failure, &mut course), scratch, client, account)).await {
                Next::Again(attempt) => attempt,
                Next::Over(end) => return end,
            };
        }
    }

    /// Whether the request can be sent again whatever was done with it, and without its body.
    pub(super) fn is_repeatable(&self, method: &Method) -> bool {
        method.is_idempotent() && self.body.is_empty()
    }

    /// Bytes of the request body to keep, in case it has to be sent again. None where it would not be:
    /// HTTP/2 alone knows of requests that were refused, and so may be sent again whatever they are.
    pub(super) fn keeps(&self, method: &Method) -> usize {
        let rules = self.retry;
        let fits = self.body.exact().is_none_or(|length| length <= rules.body as u64);
        let again = rules.tries > 0 && (method.is_idempotent() || rules.non_idempotent);
        let http2 = self.pool.shared.settings.protocol == UpstreamProtocol::Http2;
        if fits && !self.body.is_empty() && (again || http2) { rules.body } else { 0 }
    }

    /// Whether the response, which by itself would mean `outcome`, is not to be passed on if another
    /// endpoint can be asked.
    pub(super) fn refuses(&self, exchange: &Exchange, outcome: Outcome, scratch: &Scratch) -> bool {
        let on = &self.retry.on;
        if outcome == Outcome::Success && on.statuses.is_empty() && on.grpc.is_empty() {
            return false;
        }
        let gateway = outcome == Outcome::Failure(EndpointFailure::Gateway);
        (gateway && exchange.lease().is_on_trial() && self.is_repeatable(&scratch.request.method))
            || cause(self.retry, self.failed_by(&scratch.response)).is_some()
    }

    /// How a try failed that was answered with this head.
    fn failed_by(&self, head: &ResponseHead) -> Failed {
        let status = head.status.as_u16();
        let grpc = match self.pool.shared.settings.protocol {
            UpstreamProtocol::Http2 => head.fields.get_named(b"grpc-status").next(),
            UpstreamProtocol::Http1 => None,
        };
        let code = grpc.and_then(|code| std::str::from_utf8(code).ok()?.trim().parse().ok());
        code.map_or(Failed::Status(status), |code| Failed::Grpc(status, code))
    }

    /// Decides what follows from a failure, and waits where that is to wait.
    async fn after(
        &self,
        (failure, course): (Box<Failure>, &mut Course<'a>),
        scratch: &mut Scratch,
        client: &mut Client,
        account: &mut Account<'_>,
    ) -> Next {
        let failure = match self.resend(*failure, course, &scratch.request.method) {
            Ok(attempt) => return Next::Again(attempt),
            Err(failure) => failure,
        };
        course.retrying = None;
        course.tried.push(failure.lease().index());
        course.unconnected += u32::from(failure.failed() == Some(Failed::Connect));
        let unsent = failure.is_unsent();
        let decision = self.decide(&failure, course, scratch, account);
        let mut ended = Ended::of(*failure);
        let (cause, after) = match decision {
            Decision::Again { cause, after } => (cause, after),
            Decision::No(reason) => {
                client.replay = ended.kept.take();
                return Next::Over(self.give_up(ended, reason));
            }
        };
        if cause != Cause::Trial {
            course.retrying = Some(self.pool.shared.guard.retry());
        }
        if after > Duration::ZERO {
            let pause = async {
                tokio::time::sleep(after).await;
                Ok(())
            };
            if let Err(gone) = unless_gone(client, pause).await {
                return Next::Over(Err(gone));
            }
        }
        let Some(lease) = self.other(course, cause, scratch, account) else {
            client.replay = ended.kept.take();
            return Next::Over(self.give_up(ended, Reason::NoEndpoint));
        };
        let kept = ended.leave(self.cx, scratch, account);
        let now = ambient::now();
        self.pool.shared.guard.metrics.retried(self.cx.worker.shard, cause);
        if cause == Cause::Trial {
            course.trial = true;
        } else {
            course.tries += 1;
            if !unsent {
                self.pool.count_retry(now);
            }
        }
        Next::Again(Attempt::new(lease, kept, now))
    }

    /// Sends the request again to the same endpoint, if nothing can have been processed there.
    ///
    /// # Errors
    /// When that may not be: the failure.
    fn resend(
        &self,
        failure: Failure,
        course: &mut Course<'_>,
        method: &Method,
    ) -> Result<Attempt, Box<Failure>> {
        let (error, mut exchange) = match failure {
            Failure::Unanswered(error, exchange) => (error, exchange),
            other => return Err(Box::new(other)),
        };
        exchange.learn_from(&error);
        if !may_resend(&exchange, &error, method, course.resends) {
            return Err(Box::new(Failure::Unanswered(error, exchange)));
        }
        course.resends += 1;
        exchange.endpoint().shared.metrics.resent(self.cx.worker.shard);
        let kept = exchange.upload.take_kept();
        let fresh = Some(exchange.resend_from(&error));
        let attempt = Attempt::new(exchange.into_lease(), kept, ambient::now());
        Ok(Attempt { fresh, ..attempt })
    }

    fn decide(
        &self,
        failure: &Failure,
        course: &Course<'_>,
        scratch: &Scratch,
        account: &Account<'_>,
    ) -> Decision {
        let head = &scratch.response;
        let answered = matches!(failure, Failure::Answered(..));
        let Some(failed) = failure.failed().or_else(|| answered.then(|| self.failed_by(head))) else {
            return Decision::No(Reason::NotListed);
        };
        let idempotent = scratch.request.method.is_idempotent();
        let (unsent, body_kept) = (failure.is_unsent(), failure.is_body_kept());
        if failure.lease().is_on_trial() && !course.trial && body_kept && (unsent || idempotent) {
            return Decision::Again { cause: Cause::Trial, after: Duration::ZERO };
        }
        let now = ambient::now();
        let guard = &self.pool.shared.guard;
        let recent = self.pool.recent();
        let case = Case {
            failed,
            unsent,
            idempotent,
            body_kept,
            tries: course.tries,
            unconnected: course.unconnected,
            retry_after: answered.then(|| retry_after(head)).flatten(),
            left: account.deadline.map(|deadline| deadline.saturating_duration_since(now)),
            load: Load { retrying: guard.retrying(), in_flight: guard.in_flight(), recent: &recent },
            draw: ambient::draw(),
        };
        decide(self.retry, &case)
    }

    /// The end: what there is of an answer is the client's.
    fn give_up(&self, ended: Ended, reason: Reason) -> Result<Box<Exchange>, ProxyError> {
        if reason != Reason::NotListed {
            self.pool.shared.guard.metrics.not_retried(self.cx.worker.shard, reason);
        }
        ended.result.map(|(exchange, _)| exchange)
    }

    /// An endpoint that was not tried, or, where all were, any.
    fn other(
        &self,
        course: &mut Course<'_>,
        cause: Cause,
        scratch: &Scratch,
        account: &Account<'_>,
    ) -> Option<Lease> {
        let now = ambient::now();
        match self.pick(&course.tried, now, scratch, account) {
            Ok(lease) => Some(lease),
            // Whoever failed its trial is not asked again at once.
            Err(_) if cause == Cause::Trial => None,
            Err(_) => {
                course.tried.clear();
                self.pick(&course.tried, now, scratch, account).ok()
            }
        }
    }

    /// The endpoint to ask first, which may have to be waited for.
    async fn first(
        &self,
        scratch: &Scratch,
        client: &mut Client,
        account: &Account<'_>,
    ) -> Result<Lease, ProxyError> {
        let pick = || self.pick(&[], beginning(account), scratch, account);
        let waiting = &mut Waiting { client, account };
        Ok(asking(self.cx, self.pool, account).first(waiting, pick).await?)
    }

    /// Chooses an endpoint that is not among those `tried`.
    pub(super) fn pick(
        &self,
        tried: &[usize],
        now: Instant,
        scratch: &Scratch,
        account: &Account<'_>,
    ) -> Result<Lease, NoPick> {
        let choosing = Choosing {
            tried,
            key: self.key(scratch, account),
            sticky: account.session,
            safe: self.is_repeatable(&scratch.request.method),
            draw: ambient::draw(),
            now,
        };
        self.pool.pick(&choosing)
    }

    /// What binds the request to an endpoint, if the policy cares.
    fn key(&self, scratch: &Scratch, account: &Account<'_>) -> Option<u64> {
        let settings = &self.pool.shared.settings;
        if !settings.policy.hashes() {
            return None;
        }
        let origin = Origin { client: account.client, source: self.cx.peer.ip };
        settings.hash_key.of(&scratch.request, origin)
    }
}

/// A try that is over as far as its endpoint is concerned.
struct Ended {
    /// The answer that there is, and what it means.
    result: Result<(Box<Exchange>, Outcome), ProxyError>,
    kept: Option<Kept>,
}

impl Ended {
    /// Has the endpoint charged with `failure`, unless that is an answer, which may be passed on.
    fn of(failure: Failure) -> Self {
        match failure {
            Failure::Unsent(error, lease, kept) => {
                lease.finish(error.outcome(false), ambient::now());
                Self { result: Err(error), kept }
            }
            Failure::Unanswered(error, mut exchange) => {
                let by_client = exchange.waits_for_client();
                exchange.lease().finish(error.outcome(by_client), ambient::now());
                Self { result: Err(error), kept: exchange.upload.take_kept() }
            }
            Failure::Answered(exchange, outcome) => Self { result: Ok((exchange, outcome)), kept: None },
        }
    }

    /// Gives up the answer, if there is one. Gives what was kept of the request body.
    fn leave(self, cx: &Connection, scratch: &mut Scratch, account: &mut Account<'_>) -> Option<Kept> {
        match self.result {
            Ok((mut exchange, outcome)) => {
                let now = ambient::now();
                let kept = exchange.upload.take_kept();
                exchange.lease().finish(outcome, now);
                account.note_end(exchange.lease(), None);
                let Scratch { request, response, .. } = scratch;
                exchange.discard(&request.method, response, now);
                account.first_byte = None;
                kept
            }
            Err(error) => {
                account.fail(cx, &error);
                self.kept
            }
        }
    }
}

/// Does `work`, such as opening a connection, for as long as the client waits for it.
pub(super) async fn unless_gone<T>(
    client: &mut Client,
    work: impl Future<Output = Result<T, ProxyError>>,
) -> Result<T, ProxyError> {
    let mut work = pin!(work);
    poll_fn(|cx| {
        if let Poll::Ready(done) = work.as_mut().poll(cx) {
            return Poll::Ready(done);
        }
        client.poll_gone(cx).map(|()| Err(ProxyError::ClientGone))
    })
    .await
}

/// When a first try begins now.
fn beginning(account: &Account<'_>) -> Instant {
    if account.waited.get() { ambient::now() } else { account.started }
}

/// Whether the request may be sent again after `error`, with what is left or kept of its body: the
/// connection was a pooled one that the endpoint had closed meanwhile, and either nothing was sent
/// or the method allows it (RFC 9112 §9.3.1); or the endpoint says that it did nothing. Endpoints
/// that close a connection after so many requests leave out what is past them again and again.
fn may_resend(exchange: &Exchange, error: &ProxyError, method: &Method, resends: usize) -> bool {
    match error {
        _ if !exchange.upload.is_repeatable() => false,
        ProxyError::LeftOut => resends < MAX_LEFT_OUT,
        _ if resends > 0 => false,
        ProxyError::Refused => true,
        ProxyError::NoResponse(_) => {
            exchange.is_on_reused_connection() && (method.is_idempotent() || exchange.is_unsent())
        }
        _ => false,
    }
}

/// How long the endpoint asks to be left alone (RFC 9110 §10.2.3). A date is taken for longer than
/// anybody waits.
fn retry_after(head: &ResponseHead) -> Option<Duration> {
    let value = head.fields.get_named(b"retry-after").next()?;
    let seconds = std::str::from_utf8(value).ok().and_then(|text| text.trim().parse().ok());
    Some(seconds.map_or(Duration::MAX, Duration::from_secs))
}

/// How often a request is sent again because the connection was closed before its turn.
const MAX_LEFT_OUT: usize = 16;
