//! `[tracing]`: which requests are traced, and where to.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::plan::TracingPlan;
use crate::model::options::Options;
use crate::model::settings::Tracing;
use crate::model::units::Share;

/// `[tracing]`; `None` when nothing is written.
pub(super) fn tracing(root: &Options<'_>) -> Option<TracingPlan> {
    let is_written = root.given("tracing").is_some();
    let options = root.section("tracing");
    let default = Tracing::default();
    let settings = Tracing {
        sample: options.get::<Share>("sample").map_or(default.sample, |share| share.fraction()),
        parent: options.get_or("parent", default.parent),
        errors: options.get_or("errors", default.errors),
        slow: options.given("slow").map_or(default.slow, |given| given.within(SLOW)),
    };
    options.finish();
    is_written.then_some(TracingPlan { settings })
}

/// What a request may take before it is kept for that.
const SLOW: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(60 * 60);
