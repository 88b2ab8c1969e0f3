//! `[pool.NAME.limits]`: how much may go on in a pool at once. The loops that adjust that are read
//! elsewhere, from the same table.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::model::options::Options;
use crate::model::settings::Limits;

/// Reads the limits.
pub(super) fn limits(options: &Options<'_>) -> Limits {
    let default = Limits::default();
    let count = |key| options.given(key).and_then(|given| given.within(COUNT));
    let limits = Limits {
        in_flight: options.within("in_flight", COUNT, default.in_flight),
        waiting: options.within("waiting", WAITING, default.waiting),
        wait: options.within("wait", WAIT, default.wait),
        connections: count("connections").or(default.connections),
        endpoint_in_flight: count("endpoint_in_flight").or(default.endpoint_in_flight),
        endpoint_connections: count("endpoint_connections").or(default.endpoint_connections),
    };
    if let (Some(own), Some(all)) = (limits.endpoint_connections, limits.connections)
        && own > all
    {
        let hint = "`connections` is for all endpoints together";
        options.problem(
            "endpoint_connections",
            "`endpoint_connections` is greater than `connections`",
            Some(hint.into()),
        );
    }
    limits
}

const COUNT: RangeInclusive<u32> = 1..=1_000_000;
const WAITING: RangeInclusive<u32> = 0..=1_000_000;
const WAIT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(60 * 60);
