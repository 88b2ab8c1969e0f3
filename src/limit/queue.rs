//! Who waits for a turn, and whose turn is next: three classes of priority, each first come first
//! served as long as it drains, and last come first served when it does not. It is bounded. What the
//! turns are for, and how whoever waits is told, it does not know.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::model::settings::Priority;

/// A bounded queue of waiters `T`.
///
/// The highest class that anybody waits in is served first. Within a class, the order is that of
/// adaptive LIFO (Maurer, "Fail at Scale", ACM Queue 13(8), 2015): under overload, those who came
/// first have waited for so long that their clients are about to give up, and to serve them first
/// would be to serve everybody too late. The last to come are served in time, so that some are.
#[derive(Debug)]
pub struct Queue<T> {
    classes: [Class<T>; 3],
    bound: usize,
    tickets: u64,
}

/// What a waiter is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    priority: Priority,
    number: u64,
}

/// What became of an arrival.
#[derive(Debug, PartialEq, Eq)]
pub enum Joined<T> {
    /// It waits.
    Waits(Ticket),
    /// It waits, in the place of another of a lower class.
    InPlaceOf(Ticket, T),
    /// The queue is full of those that come before it.
    Full,
}

/// Waiters of one priority, in the order of their tickets.
#[derive(Debug)]
struct Class<T> {
    waiters: VecDeque<Waiter<T>>,
    /// Since when it has not been empty.
    busy_since: Option<Instant>,
}

#[derive(Debug)]
struct Waiter<T> {
    number: u64,
    until: Instant,
    item: T,
}

impl<T> Queue<T> {
    /// An empty queue in which at most `bound` may wait.
    #[must_use]
    pub fn new(bound: usize) -> Self {
        Self { classes: std::array::from_fn(|_| Class::default()), bound, tickets: 0 }
    }

    /// Takes a new bound. Those that wait past it wait on; whoever comes finds no room until enough of
    /// them have left.
    pub fn set_bound(&mut self, bound: usize) {
        self.bound = bound;
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.classes.iter().map(|class| class.waiters.len()).sum()
    }

    /// Whether nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.classes.iter().all(|class| class.waiters.is_empty())
    }

    /// Takes in an arrival, which is of no use any more at `until`.
    ///
    /// When there is no room, it takes the place of whoever would be served last of the lowest class
    /// below its own: of those served in order the one that came last, which has waited least; of
    /// those served in reverse the one that came first, which is closest to giving up anyway. Either
    /// way nobody is passed over who would have had a turn before others that stay.
    pub fn join(&mut self, item: T, priority: Priority, now: Instant, until: Instant) -> Joined<T> {
        let mut displaced = None;
        if self.len() >= self.bound {
            self.classes.iter_mut().for_each(|class| class.discard_expired(now));
        }
        if self.len() >= self.bound {
            let lower = self.classes.iter_mut().take(priority as usize);
            let Some(last) = lower.into_iter().find_map(|class| class.take_last(now)) else {
                return Joined::Full;
            };
            displaced = Some(last);
        }
        let number = self.tickets;
        self.tickets += 1;
        let ticket = Ticket { priority, number };
        self.rejoin(item, ticket, now, until);
        match displaced {
            Some(last) => Joined::InPlaceOf(ticket, last),
            None => Joined::Waits(ticket),
        }
    }

    /// Takes back a waiter whose turn came to nothing, to the place that it had, whether there is
    /// room or not.
    pub fn rejoin(&mut self, item: T, ticket: Ticket, now: Instant, until: Instant) {
        let Some(class) = self.classes.get_mut(ticket.priority as usize) else { return };
        class.busy_since.get_or_insert(now);
        let number = ticket.number;
        let place = class.waiters.partition_point(|waiter| waiter.number < number);
        class.waiters.insert(place, Waiter { number, until, item });
    }

    /// The waiter whose turn it is at `now`, which waits no longer. Those whose time has passed never
    /// have a turn: they are dropped on the way, as they have clocks of their own to tell them.
    pub fn next(&mut self, now: Instant) -> Option<T> {
        self.classes.iter_mut().rev().find_map(|class| class.next(now))
    }

    /// Takes out a waiter, if it is there still.
    pub fn leave(&mut self, ticket: Ticket) -> Option<T> {
        let class = self.classes.get_mut(ticket.priority as usize)?;
        let place = class.waiters.binary_search_by_key(&ticket.number, |waiter| waiter.number).ok()?;
        let left = class.waiters.remove(place)?;
        class.note_drained();
        Some(left.item)
    }
}

impl<T> Class<T> {
    fn next(&mut self, now: Instant) -> Option<T> {
        let in_reverse = self.is_overloaded(now);
        let next = loop {
            let waiter = if in_reverse { self.waiters.pop_back() } else { self.waiters.pop_front() };
            match waiter {
                Some(waiter) if waiter.until <= now => {}
                other => break other,
            }
        };
        self.note_drained();
        next.map(|waiter| waiter.item)
    }

    /// Whoever would be served last.
    fn take_last(&mut self, now: Instant) -> Option<T> {
        let in_reverse = self.is_overloaded(now);
        let last = if in_reverse { self.waiters.pop_front() } else { self.waiters.pop_back() };
        self.note_drained();
        last.map(|waiter| waiter.item)
    }

    /// Drops those at the head whose time has passed, who are there for as long as their clocks take
    /// to tell them.
    fn discard_expired(&mut self, now: Instant) {
        while self.waiters.front().is_some_and(|waiter| waiter.until <= now) {
            self.waiters.pop_front();
        }
        self.note_drained();
    }

    fn is_overloaded(&self, now: Instant) -> bool {
        self.busy_since.is_some_and(|since| now.saturating_duration_since(since) >= PATIENCE)
    }

    fn note_drained(&mut self) {
        if self.waiters.is_empty() {
            self.busy_since = None;
        }
    }
}

impl<T> Default for Class<T> {
    fn default() -> Self {
        Self { waiters: VecDeque::new(), busy_since: None }
    }
}

/// For how long somebody may have waited all the time before that counts as overload (Maurer, 2015).
const PATIENCE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests;
