//! The client's side of one exchange: its request body, and the response on its way out, in the
//! form that its version of HTTP has.

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{Method, StatusCode, Version};

use super::channel::{Channel, Http2Stream, Kept};
use super::head2;
use crate::model::ResponseHead;
use crate::model::field::Known;
use crate::net::http1::{Conn, Encoding};
use crate::wire::encode::{self, Persistence};
use crate::wire::{Length, framing};

/// A client with one request.
#[derive(Debug)]
pub(super) struct Client {
    /// The request body and the response body.
    pub(super) channel: Channel,
    /// Whether the connection may carry another request; nothing to HTTP/2.
    pub(super) persist: bool,
    /// Whether the client said that it sends nothing after this request.
    pub(super) is_last: bool,
    /// Whether some of the request body was taken, so that it cannot be had from here again.
    pub(super) body_begun: bool,
    /// What was taken of it, where all of that was kept, for a pool that stands in for the one that failed.
    pub(super) replay: Option<Kept>,
    version: Version,
    respond: Option<SendResponse<Bytes>>,
    started: bool,
}

impl Client {
    /// A request on an HTTP/1 connection.
    #[must_use]
    pub(super) fn http1(conn: Rc<Conn>, version: Version) -> Self {
        Self {
            channel: Channel::Http1(conn),
            persist: false,
            is_last: false,
            body_begun: false,
            replay: None,
            version,
            respond: None,
            started: false,
        }
    }

    /// A request on an HTTP/2 stream.
    #[must_use]
    pub(super) fn http2(body: RecvStream, respond: SendResponse<Bytes>) -> Self {
        let channel = Channel::Http2(Http2Stream::new(Some(body), None));
        Self {
            channel,
            persist: true,
            is_last: false,
            body_begun: false,
            replay: None,
            version: Version::HTTP_2,
            respond: Some(respond),
            started: false,
        }
    }

    /// Whether a response head was queued.
    #[must_use]
    pub(super) fn is_started(&self) -> bool {
        self.started
    }

    /// Passes on an interim response (1xx), to clients that can read one.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) async fn interim(&mut self, head: &ResponseHead) -> io::Result<()> {
        match &mut self.channel {
            Channel::Http1(conn) if self.version == Version::HTTP_11 => {
                conn.push(|out| encode::interim(out, head));
                poll_fn(|cx| conn.poll_flush(cx)).await
            }
            Channel::Http1(_) => Ok(()),
            Channel::Http2(_) => match &mut self.respond {
                Some(respond) => {
                    respond.send_informational(head2::response_to(head)).map_err(io::Error::other)
                }
                None => Ok(()),
            },
        }
    }

    /// Queues the response head for a body of `length`; the body follows through the channel.
    ///
    /// # Errors
    /// When the client has given up the stream.
    pub(super) fn start(
        &mut self,
        head: &mut ResponseHead,
        length: Length,
        method: &Method,
    ) -> io::Result<()> {
        self.started = true;
        let has_body = framing::may_have_body(method, head.status);
        match &mut self.channel {
            Channel::Http1(conn) => {
                let (encoding, chunked) = encoding(head, length, has_body, self.version);
                self.persist &= encoding != Encoding::Raw;
                let persistence = persistence(head.status, self.version, self.persist);
                conn.push(|out| encode::response(out, head, chunked, persistence));
                conn.begin_write(encoding);
                Ok(())
            }
            Channel::Http2(stream) => {
                state_length(head, length, has_body);
                let Some(mut respond) = self.respond.take() else {
                    return Err(io::ErrorKind::BrokenPipe.into());
                };
                let is_over = !has_body || length.is_empty();
                let send =
                    respond.send_response(head2::response_to(head), is_over).map_err(io::Error::other)?;
                stream.begin_write((!is_over).then_some(send));
                Ok(())
            }
        }
    }

    /// Ready when the client has gone, or with a pending request behind this one is not looked for.
    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.channel {
            Channel::Http1(conn) => {
                while conn.is_read_done() && conn.unread_len() < PIPELINED_MAX {
                    match conn.poll_fill(cx) {
                        Poll::Ready(Ok(true)) => {}
                        Poll::Ready(_) => return Poll::Ready(()),
                        Poll::Pending => break,
                    }
                }
                Poll::Pending
            }
            Channel::Http2(stream) => match &mut self.respond {
                Some(respond) => respond.poll_reset(cx).map(|_| ()),
                None => stream.poll_reset(cx).map(|_| ()),
            },
        }
    }

    /// A number that grows with every byte that is moved.
    #[must_use]
    pub(super) fn progress(&self) -> u64 {
        self.channel.progress()
    }
}

/// How the body goes to an HTTP/1 client, and whether the head must say that it is chunked.
fn encoding(head: &mut ResponseHead, length: Length, has_body: bool, version: Version) -> (Encoding, bool) {
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        return (Encoding::Raw, false);
    }
    state_length(head, length, has_body);
    match length {
        _ if !has_body => (Encoding::Nothing, false),
        Length::Exact(n) => (Encoding::Exact(n), false),
        _ if version == Version::HTTP_11 => (Encoding::Chunked, true),
        _ => (Encoding::Raw, false),
    }
}

/// States the length of a body where it is known and the head does not state it. Where there can
/// be no body none is stated (RFC 9110 §8.6), as readers exist that would wait for one.
fn state_length(head: &mut ResponseHead, length: Length, has_body: bool) {
    if head.status == StatusCode::NO_CONTENT {
        head.fields.remove_known(Known::ContentLength);
    }
    if let (true, Some(n), false) = (has_body, length.exact(), head.fields.has(Known::ContentLength)) {
        let mut digits = Vec::with_capacity(20);
        encode::decimal(&mut digits, n);
        head.fields.append_known(Known::ContentLength, &digits);
    }
}

fn persistence(status: StatusCode, version: Version, persist: bool) -> Persistence {
    match (status, version) {
        (StatusCode::SWITCHING_PROTOCOLS, _) => Persistence::Upgrade,
        (_, Version::HTTP_11) if persist => Persistence::Default,
        (_, _) if persist => Persistence::KeepAlive,
        (_, _) => Persistence::Close,
    }
}

/// Bytes of following requests that are read while one is under way.
const PIPELINED_MAX: usize = 64 * 1024;
