//! TLS of a client's that ends here, from a socket of which the first message may have been read already.
//! Knows nothing of what is spoken over it.

use std::sync::Arc;
use std::time::Duration;

use tokio_rustls::{TlsAcceptor, server};

use super::Arrival;
use super::live::Tls;
use crate::net::stream::Socket;
use crate::observe::metrics::ClientTimeout;
use crate::upstream::Listener;

/// Shakes hands as `listener`, within `limit`. `None` when the client does not get that far, which is
/// counted, or when the listener has no TLS.
pub(super) async fn end_tls(
    arrival: &Arrival,
    listener: &Listener,
    limit: Duration,
    socket: Socket,
) -> Option<Box<server::TlsStream<Socket>>> {
    let config = listener.tls.as_ref()?;
    let shard = arrival.worker.shard;
    let accept = TlsAcceptor::from(Arc::clone(config)).accept_with(socket, |session| {
        // What fails here fails again with the next message, after the client was told why.
        let _ = take(session, &arrival.first);
    });
    let stream = match tokio::time::timeout(limit, accept).await {
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
    arrival.live.secured(Tls::of(stream.get_ref().1));
    Some(Box::new(stream))
}

/// Has the session take what was read before it began.
fn take(session: &mut rustls::ServerConnection, mut first: &[u8]) -> std::io::Result<()> {
    while !first.is_empty() && session.read_tls(&mut first)? > 0 {
        session.process_new_packets().map_err(std::io::Error::other)?;
    }
    Ok(())
}
