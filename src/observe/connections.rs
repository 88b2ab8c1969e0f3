//! Clients' connections that are open, as whoever asks sees them, and how one asks: each worker keeps its
//! own where only it can look, and answers when it comes to it. Knows nothing of what a worker is.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;

use crate::model::Name;

/// A client's connection.
#[derive(Clone, Debug)]
pub struct Connection {
    /// The number of its worker, from 0.
    pub worker: usize,
    /// The listener that accepted it.
    pub listener: Name,
    /// Who is at the other end; `None` for Unix sockets.
    pub peer: Option<SocketAddr>,
    /// What it speaks.
    pub protocol: Protocol,
    /// The version of TLS, as in `TLSv1.3`; `None` without TLS.
    pub tls_version: Option<&'static str>,
    /// The server name that the client indicated.
    pub sni: Option<String>,
    /// How long it has been open.
    pub age: Duration,
    /// Requests that it carried, those under way included.
    pub requests: u64,
    /// Requests under way; at most 1 over HTTP/1.
    pub under_way: u32,
    /// The request that began last, while it is under way; others may be, over HTTP/2, that began before.
    pub latest: Option<Request>,
    /// Where it goes, if it is passed on as bytes.
    pub passed: Option<Passed>,
    /// Whether it is to end after what is under way.
    pub ending: bool,
}

/// Where a request is.
#[derive(Clone, Debug)]
pub struct Request {
    /// The number of the configuration that it runs under.
    pub generation: u64,
    /// How long it has been under way.
    pub age: Duration,
    /// Its route, once that is known.
    pub route: Option<Name>,
    /// The pool that is asked.
    pub pool: Option<Name>,
    /// The endpoint that is asked, or was last.
    pub endpoint: Option<String>,
    /// Whether it has become a tunnel.
    pub tunnel: bool,
}

/// Where a connection goes that is passed on as bytes.
#[derive(Clone, Debug)]
pub struct Passed {
    /// The pool.
    pub pool: Name,
    /// The endpoint that it is connected to, or that is being connected to.
    pub endpoint: Option<String>,
    /// Bytes from the client that were passed on so far.
    pub received: u64,
    /// Bytes that were passed on to the client so far.
    pub sent: u64,
}

/// What a connection speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// Nothing that is known yet: the handshake of TLS, or the first bytes.
    #[default]
    Opening,
    /// HTTP/1.0 or HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
    /// Whatever it is: its bytes are passed on.
    Tcp,
    /// Datagrams of one flow.
    Udp,
}

/// The workers' connections.
#[derive(Debug, Default)]
pub struct Connections(Mutex<Vec<mpsc::Sender<Question>>>);

/// Asks one worker.
#[derive(Debug)]
pub struct Question {
    most: usize,
    answer: oneshot::Sender<(usize, Vec<Connection>)>,
}

/// What the workers said.
#[derive(Debug, Default)]
pub struct Listing {
    /// Connections that are open, listed or not.
    pub open: usize,
    /// As many of them as were asked for, by worker.
    pub connections: Vec<Connection>,
    /// Workers that did not answer in time, whose connections are missing.
    pub silent: usize,
}

impl Protocol {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Opening => "opening",
            Self::Http1 => "http/1",
            Self::Http2 => "http/2",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

impl Connections {
    /// What a worker is asked through from now on.
    #[must_use]
    pub fn join(&self) -> mpsc::Receiver<Question> {
        let (ask, asked) = mpsc::channel(QUESTIONS);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(ask);
        asked
    }

    /// The connections that are open, at most `most` of them. Takes at most half a second.
    pub async fn list(&self, most: usize) -> Listing {
        let mut late = pin!(sleep(PATIENCE));
        let asked: Vec<_> = {
            let workers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let ask = |worker: &mpsc::Sender<Question>| {
                let (answer, answered) = oneshot::channel();
                worker.try_send(Question { most, answer }).is_ok().then_some(answered)
            };
            workers.iter().map(ask).collect()
        };
        let mut listing = Listing::default();
        for answered in asked {
            let answer = async {
                tokio::select! {
                    biased;
                    answer = answered? => answer.ok(),
                    () = &mut late => None,
                }
            };
            let Some((open, connections)) = answer.await else {
                listing.silent += 1;
                continue;
            };
            listing.open += open;
            let room = most.saturating_sub(listing.connections.len());
            listing.connections.extend(connections.into_iter().take(room));
        }
        listing
    }
}

impl Question {
    /// Answers: how many are `open`, and what `list` says of as many as are wanted.
    pub fn answer(self, open: usize, list: impl FnOnce(usize) -> Vec<Connection>) {
        if !self.answer.is_closed() {
            // Whoever asked may have left meanwhile.
            let _ = self.answer.send((open, list(self.most)));
        }
    }
}

/// Questions that may wait for a worker.
const QUESTIONS: usize = 4;
/// How long a worker has to answer.
const PATIENCE: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(worker: usize) -> Connection {
        Connection {
            worker,
            listener: Name::new("web").unwrap(),
            peer: None,
            protocol: Protocol::Http1,
            tls_version: None,
            sni: None,
            age: Duration::ZERO,
            requests: 0,
            under_way: 0,
            latest: None,
            passed: None,
            ending: false,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn workers_that_are_silent_are_counted_and_not_waited_for() {
        let connections = Connections::default();
        let (mut quick, _silent, gone) = (connections.join(), connections.join(), connections.join());
        drop(gone);
        let answers = async {
            let question = quick.recv().await.unwrap();
            question.answer(5, |most| vec![connection(0); most]);
        };
        let (listing, ()) = tokio::join!(connections.list(3), answers);
        assert_eq!((listing.open, listing.connections.len(), listing.silent), (5, 3, 2));
    }
}
