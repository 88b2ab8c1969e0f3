//! An origin that follows a script: a listening socket, a thread for each connection, and a record
//! of what came. What it does with a connection is the script's.

use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

use super::socket::{Ended, Link};
use super::{DEADLINE, Message};

/// A running origin. Dropping it closes its connections.
#[derive(Debug)]
pub(crate) struct Origin {
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// What an origin knows of one connection.
#[derive(Debug, Clone, Default)]
pub(crate) struct Recorded {
    /// Every byte that its script read.
    pub(crate) raw: Vec<u8>,
    /// The requests that were whole.
    pub(crate) requests: Vec<Message>,
    /// How it ended, once the script has seen it end.
    pub(crate) ended: Option<Ended>,
}

/// One connection, as its script has it.
#[derive(Debug)]
pub(crate) struct OriginConn {
    /// The connection.
    pub(crate) link: Link,
    /// The number of the connection, from 0.
    pub(crate) number: usize,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    stopped: AtomicBool,
    log: Mutex<Log>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Log {
    connections: Vec<Recorded>,
    order: Vec<Message>,
    taken: usize,
    streams: Vec<TcpStream>,
}

impl Origin {
    /// Runs `script` for every connection.
    pub(crate) fn run(script: impl Fn(&mut OriginConn) + Send + Sync + 'static) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").expect("there is a free port"), script)
    }

    /// As [`Self::run`], on a socket that listens already.
    pub(crate) fn on(
        listener: TcpListener,
        script: impl Fn(&mut OriginConn) + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared::default());
        let accepting = Arc::clone(&shared);
        let script = Arc::new(script);
        thread::spawn(move || {
            for tcp in listener.incoming().map_while(Result::ok) {
                if accepting.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let number = accepting.accepted(&tcp);
                let shared = Arc::clone(&accepting);
                let script = Arc::clone(&script);
                thread::spawn(move || script(&mut OriginConn { link: Link::over(tcp), number, shared }));
            }
        });
        Self { address, shared }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Every whole request so far, in the order of arrival.
    pub(crate) fn requests(&self) -> Vec<Message> {
        self.shared.with(|log| log.order.clone())
    }

    /// The number of connections so far.
    pub(crate) fn connections(&self) -> usize {
        self.shared.with(|log| log.connections.len())
    }

    /// What is known of every connection.
    pub(crate) fn recorded(&self) -> Vec<Recorded> {
        self.shared.with(|log| log.connections.clone())
    }

    /// Waits for the next whole request that this has not given yet.
    #[track_caller]
    pub(crate) fn next_request(&self) -> Message {
        self.shared.wait("a request at the origin", |log| {
            let next = log.order.get(log.taken).cloned()?;
            log.taken += 1;
            Some(next)
        })
    }

    /// Waits until connection `number` was accepted.
    #[track_caller]
    pub(crate) fn wait_connection(&self, number: usize) {
        self.shared.wait("a connection at the origin", |log| log.connections.get(number).map(|_| ()));
    }

    /// Waits until the script of connection `number` has seen its end.
    #[track_caller]
    pub(crate) fn wait_end(&self, number: usize) -> Ended {
        self.shared.wait("an end at the origin", |log| log.connections.get(number)?.ended)
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts, which then sees that it is over.
        let _ = TcpStream::connect_timeout(&self.address, DEADLINE);
        for stream in self.shared.with(|log| std::mem::take(&mut log.streams)) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl OriginConn {
    /// Reads a whole request and records it; `None` when the connection ends first.
    pub(crate) fn request(&mut self) -> Option<Message> {
        let request = self.link.request();
        self.note();
        match request {
            Some(request) => {
                self.record(&request);
                Some(request)
            }
            None => {
                self.until_end();
                None
            }
        }
    }

    /// Reads a request head and records it as a request; `None` when the connection ends first.
    pub(crate) fn head(&mut self) -> Option<Message> {
        let head = self.link.head();
        self.note();
        match head {
            Some(head) => {
                self.record(&head);
                Some(head)
            }
            None => {
                self.until_end();
                None
            }
        }
    }

    /// Writes; whether the other side was still there.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.link.try_send(bytes).is_ok()
    }

    /// Reads until the connection ends and records how.
    pub(crate) fn until_end(&mut self) -> Ended {
        let (_, ended) = self.link.rest();
        self.note();
        self.shared.change(|log| {
            if let Some(recorded) = log.connections.get_mut(self.number) {
                recorded.ended = Some(ended);
            }
        });
        ended
    }

    /// Ends the connection with a reset, in place of what the script's end does.
    pub(crate) fn reset(&mut self) {
        let socket = socket2::SockRef::from(self.link.tcp());
        socket.set_linger(Some(std::time::Duration::ZERO)).expect("a socket takes an option");
        let number = self.number;
        // The registered copy would keep the socket open.
        self.shared
            .change(|log| log.streams.retain(|s| s.peer_addr().ok() != self.link.tcp().peer_addr().ok()));
        self.shared.change(|log| {
            if let Some(recorded) = log.connections.get_mut(number) {
                recorded.ended = Some(Ended::Reset);
            }
        });
    }

    fn record(&mut self, request: &Message) {
        self.shared.change(|log| {
            log.order.push(request.clone());
            if let Some(recorded) = log.connections.get_mut(self.number) {
                recorded.requests.push(request.clone());
            }
        });
    }

    fn note(&mut self) {
        self.shared.with(|log| {
            if let Some(recorded) = log.connections.get_mut(self.number) {
                recorded.raw.clone_from(&self.link.seen);
            }
        });
    }
}

impl Drop for OriginConn {
    fn drop(&mut self) {
        // The registered copy of the socket would keep the connection open after its script.
        let own = self.link.tcp().peer_addr().ok();
        self.shared.with(|log| log.streams.retain(|stream| stream.peer_addr().ok() != own));
    }
}

impl Shared {
    fn accepted(&self, tcp: &TcpStream) -> usize {
        self.change(|log| {
            log.streams.extend(tcp.try_clone());
            log.connections.push(Recorded::default());
            log.connections.len() - 1
        })
    }

    fn with<T>(&self, look: impl FnOnce(&mut Log) -> T) -> T {
        look(&mut self.log.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn change<T>(&self, change: impl FnOnce(&mut Log) -> T) -> T {
        let value = self.with(change);
        self.changed.notify_all();
        value
    }

    #[track_caller]
    fn wait<T>(&self, what: &str, mut look: impl FnMut(&mut Log) -> Option<T>) -> T {
        let by = forebay::ambient::now() + DEADLINE;
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(found) = look(&mut log) {
                return found;
            }
            let left = by.saturating_duration_since(forebay::ambient::now());
            assert!(!left.is_zero(), "{what} did not come in time: {:?}", log.connections);
            log = self.changed.wait_timeout(log, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
