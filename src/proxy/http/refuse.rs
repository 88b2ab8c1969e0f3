//! A client's connection that is not taken: it is told so and why, without a wait for its request,
//! and ends so that it can read that. How many are told at once is bounded; the rest are closed.

use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::respond;
use crate::limit::Refusal;
use crate::net::stream::Socket;
use crate::proxy::Worker;
use crate::upstream::{Listener, Service};

/// A connection that is to be told that it is refused.
#[derive(Debug)]
pub(in crate::proxy) struct Refused {
    socket: Socket,
    why: Refusal,
    worker: Rc<Worker>,
}

impl Refused {
    /// Refuses a connection. `None` where it was closed at once: over TLS it would take a handshake to say
    /// why, other protocols have words of their own, and many that are told already are enough.
    pub(in crate::proxy) fn new(
        worker: &Rc<Worker>,
        listener: &Listener,
        socket: Socket,
        why: Refusal,
    ) -> Option<Self> {
        listener.metrics.turned_away(worker.shard, why);
        // Not left to the connection's task: until the tasks have their turn, a burst would hold more
        // descriptors than there are.
        let may_hear = listener.tls.is_none() && listener.service == Service::Http;
        let told = may_hear && why.is_told() && worker.pressure.begin_parting();
        told.then(|| Self { socket, why, worker: Rc::clone(worker) })
    }

    /// Tells the client, which gets only so much time for it.
    pub(in crate::proxy) async fn tell(mut self) {
        let _ = timeout(PARTING, tell(&mut self.socket, self.why)).await;
    }
}

impl Drop for Refused {
    fn drop(&mut self) {
        self.worker.pressure.end_parting();
    }
}

/// Writes the response and ends our direction; then reads what the client sends until it ends its
/// own, because bytes that are left unread would reset the connection and take the response away.
async fn tell(socket: &mut Socket, why: Refusal) -> std::io::Result<()> {
    socket.write_all(&respond::to_connection(why)).await?;
    socket.shutdown().await?;
    let mut buffer = [0; 4096];
    let mut read = 0;
    while read < MOST {
        match socket.read(&mut buffer).await? {
            0 => break,
            n => read += n,
        }
    }
    Ok(())
}

/// How long it may take altogether.
const PARTING: Duration = Duration::from_secs(1);
/// Bytes that are read of a client that goes on sending.
const MOST: usize = 256 * 1024;
