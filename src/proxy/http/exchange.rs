//! One request at one endpoint, from the connection to the last byte of the response: the request
//! body on its way there, and the connection on its way back into its pool.

use std::future::Future;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Instant;

use h2::client::ResponseFuture;
use http::Method;

use super::channel::{Channel, Http2Stream, Pump, PumpError};
use super::client::Client;
use super::error::ProxyError;
use super::{head2, hop};
use crate::health::Outcome;
use crate::model::ResponseHead;
use crate::net::http1::{Conn, Encoding, Frame, ReadError};
use crate::upstream::connection::Http1Connection;
use crate::upstream::http2_pool::StreamPermit;
use crate::upstream::{Lease, LocalEndpoint};
use crate::wire::parse::HeadLimits;
use crate::wire::{Length, Malformed, framing, parse};

/// A request that was sent to an endpoint. Boxed from the start, because it is handed on a lot.
#[derive(Debug)]
pub(super) struct Exchange {
    /// The request body to the endpoint, the response body from it.
    pub(super) channel: Channel,
    /// The request body on its way.
    pub(super) upload: Pump,
    lease: Lease,
    held: Held,
    /// The upload is over, well or not.
    upload_over: bool,
    /// The endpoint stopped reading; whatever it still answers, the connection is spent.
    upload_failed: bool,
    idle_limit: usize,
}

#[derive(Debug)]
enum Held {
    Http1 { connection: Http1Connection, sent_before: u64, persist: bool },
    Http2 { permit: StreamPermit, response: Option<ResponseFuture> },
}

/// A request that was sent and that nobody is charged with yet.
#[derive(Debug)]
pub(super) struct Sent {
    channel: Channel,
    held: Held,
    idle_limit: usize,
}

impl Sent {
    /// On an HTTP/1.1 connection on which the request head is queued.
    #[must_use]
    pub(super) fn http1(connection: Http1Connection, body: Length, idle_limit: usize) -> Self {
        let conn = Rc::clone(&connection.conn);
        conn.begin_write(Encoding::of(body));
        let held = Held::Http1 { connection, sent_before: conn.sent(), persist: false };
        Self { channel: Channel::Http1(conn), held, idle_limit }
    }

    /// On an HTTP/2 stream on which the request head was sent.
    #[must_use]
    pub(super) fn http2(permit: StreamPermit, response: ResponseFuture, stream: Http2Stream) -> Self {
        let held = Held::Http2 { permit, response: Some(response) };
        Self { channel: Channel::Http2(stream), held, idle_limit: 0 }
    }
}

impl Exchange {
    /// The exchange of a request that was sent under `lease`, with this body still to be sent.
    #[must_use]
    pub(super) fn new(lease: Lease, sent: Sent, upload: Pump) -> Box<Self> {
        let Sent { channel, held, idle_limit } = sent;
        Box::new(Self { channel, upload, lease, held, upload_over: false, upload_failed: false, idle_limit })
    }

    /// The use of the endpoint.
    #[must_use]
    pub(super) fn lease(&self) -> &Lease {
        &self.lease
    }

    /// The endpoint.
    #[must_use]
    pub(super) fn endpoint(&self) -> &Rc<LocalEndpoint> {
        self.lease.endpoint()
    }

    /// Gives up the exchange, but not the endpoint.
    #[must_use]
    pub(super) fn into_lease(self: Box<Self>) -> Lease {
        self.lease
    }

    /// Whether the connection had carried a request before this one.
    #[must_use]
    pub(super) fn is_on_reused_connection(&self) -> bool {
        match &self.held {
            Held::Http1 { connection, .. } => connection.is_reused(),
            Held::Http2 { permit, .. } => permit.is_reused(),
        }
    }

    /// Whether not a byte of the request left us. Unknown for HTTP/2, where it counts as sent.
    #[must_use]
    pub(super) fn is_unsent(&self) -> bool {
        match &self.held {
            Held::Http1 { connection, sent_before, .. } => connection.conn.sent() == *sent_before,
            Held::Http2 { .. } => false,
        }
    }

    /// The number of the first HTTP/2 connection on which to send the request again. One that
    /// refuses says nothing of the next; but where one is dead, all that were open may be.
    #[must_use]
    pub(super) fn resend_from(&self, error: &ProxyError) -> u64 {
        match &self.held {
            Held::Http2 { permit, .. } if matches!(error, ProxyError::Refused | ProxyError::LeftOut) => {
                permit.number() + 1
            }
            _ => self.endpoint().http2.opened(),
        }
    }

    /// Whether an HTTP/2 connection has been silent since the request was sent, for all its streams:
    /// then the path may be dead, and the next request should not meet the same.
    #[must_use]
    fn is_silent(&self) -> bool {
        matches!(&self.held, Held::Http2 { permit, .. } if permit.is_silent())
    }

    /// Learns what an error before the response says of the connection.
    pub(super) fn learn_from(&self, error: &ProxyError) {
        match error {
            ProxyError::Refused | ProxyError::LeftOut | ProxyError::NoResponse(_) => {
                self.found_closed();
                self.end_stream();
            }
            ProxyError::UpstreamIdle(_) if self.is_silent() => self.found_closed(),
            _ => {}
        }
    }

    /// Takes note that the endpoint has ended the stream, so that it need not be reset.
    fn end_stream(&self) {
        if let Held::Http2 { permit, .. } = &self.held {
            permit.end();
        }
    }

    /// Takes note that the endpoint had closed the connection, or was about to.
    fn found_closed(&self) {
        match &self.held {
            Held::Http1 { connection, .. } if !connection.is_reused() => {}
            Held::Http1 { connection, .. } => self.endpoint().http1.found_closed(connection),
            Held::Http2 { permit, .. } => permit.retire(),
        }
    }

    /// Moves the request body on.
    ///
    /// # Errors
    /// When the client fails or sends too much. An endpoint that stops reading is no error yet: its
    /// response may be under way.
    pub(super) fn poll_upload(
        &mut self,
        client: &mut Client,
        cx: &mut Context<'_>,
    ) -> Result<(), ProxyError> {
        if self.upload_over {
            return Ok(());
        }
        let uploaded = self.upload.poll(&mut client.channel, &mut self.channel, cx);
        client.body_begun |= self.upload.moved > 0;
        match uploaded {
            Poll::Pending => {}
            Poll::Ready(Ok(())) => self.upload_over = true,
            Poll::Ready(Err(PumpError::Write(_))) => {
                self.upload_over = true;
                self.upload_failed = true;
            }
            Poll::Ready(Err(PumpError::Read(ReadError::Malformed(fault)))) => {
                return Err(ProxyError::ClientBody(fault));
            }
            Poll::Ready(Err(PumpError::Read(_))) => return Err(ProxyError::ClientGone),
            Poll::Ready(Err(PumpError::TooLarge)) => {
                return Err(ProxyError::TooLarge(self.upload.limit.unwrap_or_default()));
            }
        }
        Ok(())
    }

    /// Whether the client is what the exchange waits for.
    #[must_use]
    pub(super) fn waits_for_client(&self) -> bool {
        !self.upload_over && self.upload.starved
    }

    /// Reads a response head, interim ones included.
    pub(super) fn poll_head(
        &mut self,
        head: &mut ResponseHead,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), ProxyError>> {
        match &mut self.held {
            Held::Http1 { connection, .. } => poll_http1_head(&connection.conn, head, cx),
            Held::Http2 { response, .. } => {
                let Channel::Http2(stream) = &mut self.channel else { return Poll::Pending };
                poll_http2_head(response, stream, head, cx)
            }
        }
    }

    /// Takes note of the response head: how long the body is and whether the connection persists.
    /// Fields that speak to us only are taken out.
    ///
    /// # Errors
    /// When the length is ambiguous.
    pub(super) fn begin_response(
        &mut self,
        method: &Method,
        head: &mut ResponseHead,
    ) -> Result<Length, Malformed> {
        self.upload.forget();
        match &mut self.held {
            Held::Http1 { connection, persist, .. } => {
                let length = framing::of_response(method, head)?;
                *persist = hop::of_response(head) && length != Length::UntilClose;
                connection.conn.begin_read(length);
                Ok(length)
            }
            Held::Http2 { .. } => {
                hop::of_response(head);
                if self.channel.is_read_done() || !framing::may_have_body(method, head.status) {
                    return Ok(Length::Exact(0));
                }
                Ok(framing::content_length(&head.fields)?.map_or(Length::Chunked, Length::Exact))
            }
        }
    }

    /// Gives up a response of which `head` came. The connection can be used again if the rest is there
    /// too, as it is for a short answer; nobody waits for it.
    pub(super) fn discard(mut self: Box<Self>, method: &Method, head: &mut ResponseHead, now: Instant) {
        if self.begin_response(method, head).is_err() {
            return;
        }
        let mut task = Context::from_waker(Waker::noop());
        for _ in 0..DISCARDED_FRAMES {
            match self.channel.poll_frame(&mut task) {
                Poll::Ready(Ok(Frame::Data(_))) => {}
                Poll::Ready(Ok(Frame::End(_))) => return self.release(None, now),
                _ => return,
            }
        }
    }

    /// Turns the exchange into a tunnel: bytes both ways until both have ended.
    pub(super) fn begin_tunnel(&mut self, client: &Client) {
        for channel in [&self.channel, &client.channel] {
            if let Channel::Http1(conn) = channel {
                conn.begin_read(Length::UntilClose);
                conn.begin_write(Encoding::Raw);
            }
        }
        self.upload = Pump::default();
        self.upload_over = false;
    }

    /// A number that grows with every byte that is moved.
    #[must_use]
    pub(super) fn progress(&self) -> u64 {
        self.channel.progress()
    }

    /// Ends the exchange after the last byte of the response: the connection goes back to its pool
    /// if it can carry another request.
    pub(super) fn release(self: Box<Self>, trailers: Option<Outcome>, now: Instant) {
        self.end_stream();
        let Self { channel, lease, held, .. } = *self;
        // The connection is nobody else's from here on, so that it is closed when it is counted so.
        drop(channel);
        lease.complete(trailers, now);
        if let Held::Http1 { connection, persist, .. } = held {
            connection.count_bytes();
            let clean = self.upload_over && !self.upload_failed && connection.conn.unread_len() == 0;
            if persist && clean {
                lease.endpoint().http1.put(connection, self.idle_limit, now);
            }
        }
    }
}

fn poll_http1_head(
    conn: &Conn,
    head: &mut ResponseHead,
    cx: &mut Context<'_>,
) -> Poll<Result<(), ProxyError>> {
    loop {
        let parsed = conn.with_unread(|unread| {
            if unread.is_empty() {
                return (0, Ok(None));
            }
            let parsed = parse::response(unread, head, LIMITS);
            (parsed.ok().flatten().unwrap_or(0), parsed)
        });
        if parsed.map_err(ProxyError::BadResponse)?.is_some() {
            return Poll::Ready(Ok(()));
        }
        let got_more = ready!(conn.poll_fill(cx)).map_err(ProxyError::NoResponse)?;
        if !got_more {
            let begun = conn.unread_len() > 0;
            return Poll::Ready(Err(if begun {
                ProxyError::Truncated(ReadError::Truncated)
            } else {
                ProxyError::NoResponse(std::io::ErrorKind::UnexpectedEof.into())
            }));
        }
    }
}

fn poll_http2_head(
    response: &mut Option<ResponseFuture>,
    stream: &mut Http2Stream,
    head: &mut ResponseHead,
    cx: &mut Context<'_>,
) -> Poll<Result<(), ProxyError>> {
    let Some(future) = response else { return Poll::Pending };
    if let Poll::Ready(Some(interim)) = future.poll_informational(cx) {
        head2::response_from(&interim.map_err(http2_error)?, head);
        return Poll::Ready(Ok(()));
    }
    let answered = ready!(std::pin::Pin::new(future).poll(cx)).map_err(http2_error)?;
    head2::response_from(&answered, head);
    stream.begin_read(answered.into_body());
    *response = None;
    Poll::Ready(Ok(()))
}

/// What an HTTP/2 error before the response means. A stream that was refused, or that a graceful
/// GOAWAY left out, was not processed (RFC 9113 §8.7).
pub(super) fn http2_error(error: h2::Error) -> ProxyError {
    let graceful = error.is_go_away() && error.is_remote() && error.reason() == Some(h2::Reason::NO_ERROR);
    if graceful {
        return ProxyError::LeftOut;
    }
    if error.reason() == Some(h2::Reason::REFUSED_STREAM) {
        return ProxyError::Refused;
    }
    if error.is_library() || (error.is_reset() && !error.is_remote()) {
        return ProxyError::BadResponse(Malformed::StatusLine);
    }
    ProxyError::NoResponse(std::io::Error::other(error))
}

/// Pieces of the body of a response that are read to save its connection.
const DISCARDED_FRAMES: usize = 4;
const LIMITS: HeadLimits = HeadLimits { bytes: 128 * 1024, fields: crate::model::settings::MAX_FIELDS };
