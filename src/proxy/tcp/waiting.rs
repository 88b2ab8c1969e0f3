//! Whether a client is still there that waits to be connected to an endpoint. Nothing is read of what it
//! sends meanwhile: that is the endpoint's.

use std::future::pending;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::io::{Interest, ReadBuf};

use crate::net::stream::{Socket, Stream};
use crate::proxy::admit::Waiter;

/// A client that waits for its turn or for an endpoint. One that has sent nothing and ends its direction
/// has left: whoever asks for something by half-closing is rare, and whoever gives up is not.
pub(super) struct Queued<'a>(pub(super) &'a Stream);

impl Waiter for Queued<'_> {
    fn begins(&mut self) {}

    fn poll_gone(&mut self, task: &mut Context<'_>) -> Poll<()> {
        let Socket::Tcp(tcp) = self.0.socket() else { return Poll::Pending };
        let mut byte = [0];
        let mut seen = ReadBuf::new(&mut byte);
        match tcp.poll_peek(task, &mut seen) {
            Poll::Ready(Ok(0) | Err(_)) => Poll::Ready(()),
            Poll::Ready(Ok(_)) | Poll::Pending => Poll::Pending,
        }
    }

    fn has_waited(&mut self, _since: Instant, _until: Instant) {}
}

/// Completes once the client has reset its connection.
pub(super) async fn until_reset(client: &Stream) {
    let failed = match client.socket() {
        Socket::Tcp(tcp) => tcp.ready(Interest::ERROR).await,
        Socket::Unix(unix) => unix.ready(Interest::ERROR).await,
    };
    if failed.is_err() {
        // Nothing can be learnt of it here.
        pending::<()>().await;
    }
}
