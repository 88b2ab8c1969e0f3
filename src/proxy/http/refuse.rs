//! A client's connection that is not taken: it is told so and why, without a wait for its request,
//! and ends so that it can read that. How many are told at once is bounded; the rest are closed.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::respond;
use crate::limit::Refusal;
use crate::net::stream::Socket;
use crate::proxy::Worker;
use crate::upstream::{Listener, Pressure};

/// Ends the connection. Over TLS it would take a handshake to say why, so nothing is said.
pub(super) async fn refuse(worker: &Worker, listener: &Listener, socket: Socket, why: Refusal) {
    listener.metrics.turned_away(worker.shard, why);
    if listener.tls.is_some() {
        return;
    }
    if let Some(told) = Told::new(&worker.pressure) {
        // Those who do not take it in time get no more.
        let _ = timeout(PARTING, tell(socket, why)).await;
        drop(told);
    }
}

/// Counts a connection that is being told for as long as that takes.
struct Told<'a>(&'a Pressure);

impl<'a> Told<'a> {
    fn new(pressure: &'a Pressure) -> Option<Self> {
        pressure.begin_parting().then_some(Self(pressure))
    }
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        self.0.end_parting();
    }
}

/// Writes the response and ends our direction; then reads what the client sends until it ends its
/// own, because bytes that are left unread would reset the connection and take the response away.
async fn tell(mut socket: Socket, why: Refusal) -> std::io::Result<()> {
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
