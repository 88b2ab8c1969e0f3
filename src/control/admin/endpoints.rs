//! The admin listener's pages about endpoints: how they are, what happened to them, and orders for
//! them. Decides who may give orders no more than `writes` says.

use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::AdminState;
use super::pages::{Asked, Page, json_page, not_allowed, refuse};
use super::writes;
use crate::balance::FULL;
use crate::control::health::{PoolReading, Reading};
use crate::health::journal::{Command, Order};
use crate::model::{percent, units};
use crate::observe::civil;

/// The pages that are there, for the list of them.
pub(super) const LIST: &[(&str, &str)] = &[
    ("/endpoints", "every endpoint: its state, since when, and what happened last"),
    ("/endpoints/{pool}/{address}/journal", "what happened to an endpoint, the newest last"),
    ("/endpoints/{pool}/{address}/{drain|undrain|disable|enable}[?for=10m]", "POST: an order"),
];

/// The answer to a request for what is below `/endpoints`; `rest` is the path after that.
pub(super) fn answer(asked: &Asked<'_>, rest: &str, state: &AdminState) -> Page {
    let Some(segments) = rest.split('/').skip(1).map(percent::decode).collect::<Option<Vec<_>>>() else {
        return refuse(StatusCode::BAD_REQUEST, "the path has a broken escape", "write `/` as %2F");
    };
    let segments: Vec<_> = segments.iter().map(String::as_str).collect();
    match segments.as_slice() {
        [] | [""] => asked.read(|| json_page(StatusCode::OK, &all(state))),
        [pool] | [pool, ""] => match state.health.reading(pool) {
            Some(reading) => asked.read(|| json_page(StatusCode::OK, &list(&[reading]))),
            None => no_pool(pool, state),
        },
        [pool, endpoint, rest @ ..] => match find(pool, endpoint, state) {
            Err(refusal) => refusal,
            Ok(reading) => one(asked, &reading, rest, state),
        },
    }
}

fn one(asked: &Asked<'_>, reading: &Reading, rest: &[&str], state: &AdminState) -> Page {
    match rest {
        [] => asked.read(|| json_page(StatusCode::OK, &shown(reading))),
        ["journal"] => asked.read(|| json_page(StatusCode::OK, &journal(reading, state))),
        [word] => match COMMANDS.iter().find(|(known, _)| known == word) {
            Some((_, command)) if asked.method == Method::POST => order(asked, reading, *command, state),
            Some(_) => not_allowed("POST"),
            None => nothing_below(),
        },
        _ => nothing_below(),
    }
}

fn nothing_below() -> Page {
    refuse(
        StatusCode::NOT_FOUND,
        "not found",
        "below an endpoint there are journal, drain, undrain, disable and enable",
    )
}

fn order(asked: &Asked<'_>, reading: &Reading, command: Command, state: &AdminState) -> Page {
    if let Err(refusal) = writes::permitted(asked.headers, asked.bound) {
        return refusal;
    }
    let lasts = match lasts(asked.query, command) {
        Ok(lasts) => lasts,
        Err((error, hint)) => return refuse(StatusCode::BAD_REQUEST, &error, hint),
    };
    let (pool, endpoint) = (reading.pool.settings.name.as_str(), &*reading.endpoint.name);
    state.health.order(pool, endpoint, Order { command, lasts });
    match find(pool, endpoint, state) {
        Ok(reading) => json_page(StatusCode::OK, &shown(&reading)),
        Err(refusal) => refusal,
    }
}

/// After which time the order ends by itself, by the query.
fn lasts(query: Option<&str>, command: Command) -> Result<Option<Duration>, (String, &'static str)> {
    let mut lasts = None;
    for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if name != "for" {
            return Err((format!("the parameter {name:?} is not known"), "there is `for`, as in `?for=10m`"));
        }
        if matches!(command, Command::Undrain | Command::Enable) {
            return Err((
                "`for` makes no sense here".to_owned(),
                "`drain` and `disable` may last for a time; their end does not",
            ));
        }
        let value = percent::decode(value).unwrap_or_default();
        let time = units::duration(&value).map_err(|error| (error.to_string(), "as in `?for=10m`"))?;
        if time.is_zero() || time > LONGEST {
            return Err((
                format!("{value:?} is not a time that an order may last"),
                "more than 0s, at most 365d",
            ));
        }
        lasts = Some(time);
    }
    Ok(lasts)
}

fn find(pool: &str, endpoint: &str, state: &AdminState) -> Result<Reading, Page> {
    let Some(reading) = state.health.reading(pool) else { return Err(no_pool(pool, state)) };
    let known = reading.endpoints.iter().map(|reading| &*reading.endpoint.name).take(MOST_NAMED);
    let known = known.collect::<Vec<_>>().join(", ");
    let found = reading.endpoints.into_iter().find(|reading| reading.endpoint.name == endpoint);
    found.ok_or_else(|| {
        let error = format!("pool {pool:?} has no endpoint {endpoint:?}");
        refuse(StatusCode::NOT_FOUND, &error, &format!("it has {known}"))
    })
}

fn no_pool(pool: &str, state: &AdminState) -> Page {
    let known = state.health.pool_names().take(MOST_NAMED).collect::<Vec<_>>().join(", ");
    refuse(StatusCode::NOT_FOUND, &format!("there is no pool {pool:?}"), &format!("there is {known}"))
}

fn all(state: &AdminState) -> Value {
    list(&state.health.readings())
}

fn list(pools: &[PoolReading]) -> Value {
    let pool = |reading: &PoolReading| {
        json!({
            "pool": reading.pool.settings.name.as_str(),
            "failed_open": reading.failed_open,
            "correlated_failure": reading.correlated,
        })
    };
    let endpoints = pools.iter().flat_map(|reading| &reading.endpoints);
    json!({
        "pools": pools.iter().map(pool).collect::<Vec<_>>(),
        "endpoints": endpoints.map(shown).collect::<Vec<_>>(),
    })
}

fn shown(reading: &Reading) -> Value {
    let gauge = &reading.endpoint.gauge;
    let totals = reading.endpoint.metrics.totals();
    let estimate = gauge.estimate().map(|(estimate, _)| estimate.as_secs_f64());
    let [.., server_errors] = totals.responses;
    let (passed, failed) = reading.checks;
    let last = reading.last.as_ref();
    json!({
        "pool": reading.pool.settings.name.as_str(),
        "endpoint": reading.endpoint.name,
        "state": reading.standing.state.name(),
        "since": civil::rfc3339(reading.since),
        "available": reading.standing.available,
        "weight": gauge.base_weight(),
        "factor": f64::from(gauge.factor()) / f64::from(FULL),
        "in_flight": gauge.in_flight(),
        "latency_estimate_seconds": estimate,
        "requests": totals.requests,
        "failures": totals.failures,
        "server_errors": server_errors,
        "ejections": reading.ejections,
        "checks": { "passed": passed, "failed": failed },
        "disagreement": reading.disagrees,
        "last_event": last.map(|entry| json!({ "at": civil::rfc3339(entry.at), "words": entry.words() })),
    })
}

fn journal(reading: &Reading, state: &AdminState) -> Value {
    let pool = &reading.pool.settings.name;
    let record = state.health.record();
    let (entries, forgotten, oldest) = record.with_journal(|journal| {
        let oldest = journal.entries().next().map(|entry| entry.at);
        (journal.of(pool, &reading.endpoint.name), journal.forgotten(), oldest)
    });
    // While nothing was forgotten, it reaches back to the start.
    let begins = if forgotten == 0 { state.started } else { oldest.unwrap_or(state.started) };
    json!({
        "pool": pool.as_str(),
        "endpoint": reading.endpoint.name,
        "state": reading.standing.state.name(),
        "since": civil::rfc3339(reading.since),
        "journal_begins": civil::rfc3339(begins),
        "forgotten": forgotten,
        "entries": entries.iter().map(|entry| entry.to_json()).collect::<Vec<_>>(),
    })
}

/// The words for orders.
const COMMANDS: [(&str, Command); 4] = [
    ("drain", Command::Drain),
    ("undrain", Command::Undrain),
    ("disable", Command::Disable),
    ("enable", Command::Enable),
];

/// The longest time after which an order ends by itself.
const LONGEST: Duration = Duration::from_secs(365 * 86_400);

/// How many of those that are known a refusal names.
const MOST_NAMED: usize = 20;
