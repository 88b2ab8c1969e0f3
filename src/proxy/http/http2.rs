//! HTTP/2 with a client: one task for the connection, one for each request on it.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::{Builder, Connection as H2Connection, SendResponse};
use http::Request;

use super::client::Client;
use super::error::ProxyError;
use super::handle::handle;
use super::http1::with_listener;
use super::{Connection, head2};
use crate::ambient;
use crate::net::stream::{Rewound, Stream, Traffic};
use crate::net::timer::Timer;
use crate::observe::connections::Protocol;
use crate::observe::metrics::ClientTimeout;
use crate::observe::panics::{Place, contain};
use crate::proxy::live::Reach;
use crate::wire::{Length, framing};

/// Serves the connection, of which `first` was read already, until it ends.
pub(super) async fn serve(cx: Rc<Connection>, stream: Stream, first: Bytes) {
    cx.live.protocol.set(Protocol::Http2);
    let local = cx.local();
    let Some(listener) = local.snapshot.listener(cx.live.listening.id) else { return };
    let (limits, timeouts) = (&listener.limits, &listener.timeouts);
    let mut settings = Builder::new();
    settings
        .max_concurrent_streams(limits.concurrent_streams)
        .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER);
    let stream = Rewound::new(first, stream);
    let traffic = stream.traffic();
    cx.live.reached(Reach::Http2(Rc::downgrade(&traffic)));
    let handshake = tokio::time::timeout(timeouts.header, settings.handshake(stream));
    let keep_alive = timeouts.keep_alive;
    match handshake.await {
        Ok(Ok(connection)) => {
            drop(local);
            requests(&cx, (connection, &traffic), keep_alive).await;
        }
        Ok(Err(error)) => tracing::debug!(%error, "HTTP/2 preface failed"),
        Err(_) => listener.metrics.timed_out(cx.worker.shard, ClientTimeout::Header),
    }
}

/// Accepts requests until the client, the keep-alive timeout or a drain ends the connection.
async fn requests(
    cx: &Rc<Connection>,
    (mut connection, traffic): (H2Connection<Rewound, Bytes>, &Traffic),
    keep_alive: Duration,
) {
    let mut timer = Timer::default();
    let mut ending = false;
    let mut idle_since = None;
    let open = Rc::new(());
    loop {
        let next = poll_fn(|task| {
            if !ending && cx.is_ending() {
                ending = true;
                timer.clear();
                connection.graceful_shutdown();
            }
            let next = connection.poll_accept(task);
            count_bytes(cx, traffic);
            if next.is_ready() {
                return next;
            }
            if Rc::strong_count(&open) > 1 {
                timer.clear();
                idle_since = None;
            } else if !ending {
                let idle_since = *idle_since.get_or_insert_with(ambient::now);
                timer.set(idle_since + cx.keep_alive(keep_alive));
            } else if timer.is_clear() {
                timer.set(ambient::now() + GOODBYE);
            }
            if timer.poll_expired(task).is_pending() {
                return Poll::Pending;
            }
            if ending {
                return Poll::Ready(None);
            }
            ending = true;
            with_listener(cx, |l| l.metrics.timed_out(cx.worker.shard, ClientTimeout::KeepAlive));
            connection.graceful_shutdown();
            timer.set(ambient::now() + GOODBYE);
            match connection.poll_accept(task) {
                Poll::Pending => timer.poll_expired(task).map(|()| None),
                next => next,
            }
        })
        .await;
        match next {
            Some(Ok((request, respond))) => {
                timer.clear();
                idle_since = None;
                tokio::task::spawn_local(serve_request(Rc::clone(cx), request, respond, Rc::clone(&open)));
            }
            Some(Err(error)) => {
                tracing::debug!(%error, "HTTP/2 connection failed");
                break;
            }
            None => break,
        }
    }
}

fn count_bytes(cx: &Connection, traffic: &Traffic) {
    let (received, sent) = traffic.take();
    if received + sent == 0 {
        return;
    }
    with_listener(cx, |listener| {
        listener.metrics.received(cx.worker.shard, received);
        listener.metrics.sent(cx.worker.shard, sent);
    });
}

/// A panic ends the request alone: its stream is reset when what stands for it is dropped.
async fn serve_request(
    cx: Rc<Connection>,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
    _open: Rc<()>,
) {
    let served = pin!(answer(&cx, request, respond));
    if let Err(panic) = contain(Place::Request, served).await {
        with_listener(&cx, |listener| {
            tracing::error!(%panic, listener = %listener.name, peer = ?cx.peer.ip, "a panic ended a request");
        });
    }
}

async fn answer(cx: &Rc<Connection>, request: Request<RecvStream>, respond: SendResponse<Bytes>) {
    let mut scratch = cx.worker.take_scratch();
    let (parts, recv) = request.into_parts();
    let is_over = recv.is_end_stream();
    let fields = with_listener(cx, |listener| listener.limits.fields).unwrap_or_default();
    let read = head2::request_from(&Request::from_parts(parts, ()), &mut scratch.request, fields);
    let body = read.and_then(|()| match framing::content_length(&scratch.request.fields)? {
        _ if is_over => Ok(Length::Exact(0)),
        Some(n) => Ok(Length::Exact(n)),
        None => Ok(Length::Chunked),
    });
    let mut client = Client::http2(recv, respond);
    handle(cx, &mut scratch, &mut client, body.map_err(ProxyError::Malformed)).await;
    cx.worker.give_scratch(scratch);
}

/// How long a client has to acknowledge that a connection without requests ends.
const GOODBYE: Duration = Duration::from_secs(2);
/// Bytes that a client may send on one stream before we have passed them on.
const STREAM_WINDOW: u32 = 256 * 1024;
/// Bytes that a client may send on all streams of a connection before we have passed them on.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Bytes that may wait on one stream to be written.
const SEND_BUFFER: usize = 256 * 1024;
