//! The admin listener's pages about pools: how each chooses, what it lets through, and what stands in its
//! way at present.

use std::sync::atomic::Ordering;

use http::StatusCode;
use serde_json::{Value, json};

use super::endpoints::{self, find_pool};
use super::pages::json_page;
use super::router::{Answer, Handler::Blocking, Row};
use super::{AdminState, Asked};
use crate::control::health::PoolReading;
use crate::model::settings::UpstreamProtocol;
use crate::upstream::Pool;

/// The rows about pools.
pub(super) const ROWS: &[Row] = &[
    Row::get(
        "/v1/pools",
        "every pool: its policy, limits and load, and what stands in its way",
        Blocking(all),
    ),
    Row::get("/v1/pools/{pool}", "one pool with its endpoints", Blocking(one)),
];

fn all(_: &Asked, state: &AdminState) -> Answer {
    let readings = state.running.health().readings();
    let pools: Vec<_> = readings.iter().map(shown).collect();
    Ok(json_page(StatusCode::OK, &json!({ "pools": pools })))
}

fn one(asked: &Asked, state: &AdminState) -> Answer {
    let reading = find_pool(asked.part("pool"), state)?;
    let mut pool = shown(&reading);
    if let Value::Object(fields) = &mut pool {
        fields.insert("endpoints".to_owned(), reading.endpoints.iter().map(endpoints::shown).collect());
    }
    Ok(json_page(StatusCode::OK, &pool))
}

/// A pool without its endpoints.
pub(super) fn shown(reading: &PoolReading) -> Value {
    let Pool { settings, guard, .. } = &*reading.pool;
    let totals = reading.endpoints.iter().map(|own| own.endpoint.metrics.totals());
    let (mut requests, mut failures, mut errors) = (0, 0, 0);
    for totals in totals {
        let [.., server_errors] = totals.responses;
        requests += totals.requests;
        failures += totals.failures;
        errors += server_errors;
    }
    let (available, total) = counts(reading);
    let (rung, rung_name) = rung(reading);
    let shedding = f64::from(guard.shedding.load(Ordering::Relaxed)) / 2_f64.powi(32);
    json!({
        "pool": settings.name.as_str(),
        "policy": settings.policy.name(),
        "protocol": match settings.protocol {
            UpstreamProtocol::Http1 => "http1",
            UpstreamProtocol::Http2 => "http2",
        },
        "available": available,
        "total": total,
        "failed_open": reading.failed_open,
        "correlated_failure": reading.correlated,
        "breaker": guard.breaker.shown(),
        "rung": { "number": rung, "name": rung_name },
        "shedding": shedding,
        "in_flight": guard.in_flight(),
        "in_flight_limit": guard.limit(),
        "waiting": guard.gate.waiting() + guard.line.waiting(),
        "retrying": guard.retrying(),
        "limits": limits(&reading.pool),
        "requests": requests,
        "failures": failures,
        "server_errors": errors,
    })
}

/// How many endpoints are available, and how many there are.
pub(super) fn counts(reading: &PoolReading) -> (usize, usize) {
    let available = reading.endpoints.iter().filter(|own| own.standing.available).count();
    (available, reading.endpoints.len())
}

/// The rung that requests begin on, and its name: `own` where that is the pool itself.
pub(super) fn rung(reading: &PoolReading) -> (u8, &str) {
    let rung = reading.pool.guard.rung.load(Ordering::Relaxed);
    let fallbacks = reading.pool.settings.fallbacks.as_ref();
    (rung, fallbacks.map_or("own", |fallbacks| fallbacks.metrics.name(usize::from(rung))))
}

fn limits(pool: &Pool) -> Value {
    let limits = &pool.settings.limits;
    json!({
        "in_flight": limits.in_flight,
        "waiting": limits.waiting,
        "wait_seconds": limits.wait.as_secs_f64(),
        "connections": limits.connections,
        "endpoint_in_flight": limits.endpoint_in_flight,
        "endpoint_connections": limits.endpoint_connections,
    })
}
