//! `[pool.NAME.breaker]`: when a pool or an endpoint is not asked for a while.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::limit::breaker::{BreakerSettings, Slow};
use crate::limit::loops::Scope;
use crate::model::options::{OneOf, Options};
use crate::model::units::Share;

/// Reads the breaker.
pub(super) fn breaker(options: Options<'_>) -> (Scope, BreakerSettings) {
    let default = BreakerSettings::default();
    let scope = options.get_or("scope", Scope::default());
    let settings = BreakerSettings {
        share: share(&options, "share", default.share, 0.0..=1.0),
        requests: options.within("requests", 1..=1_000_000, default.requests),
        window: options.within("window", WINDOW, default.window),
        latency: options.table("latency").and_then(latency),
        open: options.within("open", OPEN, default.open),
        max_open: options.within("max_open", OPEN, default.max_open),
        trials: options.within("trials", 1..=1000, default.trials),
    };
    if settings.open > settings.max_open {
        let key = if options.given("open").is_some() { "open" } else { "max_open" };
        let hint = "it is open for `open` at first, and never for longer than `max_open`";
        options.problem(key, "`open` is longer than `max_open`", Some(hint.into()));
    }
    options.finish();
    (scope, settings)
}

fn latency(options: Options<'_>) -> Option<Slow> {
    let quantile = share(&options, "quantile", QUANTILE, 0.0..=0.9999);
    let over = options.required("over").and_then(|given| given.within(OVER));
    options.finish();
    Some(Slow { quantile, over: over? })
}

/// A share above nothing and within `range`.
fn share(options: &Options<'_>, key: &'static str, default: f64, range: RangeInclusive<f64>) -> f64 {
    let Some(share) = options.get::<Share>(key).map(Share::fraction) else { return default };
    if share > 0.0 && range.contains(&share) {
        return share;
    }
    let most = range.end() * 100.0;
    options.problem(key, format!("{}% is not above 0% and at most {most}%", share * 100.0), None);
    default
}

impl OneOf for Scope {
    const NOUN: &'static str = "scope of a breaker";
    const WORDS: &'static [(&'static str, Self)] = &[("pool", Self::Pool), ("endpoint", Self::Endpoint)];
}

/// The quantile where only a bound is given.
const QUANTILE: f64 = 0.9;
const WINDOW: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(600);
const OPEN: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(24 * 60 * 60);
const OVER: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(60);
