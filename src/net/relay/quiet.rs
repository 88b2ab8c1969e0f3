//! Notices that nothing moves, and that a connection has lasted long enough. Looks at the time only
//! when its timer fires, so that bytes that move cost nothing here.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::task::coop::has_budget_remaining;
use tokio::time::{Sleep, sleep, sleep_until};

use super::{End, Limits};

/// The timer of one connection.
#[derive(Debug)]
pub(super) struct Quiet {
    sleep: Pin<Box<Sleep>>,
    /// Whether the runtime knows whom to wake.
    is_set: bool,
    step: Duration,
    until: Option<Instant>,
    /// What had moved when the timer was last set.
    moved: u64,
    /// Steps in a row in which nothing has moved.
    silent: u8,
}

impl Quiet {
    pub(super) fn new(limits: &Limits) -> Self {
        let step = (limits.idle / u32::from(STEPS)).max(Duration::from_millis(1));
        Self {
            sleep: Box::pin(until_next(step, limits.until)),
            is_set: false,
            step,
            until: limits.until,
            moved: 0,
            silent: 0,
        }
    }

    /// Ready when nothing moved for long enough or time is up; `moved` counts what has moved so far.
    pub(super) fn poll(&mut self, moved: u64, cx: &mut Context<'_>) -> Poll<End> {
        // Asked for already, by this task, and much cheaper to look at than to ask again.
        if self.is_set && !self.sleep.is_elapsed() {
            return Poll::Pending;
        }
        loop {
            // Out of budget, the timer answers without having been set.
            self.is_set = has_budget_remaining();
            ready!(self.sleep.as_mut().poll(cx));
            if self.until.is_some_and(|until| self.sleep.deadline().into_std() >= until) {
                return Poll::Ready(End::Expired);
            }
            self.silent = if moved == self.moved { self.silent + 1 } else { 0 };
            self.moved = moved;
            if self.silent >= STEPS {
                return Poll::Ready(End::Idle);
            }
            self.sleep.set(until_next(self.step, self.until));
        }
    }
}

fn until_next(step: Duration, until: Option<Instant>) -> Sleep {
    let next = sleep(step);
    match until.map(tokio::time::Instant::from_std) {
        Some(until) if until < next.deadline() => sleep_until(until),
        _ => next,
    }
}

/// Steps in which the longest silence is measured.
const STEPS: u8 = 4;
