//! A listener on one worker, for as long as it accepts or any of its connections is open: what its
//! requests run under, and whether they are the last of their connections. Does not know of sockets.

use std::cell::OnceCell;
use std::rc::Rc;

use super::Worker;
use crate::upstream::Local;

/// A listener that connections of one worker came through.
#[derive(Debug)]
pub struct Listening {
    /// Its number, as snapshots have it.
    pub id: usize,
    /// The last view in which it was configured, once it is not any more.
    last: OnceCell<Rc<Local>>,
}

impl Listening {
    /// The listener with this number, which the worker's present view has.
    pub(super) fn new(id: usize) -> Rc<Self> {
        Rc::new(Self { id, last: OnceCell::new() })
    }

    /// The view under which its requests run: the present one, or the last that it was in.
    #[must_use]
    pub fn local(&self, worker: &Worker) -> Rc<Local> {
        // First, since it may find that the listener is gone.
        let present = worker.local();
        self.last.get().map_or(present, Rc::clone)
    }

    /// Whether it is configured no more, so that its connections are to end.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.last.get().is_some()
    }

    /// It is not configured after `last`.
    pub(super) fn close(&self, last: &Rc<Local>) {
        // A second time changes nothing.
        let _ = self.last.set(Rc::clone(last));
    }
}
