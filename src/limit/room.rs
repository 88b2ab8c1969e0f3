//! A line of those who found no room, and try again whenever some may have come up. Who has room,
//! and for whom, it does not know: whoever makes room says so, and the next in line has a look.
//!
//! # Why nobody waits while there is room
//!
//! Whenever there is room and somebody in line, somebody of the line is about to look for it:
//!
//! - Whoever makes room first makes it and then looks for a line. Whoever joins an empty line first joins
//!   and then looks for room. With a fence between the two on either side, one sees the other.
//! - Whoever joins behind others does not look, which would be to overtake them, and need not: what is
//!   said here held before it came.
//! - Whoever is called is back in its place before it looks. If it finds nothing, there was no room
//!   with somebody in line, and whoever makes some from then on finds the line.
//! - Whoever leaves the line, with room or without, calls the next.

use std::sync::atomic::{AtomicU32, Ordering, fence};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use super::queue::{Joined, Queue, Ticket};
use super::slot::{Slot, Turn};
use crate::model::settings::Priority;

/// A line for room.
#[derive(Debug)]
pub struct Room {
    waiting: AtomicU32,
    queue: Mutex<Queue<Arc<Slot>>>,
    clock: fn() -> Instant,
}

/// A place in the line, given up when dropped; the next is called then.
#[derive(Debug)]
pub struct InLine<'a> {
    room: &'a Room,
    ticket: Ticket,
    until: Instant,
    slot: Arc<Slot>,
    called: bool,
}

impl Room {
    /// A line in which at most `waiting` wait; `clock` tells the time, which is asked for only when
    /// somebody waits.
    #[must_use]
    pub fn new(waiting: u32, clock: fn() -> Instant) -> Self {
        Self { waiting: AtomicU32::new(0), queue: Mutex::new(Queue::new(waiting as usize)), clock }
    }

    /// How many wait.
    #[must_use]
    pub fn waiting(&self) -> u32 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Joins the line until `until`, when it has room, or somebody of a lower class in it.
    pub fn join(&self, priority: Priority, until: Instant) -> Option<InLine<'_>> {
        let slot = Arc::new(Slot::default());
        let (joined, called) = self.with_queue(|queue| {
            let called = queue.is_empty();
            (queue.join(Arc::clone(&slot), priority, (self.clock)(), until), called)
        });
        let ticket = match joined {
            Joined::Full => return None,
            Joined::Waits(ticket) => ticket,
            Joined::InPlaceOf(ticket, other) => {
                other.tell(Turn::Displaced).into_iter().for_each(Waker::wake);
                ticket
            }
        };
        fence(Ordering::SeqCst);
        Some(InLine { room: self, ticket, until, slot, called })
    }

    /// There is room for one more: the next in line has a look.
    pub fn made(&self) {
        fence(Ordering::SeqCst);
        if self.waiting() > 0 {
            self.call();
        }
    }

    /// There may be room for many: all in line have a look.
    pub fn changed(&self) {
        fence(Ordering::SeqCst);
        for _ in 0..self.waiting() {
            self.call();
        }
    }

    fn call(&self) {
        let next = self.with_queue(|queue| queue.next((self.clock)())?.tell(Turn::Granted));
        next.into_iter().for_each(Waker::wake);
    }

    fn with_queue<R>(&self, act: impl FnOnce(&mut Queue<Arc<Slot>>) -> R) -> R {
        // Nothing panics half-way through a change, so what a panic elsewhere left is whole.
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let result = act(&mut queue);
        self.waiting.store(u32::try_from(queue.len()).unwrap_or(u32::MAX), Ordering::Relaxed);
        result
    }
}

impl InLine<'_> {
    /// Ready when it is time for a look, or when the place was lost. A look that finds nothing does not
    /// cost the place; it has to come at once.
    pub fn poll(&mut self, cx: &Context<'_>) -> Poll<Turn> {
        if std::mem::take(&mut self.called) {
            return Poll::Ready(Turn::Granted);
        }
        let told = self.slot.poll(cx);
        if told == Poll::Ready(Turn::Granted) {
            let (slot, now) = (Arc::clone(&self.slot), (self.room.clock)());
            self.room.with_queue(|queue| queue.rejoin(slot, self.ticket, now, self.until));
            fence(Ordering::SeqCst);
        }
        told
    }
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        self.room.with_queue(|queue| queue.leave(self.ticket));
        self.room.made();
    }
}
