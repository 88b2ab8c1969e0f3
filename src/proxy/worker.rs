//! What the connections of one worker have in common: its view of the snapshot, whether it is
//! draining, and memory for requests under way. Only ever touched by the worker's thread.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};

use arc_swap::ArcSwap;

use super::http::Scratch;
use crate::observe::metrics::Shard;
use crate::upstream::{Local, Snapshot};

/// A worker's state.
#[derive(Debug)]
pub struct Worker {
    /// Whose counters are written.
    pub shard: Shard,
    published: Arc<ArcSwap<Snapshot>>,
    local: RefCell<Rc<Local>>,
    draining: Cell<bool>,
    connections: RefCell<Vec<Option<Waker>>>,
    vacant: RefCell<Vec<usize>>,
    ended: RefCell<Option<Waker>>,
    #[expect(clippy::vec_box, reason = "a scratch is handed over as a pointer, not moved")]
    scratch: RefCell<Vec<Box<Scratch>>>,
}

/// A connection that the worker knows of, so that it can be told to drain.
#[derive(Debug)]
pub struct Registered {
    worker: Rc<Worker>,
    place: usize,
}

impl Worker {
    /// A worker that serves what is `published`.
    #[must_use]
    pub fn new(shard: Shard, published: Arc<ArcSwap<Snapshot>>) -> Rc<Self> {
        let local = Local::new(published.load_full(), None, shard);
        Rc::new(Self {
            shard,
            published,
            local: RefCell::new(Rc::new(local)),
            draining: Cell::new(false),
            connections: RefCell::default(),
            vacant: RefCell::default(),
            ended: RefCell::default(),
            scratch: RefCell::default(),
        })
    }

    /// The present view of the snapshot.
    #[must_use]
    pub fn local(&self) -> Rc<Local> {
        let mut local = self.local.borrow_mut();
        let published = self.published.load();
        if !Arc::ptr_eq(&published, &local.snapshot) {
            *local = Rc::new(Local::new(Arc::clone(&published), Some(&local), self.shard));
        }
        Rc::clone(&local)
    }

    /// Whether connections are to end after the request under way.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// Tells every connection to end after the request under way.
    pub fn drain(&self) {
        self.draining.set(true);
        self.connections.borrow().iter().flatten().for_each(Waker::wake_by_ref);
    }

    /// Counts a connection, at once, so that a drain waits for it.
    #[must_use]
    pub fn register(self: &Rc<Self>) -> Registered {
        let mut connections = self.connections.borrow_mut();
        let place = self.vacant.borrow_mut().pop().unwrap_or(connections.len());
        if place == connections.len() {
            connections.push(None);
        }
        Registered { worker: Rc::clone(self), place }
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
            if let Some(waker) = self.worker.connections.borrow_mut().get_mut(self.place) {
                *waker = Some(cx.waker().clone());
            }
            Poll::Ready(())
        })
        .await;
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        if let Some(place) = self.worker.connections.borrow_mut().get_mut(self.place) {
            *place = None;
            self.worker.vacant.borrow_mut().push(self.place);
        }
        if self.worker.open_connections() == 0
            && let Some(waker) = self.worker.ended.borrow_mut().take()
        {
            waker.wake();
        }
    }
}

/// Sets of memory that a worker keeps when no request uses them.
const KEPT_SCRATCH: usize = 256;
