//! What one worker accepts from: takes up the sockets that are wanted, passes them to other listeners,
//! and ends those that are wanted no more, so that nobody who waits there is lost. Does not know what
//! is served.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{sleep, timeout};

use super::Phase;
use crate::ambient;
use crate::net::listen::{BoundSocket, Listener, LivesOn};
use crate::net::sockets::Sockets;
use crate::net::stream::Socket;
use crate::observe::panics::{Place, again};
use crate::proxy::udp::{Flows, Leave};
use crate::proxy::{self, Listening, Worker};

/// The sockets of one worker, from when it takes them up until nobody waits there any more. They outlive
/// its lives, so that clients that wait to be accepted are not lost between two.
#[derive(Debug)]
pub(super) struct Held(Mutex<Vec<Wanted>>);

/// A socket to accept from.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    socket: Arc<BoundSocket>,
    /// The listener's number.
    listener: usize,
}

impl Held {
    /// What the worker called `index` is to accept from.
    pub(super) fn new(sockets: &Sockets, index: usize) -> Self {
        Self(Mutex::new(wanted(sockets, index)))
    }

    fn all(&self) -> Vec<Wanted> {
        self.lock().clone()
    }

    fn hold(&self, wanted: &Wanted) {
        let mut held = self.lock();
        held.retain(|held| !held.is(&Arc::downgrade(&wanted.socket)));
        held.push(wanted.clone());
    }

    fn let_go(&self, socket: &Weak<BoundSocket>) {
        self.lock().retain(|held| !held.is(socket));
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Wanted>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wanted {
    fn is(&self, socket: &Weak<BoundSocket>) -> bool {
        Arc::as_ptr(&self.socket) == socket.as_ptr()
    }
}

/// What the worker called `index` is to accept from.
pub(super) fn wanted(sockets: &Sockets, index: usize) -> Vec<Wanted> {
    let own = sockets.opened.iter().flat_map(|opened| {
        let own = opened.of_worker(index);
        own.map(|socket| Wanted { socket: Arc::clone(socket), listener: opened.listener })
    });
    own.collect()
}

/// The accepting of one life of a worker.
#[derive(Debug)]
pub(super) struct Accepting {
    worker: Rc<Worker>,
    held: Arc<Held>,
    phase: watch::Receiver<Phase>,
    doors: Vec<Door>,
    /// The tasks of those that are being closed.
    closing: Vec<JoinHandle<()>>,
}

/// One socket, and the task that accepts from it.
#[derive(Debug)]
struct Door {
    entrance: Rc<Entrance>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Entrance {
    /// Not held by it: who closes a socket is to be the last to hold it.
    socket: Weak<BoundSocket>,
    /// Whose connections these are, from the next one on.
    listening: RefCell<Rc<Listening>>,
    end: Notify,
}

impl Accepting {
    /// Accepts from everything that is held, which includes what was being closed when a life before
    /// this one ended. What belongs to a listener that this life does not know is let go of.
    ///
    /// # Errors
    /// When there are no descriptors.
    pub(super) fn begin(
        worker: &Rc<Worker>,
        held: &Arc<Held>,
        phase: watch::Receiver<Phase>,
    ) -> io::Result<Self> {
        let mut accepting = Self {
            worker: Rc::clone(worker),
            held: Arc::clone(held),
            phase,
            doors: Vec::new(),
            closing: Vec::new(),
        };
        for held in held.all() {
            if !accepting.take_up(&held)? {
                accepting.held.let_go(&Arc::downgrade(&held.socket));
            }
        }
        Ok(accepting)
    }

    /// Accepts from these from now on, and from no others.
    ///
    /// # Errors
    /// When there are no descriptors for some of them. The others are taken up.
    pub(super) fn reconcile(&mut self, wanted: &[Wanted]) -> io::Result<()> {
        // Whose listener is gone learns of it now, rather than with its next request.
        drop(self.worker.local());
        self.closing.retain(|task| !task.is_finished());
        let is_wanted = |door: &Door| wanted.iter().any(|wanted| wanted.is(&door.entrance.socket));
        let (kept, unwanted) = std::mem::take(&mut self.doors).into_iter().partition(is_wanted);
        self.doors = kept;
        self.close(unwanted);
        let mut outcome = Ok(());
        for wanted in wanted {
            let door = self.doors.iter().find(|door| wanted.is(&door.entrance.socket));
            match door.map(|door| &door.entrance.listening) {
                Some(listening) if listening.borrow().id != wanted.listener => {
                    if let Some(next) = self.worker.listening(wanted.listener) {
                        self.held.hold(wanted);
                        listening.replace(next);
                    }
                }
                Some(_) => {}
                // One whose listener is gone again is soon not wanted any more.
                None => outcome = outcome.and(self.take_up(wanted).map(|_| ())),
            }
        }
        outcome
    }

    /// Closes all. Returns when nobody waits at any of them.
    pub(super) async fn end(mut self) {
        let doors = std::mem::take(&mut self.doors);
        self.close(doors);
        for task in self.closing {
            // What could panic in it is contained.
            let _ = task.await;
        }
    }

    /// Whether there is such a listener.
    fn take_up(&mut self, wanted: &Wanted) -> io::Result<bool> {
        let Some(listening) = self.worker.listening(wanted.listener) else { return Ok(false) };
        self.held.hold(wanted);
        let socket = wanted.socket.try_clone()?;
        let entrance = Rc::new(Entrance {
            socket: Arc::downgrade(&wanted.socket),
            listening: RefCell::new(listening),
            end: Notify::new(),
        });
        let worker = Rc::clone(&self.worker);
        let task = match socket {
            BoundSocket::Udp(socket, lives_on) => {
                let own = Rc::clone(&entrance);
                let flows = Flows::begin(&worker, move || Rc::clone(&own.listening.borrow()), socket)?;
                let left = (lives_on, self.phase.clone());
                spawn_local(receive(flows, Rc::clone(&entrance), Arc::clone(&self.held), left))
            }
            socket => {
                let at = (Rc::clone(&entrance), socket.listen()?);
                spawn_local(accept(worker, at, Arc::clone(&self.held), self.phase.clone()))
            }
        };
        self.doors.push(Door { entrance, task });
        Ok(true)
    }

    fn close(&mut self, doors: Vec<Door>) {
        for door in doors {
            door.entrance.end.notify_one();
            self.closing.push(door.task);
        }
    }
}

/// Receives until the socket is to be left. Flows that may go on then do so by themselves.
async fn receive(
    flows: Rc<Flows>,
    entrance: Rc<Entrance>,
    held: Arc<Held>,
    (lives_on, phase): (LivesOn, watch::Receiver<Phase>),
) {
    let own = Rc::clone(&flows);
    let running = spawn_local(async move {
        again(Place::Worker, "receiving datagrams", async || own.run().await).await;
    });
    entrance.end.notified().await;
    let ends = *phase.borrow() >= Phase::Draining;
    let how = match lives_on.get() {
        true => Leave::Handed,
        false if ends => Leave::Draining,
        false => Leave::Closed,
    };
    flows.leave(how);
    drop(flows);
    if how == Leave::Closed {
        // What could panic in it is contained.
        let _ = running.await;
    }
    held.let_go(&entrance.socket);
}

async fn accept(
    worker: Rc<Worker>,
    (entrance, socket): (Rc<Entrance>, Listener),
    held: Arc<Held>,
    phase: watch::Receiver<Phase>,
) {
    tokio::select! {
        biased;
        () = again(Place::Worker, "accepting", async || accept_all(&worker, &entrance, &socket).await) => {}
        () = entrance.end.notified() => {}
    }
    if *phase.borrow() >= Phase::Aborted {
        return;
    }
    // Closing the socket resets whoever is connected as far as the kernel goes, and may have sent a
    // request: nobody new is let in until all of those are here. Over a network of 20 ms, with 64
    // clients that connect for each request, a plain close cost 9 to 37 of them their answer.
    socket.refuse_new();
    let _ = timeout(HANDSHAKES, accept_all(&worker, &entrance, &socket)).await;
    held.let_go(&entrance.socket);
    for (stream, peer) in socket.close() {
        entrance.admit(&worker, stream, peer);
    }
}

async fn accept_all(worker: &Rc<Worker>, entrance: &Entrance, socket: &Listener) {
    let mut next_report = ambient::now();
    loop {
        match socket.accept().await {
            Ok((stream, peer)) => {
                entrance.admit(worker, stream, peer);
                if let Some(pause) = worker.pace() {
                    sleep(pause).await;
                }
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                worker.accept_failed(&entrance.listening.borrow());
                // It may last, and fails many times a second as long as it does.
                if ambient::now() >= next_report {
                    next_report = ambient::now() + REPORT_INTERVAL;
                    tracing::warn!(%error, "accepting failed, waiting before the next try");
                }
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

impl Entrance {
    fn admit(&self, worker: &Rc<Worker>, stream: Socket, peer: Option<SocketAddr>) {
        let listening = Rc::clone(&self.listening.borrow());
        spawn_local(proxy::serve(Rc::clone(worker), listening, stream, peer));
    }
}

/// Whether the error is a client's that left before it was accepted, rather than ours.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}

/// Pause after a failed accept, such as one for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// The least time between two reports of such failures.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// How long handshakes under way may take when accepting ends: a round trip to clients not too far.
const HANDSHAKES: Duration = Duration::from_millis(50);
