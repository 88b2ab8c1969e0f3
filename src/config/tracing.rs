//! `[tracing]`: which requests are traced, and where to.

mod otlp;

use std::ops::RangeInclusive;
use std::time::Duration;

use super::Cx;
use super::plan::TracingPlan;
use crate::model::options::{Data, Fault, FromValue, Given, OneOf, Options, Problem, Value};
use crate::model::settings::{Parents, Propagation, Tracing};
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
        propagate: propagate(&options).unwrap_or(default.propagate),
        errors: options.get_or("errors", default.errors),
        slow: options.given("slow").map_or(default.slow, |given| slow(&given)),
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

/// By which fields, each once.
fn propagate(options: &Options<'_>) -> Option<Vec<Propagation>> {
    let ways = options.list::<Propagation>("propagate")?;
    let again = |(place, way)| ways.iter().take(place).any(|before| before == way);
    if ways.iter().enumerate().any(again) {
        options.problem("propagate", "a way is named twice", None);
    }
    Some(ways)
}

/// A duration, or `"off"`.
fn slow(given: &Given<'_>) -> Option<Duration> {
    match &given.value().data {
        Data::String(text) if text == "off" => None,
        _ => given.within(SLOW),
    }
}

impl FromValue for Parents {
    fn from_value(value: &Value) -> Result<Self, Fault> {
        match &value.data {
            Data::Boolean(true) => Ok(Self::All),
            Data::Boolean(false) => Ok(Self::None),
            Data::String(text) if text == "trusted" => Ok(Self::Trusted),
            _ => Err(Fault::kind("`true`, `false` or \"trusted\"", value)
                .hint("\"trusted\" believes the `trusted_proxies` of the listener")),
        }
    }
}

impl OneOf for Propagation {
    const NOUN: &'static str = "way to propagate traces";
    const WORDS: &'static [(&'static str, Self)] =
        &[("w3c", Self::W3c), ("b3", Self::B3), ("b3multi", Self::B3Multi)];
}

/// What a request may take before it is kept for that.
const SLOW: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(60 * 60);
