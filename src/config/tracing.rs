//! `[tracing]`: which requests are traced, and where to.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::plan::TracingPlan;
use crate::model::options::{Data, Fault, FromValue, Given, OneOf, Options, Value};
use crate::model::settings::{Parents, Propagation, Tracing};
use crate::model::units::Share;

/// `[tracing]`; `None` when nothing is written.
pub(super) fn tracing(root: &Options<'_>) -> Option<TracingPlan> {
    let is_written = root.given("tracing").is_some();
    let options = root.section("tracing");
    let default = Tracing::default();
    let settings = Tracing {
        sample: options.get::<Share>("sample").map_or(default.sample, |share| share.fraction()),
        parent: options.get_or("parent", default.parent),
        propagate: propagate(&options).unwrap_or(default.propagate),
        errors: options.get_or("errors", default.errors),
        slow: options.given("slow").map_or(default.slow, |given| slow(&given)),
    };
    options.finish();
    is_written.then_some(TracingPlan { settings })
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
