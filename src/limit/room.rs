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
    queue: Mutex<Queue<Member>>,
    clock: fn() -> Instant,
}

/// Who waits.
#[derive(Clone, Debug)]
struct Member {
    slot: Arc<Slot>,
    group: u64,
}

/// A place in the line, given up when dropped; the next is called then.
#[derive(Debug)]
pub struct InLine<'a> {
    room: &'a Room,
    ticket: Ticket,
    until: Instant,
    member: Member,
    called: bool,
}

impl Room {
    /// A line in which at most `waiting` wait; `clock` tells the time, which is asked for only when
    /// somebody waits.
    #[must_use]
    pub fn new(waiting: u32, clock: fn() -> Instant) -> Self {
        let queue = Mutex::new(Queue::new(waiting as usize));
        Self { waiting: AtomicU32::new(0), queue, clock }
    }

    /// How many wait.
    #[must_use]
    pub fn waiting(&self) -> u32 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Takes a new bound on how many wait. Those that are past it wait on.
    pub fn set_waiting(&self, waiting: u32) {
        self.with_queue(|queue| queue.set_bound(waiting as usize));
    }

    /// Joins the line until `until`, when it has room, or somebody of a lower class in it. Whoever makes
    /// room may want to know the `group`.
    pub fn join(&self, priority: Priority, until: Instant, group: u64) -> Option<InLine<'_>> {
        let member = Member { slot: Arc::new(Slot::default()), group };
        let (joined, called) = self.with_queue(|queue| {
            let called = queue.is_empty();
            (queue.join(member.clone(), priority, (self.clock)(), until), called)
        });
        let ticket = match joined {
            Joined::Full => return None,
            Joined::Waits(ticket) => ticket,
            Joined::InPlaceOf(ticket, other) => {
                other.slot.tell(Turn::Displaced).into_iter().for_each(Waker::wake);
                ticket
            }
        };
        fence(Ordering::SeqCst);
        Some(InLine { room: self, ticket, until, member, called })
    }

    /// There is room for one more: the next in line has a look. Whose group that is, if anybody waits.
    pub fn made(&self) -> Option<u64> {
        fence(Ordering::SeqCst);
        if self.waiting() > 0 { self.call() } else { None }
    }

    /// There may be room for many: all in line have a look.
    pub fn changed(&self) {
        fence(Ordering::SeqCst);
        for _ in 0..self.waiting() {
            self.call();
        }
    }

    fn call(&self) -> Option<u64> {
        let (group, waker) = self.with_queue(|queue| {
            let next = queue.next((self.clock)())?;
            Some((next.group, next.slot.tell(Turn::Granted)))
        })?;
        waker.into_iter().for_each(Waker::wake);
        Some(group)
    }

    fn with_queue<R>(&self, act: impl FnOnce(&mut Queue<Member>) -> R) -> R {
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
        let told = self.member.slot.poll(cx);
        if told == Poll::Ready(Turn::Granted) {
            let (member, now) = (self.member.clone(), (self.room.clock)());
            self.room.with_queue(|queue| queue.rejoin(member, self.ticket, now, self.until));
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
