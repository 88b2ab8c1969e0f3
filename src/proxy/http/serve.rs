//! A client's connection from its acceptance: TLS if the listener has it, then the version of HTTP
//! that was agreed on or that the first bytes show.

use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use tokio_rustls::TlsAcceptor;

use super::refuse::Refused;
use super::{Connection, Peer, http1, http2};
use crate::limit::Refusal;
use crate::net::http1::Conn;
use crate::net::stream::{Socket, Stream};
use crate::observe::metrics::{ClientTimeout, ListenerMetrics};
use crate::observe::panics::{Place, contain};
use crate::proxy::live::Tls;
use crate::proxy::{Listening, Worker};
use crate::upstream::Listener;
use crate::upstream::snapshot::Entered;

/// Serves a connection that `listening` accepted from `peer`. It counts as open from the call on,
/// before anything of it is polled. A panic ends it alone.
pub fn serve(
    worker: Rc<Worker>,
    listening: Rc<Listening>,
    socket: Socket,
    peer: Option<SocketAddr>,
) -> impl Future<Output = ()> {
    let registered = worker.register(&listening, peer);
    let entrance = Entrance::new(&worker, &listening, socket);
    async move {
        registered.attend().await;
        match entrance {
            Entrance::Open(entry, socket, listener) => {
                let cx = Connection {
                    worker: Rc::clone(&worker),
                    live: Rc::clone(registered.live()),
                    peer: Peer::new(peer.map(|peer| peer.ip()), scheme_of(&listener)),
                };
                let served = pin!(accepted(cx, listener, socket));
                if let Err(panic) = contain(Place::Connection, served).await {
                    let local = listening.local(&worker);
                    let listener =
                        local.snapshot.listener(listening.id).map(|listener| listener.name.as_str());
                    tracing::error!(%panic, listener, ?peer, "a panic ended a connection");
                }
                drop(entry);
            }
            Entrance::Refused(refused) => Box::pin(refused.tell()).await,
            Entrance::Closed => {}
        }
    }
}

/// HTTP/2 and the handshake are boxed, so that an idle connection of HTTP/1, of which there are
/// many, does not hold room for them.
async fn accepted(cx: Connection, listener: Arc<Listener>, socket: Socket) {
    let Some(config) = &listener.tls else {
        // Whatever is configured later is for the connection too: it holds nothing of before.
        drop(listener);
        return plain(cx, Stream::Plain(socket)).await;
    };
    let Some((stream, is_http2)) = Box::pin(handshake(&cx, socket, &listener, config)).await else { return };
    drop(listener);
    if is_http2 {
        Box::pin(http2::serve(Rc::new(cx), stream, Bytes::new())).await;
    } else {
        http1::serve(&cx, Rc::new(Conn::new(stream, Bytes::new()))).await;
    }
}

fn scheme_of(listener: &Listener) -> &'static str {
    if listener.tls.is_some() { "https" } else { "http" }
}

/// Counts a connection for as long as it lives, in metrics and against what there may be.
struct Entry {
    metrics: Arc<ListenerMetrics>,
    worker: Rc<Worker>,
    /// Given back with it.
    _entered: Entered,
}

/// Whether a connection is let in.
enum Entrance {
    Open(Entry, Socket, Arc<Listener>),
    Refused(Refused),
    Closed,
}

impl Entrance {
    fn new(worker: &Rc<Worker>, listening: &Listening, socket: Socket) -> Self {
        let local = listening.local(worker);
        let Some(listener) = local.snapshot.listener(listening.id) else { return Self::Closed };
        match Entry::new(worker, listener) {
            Ok(entry) => Self::Open(entry, socket, Arc::clone(listener)),
            Err(why) => Refused::new(worker, listener, socket, why).map_or(Self::Closed, Self::Refused),
        }
    }
}

impl Entry {
    fn new(worker: &Rc<Worker>, listener: &Listener) -> Result<Self, Refusal> {
        let entered = listener.enter().ok_or(Refusal::Listener)?;
        worker.pressure.enter()?;
        listener.metrics.accepted(worker.shard);
        Ok(Self { metrics: Arc::clone(&listener.metrics), worker: Rc::clone(worker), _entered: entered })
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.worker.pressure.leave();
        self.metrics.closed(self.worker.shard);
    }
}

/// Without ALPN, HTTP/2 by prior knowledge shows in the first bytes (RFC 9113 §3.3).
async fn plain(cx: Connection, stream: Stream) {
    let conn = Rc::new(Conn::new(stream, Bytes::new()));
    if !http1::speaks_http2(&cx, &conn).await {
        return http1::serve(&cx, conn).await;
    }
    if let Ok(conn) = Rc::try_unwrap(conn) {
        let (stream, first) = conn.into_parts();
        Box::pin(http2::serve(Rc::new(cx), stream, first)).await;
    }
}

async fn handshake(
    cx: &Connection,
    socket: Socket,
    listener: &Listener,
    config: &Arc<rustls::ServerConfig>,
) -> Option<(Stream, bool)> {
    let accept = TlsAcceptor::from(Arc::clone(config)).accept(socket);
    let shard = cx.worker.shard;
    let stream = match tokio::time::timeout(listener.timeouts.tls_handshake, accept).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            listener.metrics.tls_failed(shard);
            tracing::debug!(listener = %listener.name, %error, "TLS handshake failed");
            return None;
        }
        Err(_) => {
            listener.metrics.tls_failed(shard);
            listener.metrics.timed_out(shard, ClientTimeout::TlsHandshake);
            return None;
        }
    };
    listener.metrics.tls_established(shard);
    let (_, session) = stream.get_ref();
    let is_http2 = session.alpn_protocol() == Some(b"h2");
    let version = session.protocol_version().and_then(tls_version);
    cx.live.secured(Tls { version, sni: session.server_name().map(Into::into) });
    Some((Stream::ServerTls(Box::new(stream)), is_http2))
}

fn tls_version(version: rustls::ProtocolVersion) -> Option<&'static str> {
    match version {
        rustls::ProtocolVersion::TLSv1_2 => Some("TLSv1.2"),
        rustls::ProtocolVersion::TLSv1_3 => Some("TLSv1.3"),
        _ => None,
    }
}
