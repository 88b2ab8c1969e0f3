//! How many may be inside at once, and who waits outside: one atomic word for as long as there is
//! room, a lock only when there is none. What being inside means, it does not know.
//!
//! # Why nobody waits while there is room
//!
//! The number inside and the number waiting are the halves of one atomic word, so that all threads
//! agree on the order of everything that happens to either:
//!
//! - An arrival enters in one step, and only if that step finds nobody waiting and fewer inside than
//!   may be: nobody is overtaken, and the limit holds.
//! - The number waiting changes only under the lock of the queue, and so does the number inside, upwards,
//!   while anybody waits. Whoever holds the lock may therefore rely on room that it has seen.
//! - An arrival that waits first counts itself as waiting and then, still under the lock, lets in whoever
//!   there is room for. One that leaves first counts itself out and then lets in the next if it
//!   sees anybody waiting. Of these two counts one comes first: if it is the leaver's, the arrival sees
//!   the room; if it is the arrival's, the leaver sees the arrival, and takes the lock after it.
//! - The limit changes under the lock, and whoever changes it lets in whoever there is room for.
//! - A waiter that gives up takes the lock. Either it is in the queue still and is taken out, or it was let
//!   in before, and leaves as anybody who is inside does, which lets in the next.
//!
//! A limit that is lowered below the number inside throws nobody out.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use super::queue::{Joined, Queue, Ticket};
use super::slot::{Slot, Turn};
use crate::model::settings::Priority;

/// A gate that lets in a limited number at once.
#[derive(Debug)]
pub struct Gate {
    /// The number inside in the lower half, the number waiting in the upper.
    word: AtomicU64,
    limit: AtomicU32,
    queue: Mutex<Queue<Arc<Slot>>>,
    clock: fn() -> Instant,
}

/// A place in the line before a gate, given up when dropped.
#[derive(Debug)]
pub struct Waiting<'a> {
    gate: &'a Gate,
    ticket: Ticket,
    slot: Arc<Slot>,
    is_over: bool,
}

impl Gate {
    /// A gate with nobody inside. At most `limit`, which is at least 1, may be inside at once, and at
    /// most `waiting` wait; `clock` tells the time, which is asked for only when somebody waits.
    #[must_use]
    pub fn new(limit: u32, waiting: u32, clock: fn() -> Instant) -> Self {
        Self {
            word: AtomicU64::new(0),
            limit: AtomicU32::new(limit.max(1)),
            queue: Mutex::new(Queue::new(waiting as usize)),
            clock,
        }
    }

    /// How many are inside.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        inside(self.word.load(Ordering::Relaxed))
    }

    /// How many wait.
    #[must_use]
    pub fn waiting(&self) -> u32 {
        outside(self.word.load(Ordering::Relaxed))
    }

    /// How many may be inside.
    #[must_use]
    pub fn limit(&self) -> u32 {
        self.limit.load(Ordering::Relaxed)
    }

    /// Takes a new limit; 0 counts as 1, since a gate that is shut for good has no use.
    pub fn set_limit(&self, limit: u32) {
        let limit = limit.max(1);
        if limit != self.limit() {
            self.with_queue(|gate, queue, woken| {
                gate.limit.store(limit, Ordering::Relaxed);
                gate.let_in(queue, woken);
            });
        }
    }

    /// Takes a new bound on how many wait. Those that are past it wait on.
    pub fn set_waiting(&self, waiting: u32) {
        self.with_queue(|_, queue, _| queue.set_bound(waiting as usize));
    }

    /// Enters, if there is room and nobody waits. To be followed by [`Self::leave`].
    #[must_use]
    pub fn try_enter(&self) -> bool {
        let limit = self.limit();
        let enter = |word| (outside(word) == 0 && inside(word) < limit).then_some(word + INSIDE);
        self.word.fetch_update(Ordering::AcqRel, Ordering::Relaxed, enter).is_ok()
    }

    /// Waits for a turn until `until`, when the line has room, or somebody of a lower class in it.
    pub fn join(&self, priority: Priority, until: Instant) -> Option<Waiting<'_>> {
        let slot = Arc::new(Slot::default());
        let ticket = self.with_queue(|gate, queue, woken| {
            let joined = queue.join(Arc::clone(&slot), priority, (gate.clock)(), until);
            let ticket = match joined {
                Joined::Full => None,
                Joined::Waits(ticket) => Some(ticket),
                Joined::InPlaceOf(ticket, displaced) => {
                    woken.extend(displaced.tell(Turn::Displaced));
                    Some(ticket)
                }
            };
            gate.count_waiting(queue);
            gate.let_in(queue, woken);
            ticket
        })?;
        Some(Waiting { gate: self, ticket, slot, is_over: false })
    }

    /// Leaves, which lets in whoever is next.
    pub fn leave(&self) {
        let before = self.word.fetch_sub(INSIDE, Ordering::AcqRel);
        debug_assert!(inside(before) > 0, "only who has entered leaves");
        if outside(before) > 0 {
            self.with_queue(Self::let_in);
        }
    }

    /// Lets in whoever waits, in order, while there is room.
    fn let_in(&self, queue: &mut Queue<Arc<Slot>>, woken: &mut Vec<Waker>) {
        while !queue.is_empty() && self.in_flight() < self.limit() {
            let Some(next) = queue.next((self.clock)()) else { break };
            // Before it is no longer counted as waiting, so that no arrival takes its room.
            self.word.fetch_add(INSIDE, Ordering::AcqRel);
            woken.extend(next.tell(Turn::Granted));
        }
        self.count_waiting(queue);
    }

    /// Has the word say how many wait.
    fn count_waiting(&self, queue: &Queue<Arc<Slot>>) {
        let counted = u64::from(self.waiting());
        let waiting = queue.len() as u64;
        if waiting >= counted {
            self.word.fetch_add((waiting - counted) << HALF, Ordering::AcqRel);
        } else {
            self.word.fetch_sub((counted - waiting) << HALF, Ordering::AcqRel);
        }
    }

    /// Acts on the queue, and wakes whom that concerns once the lock is free.
    fn with_queue<R>(&self, act: impl FnOnce(&Self, &mut Queue<Arc<Slot>>, &mut Vec<Waker>) -> R) -> R {
        let mut woken = Vec::new();
        let result = act(self, &mut self.lock(), &mut woken);
        woken.into_iter().for_each(Waker::wake);
        result
    }

    fn lock(&self) -> MutexGuard<'_, Queue<Arc<Slot>>> {
        // Nothing panics half-way through a change, so what a panic elsewhere left is whole.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting<'_> {
    /// Ready when the wait is over. Once [`Turn::Granted`], whoever waited is inside, and has to
    /// [`Gate::leave`].
    pub fn poll(&mut self, cx: &Context<'_>) -> Poll<Turn> {
        let told = self.slot.poll(cx);
        self.is_over |= told.is_ready();
        told
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let granted = self.gate.with_queue(|gate, queue, _| {
            queue.leave(self.ticket);
            gate.count_waiting(queue);
            self.slot.take() == Some(Turn::Granted)
        });
        if granted {
            self.gate.leave();
        }
    }
}

const fn inside(word: u64) -> u32 {
    (word & u32::MAX as u64) as u32
}

const fn outside(word: u64) -> u32 {
    (word >> HALF) as u32
}

/// One more inside.
const INSIDE: u64 = 1;
/// Bits of half a word.
const HALF: u32 = 32;

#[cfg(test)]
mod tests;
