//! How an event reads: one sentence for people, without the endpoint's name, which stands before it;
//! and the same as an object for programs.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{Command, Effect, Event, Fallen, Order, Tripped, What};
use crate::health::State;
use crate::health::check::CheckResult;

impl Event {
    /// What happened, in one sentence in lower case, without a full stop and without names.
    #[must_use]
    pub fn words(&self) -> String {
        self.what.words()
    }

    /// The event as an object: `event`, `words`, `state` if it concerns an endpoint, and what it has
    /// besides. Durations are numbers that end in `_seconds`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut object = Map::new();
        object.insert("event".into(), self.what.name().into());
        if let Value::Object(details) = self.what.details() {
            object.extend(details);
        }
        object.insert("words".into(), self.words().into());
        if let Some(state) = self.state.map(State::name) {
            object.insert("state".into(), state.into());
        }
        Value::Object(object)
    }
}

impl What {
    /// The word for it in JSON.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Joined => "joined",
            Self::Left => "left",
            Self::Checked { .. } => "checked",
            Self::WentDown => "went_down",
            Self::CameUp => "came_up",
            Self::Detected { .. } => "detected",
            Self::OnTrial => "on_trial",
            Self::TrialPassed { .. } => "trial_passed",
            Self::TrialFailed { .. } => "trial_failed",
            Self::Returned { .. } => "returned",
            Self::Recovered => "recovered",
            Self::Ordered(_) => "ordered",
            Self::OrderOver(_) => "order_over",
            Self::Disagreement => "disagreement",
            Self::CorrelatedFailure { .. } => "correlated_failure",
            Self::CorrelationOver => "correlation_over",
            Self::FailedOpen { .. } => "failed_open",
            Self::FailOpenOver => "fail_open_over",
            Self::OpenedUnchecked { .. } => "opened_unchecked",
            Self::LadderDown { .. } => "ladder_down",
            Self::LadderUp { .. } => "ladder_up",
            Self::BreakerOpened { .. } => "breaker_opened",
            Self::BreakerHalfOpened => "breaker_half_opened",
            Self::BreakerClosed { .. } => "breaker_closed",
        }
    }

    fn words(&self) -> String {
        match self {
            Self::Joined => "joined the pool".to_owned(),
            Self::Left => "left the pool: no new requests, those under way may end".to_owned(),
            Self::Checked { result, row, needed } => checked(result, *row, *needed),
            Self::WentDown => "down: too many checks in a row failed".to_owned(),
            Self::CameUp => "up: enough checks in a row passed".to_owned(),
            Self::Detected { detector, evidence, effect } => {
                format!("{}: {detector} found {}", effect.words(), evidence.words)
            }
            Self::OnTrial => {
                "on trial: the time of ejection is over, one live request at a time decides".to_owned()
            }
            Self::TrialPassed { left } => format!("a trial request passed, {left} more to go"),
            Self::TrialFailed { ejected_for, times } => {
                format!("a trial request failed: ejected for {} ({})", seconds(*ejected_for), ordinal(*times))
            }
            Self::Returned { slow_start: Duration::ZERO } => "back at once with its whole weight".to_owned(),
            Self::Returned { slow_start } => {
                format!("back: starts slowly and has its whole weight in {}", seconds(*slow_start))
            }
            Self::Recovered => "has its whole weight again".to_owned(),
            Self::Ordered(order) => order.words(),
            Self::OrderOver(command) => {
                format!("no longer {}: the time for it is over", command.participle())
            }
            Self::Disagreement => {
                "checks pass while requests fail: the check does not see what clients see".to_owned()
            }
            Self::CorrelatedFailure { suspects, of } => format!(
                "{suspects} of {of} endpoints fail at once: nobody is ejected, because the cause must be one that they share"
            ),
            Self::CorrelationOver => {
                "endpoints no longer fail together: each is judged for itself".to_owned()
            }
            Self::FailedOpen { available, of, try_all } => format!(
                "only {available} of {of} endpoints are available: {}",
                if *try_all { "all are tried, whatever their state" } else { "none is tried" }
            ),
            Self::FailOpenOver => "enough endpoints are available again".to_owned(),
            Self::LadderDown { to, fallen, .. } => format!("degraded to {to}: {}", fallen.words()),
            Self::LadderUp { from, to, trials, lasted } => {
                let to = if to == "own" { "the pool itself" } else { to };
                format!("back from {from} to {to}: {trials} trials went well over {}", seconds(*lasted))
            }
            Self::BreakerOpened { tripped, lasts, times } => {
                format!(
                    "the breaker opened for {} ({}): {}",
                    seconds(*lasts),
                    ordinal(*times),
                    tripped.words()
                )
            }
            Self::BreakerHalfOpened => "the breaker is half-open: one request at a time decides".to_owned(),
            Self::BreakerClosed { trials } => {
                format!("the breaker closed: {trials} trials in a row ended well")
            }
            Self::OpenedUnchecked { after } => {
                format!("no check passed within {}: endpoints are used unchecked", seconds(*after))
            }
        }
    }

    /// What the event has besides its name.
    fn details(&self) -> Value {
        match self {
            Self::Checked { result, row, needed } => json!({
                "passed": result.failure.is_none(), "failure": result.failure,
                "took_seconds": result.took.as_secs_f64(), "row": row, "needed": needed,
            }),
            Self::Detected { detector, evidence, effect } => {
                let values: Map<_, Value> = evidence
                    .values
                    .iter()
                    .map(|(name, value)| ((*name).to_owned(), (*value).into()))
                    .collect();
                let mut object = Map::from_iter([("detector".to_owned(), (*detector).into())]);
                object.extend(effect.details());
                object.insert("values".into(), values.into());
                object.into()
            }
            Self::TrialPassed { left } => json!({ "left": left }),
            Self::TrialFailed { ejected_for, times } => {
                json!({ "lasts_seconds": ejected_for.as_secs_f64(), "times": times })
            }
            Self::Returned { slow_start } => json!({ "slow_start_seconds": slow_start.as_secs_f64() }),
            Self::Ordered(Order { command, lasts }) => {
                json!({ "command": command.name(), "lasts_seconds": lasts.map(|lasts| lasts.as_secs_f64()) })
            }
            Self::OrderOver(command) => json!({ "command": command.name() }),
            Self::CorrelatedFailure { suspects, of } => json!({ "suspects": suspects, "of": of }),
            Self::FailedOpen { available, of, try_all } => {
                json!({ "available": available, "of": of, "try_all": try_all })
            }
            Self::LadderDown { from, to, fallen: Fallen::Failures { share, requests } } => {
                json!({ "from": from, "to": to, "cause": "failures", "share": share, "requests": requests })
            }
            Self::LadderDown { from, to, fallen: Fallen::Unavailable } => {
                json!({ "from": from, "to": to, "cause": "unavailable" })
            }
            Self::LadderUp { from, to, trials, lasted } => json!({
                "from": from, "to": to, "trials": trials, "lasted_seconds": lasted.as_secs_f64(),
            }),
            Self::BreakerOpened { tripped, lasts, times } => {
                let mut object = tripped.details();
                object.insert("lasts_seconds".into(), lasts.as_secs_f64().into());
                object.insert("times".into(), (*times).into());
                object.into()
            }
            Self::BreakerClosed { trials } => json!({ "trials": trials }),
            Self::OpenedUnchecked { after } => json!({ "after_seconds": after.as_secs_f64() }),
            _ => Value::Null,
        }
    }
}

impl Fallen {
    fn words(&self) -> String {
        match self {
            Self::Failures { share, requests } => {
                format!("{:.0} % of {requests} requests failed", share * 100.0)
            }
            Self::Unavailable => "no endpoint is available".to_owned(),
        }
    }
}

impl Tripped {
    fn words(&self) -> String {
        match self {
            Self::Failures { share, requests } => {
                format!("{:.0} % of {requests} requests failed", share * 100.0)
            }
            Self::Latency { quantile, over, share, requests } => format!(
                "{:.0} % of {requests} responses took longer than {}, and {:.0} % may",
                share * 100.0,
                millis(*over),
                (1.0 - quantile) * 100.0
            ),
            Self::Trial => "a trial request failed".to_owned(),
        }
    }

    fn details(&self) -> Map<String, Value> {
        let details = match self {
            Self::Failures { share, requests } => {
                json!({ "cause": "failures", "share": share, "requests": requests })
            }
            Self::Latency { quantile, over, share, requests } => json!({
                "cause": "latency", "share": share, "requests": requests,
                "quantile": quantile, "over_seconds": over.as_secs_f64(),
            }),
            Self::Trial => json!({ "cause": "trial" }),
        };
        if let Value::Object(details) = details { details } else { Map::new() }
    }
}

impl Effect {
    /// The word for it in JSON.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Ejected { .. } => "ejected",
            Self::Degraded => "degraded",
            Self::Observed => "observed",
            Self::Capped { .. } => "capped",
            Self::Correlated => "correlated",
        }
    }

    fn words(&self) -> String {
        match self {
            Self::Ejected { lasts, times } => {
                format!("ejected for {} ({})", seconds(*lasts), ordinal(*times))
            }
            Self::Degraded => "cut to a tenth of its weight".to_owned(),
            Self::Observed => "observed only, nothing was done".to_owned(),
            Self::Capped { ejected, cap } => {
                format!(
                    "not ejected, {ejected} of its level are out already and ejection may bring it to {cap}"
                )
            }
            Self::Correlated => "not ejected, as endpoints fail together".to_owned(),
        }
    }

    fn details(&self) -> Map<String, Value> {
        let details = match self {
            Self::Ejected { lasts, times } => {
                json!({ "effect": self.name(), "lasts_seconds": lasts.as_secs_f64(), "times": times })
            }
            Self::Capped { ejected, cap } => json!({ "effect": self.name(), "ejected": ejected, "cap": cap }),
            _ => json!({ "effect": self.name() }),
        };
        if let Value::Object(details) = details { details } else { Map::new() }
    }
}

impl Order {
    fn words(self) -> String {
        let lasts = self.lasts.map(|lasts| format!(", for {}", seconds(lasts))).unwrap_or_default();
        match self.command {
            Command::Drain => format!("drained by command: no new requests{lasts}"),
            Command::Disable => format!("disabled by command: no requests and no checks{lasts}"),
            Command::Undrain => "no longer drained, by command".to_owned(),
            Command::Enable => "enabled by command".to_owned(),
        }
    }
}

impl Command {
    /// The word for it in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Undrain => "undrain",
            Self::Disable => "disable",
            Self::Enable => "enable",
        }
    }

    const fn participle(self) -> &'static str {
        match self {
            Self::Drain => "drained",
            Self::Undrain => "undrained",
            Self::Disable => "disabled",
            Self::Enable => "enabled",
        }
    }
}

fn checked(result: &CheckResult, row: u32, needed: u32) -> String {
    let took = millis(result.took);
    match &result.failure {
        None => format!("a check passed in {took} ({row} in a row, {needed} are needed)"),
        Some(failure) => {
            format!("a check failed after {took}: {failure} ({row} in a row, {needed} are needed)")
        }
    }
}

fn ordinal(times: u32) -> String {
    match times {
        0 | 1 => "first time".to_owned(),
        2 => "second time".to_owned(),
        3 => "third time".to_owned(),
        _ => format!("{times} times now"),
    }
}

fn seconds(time: Duration) -> String {
    let tenths = format!("{:.1}", time.as_secs_f64());
    format!("{} s", tenths.strip_suffix(".0").unwrap_or(&tenths))
}

fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}
