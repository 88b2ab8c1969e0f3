//! Bytes both ways between two streams until both have ended: each end of stream is passed on as
//! one, each reset as a reset. Decides when a connection is over and says why; knows nothing of
//! pools, listeners or what the bytes mean.

mod lane;
mod quiet;
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::Interest;
use tokio::time::{Sleep, sleep};

use self::lane::{Fault, Lane};
use self::quiet::Quiet;
use super::stream::{Socket, Stream};

/// The two streams that are joined.
#[derive(Debug)]
pub struct Pair {
    /// The stream of the client.
    pub client: Stream,
    /// The stream of the endpoint.
    pub endpoint: Stream,
    /// What was read from the client already, to be given to the endpoint first.
    pub first: Bytes,
}

/// How long it may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The longest time in which no byte is passed on either way. It is kept to a quarter of itself:
    /// a silent connection ends after between once and one and a quarter times as long.
    pub idle: Duration,
    /// When the connection ends, whatever happens on it.
    pub until: Option<Instant>,
}

/// The bytes passed on so far: those that the socket they were meant for has taken, payload of TLS.
#[derive(Debug, Default)]
pub struct Progress {
    up: Cell<u64>,
    down: Cell<u64>,
}

impl Progress {
    /// Bytes from the client to the endpoint.
    #[must_use]
    pub fn up(&self) -> u64 {
        self.up.get()
    }

    /// Bytes from the endpoint to the client.
    #[must_use]
    pub fn down(&self) -> u64 {
        self.down.get()
    }
}

/// One of the two who talk through us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Whoever connected.
    Client,
    /// Whom we connected to.
    Endpoint,
}

/// Why it is over.
#[derive(Debug)]
pub enum End {
    /// Both have said all they had to say.
    Done,
    /// No byte moved for as long as is allowed.
    Idle,
    /// The longest duration was reached.
    Expired,
    /// The caller asked for it.
    Told,
    /// This side reset its connection.
    Reset(Side),
    /// The stream of this side failed otherwise.
    Broken(Side, io::Error),
}

/// Moves bytes until both directions have ended, a stream fails, a limit is reached or `told` is
/// ready. `told` is asked after the bytes that there were have moved, so that it may look at
/// `progress`.
///
/// A stream whose other side was reset or failed ends in a reset, and so do both when they are cut
/// off with bytes under way, be it that this is dropped; otherwise they are closed.
pub fn relay(
    pair: Pair,
    limits: &Limits,
    progress: &Progress,
    mut told: impl FnMut(&mut Context<'_>) -> Poll<()>,
) -> impl Future<Output = End> {
    // Made here, since a future has room for what it is given as well as for what it makes of that.
    let mut joined = Joined::new(pair);
    let mut quiet = Quiet::new(limits);
    async move {
        let end = poll_fn(|cx| {
            if let Poll::Ready(end) = joined.poll(progress, cx) {
                return Poll::Ready(end);
            }
            if told(cx).is_ready() {
                return Poll::Ready(End::Told);
            }
            quiet.poll(progress.up() + progress.down(), cx)
        });
        let end = end.await;
        match end {
            End::Reset(Side::Client) | End::Broken(Side::Client, _) => joined.pair.endpoint.reset_on_drop(),
            End::Reset(Side::Endpoint) | End::Broken(Side::Endpoint, _) => joined.pair.client.reset_on_drop(),
            End::Done | End::Idle | End::Expired | End::Told => {}
        }
        end
    }
}

/// Both streams and both directions.
#[derive(Debug)]
struct Joined {
    pair: Pair,
    up: Lane,
    down: Lane,
    /// Who takes no bytes any more. What it sent before is passed on all the same.
    fault: Option<(Side, io::Error)>,
    /// When it is looked at again whether the side is still there that has nothing more to say.
    look: Option<Pin<Box<Sleep>>>,
}

impl Joined {
    fn new(mut pair: Pair) -> Self {
        let up = Lane::new(std::mem::take(&mut pair.first));
        Self { pair, up, down: Lane::default(), fault: None, look: None }
    }

    fn poll(&mut self, progress: &Progress, cx: &mut Context<'_>) -> Poll<End> {
        let pair = &mut self.pair;
        let up = self.up.poll(&mut pair.client, &mut pair.endpoint, &progress.up, cx);
        if let Some(end) = self.noted(up, Side::Client, Side::Endpoint) {
            return Poll::Ready(end);
        }
        let pair = &mut self.pair;
        let down = self.down.poll(&mut pair.endpoint, &mut pair.client, &progress.down, cx);
        if let Some(end) = self.noted(down, Side::Endpoint, Side::Client) {
            return Poll::Ready(end);
        }
        match (self.up.is_over(), self.down.is_over()) {
            (false, false) => return Poll::Pending,
            (true, false) => {
                self.down.becomes_last();
                return self.poll_left(Side::Client, cx);
            }
            (false, true) => {
                self.up.becomes_last();
                return self.poll_left(Side::Endpoint, cx);
            }
            (true, true) => {}
        }
        Poll::Ready(self.fault.take().map_or(End::Done, |(side, error)| End::of(side, error)))
    }

    /// Ready once the side that has said all resets its connection: it is not read any more, and nothing
    /// else would show it before there is something to write to it.
    fn poll_left(&mut self, side: Side, cx: &mut Context<'_>) -> Poll<End> {
        let stream = if side == Side::Client { &self.pair.client } else { &self.pair.endpoint };
        loop {
            let look = self.look.get_or_insert_with(|| Box::pin(sleep(LOOK_INTERVAL)));
            ready!(look.as_mut().poll(cx));
            if has_failed(stream) {
                return Poll::Ready(End::Reset(side));
            }
            look.set(sleep(LOOK_INTERVAL));
        }
    }

    /// Takes note of how a direction fares; gives the end if that is one.
    fn noted(&mut self, polled: Poll<Result<(), Fault>>, from: Side, to: Side) -> Option<End> {
        let Poll::Ready(Err(fault)) = polled else { return None };
        match fault {
            Fault::Writing(error) => {
                self.fault.get_or_insert((to, error));
                None
            }
            Fault::Reading(error) => {
                let (side, error) = self.fault.take().unwrap_or((from, error));
                Some(End::of(side, error))
            }
        }
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        // What was read is lost: an end would say that there was no more.
        if self.up.is_holding() || self.down.is_holding() {
            self.pair.client.reset_on_drop();
            self.pair.endpoint.reset_on_drop();
        }
    }
}

impl End {
    fn of(side: Side, error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::NotConnected => Self::Reset(side),
            _ => Self::Broken(side, error),
        }
    }
}

/// Whether the socket below has an error, as far as the runtime knows. It takes no system call.
fn has_failed(stream: &Stream) -> bool {
    match stream.socket() {
        Socket::Tcp(tcp) => tcp.try_io(Interest::ERROR, || Ok(())).is_ok(),
        Socket::Unix(unix) => unix.try_io(Interest::ERROR, || Ok(())).is_ok(),
    }
}

/// How often it is looked at whether whoever has said all is still there.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
