//! HTTP/1 with a client: request after request on one connection.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use super::client::Client;
use super::error::ProxyError;
use super::handle::handle;
use super::{Connection, Scratch};
use crate::ambient;
use crate::model::RequestHead;
use crate::net::http1::Conn;
use crate::net::timer::Timer;
use crate::observe::connections::Protocol;
use crate::observe::metrics::ClientTimeout;
use crate::proxy::live::Reach;
use crate::upstream::Listener;
use crate::wire::parse::{self, HeadLimits};
use crate::wire::{Length, Malformed, framing};

/// Waits for the first bytes of a connection; whether they are those of HTTP/2. They stay unread.
pub(super) async fn speaks_http2(cx: &Connection, conn: &Conn) -> bool {
    let mut timer = Timer::default();
    if wait_for_request(cx, conn, &mut timer).await.is_none() {
        return false;
    }
    let header = with_listener(cx, |listener| listener.timeouts.header).unwrap_or_default();
    timer.set(ambient::now() + header);
    poll_fn(|task| {
        loop {
            let (part, whole) =
                conn.with_unread(|unread| (0, (PREFACE.starts_with(unread), unread.starts_with(PREFACE))));
            if !part || whole {
                return Poll::Ready(whole);
            }
            if timer.poll_expired(task).is_ready() {
                return Poll::Ready(false);
            }
            match ready!(conn.poll_fill(task)) {
                Ok(true) => {}
                _ => return Poll::Ready(false),
            }
        }
    })
    .await
}

/// Serves the connection until it ends.
pub(super) async fn serve(cx: &Connection, conn: Rc<Conn>) {
    cx.live.protocol.set(Protocol::Http1);
    cx.live.reached(Reach::Http1(Rc::downgrade(&conn)));
    let mut timer = Timer::default();
    let mut counted = (0, 0);
    loop {
        let mut scratch = match wait_for_request(cx, &conn, &mut timer).await {
            Some(()) => cx.worker.take_scratch(),
            None => break,
        };
        // Boxed, so that an idle connection, of which there are many, holds no room for a request.
        let next = Box::pin(request(cx, &conn, &mut scratch, &mut timer)).await;
        cx.worker.give_scratch(scratch);
        count_bytes(cx, &conn, &mut counted);
        match next {
            Next::Request => conn.rest(),
            Next::Close { linger: wait } => {
                linger(&conn, &mut timer, wait).await;
                break;
            }
        }
    }
    count_bytes(cx, &conn, &mut counted);
}

/// Waits for the first byte of a request. `None` when the connection ends first.
async fn wait_for_request(cx: &Connection, conn: &Conn, timer: &mut Timer) -> Option<()> {
    if conn.unread_len() > 0 {
        return Some(());
    }
    let keep_alive = with_listener(cx, |listener| listener.timeouts.keep_alive)?;
    let idle_since = ambient::now();
    let arrived = poll_fn(|task| {
        match conn.poll_fill(task) {
            Poll::Ready(Ok(true)) => return Poll::Ready(true),
            Poll::Ready(_) => return Poll::Ready(false),
            Poll::Pending => {}
        }
        timer.set(idle_since + cx.keep_alive(keep_alive));
        timer.poll_expired(task).map(|()| {
            if !cx.is_ending() {
                with_listener(cx, |l| l.metrics.timed_out(cx.worker.shard, ClientTimeout::KeepAlive));
            }
            false
        })
    })
    .await;
    arrived.then_some(())
}

/// What follows a request.
enum Next {
    /// Another one may.
    Request,
    /// The end, after a while in which the client's remaining bytes are read, if there may be any.
    Close { linger: bool },
}

/// Reads one request and has it handled; says what may follow.
async fn request(cx: &Connection, conn: &Rc<Conn>, scratch: &mut Scratch, timer: &mut Timer) -> Next {
    let (header, limits) = with_listener(cx, limits_of).unwrap_or((Duration::ZERO, NO_LIMITS));
    let started = ambient::now();
    // What is refused before it was read must not look like the request before.
    scratch.request.clear();
    let read =
        poll_fn(|task| poll_head(conn, &mut scratch.request, limits, (timer, started + header), task)).await;
    let body = match read {
        Ok(true) => framing::of_request(&scratch.request).map_err(ProxyError::Malformed),
        Ok(false) => return Next::Close { linger: false },
        Err(HeadError::Malformed(fault)) => Err(ProxyError::Malformed(fault)),
        Err(HeadError::TimedOut) => Err(ProxyError::HeaderTimeout(header)),
    };
    if let Ok(length) = body {
        conn.begin_read(length);
    } else {
        // What follows cannot be told from a body, so nothing more is read as a request.
        conn.begin_read(Length::UntilClose);
    }
    let mut client = Client::http1(Rc::clone(conn), scratch.request.version);
    handle(cx, scratch, &mut client, body).await;
    match conn.is_read_done() {
        true if client.persist => Next::Request,
        is_read => Next::Close { linger: !(is_read && client.is_last && conn.unread_len() == 0) },
    }
}

enum HeadError {
    Malformed(Malformed),
    TimedOut,
}

/// Reads a request head. `Ok(false)` when the client left before it was whole.
fn poll_head(
    conn: &Conn,
    head: &mut RequestHead,
    limits: HeadLimits,
    (timer, by): (&mut Timer, Instant),
    task: &mut Context<'_>,
) -> Poll<Result<bool, HeadError>> {
    loop {
        let parsed = conn.with_unread(|unread| {
            let parsed = if may_be_whole(unread) { parse::request(unread, head, limits) } else { Ok(None) };
            let parsed = match parsed {
                Ok(None) if unread.len() >= limits.bytes => Err(parse::too_large(unread, limits.bytes)),
                other => other,
            };
            (parsed.ok().flatten().unwrap_or(0), parsed)
        });
        if parsed.map_err(HeadError::Malformed)?.is_some() {
            return Poll::Ready(Ok(true));
        }
        timer.set(by);
        if timer.poll_expired(task).is_ready() {
            return Poll::Ready(Err(HeadError::TimedOut));
        }
        match ready!(conn.poll_fill(task)) {
            Ok(true) => {}
            _ => return Poll::Ready(Ok(false)),
        }
    }
}

/// Whether parsing is worth while: the first bytes always are, and so is what begins with bytes
/// that no request line does, since garbage shows at once; after that only what has an empty
/// line, so that a head that trickles in is not parsed at every byte.
fn may_be_whole(unread: &[u8]) -> bool {
    unread.len() < FIRST_BYTES
        || memchr::memmem::find(unread, b"\n\r\n").is_some()
        || memchr::memmem::find(unread, b"\n\n").is_some()
        || unread.iter().take(FIRST_BYTES).any(|b| !matches!(b, b'\r' | b'\n' | b' '..=b'~'))
}

/// Closes so that the client gets to read what was written: our direction first, then, within
/// bounds, what the client still sends, because unread bytes would reset the connection.
async fn linger(conn: &Conn, timer: &mut Timer, wait: bool) {
    if poll_fn(|task| conn.poll_flush(task)).await.is_err() || conn.breaks_off() {
        return;
    }
    if !wait && conn.closes_by_itself() {
        return;
    }
    timer.set(ambient::now() + LINGER);
    let mut drained = 0;
    let mut shut = false;
    poll_fn(|task| {
        if timer.poll_expired(task).is_ready() {
            return Poll::Ready(());
        }
        if !shut {
            if ready!(conn.poll_shutdown(task)).is_err() {
                return Poll::Ready(());
            }
            shut = true;
        }
        while drained < LINGER_BYTES {
            drained += conn.with_unread(|unread| (unread.len(), unread.len()));
            match ready!(conn.poll_fill(task)) {
                Ok(true) => {}
                _ => return Poll::Ready(()),
            }
        }
        Poll::Ready(())
    })
    .await;
}

fn count_bytes(cx: &Connection, conn: &Conn, counted: &mut (u64, u64)) {
    let now = (conn.received(), conn.sent());
    with_listener(cx, |listener| {
        listener.metrics.received(cx.worker.shard, now.0 - counted.0);
        listener.metrics.sent(cx.worker.shard, now.1 - counted.1);
    });
    *counted = now;
}

/// Reads something of the listener that accepted the connection.
pub(super) fn with_listener<T>(cx: &Connection, read: impl FnOnce(&Listener) -> T) -> Option<T> {
    let local = cx.local();
    local.snapshot.listener(cx.live.listening.id).map(|listener| read(listener))
}

fn limits_of(listener: &Listener) -> (Duration, HeadLimits) {
    let limits = HeadLimits { bytes: listener.limits.head_bytes, fields: listener.limits.fields };
    (listener.timeouts.header, limits)
}

const NO_LIMITS: HeadLimits = HeadLimits { bytes: 0, fields: 0 };
/// Bytes of a head that are looked at before it is whole.
const FIRST_BYTES: usize = 16;
/// What an HTTP/2 client sends first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How long a closing connection is read for.
const LINGER: Duration = Duration::from_secs(2);
/// How many bytes of it.
const LINGER_BYTES: usize = 16 * 1024 * 1024;
