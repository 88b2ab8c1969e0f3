//! The admin listener's pages about endpoints: how they are, what happened to them, and orders for
//! them. Decides who may give orders no more than `writes` says.

use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::AdminState;
use super::pages::{Asked, Page, Refusal, json_page, not_allowed};
use super::writes;
use crate::balance::FULL;
use crate::control::health::{PoolReading, Reading};
use crate::health::journal::{Command, Order};
use crate::model::{Name, percent, units};
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
        let error = "the path has an escape that is cut short";
        return Refusal::new(StatusCode::BAD_REQUEST, error, "a `/` in an address is written %2F").page();
    };
    let segments: Vec<_> = segments.iter().map(String::as_str).collect();
    let answer = match segments.as_slice() {
        [] | [""] => Ok(asked.read(|| json_page(StatusCode::OK, &list(&state.health.readings())))),
        [pool] | [pool, ""] => {
            find_pool(pool, state).map(|reading| asked.read(|| json_page(StatusCode::OK, &list(&[reading]))))
        }
        [pool, endpoint, rest @ ..] => {
            find(pool, endpoint, state).and_then(|reading| one(asked, &reading, rest, state))
        }
    };
    answer.unwrap_or_else(Refusal::page)
}

fn one(asked: &Asked<'_>, reading: &Reading, rest: &[&str], state: &AdminState) -> Result<Page, Refusal> {
    let command = |word: &str| COMMANDS.iter().find(|(known, _)| *known == word);
    match rest {
        [] => Ok(asked.read(|| json_page(StatusCode::OK, &shown(reading)))),
        ["journal"] => Ok(asked.read(|| json_page(StatusCode::OK, &journal(reading, state)))),
        [word] if command(word).is_some() && asked.method != Method::POST => Ok(not_allowed("POST")),
        [word] => match command(word) {
            Some((_, command)) => order(asked, reading, *command, state),
            None => Err(nothing_below()),
        },
        _ => Err(nothing_below()),
    }
}

fn nothing_below() -> Refusal {
    let hint = "below an endpoint there are journal, drain, undrain, disable and enable";
    Refusal::new(StatusCode::NOT_FOUND, "not found", hint)
}

fn order(
    asked: &Asked<'_>,
    reading: &Reading,
    command: Command,
    state: &AdminState,
) -> Result<Page, Refusal> {
    writes::permitted(asked.headers, asked.bound)?;
    let lasts = lasts(asked.query, command)?;
    let (pool, endpoint) = (reading.pool.settings.name.as_str(), &*reading.endpoint.name);
    state.health.order(pool, endpoint, Order { command, lasts });
    Ok(json_page(StatusCode::OK, &shown(&find(pool, endpoint, state)?)))
}

/// After which time the order ends by itself, by the query.
fn lasts(query: Option<&str>, command: Command) -> Result<Option<Duration>, Refusal> {
    let bad = |error: String, hint: &'static str| Refusal::new(StatusCode::BAD_REQUEST, error, hint);
    let mut lasts = None;
    for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if name != "for" {
            return Err(bad(
                format!("the parameter {name:?} is not known"),
                "there is `for`, as in `?for=10m`",
            ));
        }
        if matches!(command, Command::Undrain | Command::Enable) {
            let hint = "`drain` and `disable` may last for a time; their end does not";
            return Err(bad("`for` makes no sense here".to_owned(), hint));
        }
        let value = percent::decode(value).unwrap_or_default();
        let time = units::duration(&value).map_err(|error| bad(error.to_string(), "as in `?for=10m`"))?;
        if time.is_zero() || time > LONGEST {
            let error = format!("{value:?} is not a time that an order may last");
            return Err(bad(error, "it may last more than 0s and at most 365d"));
        }
        lasts = Some(time);
    }
    Ok(lasts)
}

fn find_pool(pool: &str, state: &AdminState) -> Result<PoolReading, Refusal> {
    state.health.reading(pool).ok_or_else(|| {
        let known = {
            let names = state.health.pool_names();
            names.iter().take(MOST_NAMED).map(Name::as_str).collect::<Vec<_>>().join(", ")
        };
        let error = format!("there is no pool {pool:?}");
        Refusal::new(StatusCode::NOT_FOUND, error, format!("there is {known}"))
    })
}

fn find(pool: &str, endpoint: &str, state: &AdminState) -> Result<Reading, Refusal> {
    let reading = find_pool(pool, state)?;
    let known = reading.endpoints.iter().map(|reading| &*reading.endpoint.name).take(MOST_NAMED);
    let known = known.collect::<Vec<_>>().join(", ");
    let found = reading.endpoints.into_iter().find(|reading| reading.endpoint.name == endpoint);
    found.ok_or_else(|| {
        let error = format!("pool {pool:?} has no endpoint {endpoint:?}");
        Refusal::new(StatusCode::NOT_FOUND, error, format!("it has {known}"))
    })
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
