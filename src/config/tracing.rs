//! `[tracing]`: which requests are traced, and where to.

mod otlp;

use std::ops::RangeInclusive;
use std::time::Duration;

use super::Cx;
use super::plan::TracingPlan;
use crate::model::options::{Options, Problem};
use crate::model::settings::Tracing;
use crate::model::units::Share;

pub use otlp::{OtlpPlan, OtlpProtocol};

/// `[tracing]`; `None` when nothing is written.
pub(super) fn tracing(root: &Options<'_>, cx: &Cx<'_>) -> Option<TracingPlan> {
    let written = root.given("tracing");
    let options = root.section("tracing");
    let default = Tracing::default();
    let settings = Tracing {
        sample: options.get::<Share>("sample").map_or(default.sample, |share| share.fraction()),
        parent: options.get_or("parent", default.parent),
        errors: options.get_or("errors", default.errors),
        slow: options.given("slow").map_or(default.slow, |given| given.within(SLOW)),
    };
    let otlp = otlp::otlp(&options, cx);
    if let Some(written) = written.as_ref().filter(|_| options.given("otlp").is_none()) {
        let fault = "spans are sent nowhere: the ids of traces are passed on, and that is all";
        let hint = "add a table `[tracing.otlp]`";
        let problem = Problem::new(written.path(), Some(written.span()), fault);
        written.report(problem.hint(hint).warning());
    }
    options.finish();
    written.map(|_| TracingPlan { settings, otlp })
}

/// What a request may take before it is kept for that.
const SLOW: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(60 * 60);
