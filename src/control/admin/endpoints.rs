//! The admin listener's pages about endpoints: how they are, what happened to them, and orders for
//! them. Who may give orders was decided before.

use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::pages::{Refusal, json_page};
use super::router::{Answer, Handler::Blocking, Row};
use super::{AdminState, Asked};
use crate::balance::FULL;
use crate::control::health::{PoolReading, Reading};
use crate::health::journal::{Command, Order};
use crate::model::{Name, units};
use crate::observe::civil;

/// The rows about endpoints.
pub(super) const ROWS: &[Row] = &[
    Row::get("/v1/endpoints", "every endpoint: its state, since when, and what happened last", Blocking(all))
        .also("/endpoints"),
    Row::get("/v1/endpoints/{pool}", "the endpoints of a pool", Blocking(of_pool)).also("/endpoints/{pool}"),
    Row::get("/v1/endpoints/{pool}/{address}", "one endpoint", Blocking(one))
        .also("/endpoints/{pool}/{address}"),
    Row::get(
        "/v1/endpoints/{pool}/{address}/journal",
        "what happened to it, the newest last",
        Blocking(journal),
    )
    .also("/endpoints/{pool}/{address}/journal"),
    order_row("/v1/endpoints/{pool}/{address}/drain", "no new requests [?for=10m]", |asked, state| {
        order(asked, Command::Drain, state)
    })
    .also("/endpoints/{pool}/{address}/drain"),
    order_row("/v1/endpoints/{pool}/{address}/undrain", "end a drain", |asked, state| {
        order(asked, Command::Undrain, state)
    })
    .also("/endpoints/{pool}/{address}/undrain"),
    order_row(
        "/v1/endpoints/{pool}/{address}/disable",
        "no traffic, no checks [?for=10m]",
        |asked, state| order(asked, Command::Disable, state),
    )
    .also("/endpoints/{pool}/{address}/disable"),
    order_row("/v1/endpoints/{pool}/{address}/enable", "end a disable", |asked, state| {
        order(asked, Command::Enable, state)
    })
    .also("/endpoints/{pool}/{address}/enable"),
];

const fn order_row(
    path: &'static str,
    summary: &'static str,
    order: fn(&Asked, &AdminState) -> Answer,
) -> Row {
    Row::write(Method::POST, path, summary, Blocking(order))
}

fn all(_: &Asked, state: &AdminState) -> Answer {
    Ok(json_page(StatusCode::OK, &list(&state.running.health().readings())))
}

fn of_pool(asked: &Asked, state: &AdminState) -> Answer {
    let reading = find_pool(asked.part("pool"), state)?;
    Ok(json_page(StatusCode::OK, &list(&[reading])))
}

fn one(asked: &Asked, state: &AdminState) -> Answer {
    Ok(json_page(StatusCode::OK, &shown(&find(asked, state)?)))
}

fn journal(asked: &Asked, state: &AdminState) -> Answer {
    Ok(json_page(StatusCode::OK, &history(&find(asked, state)?, state)))
}

fn order(asked: &Asked, command: Command, state: &AdminState) -> Answer {
    let reading = find(asked, state)?;
    let lasts = lasts(asked, command)?;
    let (pool, endpoint) = (reading.pool.settings.name.as_str(), &*reading.endpoint.name);
    state.running.health().order(pool, endpoint, Order { command, lasts });
    one(asked, state)
}

/// After which time the order ends by itself, by the query.
fn lasts(asked: &Asked, command: Command) -> Result<Option<Duration>, Refusal> {
    let bad = |error: String, hint: &'static str| Refusal::new(StatusCode::BAD_REQUEST, error, hint);
    let [Some(value)] = asked.query(["for"])? else { return Ok(None) };
    if matches!(command, Command::Undrain | Command::Enable) {
        let hint = "`drain` and `disable` may last for a time; their end does not";
        return Err(bad("`for` makes no sense here".to_owned(), hint));
    }
    let time = units::duration(&value).map_err(|error| bad(error.to_string(), "as in `?for=10m`"))?;
    if time.is_zero() || time > LONGEST {
        let error = format!("{value:?} is not a time that an order may last");
        return Err(bad(error, "it may last more than 0s and at most 365d"));
    }
    Ok(Some(time))
}

pub(super) fn find_pool(pool: &str, state: &AdminState) -> Result<PoolReading, Refusal> {
    state.running.health().reading(pool).ok_or_else(|| {
        let known = {
            let names = state.running.health().pool_names();
            names.iter().take(MOST_NAMED).map(Name::as_str).collect::<Vec<_>>().join(", ")
        };
        let error = format!("there is no pool {pool:?}");
        Refusal::new(StatusCode::NOT_FOUND, error, format!("there is {known}"))
    })
}

/// The endpoint that the path names.
pub(super) fn find(asked: &Asked, state: &AdminState) -> Result<Reading, Refusal> {
    let (pool, endpoint) = (asked.part("pool"), asked.part("address"));
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

pub(super) fn shown(reading: &Reading) -> Value {
    let gauge = &reading.endpoint.gauge;
    let totals = reading.endpoint.metrics.totals();
    let estimate = gauge.estimate().map(|(estimate, _)| estimate.as_secs_f64());
    let [.., server_errors] = totals.responses;
    let limits = &reading.pool.settings.limits;
    let seconds = |share: f64| totals.first_byte.quantile(share).map(|took| took.as_secs_f64());
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
        "in_flight_limit": limits.endpoint_in_flight,
        "connections": reading.endpoint.metrics.open_connections(),
        "connections_limit": limits.endpoint_connections,
        "breaker": reading.endpoint.breaker.shown(),
        "latency_estimate_seconds": estimate,
        "first_byte_seconds": { "p50": seconds(0.5), "p99": seconds(0.99) },
        "requests": totals.requests,
        "failures": totals.failures,
        "server_errors": server_errors,
        "ejections": reading.ejections,
        "checks": { "passed": passed, "failed": failed },
        "disagreement": reading.disagrees,
        "last_event": last.map(|entry| json!({ "at": civil::rfc3339(entry.at), "words": entry.words() })),
    })
}

fn history(reading: &Reading, state: &AdminState) -> Value {
    let pool = &reading.pool.settings.name;
    let record = state.running.health().record();
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

/// The longest time after which an order ends by itself.
const LONGEST: Duration = Duration::from_secs(365 * 86_400);

/// How many of those that are known a refusal names.
const MOST_NAMED: usize = 20;
