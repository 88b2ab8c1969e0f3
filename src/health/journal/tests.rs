//! Every event reads well, to people and to programs.

use super::*;
use crate::health::pool::State;

const SECOND: Duration = Duration::from_secs(1);

fn detected(effect: Effect) -> What {
    let evidence = Evidence {
        words: "5 failures in a row (threshold 5)".to_owned(),
        values: vec![("failures_in_a_row", 5.0), ("threshold", 5.0)],
    };
    What::Detected { detector: "consecutive_failures", evidence, effect }
}

fn breakers() -> Vec<(What, &'static str)> {
    vec![
        (
            What::BreakerOpened {
                tripped: Tripped::Failures { share: 0.654, requests: 26 },
                lasts: 5 * SECOND,
                times: 1,
            },
            "the breaker opened for 5 s (first time): 65 % of 26 requests failed",
        ),
        (
            What::BreakerOpened {
                tripped: Tripped::Latency { quantile: 0.9, over: SECOND, share: 0.25, requests: 40 },
                lasts: 5 * SECOND,
                times: 1,
            },
            "the breaker opened for 5 s (first time): 25 % of 40 responses took longer than 1000.0 ms, and 10 % may",
        ),
        (
            What::BreakerOpened { tripped: Tripped::Trial, lasts: 10 * SECOND, times: 2 },
            "the breaker opened for 10 s (second time): a trial request failed",
        ),
        (What::BreakerHalfOpened, "the breaker is half-open: one request at a time decides"),
        (What::BreakerClosed { trials: 3 }, "the breaker closed: 3 trials in a row ended well"),
        (
            What::LadderDown {
                from: "own".to_owned(),
                to: "pool=spare".to_owned(),
                fallen: Fallen::Failures { share: 0.6, requests: 25 },
            },
            "degraded to pool=spare: 60 % of 25 requests failed",
        ),
        (
            What::LadderDown {
                from: "pool=spare".to_owned(),
                to: "stale".to_owned(),
                fallen: Fallen::Unavailable,
            },
            "degraded to stale: no endpoint is available",
        ),
        (
            What::LadderUp { from: "stale".to_owned(), to: "own".to_owned(), trials: 26, lasted: 5 * SECOND },
            "back from stale to the pool itself: 26 trials went well over 5 s",
        ),
    ]
}

fn every() -> Vec<(What, &'static str)> {
    let passed = CheckResult { failure: None, took: Duration::from_millis(3) };
    let failed = CheckResult { failure: Some("status 500".to_owned()), took: Duration::from_millis(3) };
    let mut every = vec![
        (What::Joined, "joined the pool"),
        (What::Left, "left the pool: no new requests, those under way may end"),
        (
            What::Checked { result: passed, row: 1, needed: 2 },
            "a check passed in 3.0 ms (1 in a row, 2 are needed)",
        ),
        (
            What::Checked { result: failed, row: 1, needed: 3 },
            "a check failed after 3.0 ms: status 500 (1 in a row, 3 are needed)",
        ),
        (
            detected(Effect::Ejected { lasts: Duration::from_millis(10_300), times: 1 }),
            "ejected for 10.3 s (first time): consecutive_failures found 5 failures in a row (threshold 5)",
        ),
        (
            detected(Effect::Capped { ejected: 2, cap: 2 }),
            "not ejected, 2 of its level are out already and ejection may bring it to 2: \
             consecutive_failures found 5 failures in a row (threshold 5)",
        ),
        (
            detected(Effect::Observed),
            "observed only, nothing was done: consecutive_failures found 5 failures in a row (threshold 5)",
        ),
        (What::TrialPassed { left: 2 }, "a trial request passed, 2 more to go"),
        (
            What::TrialFailed { ejected_for: 20 * SECOND, times: 2 },
            "a trial request failed: ejected for 20 s (second time)",
        ),
        (What::Returned { slow_start: 10 * SECOND }, "back: starts slowly and has its whole weight in 10 s"),
        (What::Returned { slow_start: Duration::ZERO }, "back at once with its whole weight"),
        (
            What::Ordered(Order { command: Command::Drain, lasts: Some(60 * SECOND) }),
            "drained by command: no new requests, for 60 s",
        ),
        (What::OrderOver(Command::Disable), "no longer disabled: the time for it is over"),
        (
            What::FailedOpen { available: 1, of: 4, try_all: true },
            "only 1 of 4 endpoints are available: all are tried, whatever their state",
        ),
        (
            What::OpenedUnchecked { after: 2 * SECOND },
            "no check passed within 2 s: endpoints are used unchecked",
        ),
    ];
    every.extend(breakers());
    every
}

#[test]
fn events_read_as_sentences() {
    for (what, words) in every() {
        assert_eq!(Event { endpoint: Some(0), what, state: None }.words(), words);
    }
}

#[test]
fn every_event_is_an_object_with_its_words_and_state() {
    for (what, words) in every() {
        let json = Event { endpoint: Some(0), what, state: Some(State::Ejected) }.to_json();
        assert_eq!((&json["words"], &json["state"]), (&words.into(), &"ejected".into()));
        assert!(json["event"].is_string());
    }
    let effect = Effect::Ejected { lasts: 10 * SECOND, times: 1 };
    let json = Event { endpoint: Some(0), what: detected(effect), state: Some(State::Ejected) }.to_json();
    let expected = serde_json::json!({
        "event": "detected", "detector": "consecutive_failures",
        "effect": "ejected", "lasts_seconds": 10.0, "times": 1,
        "values": { "failures_in_a_row": 5.0, "threshold": 5.0 },
        "words": "ejected for 10 s (first time): consecutive_failures found 5 failures in a row (threshold 5)",
        "state": "ejected",
    });
    assert_eq!(json, expected);
}
