//! What an answer of a collector means for the spans that were sent: they are taken, wanted later, or not at
//! all (OTLP specification 1.x, "Failures" and "OTLP/HTTP Response"). Judges what was read; does not read.

use std::time::Duration;

use http::StatusCode;

use super::read::{Status, Taken};

/// What became of the spans of one try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The collector has them, but for some.
    Taken(Taken),
    /// It has none, and may take them another time.
    Later {
        /// In words.
        why: String,
        /// The pause that it asks for, if it does.
        after: Option<Duration>,
    },
    /// It has none, and would not take them another time.
    Refused(String),
}

impl Outcome {
    /// No answer.
    pub(super) fn unanswered(why: impl ToString) -> Self {
        Self::Later { why: why.to_string(), after: None }
    }

    /// Of a call whose code is not 0.
    pub(super) fn of_call(code: u16, status: Status) -> Self {
        let Status { message, retry } = status;
        let why = match message.as_str() {
            "" => format!("gRPC status {code}"),
            message => format!("gRPC status {code}: {message}"),
        };
        // A collector that is out of something for good does not say when to come again.
        let passes = TEMPORARY.contains(&code) || (code == RESOURCE_EXHAUSTED && retry.is_some());
        if passes { Self::Later { why, after: retry } } else { Self::Refused(why) }
    }

    /// Of a response over HTTP that is no success, with the pause of `Retry-After`.
    pub(super) fn of_response(code: StatusCode, status: &Status, after: Option<Duration>) -> Self {
        let why = match status.message.as_str() {
            "" => format!("HTTP status {}", code.as_u16()),
            message => format!("HTTP status {}: {message}", code.as_u16()),
        };
        if matches!(code.as_u16(), 429 | 502 | 503 | 504) {
            Self::Later { why, after: after.or(status.retry) }
        } else {
            Self::Refused(why)
        }
    }
}

/// The code of a call that was answered without one (gRPC, "HTTP to gRPC Status Code Mapping").
pub(super) fn code_for(status: StatusCode) -> u16 {
    match status.as_u16() {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

/// Codes after which spans are sent again: cancelled, deadline exceeded, aborted, out of range, unavailable
/// and data loss.
const TEMPORARY: [u16; 6] = [1, 4, 10, 11, 14, 15];
const RESOURCE_EXHAUSTED: u16 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_passes_is_tried_again() {
        let later = |outcome| matches!(outcome, Outcome::Later { .. });
        for code in 1..=17 {
            let expected = [1, 4, 10, 11, 14, 15].contains(&code);
            assert_eq!(later(Outcome::of_call(code, Status::default())), expected, "{code}");
        }
        let full = Status { message: "full".into(), retry: Some(Duration::from_secs(3)) };
        let expected = Outcome::Later { why: "gRPC status 8: full".into(), after: full.retry };
        assert_eq!(Outcome::of_call(8, full), expected);
        for code in (201..600).filter_map(|code| StatusCode::from_u16(code).ok()) {
            let outcome = Outcome::of_response(code, &Status::default(), None);
            assert_eq!(later(outcome), [429, 502, 503, 504].contains(&code.as_u16()), "{code}");
        }
    }
}
