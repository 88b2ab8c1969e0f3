//! A `tls` listener's connection: what the client asks for is read, and nothing of it changed. It decides
//! which pool or listener the connection is for; the bytes are passed on by others.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::live::Tls;
use super::tcp::{self, Accepted};
use super::told::told_of_none;
use super::{Arrival, Live};
use crate::ambient;
use crate::net::stream::{Socket, Stream};
use crate::observe::ended::StreamResult;
use crate::observe::metrics::HelloResult;
use crate::upstream::service::{TlsService, TlsTarget};
use crate::upstream::{Listener, Service};
use crate::wire::client_hello::{ClientHello, NoHello, Reader};

/// A connection that another listener is to serve.
#[derive(Debug)]
pub(super) struct Handed {
    /// The number of that listener.
    pub(super) to: usize,
    /// The connection.
    pub(super) socket: Socket,
    /// What was read of it already.
    pub(super) first: Bytes,
    /// Who is at the other end.
    pub(super) client: Option<SocketAddr>,
}

/// Serves a connection that was let in: until it ends, or until it is another listener's.
pub(super) async fn accepted(
    arrival: Arrival,
    listener: Arc<Listener>,
    mut socket: Socket,
) -> Option<Handed> {
    let Service::Tls(service) = &listener.service else { return None };
    let begun = ambient::now();
    let shard = arrival.worker.shard;
    let limit = service.timeouts.client_hello;
    // Boxed, so that an open connection does not hold room for what came before.
    let read = Box::pin(tokio::time::timeout(limit, read(&mut socket))).await;
    let (hello, first) = match read.unwrap_or(Err(Unread::TimedOut)) {
        Ok(read) => read,
        Err(error) => {
            listener.metrics.hello(shard, error.result());
            told_of_none(&arrival.worker, &listener, &arrival.live, error.ended());
            let error = &error as &dyn std::error::Error;
            tracing::debug!(listener = %listener.name, error, "there was no ClientHello");
            return None;
        }
    };
    match target(service, hello, &arrival.live) {
        Some(TlsTarget::Pools(split)) => {
            listener.metrics.hello(shard, HelloResult::PassedOn);
            let accepted = Accepted { stream: Stream::Plain(socket), first, begun };
            tcp::pass(arrival, &listener, (split, &service.timeouts), accepted).await;
            None
        }
        Some(TlsTarget::Listener(to)) => {
            listener.metrics.hello(shard, HelloResult::HandedOver);
            Some(Handed { to: *to, socket, first, client: arrival.client })
        }
        None => {
            listener.metrics.hello(shard, HelloResult::Unmatched);
            told_of_none(&arrival.worker, &listener, &arrival.live, StreamResult::Denied);
            // There is room for it in a socket to which nothing was written, or the client is gone.
            let _ = socket.write_all(&UNRECOGNIZED_NAME).await;
            None
        }
    }
}

/// Where the connection goes, of which `live` learns what its client asks for.
fn target<'a>(service: &'a TlsService, hello: ClientHello, live: &Rc<Live>) -> Option<&'a TlsTarget> {
    let offers = |protocol: &[u8]| hello.alpn.offers(protocol);
    let target = service.sni.find(hello.server_name.as_deref(), offers).or(service.otherwise.as_ref());
    if !matches!(target, Some(TlsTarget::Listener(_))) {
        let alpn = hello.alpn.iter().next().map(Into::into);
        live.secured(Tls { version: None, sni: hello.server_name, alpn });
    }
    target
}

/// Why there is no ClientHello.
#[derive(Debug, Error)]
enum Unread {
    /// It is none.
    #[error("the client did not begin TLS")]
    Malformed(#[from] NoHello),
    /// The client closed or broke the connection.
    #[error("the client left")]
    Closed(#[source] io::Error),
    /// There was no more time.
    #[error("it did not come in time (timeouts.client_hello)")]
    TimedOut,
}

impl Unread {
    fn result(&self) -> HelloResult {
        match self {
            Self::Malformed(_) => HelloResult::Malformed,
            Self::Closed(_) => HelloResult::Closed,
            Self::TimedOut => HelloResult::TimedOut,
        }
    }

    fn ended(&self) -> StreamResult {
        match self {
            Self::Malformed(_) | Self::TimedOut => StreamResult::Malformed,
            Self::Closed(_) => StreamResult::ClientReset,
        }
    }
}

/// Reads the ClientHello; gives also all that was read.
async fn read(socket: &mut Socket) -> Result<(ClientHello, Bytes), Unread> {
    let mut reader = Reader::default();
    let mut received = BytesMut::with_capacity(USUAL_HELLO);
    loop {
        if socket.read_buf(&mut received).await.map_err(Unread::Closed)? == 0 {
            return Err(Unread::Closed(io::ErrorKind::UnexpectedEof.into()));
        }
        if let Some(hello) = reader.read(&received)? {
            return Ok((hello, received.freeze()));
        }
    }
}

/// A fatal alert that says that there is nobody of this name (RFC 6066 §3), as a record.
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 1, 0, 2, 2, 112];
/// Bytes that a ClientHello seldom exceeds, one with a share of a post-quantum key included.
const USUAL_HELLO: usize = 2048;
