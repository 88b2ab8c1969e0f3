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
use crate::observe::metrics::ClientTimeout;
use crate::observe::panics::{Place, contain};
use crate::proxy::Worker;
use crate::upstream::Listener;

/// Serves a connection that `listener` accepted from `peer`. It counts as open from the call on,
/// before anything of it is polled. A panic ends it alone.
pub fn serve(
    worker: Rc<Worker>,
    listener: usize,
    socket: Socket,
    peer: Option<SocketAddr>,
) -> impl Future<Output = ()> {
    let registered = worker.register();
    let entrance = Entrance::new(&worker, listener, socket);
    async move {
        registered.attend().await;
        match entrance {
            Entrance::Open(entry, socket) => {
                let served = pin!(accepted(&worker, listener, (socket, peer), entry));
                if let Err(panic) = contain(Place::Connection, served).await {
                    let local = worker.local();
                    let listener = local.snapshot.listener(listener).map(|listener| listener.name.as_str());
                    tracing::error!(%panic, listener, ?peer, "a panic ended a connection");
                }
            }
            Entrance::Refused(refused) => Box::pin(refused.tell()).await,
            Entrance::Closed => {}
        }
    }
}

/// HTTP/2 and the handshake are boxed, so that an idle connection of HTTP/1, of which there are
/// many, does not hold room for them.
async fn accepted(
    worker: &Rc<Worker>,
    listener: usize,
    (socket, peer): (Socket, Option<SocketAddr>),
    entry: Entry,
) {
    let shared = Arc::clone(&entry.listener);
    let ip = peer.map(|peer| peer.ip());
    match &shared.tls {
        None => {
            let peer = Peer::new(ip, "http");
            let cx = Connection { worker: Rc::clone(worker), listener, peer, tls_version: None, sni: None };
            plain(cx, Stream::Plain(socket)).await;
        }
        Some(config) => {
            if let Some((cx, stream, is_http2)) =
                Box::pin(handshake(worker, listener, (socket, ip), &shared, config)).await
            {
                if is_http2 {
                    Box::pin(http2::serve(Rc::new(cx), stream, Bytes::new())).await;
                } else {
                    http1::serve(&cx, Rc::new(Conn::new(stream, Bytes::new()))).await;
                }
            }
        }
    }
    drop(entry);
}

/// Counts a connection for as long as it lives, in metrics and against what there may be.
struct Entry {
    listener: Arc<Listener>,
    worker: Rc<Worker>,
}

/// Whether a connection is let in.
enum Entrance {
    Open(Entry, Socket),
    Refused(Refused),
    Closed,
}

impl Entrance {
    fn new(worker: &Rc<Worker>, listener: usize, socket: Socket) -> Self {
        let local = worker.local();
        let Some(listener) = local.snapshot.listener(listener) else { return Self::Closed };
        match Entry::new(worker, listener) {
            Ok(entry) => Self::Open(entry, socket),
            Err(why) => Refused::new(worker, listener, socket, why).map_or(Self::Closed, Self::Refused),
        }
    }
}

impl Entry {
    fn new(worker: &Rc<Worker>, listener: &Arc<Listener>) -> Result<Self, Refusal> {
        if !listener.enter() {
            return Err(Refusal::Listener);
        }
        if let Err(why) = worker.pressure.enter() {
            listener.leave();
            return Err(why);
        }
        listener.metrics.accepted(worker.shard);
        Ok(Self { listener: Arc::clone(listener), worker: Rc::clone(worker) })
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.listener.leave();
        self.worker.pressure.leave();
        self.listener.metrics.closed(self.worker.shard);
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
    worker: &Rc<Worker>,
    listener: usize,
    (socket, ip): (Socket, Option<std::net::IpAddr>),
    shared: &Listener,
    config: &Arc<rustls::ServerConfig>,
) -> Option<(Connection, Stream, bool)> {
    let accept = TlsAcceptor::from(Arc::clone(config)).accept(socket);
    let stream = match tokio::time::timeout(shared.timeouts.tls_handshake, accept).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            shared.metrics.tls_failed(worker.shard);
            tracing::debug!(listener = %shared.name, %error, "TLS handshake failed");
            return None;
        }
        Err(_) => {
            shared.metrics.tls_failed(worker.shard);
            shared.metrics.timed_out(worker.shard, ClientTimeout::TlsHandshake);
            return None;
        }
    };
    shared.metrics.tls_established(worker.shard);
    let (_, session) = stream.get_ref();
    let is_http2 = session.alpn_protocol() == Some(b"h2");
    let cx = Connection {
        worker: Rc::clone(worker),
        listener,
        peer: Peer::new(ip, "https"),
        tls_version: session.protocol_version().and_then(tls_version),
        sni: session.server_name().map(Into::into),
    };
    Some((cx, Stream::ServerTls(Box::new(stream)), is_http2))
}

fn tls_version(version: rustls::ProtocolVersion) -> Option<&'static str> {
    match version {
        rustls::ProtocolVersion::TLSv1_2 => Some("TLSv1.2"),
        rustls::ProtocolVersion::TLSv1_3 => Some("TLSv1.3"),
        _ => None,
    }
}
