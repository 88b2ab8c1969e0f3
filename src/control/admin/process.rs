//! The admin listener's pages about the process as a whole: what it is, which configuration it runs, where
//! it listens, what happened, and what someone should look at.

use std::time::SystemTime;

use http::StatusCode;
use serde_json::{Value, json};

use super::pages::{self, Refusal, json_page};
use super::router::{Answer, Handler::Blocking, Row};
use super::{AdminState, Asked, Phase};
use super::{pools, reloading};
use crate::ambient;
use crate::control::discovery::SourceReading;
use crate::control::health::PoolReading;
use crate::control::reload::Status;
use crate::model::Name;
use crate::observe::{civil, log};

/// The rows about the process.
pub(super) const ROWS: &[Row] = &[
    Row::get("/v1/status", "what runs and how it is, with warnings in words", Blocking(status)),
    Row::get("/v1/config", "the configuration in force, without its secrets", Blocking(config)),
    Row::get("/v1/listeners", "every listener: addresses, protocol, connections", Blocking(listeners)),
    Row::get(
        "/v1/journal",
        "what happened, the newest last [?since=2026-01-01T00:00:00Z&pool=app&limit=100]",
        Blocking(journal),
    ),
    Row::get("/v1/openapi.json", "this interface, described (OpenAPI 3.1)", Blocking(description)),
];

fn status(_: &Asked, state: &AdminState) -> Answer {
    let readings = state.running.health().readings();
    let reload = state.reload.as_ref().map(|reload| reload.status());
    let (plan, generation) = state.running.plan();
    let snapshot = state.running.published().load();
    let (connections, most) = snapshot.pressure.connections();
    let listening: Vec<_> = listening(state);
    let pools: Vec<_> = readings.iter().map(pools::shown).collect();
    let up = ambient::wall().duration_since(state.started).unwrap_or_default();
    let status = json!({
        "name": env!("CARGO_PKG_NAME"),
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "started": civil::rfc3339(state.started),
        "up_seconds": up.as_secs(),
        "phase": match state.readiness.phase() {
            Phase::Starting => "starting",
            Phase::Ready => "ready",
            Phase::Draining => "draining",
        },
        "workers": state.running.workers(),
        "generation": generation,
        "config_hash": plan.origin.fingerprint.to_string(),
        "reload": reload.as_ref().map(Status::to_json),
        "connections": connections,
        "max_connections": most,
        "listeners": listening,
        "pools": pools,
        "warnings": warnings(&readings, reload.as_ref(), state),
    });
    Ok(json_page(StatusCode::OK, &status))
}

/// What someone should look at, each in a sentence.
pub(super) fn warnings(readings: &[PoolReading], reload: Option<&Status>, state: &AdminState) -> Vec<String> {
    let mut warnings = Vec::new();
    warnings.extend(reload.and_then(reloading::warning));
    if state.readiness.phase() == Phase::Draining {
        warnings.push("the process is draining: it takes no new connections".to_owned());
    }
    if state.running.published().load().pressure.is_pressed() {
        warnings.push("the process has more to do than it should: idle connections are closed".to_owned());
    }
    if let Some(level) = log::level().filter(|level| level.current != level.usual) {
        warnings.push(format!("the log level is {:?} and not {:?}", level.current, level.usual));
    }
    let sources = state.running.discovery().all_sources();
    for reading in readings {
        let pool = &reading.pool.settings.name;
        warn_of(reading, &mut warnings);
        warn_of_sources(pool, sources.get(pool).map_or(&[], Vec::as_slice), &mut warnings);
    }
    warnings
}

fn warn_of_sources(pool: &Name, sources: &[SourceReading], warnings: &mut Vec<String>) {
    for source in sources.iter().filter(|source| source.state == "failing") {
        let (what, known) = (&source.what, source.endpoints);
        let problem = source.error.as_deref().and_then(|error| error.lines().next()).unwrap_or_default();
        let problem = problem.trim_start_matches("error: ");
        let words = match known {
            0 => "has named no endpoints yet".to_owned(),
            known => format!("fails, and what it named last stays ({known})"),
        };
        warnings.push(format!("pool {pool}: {what} {words}: {problem}"));
    }
}

fn warn_of(reading: &PoolReading, warnings: &mut Vec<String>) {
    let name = &reading.pool.settings.name;
    let (available, total) = pools::counts(reading);
    let mut warn = |text: String| warnings.push(format!("pool {name}: {text}"));
    match available {
        _ if total == 0 => warn("it has no endpoints".to_owned()),
        0 => warn(format!("none of its {total} endpoints is available")),
        1 if total > 1 => warn(format!("only 1 of its {total} endpoints is available")),
        _ if available * 2 < total => {
            warn(format!("only {available} of its {total} endpoints are available"))
        }
        _ => {}
    }
    if reading.failed_open {
        warn("too few endpoints are available, so all of them are used".to_owned());
    }
    if reading.correlated {
        warn("its endpoints degrade together: what they have in common may be at fault".to_owned());
    }
    if reading.pool.guard.breaker.shown() != "closed" {
        warn(format!("its breaker is {}", reading.pool.guard.breaker.shown()));
    }
    if let (1.., rung) = pools::rung(reading) {
        warn(format!("requests begin with what stands in for it, {rung}"));
    }
    if reading.pool.guard.is_saturated() {
        warn("as many requests are under way as may be".to_owned());
    }
}

fn config(_: &Asked, state: &AdminState) -> Answer {
    let (plan, generation) = state.running.plan();
    let files: Vec<_> = plan.origin.files.iter().map(|file| file.display().to_string()).collect();
    let config = json!({
        "generation": generation,
        "hash": plan.origin.fingerprint.to_string(),
        "files": files,
        "config": plan.origin.shown(),
    });
    Ok(json_page(StatusCode::OK, &config))
}

fn listeners(_: &Asked, state: &AdminState) -> Answer {
    Ok(json_page(StatusCode::OK, &json!({ "listeners": listening(state) })))
}

fn listening(state: &AdminState) -> Vec<Value> {
    let (snapshot, sockets) = (state.running.published().load(), state.running.sockets());
    let sockets = sockets.borrow();
    let listeners = snapshot.listeners.iter().enumerate();
    let listeners = listeners.filter_map(|(id, listener)| {
        let listener = listener.as_ref()?;
        let own = sockets.opened.iter().filter(|opened| opened.listener == id);
        let addresses: Vec<_> = own.map(|opened| opened.address.to_string()).collect();
        let alpn = listener.tls.as_ref().map(|tls| {
            let names = tls.alpn_protocols.iter().map(|name| String::from_utf8_lossy(name).into_owned());
            names.collect::<Vec<_>>()
        });
        Some(json!({
            "listener": listener.name.as_str(),
            "addresses": addresses,
            "protocol": if listener.tls.is_some() { "https" } else { "http" },
            "alpn": alpn,
            "connections": listener.connections.load(std::sync::atomic::Ordering::Relaxed),
            "max_connections": listener.limits.connections,
        }))
    });
    listeners.collect()
}

fn journal(asked: &Asked, state: &AdminState) -> Answer {
    let [since, pool, limit] = asked.query(["since", "pool", "limit"])?;
    let bad = |error: String, hint: &'static str| Refusal::new(StatusCode::BAD_REQUEST, error, hint);
    let since = match since.as_deref() {
        Some(text) => civil::parse_rfc3339(text)
            .ok_or_else(|| bad(format!("{text:?} is not a time"), "as in `?since=2026-01-31T12:00:00Z`"))?,
        None => SystemTime::UNIX_EPOCH,
    };
    let limit = match limit.as_deref() {
        Some(text) => text.parse::<usize>().map_err(|error| bad(error.to_string(), "as in `?limit=100`"))?,
        None => MOST_ENTRIES,
    };
    let named = |own: &str| pool.as_deref().is_none_or(|pool| pool == own);
    let mut entries = state.running.health().record().entries();
    entries.retain(|entry| entry.at >= since && named(entry.pool.as_str()));
    let from = entries.len().saturating_sub(limit);
    let entries: Vec<Value> = entries.iter().skip(from).map(|entry| entry.to_json()).collect();
    Ok(json_page(StatusCode::OK, &json!({ "entries": entries })))
}

fn description(_: &Asked, _: &AdminState) -> Answer {
    Ok(pages::page(StatusCode::OK, "application/json", OPENAPI))
}

/// The description of this interface.
pub(super) const OPENAPI: &str = include_str!("../../../config/openapi.json");

/// How many entries are shown to who does not say.
const MOST_ENTRIES: usize = 1000;
