//! A client's connection that is to carry HTTP: TLS if the listener has it, then the version that was agreed
//! on or that the first bytes show.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use tokio_rustls::TlsAcceptor;

use super::{Connection, Peer, http1, http2};
use crate::net::http1::Conn;
use crate::net::stream::{Socket, Stream};
use crate::observe::metrics::ClientTimeout;
use crate::proxy::Arrival;
use crate::proxy::live::Tls;
use crate::upstream::Listener;

/// HTTP/2 and the handshake are boxed, so that an idle connection of HTTP/1, of which there are
/// many, does not hold room for them.
pub(in crate::proxy) async fn accepted(arrival: Arrival, listener: Arc<Listener>, socket: Socket) {
    let Arrival { worker, live, client } = arrival;
    let peer = Peer::new(client.map(|client| client.ip()), scheme_of(&listener));
    let cx = Connection { worker, live, peer };
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
    cx.live.secured(Tls::of(session));
    Some((Stream::ServerTls(Box::new(stream)), is_http2))
}
