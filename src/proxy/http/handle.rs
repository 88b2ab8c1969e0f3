//! One request, from its head to the last byte of its answer, in named steps: normalise, route,
//! filter, forward, filter, stream. The same for every version of HTTP on either side.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use http::{Method, StatusCode};

use super::account::Account;
use super::channel::{Pump, PumpError};
use super::client::Client;
use super::deadline::{self, Patience, overdue};
use super::degrade::{self, Answer};
use super::error::ProxyError;
use super::exchange::Exchange;
use super::onward::Onward;
use super::watch::{Expired, Side, Watch};
use super::{Connection, Scratch, hop, identity, keep, respond, tunnel};
use crate::ambient;
use crate::model::settings::{ClientIdentity, ClientTimeouts};
use crate::model::{Fields, RequestHead};
use crate::route::View;
use crate::route::filter::{FilterCx, Reply, Verdict};
use crate::route::path::{Normalised, normalise};
use crate::upstream::{Listener, Route};
use crate::wire::parse::split_port;
use crate::wire::{Length, Malformed, framing};

/// Serves the request in `scratch`, whose body is `body` long. An `Err` is what was wrong with the
/// head when it was read.
pub(super) async fn handle(
    cx: &Connection,
    scratch: &mut Scratch,
    client: &mut Client,
    body: Result<Length, ProxyError>,
) {
    let local = cx.local();
    let Some(listener) = local.snapshot.listener(cx.live.listening.id) else { return };
    let mut account = Account::open(cx, &local, listener);
    scratch.watch.start(account.started);
    account.trace(cx, scratch);
    if account.is_logged || account.is_noted() {
        scratch.target.clear();
        scratch.target.extend_from_slice(scratch.request.target());
    }
    let answered = match body {
        Ok(body) => answer(cx, scratch, client, &mut account, body).await,
        Err(error) => Err(error),
    };
    let delivered = match answered {
        Ok(Answer::Exchange(exchange, length)) => {
            deliver(cx, scratch, client, &mut account, (exchange, length)).await
        }
        Ok(Answer::Reply(reply)) => give(cx, scratch, client, &mut account, &reply).await,
        Err(error) => Err(error),
    };
    if let Err(error) = delivered {
        fail(cx, scratch, client, &mut account, &error).await;
    }
}

async fn answer<'a>(
    cx: &'a Connection,
    scratch: &mut Scratch,
    client: &mut Client,
    account: &mut Account<'a>,
    body: Length,
) -> Result<Answer, ProxyError> {
    let listener = account.listener;
    normalise_target(scratch)?;
    account.client = cx.peer.client(&scratch.request.fields, &listener.identity);
    let asked = hop::of_request(&mut scratch.request);
    client.is_last = !asked.persist;
    client.persist = asked.persist && !cx.is_ending();
    let route = find_route(listener, scratch)?;
    account.route = Some(route);
    account.under_way.take(route);
    deadline::set(account, route, &scratch.request);
    scratch.watch.set_deadline(account.deadline);
    // Before the filters, which may change the host and what is told of the client.
    prepare(cx, &mut scratch.request, &listener.identity);
    let mut filter_cx = FilterCx {
        now: account.started,
        client: account.client,
        scheme: cx.peer.scheme,
        host: &scratch.host,
        body_length: body.exact(),
        max_body: None,
        added: Fields::default(),
        notes_user: account.is_logged,
        user: None,
    };
    let reply = filter_request(route, &mut scratch.request, &mut filter_cx);
    let max_body = filter_cx.max_body;
    account.added = filter_cx.added;
    account.user = filter_cx.user;
    if let Some(reply) = reply {
        account.note_refusal(&reply);
        return Ok(Answer::Reply(respond::to_refused(reply, &scratch.request)));
    }
    let branch = route.branch(ambient::draw()).ok_or(ProxyError::NoRoute)?;
    let pool = account.local.pools.get(branch.pool).ok_or(ProxyError::NoRoute)?;
    account.branch = Some(branch);
    account.under_way.enter(branch.pool);
    let client_timeouts = &listener.timeouts;
    let upgrade = asked.upgrade;
    let onward = Onward { cx, route, branch, body, max_body, upgrade, client: client_timeouts };
    degrade::answer(&onward, pool, scratch, client, account).await
}

/// Puts the target into the one form that routes and endpoints see alike, and notes the host.
fn normalise_target(scratch: &mut Scratch) -> Result<(), ProxyError> {
    let Scratch { request, host, .. } = scratch;
    if request.method == Method::CONNECT {
        return Err(ProxyError::Connect);
    }
    match normalise(request.path()) {
        Normalised::Unchanged if request.path() == b"*" && request.method != Method::OPTIONS => {
            return Err(ProxyError::Path);
        }
        Normalised::Unchanged => {}
        Normalised::Rewritten(mut target) => {
            if let Some(query) = request.query() {
                target.push(b'?');
                target.extend_from_slice(query);
            }
            request.set_target(&target);
        }
        Normalised::Refused => return Err(ProxyError::Path),
    }
    let name = request.authority().map_or(&b""[..], |authority| split_port(authority).0);
    host.clear();
    host.push_str(std::str::from_utf8(name).map_err(|_| Malformed::HostInvalid)?);
    host.make_ascii_lowercase();
    Ok(())
}

fn find_route<'a>(listener: &'a Listener, scratch: &Scratch) -> Result<&'a Route, ProxyError> {
    let request = &scratch.request;
    let view = View {
        method: &request.method,
        host: &scratch.host,
        path: request.path(),
        query: request.query(),
        fields: &request.fields,
    };
    listener.routes.find(&view).map(|route| &**route).ok_or(ProxyError::NoRoute)
}

fn filter_request(route: &Route, head: &mut RequestHead, cx: &mut FilterCx<'_>) -> Option<Box<Reply>> {
    route.filters.iter().find_map(|filter| match filter.on_request(head, cx) {
        Verdict::Continue => None,
        Verdict::Respond(reply) => Some(reply),
    })
}

/// Makes the request one of ours.
fn prepare(cx: &Connection, head: &mut RequestHead, rules: &ClientIdentity) {
    let draw = if rules.request_id { (ambient::draw(), ambient::draw()) } else { (0, 0) };
    identity::forward(head, &cx.peer, rules, draw);
}

/// Sends an endpoint's response to the client.
async fn deliver(
    cx: &Connection,
    scratch: &mut Scratch,
    client: &mut Client,
    account: &mut Account<'_>,
    (mut exchange, length): (Box<Exchange>, Length),
) -> Result<(), ProxyError> {
    // Whether and when the rest of the request comes is open, and nothing else can be read before it.
    client.persist &= client.channel.is_read_done();
    account.bind_session(exchange.lease().index());
    let download = Pump::storing(keep::keep(cx, scratch, client, account, length));
    begin(scratch, client, account, length)?;
    if scratch.response.status != StatusCode::SWITCHING_PROTOCOLS {
        return stream(cx, scratch, client, account, (exchange, download)).await;
    }
    // What happens in a tunnel is between the two: the endpoint has done its part.
    exchange.lease().complete(None, ambient::now());
    account.under_way.tunnel();
    let idle = account.pool.map_or(Duration::MAX, |pool| pool.shared.settings.timeouts.tunnel);
    (account.received, account.sent) = tunnel::run(client, &mut exchange, &mut scratch.watch, idle).await;
    client.persist = false;
    exchange.release(None, ambient::now());
    account.settle(cx, scratch);
    Ok(())
}

/// Filters the response head and queues it.
fn begin(
    scratch: &mut Scratch,
    client: &mut Client,
    account: &mut Account<'_>,
    length: Length,
) -> Result<(), ProxyError> {
    let Scratch { request, response, .. } = scratch;
    for (_, name, value) in account.added.iter() {
        response.fields.append(name, value);
    }
    for filter in account.route.iter().flat_map(|route| route.filters.iter()) {
        filter.on_response(response);
    }
    if account.listener.identity.via && account.branch.is_some() {
        let version = response.version;
        identity::via(&mut response.fields, version);
    }
    if let Some(value) = account.set_cookie {
        response.fields.append(b"set-cookie", value.as_bytes());
    }
    if let Some(rung) = account.degraded {
        response.fields.append(b"forebay-degraded", rung.as_bytes());
    }
    account.status = Some(response.status);
    client.start(response, length, &request.method).map_err(|_| ProxyError::ClientGone)
}

/// Passes on the response body. The connection to the endpoint is free as soon as it was read, and
/// the request is counted before its last bytes are written.
async fn stream(
    cx: &Connection,
    scratch: &mut Scratch,
    client: &mut Client,
    account: &mut Account<'_>,
    (exchange, mut download): (Box<Exchange>, Pump),
) -> Result<(), ProxyError> {
    let limits = Limits::of(account);
    let mut held = Some(exchange);
    let mut by_client = false;
    let streamed = poll_fn(|task| {
        loop {
            if let Some(exchange) = &mut held {
                exchange.poll_upload(client, task)?;
                let filled = download.fill(&mut exchange.channel, &mut client.channel, task);
                (account.received, account.sent) = (exchange.upload.moved, download.moved);
                filled.map_err(response_error)?;
            }
            if download.is_read_done()
                && let Some(exchange) = held.take()
            {
                exchange.release(download.grpc, ambient::now());
                account.settle(cx, scratch);
            }
            let flushed = client.channel.poll_flush(task).map_err(|_| ProxyError::ClientGone)?;
            by_client = flushed.is_pending();
            match &held {
                None if !by_client => return Poll::Ready(Ok(())),
                Some(_) if !by_client && !download.starved => continue,
                _ => {}
            }
            if !by_client && client.poll_gone(task).is_ready() {
                return Poll::Ready(Err(ProxyError::ClientGone));
            }
            let progress =
                client.progress() + held.as_ref().map_or(u64::MAX / 2, |exchange| exchange.progress());
            limits.keep_pace(&mut scratch.watch, by_client, client, held.as_deref());
            let idle = if by_client { limits.client.idle } else { limits.upstream_idle };
            return scratch
                .watch
                .poll(progress, idle, task)
                .map(|expired| Err(limits.error(expired, by_client)));
        }
    })
    .await;
    if let (Err(error), Some(exchange)) = (&streamed, &held) {
        let by_client = by_client || exchange.waits_for_client();
        exchange.lease().finish(error.outcome(by_client), ambient::now());
    }
    streamed
}

/// The time limits that hold while a response is passed on.
struct Limits<'a> {
    client: &'a ClientTimeouts,
    upstream_rate: Option<u64>,
    upstream_idle: Duration,
    request: Option<Duration>,
    patience: Option<Patience>,
}

impl<'a> Limits<'a> {
    fn of(account: &Account<'a>) -> Self {
        let route = account.route.map(|route| &route.timeouts);
        let pool = account.pool.map(|pool| &pool.shared.settings.timeouts);
        Self {
            client: &account.listener.timeouts,
            upstream_rate: pool.and_then(|pool| pool.min_rate),
            upstream_idle: route
                .and_then(|route| route.idle)
                .or(pool.map(|pool| pool.idle))
                .unwrap_or(Duration::MAX),
            request: route.and_then(|route| route.request),
            patience: account.patience,
        }
    }

    /// Holds whoever is waited for to its rate. While both sides wait for the other, as in calls of gRPC
    /// that stream both ways, neither is to blame.
    fn keep_pace(&self, watch: &mut Watch, by_client: bool, client: &Client, held: Option<&Exchange>) {
        match held {
            _ if by_client => watch.keep_pace(Side::Client, self.client.min_rate, client.progress()),
            Some(exchange) if !exchange.waits_for_client() => {
                watch.keep_pace(Side::Upstream, self.upstream_rate, exchange.progress());
            }
            _ => watch.keep_pace(Side::Upstream, None, 0),
        }
    }

    fn error(&self, expired: Expired, by_client: bool) -> ProxyError {
        match expired {
            // Once there is a head, the time of one try is over.
            Expired::Deadline | Expired::Try => overdue(self.request, self.patience),
            Expired::Slow if by_client => ProxyError::ClientSlow(self.client.min_rate.unwrap_or_default()),
            Expired::Slow => ProxyError::UpstreamSlow(self.upstream_rate.unwrap_or_default()),
            Expired::Idle if by_client => ProxyError::ClientStalled(self.client.idle),
            Expired::Idle => ProxyError::UpstreamIdle(self.upstream_idle),
        }
    }
}

/// Sends an answer of our own.
async fn give(
    cx: &Connection,
    scratch: &mut Scratch,
    client: &mut Client,
    account: &mut Account<'_>,
    reply: &Reply,
) -> Result<(), ProxyError> {
    respond::head_of(reply, &mut scratch.response);
    // An unread body would have to be read before the next request could be; closing is cheaper.
    client.persist &= client.channel.is_read_done();
    begin(scratch, client, account, Length::Exact(reply.body.len() as u64))?;
    if framing::may_have_body(&scratch.request.method, reply.status) && !reply.body.is_empty() {
        client.channel.push(reply.body.clone());
        account.sent = reply.body.len() as u64;
    }
    client.channel.push_end(None).map_err(|_| ProxyError::ClientGone)?;
    account.settle(cx, scratch);
    let client_idle = account.listener.timeouts.idle;
    poll_fn(|task| {
        if let Poll::Ready(flushed) = client.channel.poll_flush(task) {
            return Poll::Ready(flushed.map_err(|_| ProxyError::ClientGone));
        }
        let expired = scratch.watch.poll(client.progress(), client_idle, task);
        expired.map(|_| Err(ProxyError::ClientStalled(client_idle)))
    })
    .await
}

/// Ends a request that failed: by an answer, if none was begun and somebody is there to read it.
async fn fail(
    cx: &Connection,
    scratch: &mut Scratch,
    client: &mut Client,
    account: &mut Account<'_>,
    error: &ProxyError,
) {
    if account.is_settled() {
        client.persist = false;
        return;
    }
    account.fail(cx, error);
    if client.is_started() || matches!(error, ProxyError::ClientGone) {
        client.persist = false;
        account.settle(cx, scratch);
        return;
    }
    scratch.watch.start(ambient::now());
    let reply = respond::to_error(error, account, &scratch.request);
    if give(cx, scratch, client, account, &reply).await.is_err() {
        client.persist = false;
    }
}

fn response_error(error: PumpError) -> ProxyError {
    match error {
        PumpError::Read(cause) => ProxyError::Truncated(cause),
        PumpError::Write(_) | PumpError::TooLarge => ProxyError::ClientGone,
    }
}
