//! `[pool.NAME.autoscaling]`: how many endpoints a pool should have for its load, which is told to whoever
//! starts and ends them.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::limit::loops::LoopSettings;
use crate::limit::scale::ScaleSettings;
use crate::model::options::Options;
use crate::model::settings::Limits;
use crate::model::units::Share;

/// Reads the table of a pool with these limits; `None` when what an endpoint is good for is not known.
pub(super) fn autoscaling(
    options: Options<'_>,
    limits: &Limits,
    loops: &LoopSettings,
) -> Option<ScaleSettings> {
    let share = |key, otherwise| options.get::<Share>(key).map_or(otherwise, Share::fraction);
    let target = share("target_utilisation", TARGET);
    let tolerance = share("tolerance", TOLERANCE);
    let (min, max) = (options.within("min", COUNT, 1), options.within("max", COUNT, MAX));
    let own = options.given("endpoint_in_flight").and_then(|given| given.within(IN_FLIGHT));
    let each = own.or(limits.endpoint_in_flight);
    let window = options.within("window", WINDOW, WINDOW_USUAL);
    if target <= 0.0 {
        let hint = "endpoints that are never to be in use are never enough; \"70%\" is usual";
        options.problem("target_utilisation", "the target is 0%", Some(hint.into()));
    }
    if min > max {
        let key = if options.given("min").is_some() { "min" } else { "max" };
        let hint = format!("`min` is {min} and `max` is {max}");
        options.problem(key, "`min` is greater than `max`", Some(hint));
    }
    let adapts = loops.adaptive.as_ref().is_some_and(|adaptive| adaptive.enforced);
    let is_known = each.is_some() || adapts || options.given("endpoint_in_flight").is_some();
    if !is_known {
        let hint = "give `endpoint_in_flight` here or in `limits`, or have `limits.adaptive` find it out";
        let fault = "nothing says how many requests an endpoint is good for";
        options.missing("endpoint_in_flight", fault, Some(hint.into()));
    }
    options.finish();
    let settings = ScaleSettings { target, tolerance, bounds: (min, max), each, window };
    (is_known && target > 0.0 && min <= max).then_some(settings)
}

const TARGET: f64 = 0.7;
/// As the HPA has it.
const TOLERANCE: f64 = 0.1;
const MAX: u32 = 100;
const WINDOW_USUAL: Duration = Duration::from_secs(30);
const COUNT: RangeInclusive<u32> = 1..=100_000;
const IN_FLIGHT: RangeInclusive<u32> = 1..=1_000_000;
const WINDOW: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(600);
