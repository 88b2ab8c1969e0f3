//! `timeouts.try` of pools and routes, and `[route.hedge]`: how long one try may take, and when a second
//! one is begun beside it.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::pool::LIMIT;
use super::pool::adaptive::Times;
use crate::model::options::{Data, Fault, FromValue, Options, Value};
use crate::model::settings::{Hedge, HedgeAfter, TryTimeout};
use crate::model::units::{ByteSize, Share, duration};

/// Reads `try`: a time, or a table for one that is learned.
pub(super) fn try_timeout(timeouts: &Options<'_>) -> Option<TryTimeout> {
    let given = timeouts.given("try")?;
    if !given.is_table() {
        return given.within(LIMIT).map(TryTimeout::Fixed);
    }
    let options = given.table()?;
    let learned = TryTimeout::Learned {
        factor: options.get::<Times>("factor").map_or(LEARNED.0, |factor| factor.0),
        floor: options.within("floor", LIMIT, LEARNED.1),
    };
    options.finish();
    Some(learned)
}

/// Reads `min_rate` of listeners and pools, in bytes per second.
pub(super) fn min_rate(timeouts: &Options<'_>) -> Option<u64> {
    timeouts.given("min_rate")?.within(RATES).map(|ByteSize(rate)| rate)
}

/// Reads the hedge of a route.
pub(super) fn hedge(options: Options<'_>) -> Hedge {
    let default = Hedge::default();
    let hedge = Hedge {
        after: options.get::<After>("after").map_or(default.after, |after| after.0),
        extra: options.get::<Share>("extra").map_or(default.extra, Share::fraction),
    };
    options.finish();
    hedge
}

/// A share of requests, or a time.
struct After(HedgeAfter);

impl FromValue for After {
    fn from_value(value: &Value) -> Result<Self, Fault> {
        let Data::String(text) = &value.data else {
            return Err(Fault::kind("a share, as in \"95%\", or a duration, as in \"50ms\"", value));
        };
        if !text.ends_with('%') {
            let fixed = duration(text).map_err(Fault::new)?;
            if !LIMIT.contains(&fixed) {
                return Err(Fault::new(format_args!("{text:?} is not from 1ms to 24h")));
            }
            return Ok(Self(HedgeAfter::Fixed(fixed)));
        }
        let share = text.parse::<Share>().map_err(Fault::new)?.fraction();
        if QUANTILES.contains(&share) {
            Ok(Self(HedgeAfter::Quantile(share)))
        } else {
            Err(Fault::new(format_args!("{text:?} is not from 50% to 99.9%")))
        }
    }
}

/// The factor and the floor of a time limit that is learned.
const LEARNED: (f64, Duration) = (3.0, Duration::from_millis(100));
const RATES: RangeInclusive<ByteSize> = ByteSize(1)..=ByteSize(1 << 30);
const QUANTILES: RangeInclusive<f64> = 0.5..=0.999;
