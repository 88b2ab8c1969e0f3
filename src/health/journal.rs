//! What is recorded of each change of an endpoint's or a pool's state, with its reasons, and how it
//! reads in words. Keeps nothing itself.

mod words;

use std::time::Duration;

use super::check::CheckResult;
use super::detector::Evidence;
use super::pool::State;

/// One thing that happened to a pool or one of its endpoints.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// The endpoint's index in the pool; `None` for what concerns the pool as a whole.
    pub endpoint: Option<usize>,
    /// What happened.
    pub what: What,
    /// The endpoint's state after it; `None` for what concerns the pool as a whole, and of an endpoint
    /// that is gone.
    pub state: Option<State>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// The endpoint is known from now on.
    Joined,
    /// The endpoint is no part of the pool any more.
    Left,
    /// A check went another way than the verdict, or confirmed a change that was under way.
    Checked {
        /// What it found.
        result: CheckResult,
        /// Results of this kind in a row.
        row: u32,
        /// How many change the verdict.
        needed: u32,
    },
    /// Checks found it down.
    WentDown,
    /// Checks found it up.
    CameUp,
    /// A detector found it an outlier.
    Detected {
        /// The detector.
        detector: &'static str,
        /// Why.
        evidence: Evidence,
        /// What was made of it.
        effect: Effect,
    },
    /// Its ejection is over; a trial request decides.
    OnTrial,
    /// A trial request ended well; so many are still needed.
    TrialPassed {
        /// Trials that are to follow.
        left: u32,
    },
    /// A trial request failed: ejected again.
    TrialFailed {
        /// For how long.
        ejected_for: Duration,
        /// Ejections in a row, this one included.
        times: u32,
    },
    /// It gets traffic again, at first a share of its weight.
    Returned {
        /// How long until it has all of it.
        slow_start: Duration,
    },
    /// It has its whole weight again.
    Recovered,
    /// An order from outside.
    Ordered(Order),
    /// An order that was to last for a time ended by itself.
    OrderOver(Command),
    /// Checks pass while requests fail.
    Disagreement,
    /// All degrade together: nobody is ejected, and ejections that belong to it are lifted.
    CorrelatedFailure {
        /// Endpoints that detectors complain of.
        suspects: usize,
        /// Endpoints that take part.
        of: usize,
    },
    /// No longer.
    CorrelationOver,
    /// Too few are available.
    FailedOpen {
        /// Endpoints that are available.
        available: usize,
        /// Endpoints that could be.
        of: usize,
        /// Whether all are tried; otherwise none.
        try_all: bool,
    },
    /// Enough are available again.
    FailOpenOver,
    /// A breaker opened: of the endpoint, or of the pool as a whole.
    BreakerOpened {
        /// Why.
        tripped: Tripped,
        /// For how long.
        lasts: Duration,
        /// Openings in a row, this one included.
        times: u32,
    },
    /// One request at a time passes the breaker.
    BreakerHalfOpened,
    /// Everything passes the breaker again.
    BreakerClosed {
        /// Trials that ended well.
        trials: u32,
    },
    /// Requests begin on a lower rung of the pool's ladder of degradation.
    LadderDown {
        /// The name of the rung before; `own` is the pool itself.
        from: String,
        /// The name of the rung now.
        to: String,
        /// Why.
        fallen: Fallen,
    },
    /// Requests begin on a higher rung of the pool's ladder of degradation.
    LadderUp {
        /// The name of the rung before.
        from: String,
        /// The name of the rung now; `own` is the pool itself.
        to: String,
        /// Trials of it that went well.
        trials: u64,
        /// For so long.
        lasted: Duration,
    },
    /// No check has passed within the time for it: the pool is used as it is.
    OpenedUnchecked {
        /// The time for it.
        after: Duration,
    },
}

/// Why a breaker opened.
#[derive(Clone, Debug, PartialEq)]
pub enum Tripped {
    /// Too great a share of requests failed.
    Failures {
        /// The share, 0 to 1.
        share: f64,
        /// Of so many.
        requests: u64,
    },
    /// Too great a share of responses was late.
    Latency {
        /// The quantile, 0 to 1, that is over its bound.
        quantile: f64,
        /// The bound.
        over: Duration,
        /// The share that took longer, 0 to 1.
        share: f64,
        /// Of so many.
        requests: u64,
    },
    /// A trial failed.
    Trial,
}

/// Why a pool went down a rung.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fallen {
    /// Too great a share of requests failed.
    Failures {
        /// The share, 0 to 1.
        share: f64,
        /// Of so many.
        requests: u64,
    },
    /// None of its endpoints may be used.
    Unavailable,
}

/// What was made of a finding.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Ejected.
    Ejected {
        /// For how long.
        lasts: Duration,
        /// Ejections in a row, this one included.
        times: u32,
    },
    /// It gets a tenth of its weight.
    Degraded,
    /// Recorded only, because the detector observes.
    Observed,
    /// Nothing, because as many as may be are ejected already.
    Capped {
        /// Endpoints of the level that are ejected.
        ejected: usize,
        /// How many may be.
        cap: usize,
    },
    /// Nothing, because all degrade together.
    Correlated,
}

/// An order from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// What to do.
    pub command: Command,
    /// After which time it is undone by itself.
    pub lasts: Option<Duration>,
}

/// What an order says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// No new requests; those under way may end.
    Drain,
    /// The end of [`Self::Drain`].
    Undrain,
    /// No traffic at all, and no checks.
    Disable,
    /// The end of [`Self::Disable`].
    Enable,
}

#[cfg(test)]
mod tests;
