//! What the connections of one worker have in common: its view of the snapshot, whether it is
//! draining, and memory for requests under way. Only ever touched by the worker's thread.

use std::cell::{Cell, OnceCell, RefCell, RefMut};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::http::Scratch;
use super::passage::Passage;
use super::{Listening, Live};
use crate::ambient;
use crate::limit::pressure::Pace;
use crate::net::udp::Inbox;
use crate::observe::connections::Question;
use crate::observe::metrics::Shard;
use crate::upstream::{Local, Pressure, Snapshot};

/// A worker's state.
#[derive(Debug)]
pub struct Worker {
    /// Whose counters are written.
    pub shard: Shard,
    /// How hard the process is pressed.
    pub pressure: Arc<Pressure>,
    pace: Cell<Option<Pace>>,
    pressed: Cell<bool>,
    published: Arc<ArcSwap<Snapshot>>,
    local: RefCell<Rc<Local>>,
    draining: Cell<bool>,
    listening: RefCell<Vec<Weak<Listening>>>,
    connections: RefCell<Vec<Option<Rc<Live>>>>,
    vacant: RefCell<Vec<usize>>,
    ended: RefCell<Option<Waker>>,
    #[expect(clippy::vec_box, reason = "a scratch is handed over as a pointer, not moved")]
    scratch: RefCell<Vec<Box<Scratch>>>,
    inbox: OnceCell<RefCell<Inbox>>,
}

/// A connection that the worker knows of, so that it can be told to drain.
#[derive(Debug)]
pub struct Registered {
    worker: Rc<Worker>,
    live: Rc<Live>,
    place: usize,
}

impl Worker {
    /// A worker that serves `snapshot`, and then what is `published`.
    #[must_use]
    pub fn new(shard: Shard, snapshot: Arc<Snapshot>, published: Arc<ArcSwap<Snapshot>>) -> Rc<Self> {
        let local = Local::new(snapshot, None, shard);
        Rc::new(Self {
            shard,
            pressure: Arc::clone(&local.snapshot.pressure),
            pace: Cell::default(),
            pressed: Cell::default(),
            published,
            local: RefCell::new(Rc::new(local)),
            draining: Cell::new(false),
            listening: RefCell::default(),
            connections: RefCell::default(),
            vacant: RefCell::default(),
            ended: RefCell::default(),
            scratch: RefCell::default(),
            inbox: OnceCell::new(),
        })
    }

    /// The present view of the snapshot.
    #[must_use]
    pub fn local(&self) -> Rc<Local> {
        let published = self.published.load();
        let local = self.local.borrow();
        if Arc::ptr_eq(&published, &local.snapshot) {
            return Rc::clone(&local);
        }
        drop(local);
        self.take_up(Arc::clone(&published))
    }

    /// Serves `snapshot` from now on. Connections of listeners that it has no more are told to end.
    #[cold]
    fn take_up(&self, snapshot: Arc<Snapshot>) -> Rc<Local> {
        let before = Rc::clone(&self.local.borrow());
        let local = Rc::new(Local::new(snapshot, Some(&before), self.shard));
        self.local.replace(Rc::clone(&local));
        let mut closes = false;
        self.listening.borrow_mut().retain(|listening| {
            let Some(listening) = listening.upgrade() else { return false };
            let stays = local.snapshot.listener(listening.id).is_some();
            if !stays {
                listening.close(&before);
                closes = true;
            }
            stays
        });
        if closes {
            self.wake(|live| live.listening.is_closing());
        }
        local
    }

    /// The listener with this number, if the view has it that was last taken.
    #[must_use]
    pub fn listening(&self, id: usize) -> Option<Rc<Listening>> {
        self.local.borrow().snapshot.listener(id)?;
        let mut known = self.listening.borrow_mut();
        known.retain(|listening| listening.strong_count() > 0);
        let found = known.iter().filter_map(Weak::upgrade).find(|listening| listening.id == id);
        Some(found.unwrap_or_else(|| {
            let new = Listening::new(id);
            known.push(Rc::downgrade(&new));
            new
        }))
    }

    /// Whether connections are to end after the request under way.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// Tells every connection to end after the request under way.
    pub fn drain(&self) {
        self.draining.set(true);
        self.wake(|_| true);
    }

    fn wake(&self, which: impl Fn(&Live) -> bool) {
        self.connections.borrow().iter().flatten().filter(|live| which(live)).for_each(|live| live.wake());
    }

    /// Tells idle connections that they are to go sooner, when it has come to that since this was last
    /// called.
    pub fn attend_pressure(&self) {
        let pressed = self.pressure.is_pressed();
        if pressed && !self.pressed.replace(pressed) {
            self.wake(|_| true);
        }
        self.pressed.set(pressed);
    }

    /// How long an idle connection is kept, if it were for `usual` and `is_ending` says whether it is to
    /// have no further request.
    #[must_use]
    pub fn keep_alive(&self, usual: Duration, is_ending: bool) -> Duration {
        if is_ending || self.pressure.is_pressed() { usual.min(PARTING) } else { usual }
    }

    /// A connection was accepted; how long the next one has to wait.
    #[must_use]
    pub fn pace(&self) -> Option<Duration> {
        if !self.pressure.is_pressed() {
            return None;
        }
        let now = ambient::now();
        let mut pace = self.pace.get().unwrap_or_else(|| Pace::new(now));
        let pause = pace.count(now);
        self.pace.set(Some(pace));
        pause
    }

    /// Counts that accepting failed for a listener.
    pub fn accept_failed(&self, listening: &Listening) {
        if let Some(listener) = listening.local(self).snapshot.listener(listening.id) {
            listener.metrics.accept_failed(self.shard);
        }
    }

    /// Counts a connection, at once, so that a drain waits for it.
    #[must_use]
    pub fn register(self: &Rc<Self>, listening: &Rc<Listening>, peer: Option<SocketAddr>) -> Registered {
        let mut connections = self.connections.borrow_mut();
        let place = self.vacant.borrow_mut().pop().unwrap_or(connections.len());
        if place == connections.len() {
            connections.push(None);
        }
        let live = Live::new(listening, peer, ambient::now());
        if let Some(open) = connections.get_mut(place) {
            *open = Some(Rc::clone(&live));
        }
        Registered { worker: Rc::clone(self), live, place }
    }

    /// Has what moved on connections that are passed on counted, for those that last.
    pub fn count_bytes(&self) {
        self.connections.borrow().iter().flatten().filter_map(|live| live.passage()).for_each(Passage::count);
    }

    /// Says which connections are open.
    pub fn answer(&self, question: Question) {
        // Not held while they are shown, which may find that the snapshot has changed.
        let open: Vec<_> = self.connections.borrow().iter().flatten().cloned().collect();
        let now = ambient::now();
        question.answer(open.len(), |most| {
            open.iter().filter_map(|live| live.show(self, now)).take(most).collect()
        });
    }

    /// Ready once no connection is left.
    pub async fn ended(&self) {
        poll_fn(|cx| {
            if self.open_connections() == 0 {
                return Poll::Ready(());
            }
            *self.ended.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Connections being served.
    #[must_use]
    pub fn open_connections(&self) -> usize {
        self.connections.borrow().len() - self.vacant.borrow().len()
    }

    /// Memory for datagrams that come together, for as long as they are looked at: nobody else may ask
    /// for it meanwhile.
    #[must_use]
    pub fn inbox(&self) -> RefMut<'_, Inbox> {
        self.inbox.get_or_init(RefCell::default).borrow_mut()
    }

    /// Memory for one request, used before if possible.
    #[must_use]
    pub fn take_scratch(&self) -> Box<Scratch> {
        self.scratch.borrow_mut().pop().unwrap_or_default()
    }

    /// Takes the memory back.
    pub fn give_scratch(&self, scratch: Box<Scratch>) {
        let mut kept = self.scratch.borrow_mut();
        if kept.len() < KEPT_SCRATCH {
            kept.push(scratch);
        }
    }
}

impl Registered {
    /// Has the calling task woken when a drain begins.
    pub async fn attend(&self) {
        poll_fn(|cx| {
            self.live.attend(cx.waker());
            Poll::Ready(())
        })
        .await;
    }

    /// What is known of the connection.
    #[must_use]
    pub fn live(&self) -> &Rc<Live> {
        &self.live
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        if let Some(open) = self.worker.connections.borrow_mut().get_mut(self.place) {
            // Not the last to hold it, which takes along a view and what that held.
            *open = None;
        }
        self.worker.vacant.borrow_mut().push(self.place);
        if self.worker.open_connections() == 0
            && let Some(waker) = self.worker.ended.borrow_mut().take()
        {
            waker.wake();
        }
    }
}

/// How long a connection must have been idle to be closed in a drain or under pressure. The next
/// request may be under way on one that was in use just now; in a drain it is answered, with the
/// notice that the connection ends.
const PARTING: Duration = Duration::from_secs(1);
/// Sets of memory that a worker keeps when no request uses them.
const KEPT_SCRATCH: usize = 256;
