//! The admin listener's page of the last minutes: the process, its routes and its pools, as columns of
//! numbers of equal steps.

use std::time::Duration;

use http::StatusCode;
use serde_json::{Map, Value, json};

use super::pages::{Refusal, json_page};
use super::router::{Answer, Handler::Blocking, Row};
use super::{AdminState, Asked};
use crate::control::history::{LONGEST, PoolSample, Sample, Series, Times, Traffic, Window};
use crate::model::{Name, units};
use crate::observe::civil;
use crate::observe::metrics::RouteLabels;

/// The rows about the last minutes.
pub(super) const ROWS: &[Row] = &[Row::get(
    "/v1/history",
    "the last minutes of the process, of routes and pools, in numbers [?last=10m]",
    Blocking(history),
)];

fn history(asked: &Asked, state: &AdminState) -> Answer {
    let last = last(asked.query(["last"])?)?;
    Ok(json_page(StatusCode::OK, &shown(&state.running.history().window(last))))
}

/// How far back, by the query.
///
/// # Errors
/// When that is no time, or longer than what is kept.
pub(super) fn last([last]: [Option<String>; 1]) -> Result<Duration, Refusal> {
    let Some(text) = last else { return Ok(USUAL) };
    let bad = |error: String, hint: &'static str| Refusal::new(StatusCode::BAD_REQUEST, error, hint);
    let time = units::duration(&text).map_err(|error| bad(error.to_string(), "as in `?last=10m`"))?;
    if time < SHORTEST || time > LONGEST {
        return Err(bad(format!("{text:?} is not a time that is kept"), "from 1s to 1h"));
    }
    Ok(time)
}

fn shown(window: &Window) -> Value {
    let Window { now, process, routes, pools } = window;
    json!({
        "now": civil::rfc3339(*now),
        "process": columns(process, &[
            ("p90_seconds", |sample| seconds(&sample.traffic.times, 0.9)),
            ("in_flight", |sample| json!(sample.in_flight)),
            ("connections", |sample| json!(sample.connections)),
            ("busy_ratio", |sample| json!(sample.busy_ratio)),
        ]),
        "routes": routes.iter().map(|(of, series)| route(of.as_ref(), series)).collect::<Vec<_>>(),
        "pools": pools.iter().map(|(of, series)| pool(of.as_ref(), series)).collect::<Vec<_>>(),
    })
}

fn route(of: Option<&RouteLabels>, series: &Series<Traffic>) -> Value {
    let mut shown = columns(series, &[]);
    let names = match of {
        Some(RouteLabels { listener, route, pool }) => {
            [Some(listener.as_str()), Some(route.as_str()), pool.as_ref().map(Name::as_str)]
        }
        None => [None, Some(OTHER), None],
    };
    for (key, name) in ["listener", "route", "pool"].into_iter().zip(names) {
        shown.insert(key.to_owned(), json!(name));
    }
    shown.into()
}

fn pool(of: Option<&Name>, series: &Series<PoolSample>) -> Value {
    let mut shown = columns(
        series,
        &[
            ("in_flight", |sample| json!(sample.in_flight)),
            ("utilisation", |sample| json!(sample.utilisation())),
            ("queue_wait_seconds", |sample| seconds(&sample.waits, 0.99)),
            ("available", |sample| json!(sample.available)),
        ],
    );
    shown.insert("pool".to_owned(), json!(of.map_or(OTHER, Name::as_str)));
    shown.into()
}

/// A column of a series: its key, and the value of a sample.
type Column<S> = (&'static str, fn(&S) -> Value);

/// A series with the columns that all have, and with `more`.
fn columns<S: Sample>(series: &Series<S>, more: &[Column<S>]) -> Map<String, Value> {
    let whole = series.traffic();
    let mut shown = Map::new();
    shown.insert("step_seconds".to_owned(), json!(series.step.as_secs()));
    shown.insert("from".to_owned(), json!(civil::rfc3339(series.from)));
    let total = json!({
        "requests": whole.requests,
        "errors": whole.errors,
        "p50_seconds": seconds(&whole.times, 0.5),
        "p99_seconds": seconds(&whole.times, 0.99),
    });
    shown.insert("total".to_owned(), total);
    let usual: [Column<S>; 4] = [
        ("requests", |sample| json!(sample.traffic().requests)),
        ("errors", |sample| json!(sample.traffic().errors)),
        ("p50_seconds", |sample| seconds(&sample.traffic().times, 0.5)),
        ("p99_seconds", |sample| seconds(&sample.traffic().times, 0.99)),
    ];
    for (key, value) in usual.iter().chain(more) {
        shown.insert((*key).to_owned(), series.samples.iter().map(value).collect());
    }
    shown
}

/// A quantile in seconds; null where there is none.
fn seconds(times: &Times, q: f64) -> Value {
    json!(times.seconds(q))
}

/// As what those are shown that have no series of their own.
const OTHER: &str = "other";
/// How far back, where nobody says.
const USUAL: Duration = Duration::from_secs(10 * 60);
const SHORTEST: Duration = Duration::from_secs(1);
