//! The clock of one request: how long nothing has moved, and how long it may take in all.

use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::ambient;
use crate::net::timer::Timer;

/// Watches for progress.
#[derive(Debug)]
pub(super) struct Watch {
    timer: Timer,
    progress: u64,
    since: Instant,
    deadline: Option<Instant>,
    /// When the present try must have its response head.
    try_until: Option<Instant>,
}

/// What ran out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expired {
    /// Nothing moved for as long as it may.
    Idle,
    /// The whole request took as long as it may.
    Deadline,
    /// One try did.
    Try,
}

impl Default for Watch {
    fn default() -> Self {
        Self { timer: Timer::default(), progress: 0, since: ambient::now(), deadline: None, try_until: None }
    }
}

impl Watch {
    /// Starts over at `now`.
    pub(super) fn start(&mut self, now: Instant) {
        self.progress = 0;
        self.since = now;
        self.deadline = None;
        self.try_until = None;
    }

    /// Sets when the request must be over.
    pub(super) fn set_deadline(&mut self, deadline: Option<Instant>) {
        self.deadline = deadline;
    }

    /// Begins a try, which must have its response head at `until`.
    pub(super) fn begin_try(&mut self, until: Option<Instant>) {
        self.try_until = until;
    }

    /// The response head is there.
    pub(super) fn end_try(&mut self) {
        self.try_until = None;
    }

    /// Ready when `progress`, a number that grows with every byte moved, has stood still for
    /// `idle`, or the deadline or the time of the present try has passed.
    pub(super) fn poll(&mut self, progress: u64, idle: Duration, cx: &mut Context<'_>) -> Poll<Expired> {
        if progress != self.progress {
            self.progress = progress;
            self.since = ambient::now();
        }
        let idle_at = self.since + idle;
        let (at, expired) = match self.deadline {
            Some(deadline) if deadline < idle_at => (deadline, Expired::Deadline),
            _ => (idle_at, Expired::Idle),
        };
        let (at, expired) = match self.try_until {
            Some(until) if until < at => (until, Expired::Try),
            _ => (at, expired),
        };
        self.timer.set(at);
        self.timer.poll_expired(cx).map(|()| expired)
    }
}
