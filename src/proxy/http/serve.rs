//! A client's connection that is to carry HTTP: TLS if the listener has it, then the version that was agreed
//! on or that the first bytes show.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;

use super::{Connection, Peer, http1, http2};
use crate::net::http1::Conn;
use crate::net::stream::{Socket, Stream};
use crate::proxy::handshake::end_tls;
use crate::proxy::{Arrival, Live};
use crate::upstream::Listener;

/// HTTP/2 and the handshake are boxed, so that an idle connection of HTTP/1, of which there are
/// many, does not hold room for them.
pub(in crate::proxy) async fn accepted(arrival: Arrival, listener: Arc<Listener>, socket: Socket) {
    let client = arrival.client.map(|client| client.ip());
    let peer = Peer::new(client, scheme_of(&listener, &arrival.live));
    let of = |arrival: Arrival| Connection { worker: arrival.worker, live: arrival.live, peer };
    if listener.tls.is_none() {
        // Whatever is configured later is for the connection too: it holds nothing of before.
        drop(listener);
        return plain(of(arrival), Stream::Plain(socket)).await;
    }
    let limit = listener.timeouts.tls_handshake;
    let Some(stream) = Box::pin(end_tls(&arrival, &listener, limit, socket)).await else { return };
    drop(listener);
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let (cx, stream) = (of(arrival), Stream::ServerTls(stream));
    if is_http2 {
        Box::pin(http2::serve(Rc::new(cx), stream, Bytes::new())).await;
    } else {
        http1::serve(&cx, Rc::new(Conn::new(stream, Bytes::new()))).await;
    }
}

/// That of the client, who may speak TLS with a proxy before us.
fn scheme_of(listener: &Listener, live: &Live) -> &'static str {
    if listener.tls.is_some() || live.introduced().is_some_and(|introduced| introduced.told.tls.is_some()) {
        "https"
    } else {
        "http"
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
