//! `adaptive` and `admission` of `[pool.NAME.limits]`: loops that adjust what is let through, each a
//! word for its mode or a table.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::health::detector::Mode;
use crate::limit::gradient::{GradientSettings, MIN, TOLERANCE};
use crate::limit::throttle::ThrottleSettings;
use crate::model::options::{Data, Fault, FromValue, Options, Value};
use crate::model::settings::Limits;

/// Reads `adaptive`, whose limit is between its `min` and `limits.in_flight`.
pub(super) fn adaptive(limits: &Options<'_>, bounds: &Limits) -> Option<GradientSettings> {
    read(limits, "adaptive", |options, enforced| {
        let min = options.within("min", 1..=1_000_000, MIN.min(bounds.in_flight));
        if min > bounds.in_flight {
            let hint = "the limit moves from `min` to `in_flight`";
            options.problem("min", "`min` is greater than `in_flight`", Some(hint.into()));
        }
        let tolerance = options.get::<Times>("tolerance").map_or(TOLERANCE, |factor| factor.0);
        GradientSettings { min: min.min(bounds.in_flight), max: bounds.in_flight, tolerance, enforced }
    })
}

/// Reads `admission`.
pub(super) fn admission(limits: &Options<'_>) -> Option<ThrottleSettings> {
    read(limits, "admission", |options, enforced| {
        let default = ThrottleSettings::default();
        ThrottleSettings {
            factor: options.get::<Times>("factor").map_or(default.factor, |factor| factor.0),
            window: options.within("window", WINDOW, default.window),
            enforced,
        }
    })
}

/// Reads a loop that is off unless something else is said; `None` when it is off.
fn read<T>(limits: &Options<'_>, key: &'static str, by: impl FnOnce(&Options<'_>, bool) -> T) -> Option<T> {
    let given = limits.given(key)?;
    let (mode, options) = match &given.value().data {
        Data::Boolean(false) => return None,
        Data::String(_) => (given.read()?, given.options_of(&[])),
        Data::Table(_) => {
            let options = given.table()?;
            (options.get_or("mode", Mode::Enforce), options)
        }
        _ => {
            let kind = given.value().kind();
            let fault = format!("expected \"enforce\", \"observe\", \"off\" or a table, found {kind}");
            given.fault(fault, None);
            return None;
        }
    };
    let settings = by(&options, mode == Mode::Enforce);
    options.finish();
    (mode != Mode::Off).then_some(settings)
}

/// A number of times, 1 to 100.
pub(in crate::config) struct Times(pub(in crate::config) f64);

impl FromValue for Times {
    fn from_value(value: &Value) -> Result<Self, Fault> {
        let times = match &value.data {
            Data::Integer(number) => *number as f64,
            Data::Float(number) => *number,
            _ => return Err(Fault::kind("a number such as 1.25", value)),
        };
        if TIMES.contains(&times) {
            return Ok(Self(times));
        }
        let (least, most) = (TIMES.start(), TIMES.end());
        Err(Fault::new(format_args!("{times} is not from {least} to {most}")))
    }
}

const TIMES: RangeInclusive<f64> = 1.0..=100.0;
const WINDOW: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(600);
