//! One try at one endpoint: a connection, the request on it, and the wait for the head of a response.
//! Says how it failed, not what follows from that.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use http::uri::Scheme;
use http::{Method, StatusCode};
use tokio::time::{timeout, timeout_at};

use super::account::Account;
use super::channel::{Http2Stream, Kept, Pump, grpc_outcome};
use super::client::Client;
use super::deadline::overdue;
use super::error::ProxyError;
use super::exchange::{Exchange, Sent, http2_error};
use super::forward::{Forward, unless_gone};
use super::watch::{Expired, Side};
use super::{Scratch, head2, hop};
use crate::ambient;
use crate::health::Outcome;
use crate::limit::retry::Failed;
use crate::model::field::Known;
use crate::model::settings::{TryTimeout, UpstreamProtocol};
use crate::model::{RequestHead, ResponseHead};
use crate::net::connect::{Dial, DialTimeouts};
use crate::proxy::proxy_protocol::preface;
use crate::upstream::Lease;
use crate::upstream::connection::Http1Connection;
use crate::upstream::http1_pool::Use;
use crate::upstream::owner::{Owner, Private};
use crate::wire::{Malformed, encode};

/// A try that is about to begin.
#[derive(Debug)]
pub(super) struct Attempt {
    /// The use of the endpoint.
    pub(super) lease: Lease,
    /// The number of the first connection that may be used, if not any may.
    pub(super) fresh: Option<u64>,
    /// What an earlier try has read of the request body.
    pub(super) kept: Option<Kept>,
    /// When it began.
    pub(super) began: Instant,
}

/// How a try failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The request could not be sent.
    Unsent(ProxyError, Lease, Option<Kept>),
    /// There was no response head.
    Unanswered(ProxyError, Box<Exchange>),
    /// There was one that is not to be passed on, if there can be a better one. What it means is told.
    Answered(Box<Exchange>, Outcome),
}

/// When a try must have its response head, and how long that is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Until {
    pub(super) at: Instant,
    pub(super) limit: Duration,
}

impl Attempt {
    /// A try under `lease` that begins at `began`.
    #[must_use]
    pub(super) fn new(lease: Lease, kept: Option<Kept>, began: Instant) -> Self {
        Self { lease, fresh: None, kept, began }
    }
}

impl Failure {
    /// The use of the endpoint.
    #[must_use]
    pub(super) fn lease(&self) -> &Lease {
        match self {
            Self::Unsent(_, lease, _) => lease,
            Self::Unanswered(_, exchange) | Self::Answered(exchange, _) => exchange.lease(),
        }
    }

    /// Whether not a byte of the request left us.
    #[must_use]
    pub(super) fn is_unsent(&self) -> bool {
        match self {
            Self::Unsent(..) => true,
            Self::Unanswered(_, exchange) => exchange.is_unsent(),
            Self::Answered(..) => false,
        }
    }

    /// Whether what was read of the request body can be sent again.
    #[must_use]
    pub(super) fn is_body_kept(&self) -> bool {
        match self {
            Self::Unsent(..) => true,
            Self::Unanswered(_, exchange) | Self::Answered(exchange, _) => exchange.upload.is_repeatable(),
        }
    }

    /// In which way it failed; `None` when it was answered, or the endpoint is not to blame.
    #[must_use]
    pub(super) fn failed(&self) -> Option<Failed> {
        match self {
            Self::Unsent(error, ..) | Self::Unanswered(error, _) => match error {
                _ if error.is_unsent() => Some(Failed::Connect),
                ProxyError::Refused | ProxyError::LeftOut => Some(Failed::Refused),
                ProxyError::NoResponse(_) => Some(Failed::Reset),
                ProxyError::TryTimeout(_) => Some(Failed::TryTimeout),
                ProxyError::BadResponse(_) | ProxyError::UpstreamIdle(_) => Some(Failed::Otherwise),
                _ => None,
            },
            Self::Answered(..) => None,
        }
    }
}

impl Forward<'_> {
    /// Sends the request in `scratch` and waits for the final response head, which is left there.
    ///
    /// # Errors
    /// When there is none.
    pub(super) async fn attempt(
        &self,
        attempt: Attempt,
        scratch: &mut Scratch,
        client: &mut Client,
        account: &mut Account<'_>,
    ) -> Result<(Box<Exchange>, Outcome), Box<Failure>> {
        let Attempt { lease, fresh, kept, began } = attempt;
        let until = self.until(began);
        scratch.watch.begin_try(until.map(|until| until.at));
        let sending = self.send_in_time((&lease, fresh), until, &scratch.request, account.deadline);
        let sent = match unless_gone(client, sending).await {
            Ok(sent) => sent,
            Err(error) => {
                self.observe_cut(&error);
                return Err(Box::new(Failure::Unsent(error, lease, kept)));
            }
        };
        let upload = self.upload(kept, &scratch.request.method);
        let mut exchange = Exchange::new(lease, sent, upload);
        match self.head((&mut exchange, began), scratch, client, account).await {
            Ok(outcome) => Ok((exchange, outcome)),
            Err(error) => {
                self.observe_cut(&error);
                Err(Box::new(Failure::Unanswered(error, exchange)))
            }
        }
    }

    /// When a try that began at `began` must have its response head, if that is bounded.
    pub(super) fn until(&self, began: Instant) -> Option<Until> {
        let own = self.route.timeouts.attempt;
        let limit = match own.or(self.pool.shared.settings.timeouts.attempt)? {
            TryTimeout::Fixed(limit) => limit,
            TryTimeout::Learned { factor, floor } => {
                self.route.observed.as_ref()?.p99()?.mul_f64(factor).max(floor)
            }
        };
        Some(Until { at: began + limit, limit })
    }

    /// The body of the request on its way to an endpoint: what was kept of it first.
    fn upload(&self, kept: Option<Kept>, method: &Method) -> Pump {
        let mut upload = Pump::default();
        upload.limit = self.max_body;
        match self.keeps(method) {
            0 => {}
            most => upload.keep(most),
        }
        if kept.is_some() {
            upload.repeat(kept);
        }
        upload
    }

    /// Takes note of a try that its time limit cut off.
    pub(super) fn observe_cut(&self, error: &ProxyError) {
        if let (ProxyError::TryTimeout(_), Some(observed)) = (error, &self.route.observed) {
            observed.times.cut(self.cx.worker.shard);
        }
    }

    /// Sends the request, for which the times of the try and of the whole request are limits too.
    pub(super) async fn send_in_time(
        &self,
        (lease, fresh): (&Lease, Option<u64>),
        until: Option<Until>,
        request: &RequestHead,
        deadline: Option<Instant>,
    ) -> Result<Sent, ProxyError> {
        let sent = self.send(lease, fresh, request);
        let (at, error) = match (until, deadline) {
            (None, None) => return sent.await,
            (Some(until), None) => (until.at, ProxyError::TryTimeout(until.limit)),
            (Some(until), Some(deadline)) if until.at < deadline => {
                (until.at, ProxyError::TryTimeout(until.limit))
            }
            (_, Some(deadline)) => (deadline, self.request_timeout()),
        };
        timeout_at(at.into(), sent).await.unwrap_or(Err(error))
    }

    /// The error of a request that took too long.
    pub(super) fn request_timeout(&self) -> ProxyError {
        overdue(self.route.timeouts.request, self.patience)
    }

    async fn send(
        &self,
        lease: &Lease,
        fresh: Option<u64>,
        request: &RequestHead,
    ) -> Result<Sent, ProxyError> {
        let sent = match self.pool.shared.settings.protocol {
            UpstreamProtocol::Http1 => self.send_http1(lease, fresh, request).await?,
            UpstreamProtocol::Http2 => self.send_http2(lease, fresh, request).await?,
        };
        lease.endpoint().shared.metrics.requested(self.cx.worker.shard);
        Ok(sent)
    }

    async fn send_http1(
        &self,
        lease: &Lease,
        fresh: Option<u64>,
        request: &RequestHead,
    ) -> Result<Sent, ProxyError> {
        let endpoint = Rc::clone(lease.endpoint());
        let purpose = if self.is_repeatable(&request.method) { Use::Repeatable } else { Use::Once };
        let owner = self.owner(&endpoint.shared.dial);
        let pooled = if fresh.is_some() { None } else { endpoint.http1.take(purpose, owner, ambient::now()) };
        let connection = match pooled {
            Some(connection) => {
                endpoint.shared.metrics.reused(self.cx.worker.shard);
                connection
            }
            None => {
                // Boxed, because most requests do not open a connection and need no room for it.
                let seat = lease.seat().map_err(ProxyError::Rejected)?;
                let id = request.fields.get(Known::XRequestId);
                let preface = || self.preface(id);
                let private = self.private(&preface, owner);
                let (shard, timeouts) = (self.cx.worker.shard, self.dial_timeouts());
                let opened = Box::pin(Http1Connection::open(lease, shard, timeouts, private, seat)).await?;
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
        request: &RequestHead,
    ) -> Result<Sent, ProxyError> {
        let endpoint = Rc::clone(lease.endpoint());
        let id = request.fields.get(Known::XRequestId);
        let preface = || self.preface(id);
        let private = self.private(&preface, self.owner(&endpoint.shared.dial));
        let scheme = if endpoint.shared.dial.tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP };
        let request = head2::request_to(request, scheme).ok_or(ProxyError::Malformed(Malformed::Target))?;
        let limits = &self.pool.shared.settings.connections;
        let mut from = fresh.unwrap_or_default();
        loop {
            let streams = limits.concurrent_streams;
            let room = (streams, from);
            let permit = endpoint.http2.stream(lease, room, private, self.dial_timeouts()).await?;
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

    /// Waits for the final response head; interim ones are passed on. What it says of the endpoint is
    /// given.
    async fn head(
        &self,
        (exchange, began): (&mut Exchange, Instant),
        scratch: &mut Scratch,
        client: &mut Client,
        account: &mut Account<'_>,
    ) -> Result<Outcome, ProxyError> {
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
                let idle = if by_client { self.client.idle } else { patience };
                let rate = self.client.min_rate.filter(|_| by_client);
                watch.keep_pace(Side::Client, rate, client.progress());
                watch.poll(exchange.progress() + client.progress(), idle, cx).map(|expired| {
                    Err(match expired {
                        Expired::Deadline => self.request_timeout(),
                        Expired::Try => {
                            ProxyError::TryTimeout(self.until(began).map_or(Duration::ZERO, |u| u.limit))
                        }
                        Expired::Slow => ProxyError::ClientSlow(rate.unwrap_or_default()),
                        Expired::Idle if by_client => ProxyError::ClientIdle(idle),
                        Expired::Idle => ProxyError::UpstreamIdle(idle),
                    })
                })
            })
            .await?;
            let status = scratch.response.status;
            let switching = status == StatusCode::SWITCHING_PROTOCOLS;
            if !status.is_informational() || (switching && self.upgrade) {
                scratch.watch.end_try();
                return Ok(self.answered(exchange, began, &scratch.response, account));
            }
            if switching {
                break;
            }
            hop::of_response(&mut scratch.response);
            scratch.response.fields.remove_known(Known::ContentLength);
            let passed_on = timeout(self.client.idle, client.interim(&scratch.response)).await;
            let passed_on = passed_on.map_err(|_| ProxyError::ClientStalled(self.client.idle))?;
            passed_on.map_err(|_| ProxyError::ClientGone)?;
        }
        Err(ProxyError::BadResponse(Malformed::StatusLine))
    }

    /// Takes note of the final response head of a try that began at `began`. Gives what it says of the
    /// endpoint.
    pub(super) fn answered(
        &self,
        exchange: &Exchange,
        began: Instant,
        head: &ResponseHead,
        account: &mut Account<'_>,
    ) -> Outcome {
        let (now, shard) = (ambient::now(), self.cx.worker.shard);
        account.first_byte = Some(now);
        account.note_answer(exchange.lease(), head.status);
        let took = now.saturating_duration_since(began);
        exchange.endpoint().shared.metrics.responded(shard, head.status.as_u16(), took);
        if let Some(observed) = &self.route.observed {
            observed.times.took(shard, took);
        }
        let by_status = Outcome::of_status(head.status.as_u16());
        // Only HTTP/2 carries gRPC.
        let outcome = match self.pool.shared.settings.protocol {
            UpstreamProtocol::Http2 => grpc_outcome(&head.fields).unwrap_or(by_status),
            UpstreamProtocol::Http1 => by_status,
        };
        exchange.lease().answered(outcome, now);
        outcome
    }

    /// How long the endpoint may make no progress before its response; less for one on trial, whose
    /// request goes elsewhere then.
    pub(super) fn patience(&self, lease: &Lease) -> Duration {
        if lease.is_on_trial() { self.idle().min(self.pool.trial_patience()) } else { self.idle() }
    }

    fn idle(&self) -> Duration {
        self.route.timeouts.idle.unwrap_or(self.pool.shared.settings.timeouts.idle)
    }

    /// Whose connections to an endpoint are, where it is told of clients or takes us for them.
    fn owner(&self, dial: &Dial) -> Option<&Owner> {
        let is_told = self.pool.shared.settings.headers.is_some();
        (is_told || dial.is_transparent()).then(|| self.cx.live.owner())
    }

    /// There is something to tell where there is an owner.
    fn private<'b>(&self, preface: &'b dyn Fn() -> Vec<u8>, owner: Option<&'b Owner>) -> Private<'b> {
        Private { preface: owner.map(|_| preface), source: self.cx.peer.ip, owner }
    }

    /// What an endpoint is told of the client as a connection is opened; empty where it is told nothing.
    fn preface(&self, id: Option<&[u8]>) -> Vec<u8> {
        let Some(headers) = self.pool.shared.settings.headers else { return Vec::new() };
        preface(&self.cx.live, headers, id, || self.cx.live.local_addr())
    }

    fn dial_timeouts(&self) -> DialTimeouts {
        let pool = &self.pool.shared.settings.timeouts;
        DialTimeouts {
            connect: self.route.timeouts.connect.unwrap_or(pool.connect),
            tls_handshake: pool.tls_handshake,
        }
    }
}

/// Interim responses that an endpoint may send for one request.
pub(super) const MAX_INTERIM: usize = 16;
