//! An endpoint that answers as its mood is.

use std::time::Duration;

use forebay::health::Failure;

use crate::lots::Lots;

/// How an endpoint is at a time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Mood {
    Well,
    /// Connections are refused.
    Refuses,
    /// Requests are accepted and never answered.
    Hangs,
    /// All takes so many times as long.
    Slow(u32),
    /// Such a share of requests is answered with 503, at once.
    Fails(f64),
    /// Such a share of responses is cut off.
    Truncates(f64),
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Answer {
    /// When its response begins, counted from its beginning; never, if none.
    pub(crate) head: Option<Duration>,
    /// When it ends, and how.
    pub(crate) end: Duration,
    pub(crate) failure: Option<Failure>,
}

impl Mood {
    pub(crate) fn answer(self, lots: &mut Lots) -> Answer {
        let slower = if let Self::Slow(times) = self { times } else { 1 };
        let spike = if lots.happens(SPIKES) { 10 } else { 1 };
        let took = lots.time(MEDIAN, SIGMA) * slower * spike;
        let answer = Answer { head: Some(took), end: took, failure: None };
        match self {
            Self::Refuses => Answer { head: None, end: REFUSAL, failure: Some(Failure::Connect) },
            Self::Hangs => Answer { head: None, end: TIMEOUT, failure: Some(Failure::Timeout) },
            Self::Fails(share) if lots.happens(share) => {
                Answer { head: Some(took / 4), end: took / 4, failure: Some(Failure::Gateway) }
            }
            Self::Truncates(share) if lots.happens(share) => {
                Answer { failure: Some(Failure::Truncated), ..answer }
            }
            _ => answer,
        }
    }

    /// What a check finds that asks for no more than an answer, and how long it takes.
    pub(crate) fn check(self) -> (Option<String>, Duration) {
        match self {
            Self::Refuses => (Some("connection refused".to_owned()), REFUSAL),
            Self::Hangs => (Some("no answer in 2s".to_owned()), Duration::from_secs(2)),
            _ => (None, MEDIAN),
        }
    }
}

/// Times to the first byte.
pub(crate) const MEDIAN: Duration = Duration::from_millis(5);
const SIGMA: f64 = 0.5;
/// The share of requests that take ten times as long.
const SPIKES: f64 = 0.005;
const REFUSAL: Duration = Duration::from_micros(300);
/// How long a request is waited for.
const TIMEOUT: Duration = Duration::from_secs(5);
