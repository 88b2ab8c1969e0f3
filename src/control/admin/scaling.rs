//! The admin listener's page for autoscalers: how much a pool is used and how many endpoints it should have,
//! as a flat object of numbers, which is what KEDA's scaler for metrics of an API reads.

use http::StatusCode;
use serde_json::{Map, Value, json};

use super::endpoints::find_pool;
use super::pages::{Refusal, json_page};
use super::router::{Answer, Handler::Blocking, Row};
use super::{AdminState, Asked};
use crate::control::scaling::Signals;
use crate::limit::scale::{Scale, ScaleSettings};

/// The row for autoscalers.
pub(super) const ROWS: &[Row] = &[Row::get(
    "/v1/scale/{pool}",
    "how much a pool is used, and how many endpoints it should have, for autoscalers",
    Blocking(scale),
)];

fn scale(asked: &Asked, state: &AdminState) -> Answer {
    let reading = find_pool(asked.part("pool"), state)?;
    let signals = state.running.scaling().signals(&reading.pool.settings.name);
    // A number that is not known must not be taken for a small one.
    let signals = signals.ok_or_else(|| {
        let hint = "pools are looked at once a second: ask again";
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the pool was not looked at yet", hint)
    })?;
    let mut shown = usage(&signals);
    shown.insert("pool".to_owned(), json!(reading.pool.settings.name.as_str()));
    if let Some((settings, scale)) = &signals.scale {
        shown.extend(wanted(settings, scale));
    }
    Ok(json_page(StatusCode::OK, &shown.into()))
}

fn usage(signals: &Signals) -> Map<String, Value> {
    let values = [
        ("endpoints", json!(signals.total)),
        ("available", json!(signals.available)),
        ("in_flight", json!(signals.in_flight)),
        ("waiting", json!(signals.waiting)),
        ("capacity", json!(signals.capacity)),
        ("utilisation", json!(signals.utilisation())),
        ("queue_wait_seconds", json!(signals.queue_wait.map_or(0.0, |wait| wait.as_secs_f64()))),
    ];
    values.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn wanted(settings: &ScaleSettings, scale: &Scale) -> Map<String, Value> {
    let (min, max) = settings.bounds;
    let values = [
        ("target_utilisation", json!(settings.target)),
        ("min_endpoints", json!(min)),
        ("max_endpoints", json!(max)),
        ("needed_endpoints", json!(scale.needed)),
        ("desired_endpoints", json!(scale.desired)),
    ];
    values.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}
