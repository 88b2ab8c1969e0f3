//! Where whoever waits is told that its turn has come, from whatever thread. Nothing here knows what
//! is waited for, or in which order.

use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

/// What a waiter is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It may go on.
    Granted,
    /// It gave way to a waiter of a higher priority.
    Displaced,
}

/// Tells one waiter of its turn.
#[derive(Debug, Default)]
pub struct Slot(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    turn: Option<Turn>,
    waker: Option<Waker>,
}

impl Slot {
    /// Tells the waiter. The waker, if any, is to be woken once no lock is held.
    #[must_use]
    pub fn tell(&self, turn: Turn) -> Option<Waker> {
        self.with(|state| {
            state.turn = Some(turn);
            state.waker.take()
        })
    }

    /// What the waiter was told and has not yet heard.
    #[must_use]
    pub fn take(&self) -> Option<Turn> {
        self.with(|state| state.turn.take())
    }

    /// Ready with what the waiter is told, once.
    pub fn poll(&self, cx: &Context<'_>) -> Poll<Turn> {
        self.with(|state| match state.turn.take() {
            Some(turn) => Poll::Ready(turn),
            None => {
                state.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        })
    }

    fn with<R>(&self, act: impl FnOnce(&mut State) -> R) -> R {
        // Nothing in here panics half-way, so what a panic elsewhere left is whole.
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
