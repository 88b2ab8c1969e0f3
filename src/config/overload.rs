//! `[overload]`: when the process itself has too much to do.

use std::ops::RangeInclusive;

use crate::model::options::Options;
use crate::model::settings::Overload;
use crate::model::units::{ByteSize, Share};

/// `[overload]`
pub(super) fn overload(options: Options<'_>) -> Overload {
    let default = Overload::default();
    let overload = Overload {
        soft: share(&options, "soft", default.soft),
        hard: share(&options, "hard", default.hard),
        max_connections: connections(&options),
        memory: options.given("memory").and_then(|given| given.within(MEMORY)).map(|size| size.0),
    };
    if overload.soft >= overload.hard {
        let key = if options.given("soft").is_some() { "soft" } else { "hard" };
        let hint = "at `soft` idle connections are closed, so that `hard` need not be reached";
        options.problem(key, "`soft` is not below `hard`", Some(hint.into()));
    }
    options.finish();
    overload
}

/// `max_connections`, of the process or of a listener.
pub(super) fn connections(options: &Options<'_>) -> Option<u64> {
    options.given("max_connections").and_then(|given| given.within(CONNECTIONS))
}

fn share(options: &Options<'_>, key: &'static str, default: f64) -> f64 {
    let Some(share) = options.get::<Share>(key) else { return default };
    if SHARES.contains(&share.fraction()) {
        return share.fraction();
    }
    options.problem(key, format!("{share} is not within 10% and 100%"), None);
    default
}

/// Below a tenth, a level that is left five points lower would hardly be left.
const SHARES: RangeInclusive<f64> = 0.1..=1.0;
const CONNECTIONS: RangeInclusive<u64> = 1..=10_000_000;
const MEMORY: RangeInclusive<ByteSize> = ByteSize(1 << 20)..=ByteSize(1 << 50);
