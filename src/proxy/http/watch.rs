//! The clock of one request: how long nothing has moved, how slowly something has, and how long it may
//! take in all.

use std::task::{Context, Poll, ready};
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
    /// What has come of late from a side that has to keep up a rate.
    pace: Option<Pace>,
}

/// What one side has moved since a moment, all the time being what was waited for.
#[derive(Debug, Clone, Copy)]
struct Pace {
    side: Side,
    rate: u64,
    since: Instant,
    moved_before: u64,
    moved: u64,
}

/// Who is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// The client.
    Client,
    /// The endpoint.
    Upstream,
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
    /// Too little moved in a while.
    Slow,
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            timer: Timer::default(),
            progress: 0,
            since: ambient::now(),
            deadline: None,
            try_until: None,
            pace: None,
        }
    }
}

impl Watch {
    /// Starts over at `now`.
    pub(super) fn start(&mut self, now: Instant) {
        self.progress = 0;
        self.since = now;
        self.deadline = None;
        self.try_until = None;
        self.pace = None;
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

    /// Says who is waited for at present, at which rate in bytes per second it has to move something,
    /// if at any, and how much it has moved so far. To be called before each [`Self::poll`] in a phase
    /// that has such a rate.
    pub(super) fn keep_pace(&mut self, side: Side, rate: Option<u64>, moved: u64) {
        match (&mut self.pace, rate) {
            (None, None) => {}
            (_, None) => self.pace = None,
            (Some(pace), Some(_)) if pace.side == side => pace.moved = moved,
            (_, Some(rate)) => {
                let since = ambient::now();
                self.pace = Some(Pace { side, rate, since, moved_before: moved, moved });
            }
        }
    }

    /// Ready when `progress`, a number that grows with every byte moved, has stood still for
    /// `idle`, the pace was too slow, or the deadline or the time of the present try has passed.
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
        loop {
            let (at, expired) = match self.pace.as_mut().map(Pace::judged_next) {
                Some(None) => return Poll::Ready(Expired::Slow),
                Some(Some(judged)) if judged < at => (judged, Expired::Slow),
                _ => (at, expired),
            };
            self.timer.set(at);
            ready!(self.timer.poll_expired(cx));
            if expired != Expired::Slow {
                return Poll::Ready(expired);
            }
        }
    }
}

impl Pace {
    /// When it is judged next; `None` when it was too slow just now.
    fn judged_next(&mut self) -> Option<Instant> {
        let now = ambient::now();
        let took = now.saturating_duration_since(self.since);
        if took >= PACE_WINDOW {
            let needed = u128::from(self.rate) * took.as_millis() / 1000;
            if u128::from(self.moved.saturating_sub(self.moved_before)) < needed {
                return None;
            }
            (self.since, self.moved_before) = (now, self.moved);
        }
        Some(self.since + PACE_WINDOW)
    }
}

/// Over which time a rate is an average.
const PACE_WINDOW: Duration = Duration::from_secs(5);
