//! Getting a request to an endpoint and a response head back. A pooled connection that turns out to
//! be closed is replaced by a new one, to the same endpoint, when nothing can have been processed;
//! an endpoint that cannot be reached is replaced by another.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use http::uri::Scheme;
use http::{Method, StatusCode};
use tokio::time::{timeout, timeout_at};

use super::account::Account;
use super::admit::wait_for_place;
use super::channel::{Http2Stream, grpc_outcome};
use super::client::Client;
use super::error::ProxyError;
use super::exchange::{Exchange, Sent, http2_error};
use super::watch::Expired;
use super::{Connection, Scratch, head2, hop};
use crate::ambient;
use crate::balance::Origin;
use crate::health::{Failure, Outcome};
use crate::limit::Rejection;
use crate::model::ResponseHead;
use crate::model::field::Known;
use crate::model::settings::{Retry, RouteTimeouts, UpstreamProtocol};
use crate::net::connect::DialTimeouts;
use crate::upstream::connection::Http1Connection;
use crate::upstream::http1_pool::Use;
use crate::upstream::{Choosing, Lease, LocalPool, NoPick};
use crate::wire::{Length, Malformed, encode};

/// A request on its way to a pool.
#[derive(Debug)]
pub(super) struct Forward<'a> {
    /// The client's connection.
    pub(super) cx: &'a Connection,
    /// The pool.
    pub(super) pool: &'a LocalPool,
    /// When a request that failed is tried again.
    pub(super) retry: &'a Retry,
    /// The length of the request body.
    pub(super) body: Length,
    /// The most bytes of request body.
    pub(super) max_body: Option<u64>,
    /// Whether another protocol is asked for.
    pub(super) upgrade: bool,
    /// The route's time limits.
    pub(super) timeouts: &'a RouteTimeouts,
    /// The client's idle timeout.
    pub(super) client_idle: Duration,
}

impl Forward<'_> {
    /// Sends the request in `scratch` until an endpoint gives a final response head, which is left
    /// in `scratch`.
    ///
    /// # Errors
    /// When no endpoint does.
    pub(super) async fn run(
        &self,
        scratch: &mut Scratch,
        client: &mut Client,
        account: &mut Account<'_>,
    ) -> Result<Box<Exchange>, ProxyError> {
        let mut tried = Vec::new();
        let mut trials = 0;
        let mut kept = None;
        let mut resends = 0;
        let mut next = self.first(scratch, client, account).await?;
        let mut fresh = None;
        loop {
            let lease = next;
            account.ask(lease.endpoint());
            let (index, on_trial) = (lease.index(), lease.is_on_trial());
            let sending = self.send_in_time(&lease, fresh, scratch, account);
            let failed = match unless_gone(client, sending).await {
                Ok(sent) => {
                    let mut exchange = Exchange::new(lease, sent, self.max_body);
                    exchange.upload.repeat(kept.take());
                    let Err(error) = self.head(&mut exchange, scratch, client, account).await else {
                        return Ok(exchange);
                    };
                    exchange.learn_from(&error);
                    if may_resend(&exchange, &error, &scratch.request.method, resends) {
                        resends += 1;
                        self.count_resend(&exchange);
                        kept = exchange.upload.take_kept();
                        fresh = Some(exchange.resend_from(&error));
                        next = exchange.into_lease();
                        continue;
                    }
                    let by_client = exchange.waits_for_client();
                    exchange.lease().finish(error.outcome(by_client), ambient::now());
                    error
                }
                Err(error) => {
                    lease.finish(error.outcome(false), ambient::now());
                    error
                }
            };
            tried.push(index);
            trials += usize::from(on_trial);
            if !self.may_go_elsewhere(&failed, on_trial, scratch)
                || tried.len() - trials > self.retry.tries as usize
            {
                return Err(failed);
            }
            // Where nobody else may be asked, the client is told what happened.
            let Ok(other) = self.pick(&tried, scratch, account) else { return Err(failed) };
            account.fail(self.cx, &failed);
            (next, fresh) = (other, None);
        }
    }

    /// Whether another endpoint may be asked after `failed`: nothing was sent; or the request can be
    /// repeated, and either no byte of an answer came, or the endpoint was on trial.
    fn may_go_elsewhere(&self, failed: &ProxyError, on_trial: bool, scratch: &Scratch) -> bool {
        match failed {
            _ if failed.is_unsent() => true,
            ProxyError::NoResponse(_) => self.is_repeatable(scratch),
            ProxyError::ClientGone => false,
            _ => on_trial && self.is_repeatable(scratch),
        }
    }

    fn is_repeatable(&self, scratch: &Scratch) -> bool {
        scratch.request.method.is_idempotent() && self.body.is_empty()
    }

    /// The endpoint to ask first, which may have to be waited for.
    async fn first(
        &self,
        scratch: &Scratch,
        client: &mut Client,
        account: &Account<'_>,
    ) -> Result<Lease, ProxyError> {
        let picked = if self.pool.shared.guard.line.waiting() == 0 {
            self.pick(&[], scratch, account)
        } else {
            Err(NoPick::Full(Rejection::EndpointsFull))
        };
        match picked {
            Ok(lease) => Ok(lease),
            Err(NoPick::None) => Err(ProxyError::NoEndpoint),
            Err(NoPick::Full(reason)) => {
                let pick = || self.pick(&[], scratch, account);
                // Boxed, because most requests do not wait and need no room for it.
                Box::pin(wait_for_place(self.cx, self.pool, (account, client), reason, pick)).await
            }
        }
    }

    fn pick(&self, tried: &[usize], scratch: &Scratch, account: &Account<'_>) -> Result<Lease, NoPick> {
        let at_once = tried.is_empty() && !account.waited.get();
        let now = if at_once { account.started } else { ambient::now() };
        let choosing = Choosing {
            tried,
            key: self.key(scratch, account),
            sticky: account.session,
            safe: self.is_repeatable(scratch),
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

    /// Sends the request, for which the time of the whole request is the limit too.
    async fn send_in_time(
        &self,
        lease: &Lease,
        fresh: Option<u64>,
        scratch: &Scratch,
        account: &Account<'_>,
    ) -> Result<Sent, ProxyError> {
        let sent = self.send(lease, fresh, scratch);
        let Some(limit) = self.timeouts.request else { return sent.await };
        let deadline = (account.started + limit).into();
        timeout_at(deadline, sent).await.unwrap_or(Err(ProxyError::RequestTimeout(limit)))
    }

    async fn send(&self, lease: &Lease, fresh: Option<u64>, scratch: &Scratch) -> Result<Sent, ProxyError> {
        let sent = match self.pool.shared.settings.protocol {
            UpstreamProtocol::Http1 => self.send_http1(lease, fresh, scratch).await?,
            UpstreamProtocol::Http2 => self.send_http2(lease, fresh, scratch).await?,
        };
        lease.endpoint().shared.metrics.requested(self.cx.worker.shard);
        Ok(sent)
    }

    async fn send_http1(
        &self,
        lease: &Lease,
        fresh: Option<u64>,
        scratch: &Scratch,
    ) -> Result<Sent, ProxyError> {
        let endpoint = Rc::clone(lease.endpoint());
        let request = &scratch.request;
        let purpose = if self.is_repeatable(scratch) { Use::Repeatable } else { Use::Once };
        let pooled = if fresh.is_some() { None } else { endpoint.http1.take(purpose, ambient::now()) };
        let connection = match pooled {
            Some(connection) => {
                endpoint.shared.metrics.reused(self.cx.worker.shard);
                connection
            }
            None => {
                // Boxed, because most requests do not open a connection and need no room for it.
                let seat = lease.seat().map_err(ProxyError::Rejected)?;
                let opening =
                    Http1Connection::open(&endpoint.shared, self.cx.worker.shard, self.dial_timeouts(), seat);
                let opened = Box::pin(opening).await?;
                lease.connected(ambient::now());
                opened
            }
        };
        connection.conn.push(|out| encode::request(out, request, self.body, self.upgrade));
        let limits = &self.pool.shared.settings.connections;
        let spent = limits.requests.is_some_and(|limit| connection.requests >= limit);
        Ok(Sent::http1(connection, self.body, if spent { 0 } else { limits.idle }))
    }

    async fn send_http2(
        &self,
        lease: &Lease,
        fresh: Option<u64>,
        scratch: &Scratch,
    ) -> Result<Sent, ProxyError> {
        let endpoint = Rc::clone(lease.endpoint());
        let scheme = if endpoint.shared.dial.tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP };
        let request =
            head2::request_to(&scratch.request, scheme).ok_or(ProxyError::Malformed(Malformed::Target))?;
        let limits = &self.pool.shared.settings.connections;
        let mut from = fresh.unwrap_or_default();
        loop {
            let streams = limits.concurrent_streams;
            let permit = endpoint.http2.stream(lease, streams, from, self.dial_timeouts()).await?;
            if !permit.is_reused() {
                lease.connected(ambient::now());
            }
            if limits.requests.is_some_and(|limit| permit.requests() >= limit) {
                permit.retire();
            }
            let mut sender = permit.sender();
            let ready = timeout(self.idle(), poll_fn(|cx| sender.poll_ready(cx))).await;
            let ready = ready.map_err(|_| ProxyError::UpstreamIdle(self.idle()))?;
            let is_over = self.body.is_empty();
            match ready.and_then(|()| sender.send_request(request.clone(), is_over)) {
                Ok((response, stream)) => {
                    if permit.is_reused() {
                        endpoint.shared.metrics.reused(self.cx.worker.shard);
                    }
                    let stream = Http2Stream::new(None, (!is_over).then_some(stream));
                    return Ok(Sent::http2(permit, response, stream));
                }
                // Nothing was sent, so it goes on a new connection whatever it is.
                Err(_) if permit.is_reused() => {
                    permit.retire();
                    from = endpoint.http2.opened();
                }
                Err(error) => return Err(http2_error(error)),
            }
        }
    }

    /// Waits for the final response head; interim ones are passed on.
    async fn head(
        &self,
        exchange: &mut Exchange,
        scratch: &mut Scratch,
        client: &mut Client,
        account: &mut Account<'_>,
    ) -> Result<(), ProxyError> {
        let patience = self.patience(exchange.lease());
        for _ in 0..=MAX_INTERIM {
            let Scratch { response, watch, .. } = scratch;
            poll_fn(|cx| {
                exchange.poll_upload(client, cx)?;
                if let Poll::Ready(head) = exchange.poll_head(response, cx) {
                    return Poll::Ready(head);
                }
                if client.poll_gone(cx).is_ready() {
                    return Poll::Ready(Err(ProxyError::ClientGone));
                }
                let by_client = exchange.waits_for_client();
                let idle = if by_client { self.client_idle } else { patience };
                watch.poll(exchange.progress() + client.progress(), idle, cx).map(|expired| {
                    Err(match expired {
                        Expired::Deadline => {
                            ProxyError::RequestTimeout(self.timeouts.request.unwrap_or_default())
                        }
                        Expired::Idle if by_client => ProxyError::ClientIdle(idle),
                        Expired::Idle => ProxyError::UpstreamIdle(idle),
                    })
                })
            })
            .await?;
            let status = scratch.response.status;
            let switching = status == StatusCode::SWITCHING_PROTOCOLS;
            if !status.is_informational() || (switching && self.upgrade) {
                let now = ambient::now();
                account.first_byte = Some(now);
                let took = now.saturating_duration_since(account.started);
                exchange.endpoint().shared.metrics.responded(self.cx.worker.shard, status.as_u16(), took);
                let outcome = self.outcome(&scratch.response);
                exchange.lease().answered(outcome, now);
                return self.accept(exchange, outcome, scratch);
            }
            if switching {
                break;
            }
            hop::of_response(&mut scratch.response);
            scratch.response.fields.remove_known(Known::ContentLength);
            let passed_on = timeout(self.client_idle, client.interim(&scratch.response)).await;
            let passed_on = passed_on.map_err(|_| ProxyError::ClientStalled(self.client_idle))?;
            passed_on.map_err(|_| ProxyError::ClientGone)?;
        }
        Err(ProxyError::BadResponse(Malformed::StatusLine))
    }

    /// What the head of a response says of its endpoint.
    fn outcome(&self, head: &ResponseHead) -> Outcome {
        let by_status = Outcome::of_status(head.status.as_u16());
        // Only HTTP/2 carries gRPC.
        match self.pool.shared.settings.protocol {
            UpstreamProtocol::Http2 => grpc_outcome(&head.fields).unwrap_or(by_status),
            UpstreamProtocol::Http1 => by_status,
        }
    }

    /// Refuses an answer that failed its endpoint's trial, if the request can be repeated elsewhere.
    fn accept(&self, exchange: &Exchange, outcome: Outcome, scratch: &Scratch) -> Result<(), ProxyError> {
        let elsewhere = self.pool.shared.endpoints.len() > 1 && self.is_repeatable(scratch);
        if exchange.lease().is_on_trial() && outcome == Outcome::Failure(Failure::Gateway) && elsewhere {
            exchange.lease().finish(outcome, ambient::now());
            return Err(ProxyError::TrialFailed(scratch.response.status));
        }
        Ok(())
    }

    fn count_resend(&self, exchange: &Exchange) {
        exchange.endpoint().shared.metrics.resent(self.cx.worker.shard);
    }

    /// How long the endpoint may make no progress before its response; less for one on trial, whose
    /// request goes elsewhere then.
    fn patience(&self, lease: &Lease) -> Duration {
        if lease.is_on_trial() { self.idle().min(self.pool.trial_patience()) } else { self.idle() }
    }

    fn idle(&self) -> Duration {
        self.timeouts.idle.unwrap_or(self.pool.shared.settings.timeouts.idle)
    }

    fn dial_timeouts(&self) -> DialTimeouts {
        let pool = &self.pool.shared.settings.timeouts;
        DialTimeouts {
            connect: self.timeouts.connect.unwrap_or(pool.connect),
            tls_handshake: pool.tls_handshake,
        }
    }
}

/// Does `work`, such as opening a connection, for as long as the client waits for it.
async fn unless_gone<T>(
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

/// How often a request is sent again because the connection was closed before its turn.
const MAX_LEFT_OUT: usize = 16;
/// Interim responses that an endpoint may send for one request.
const MAX_INTERIM: usize = 16;
