//! `[pool.NAME.outlier]`: which detectors judge live traffic and what is done about their findings.
//! What each detector has of its own is read where the detector is.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::health::detector::{Chosen, KINDS, Kind, Mode};
use crate::health::pool::Ejection;
use crate::model::options::{Data, Given, Key, OneOf, Options, Value};
use crate::model::units::Share;

/// How outliers are found, and the bounds on their ejection.
pub(super) struct Outlier {
    /// Those that are off left out.
    pub(super) detectors: Vec<Chosen>,
    pub(super) ejection: Ejection,
}

/// Reads `outlier`, which is a table or turns everything off. Without it, everything is as it is by
/// default.
pub(super) fn outlier(pool: &Options<'_>) -> Outlier {
    match pool.given("outlier") {
        Some(given) if is_off(&given) => Outlier { detectors: Vec::new(), ejection: Ejection::default() },
        Some(given) if !given.is_table() => {
            let fault = format!("expected a table or \"off\", found {}", given.value().kind());
            given.fault(
                fault,
                Some("detection is on unless it is \"off\"; a table changes how it works".into()),
            );
            Outlier { detectors: Vec::new(), ejection: Ejection::default() }
        }
        _ => table(pool.section("outlier")),
    }
}

fn is_off(given: &Given<'_>) -> bool {
    match &given.value().data {
        Data::String(text) => text == "off",
        Data::Boolean(on) => !on,
        _ => false,
    }
}

fn table(options: Options<'_>) -> Outlier {
    let default = Ejection::default();
    let share = |key, otherwise| options.get::<Share>(key).map_or(otherwise, Share::fraction);
    let ejection = Ejection {
        base: options.within("base_ejection", EJECTION, default.base),
        max: options.within("max_ejection", EJECTION, default.max),
        jitter: share("jitter", default.jitter),
        max_ejected: share("max_ejected", default.max_ejected),
    };
    if ejection.base > ejection.max {
        let key = if options.given("base_ejection").is_some() { "base_ejection" } else { "max_ejection" };
        let hint = "the first ejection lasts for `base_ejection`, none longer than `max_ejection`";
        options.problem(key, "`base_ejection` is longer than `max_ejection`", Some(hint.into()));
    }
    let detectors = KINDS.iter().filter_map(|kind| detector(&options, kind)).collect();
    options.finish();
    Outlier { detectors, ejection }
}

/// Reads one detector: a word for its mode, a value for its foremost option, or a table. `None` when
/// it is off.
fn detector(outlier: &Options<'_>, kind: &'static Kind) -> Option<Chosen> {
    let given = outlier.given(kind.name).filter(|given| !given.is_table());
    let Some(given) = given else {
        let options = outlier.section(kind.name);
        let mode = options.get_or("mode", kind.mode);
        return chosen(kind, mode, options);
    };
    let value = given.value();
    match (kind.shorthand, &value.data) {
        (_, Data::Boolean(false)) => None,
        (Some(option), data) if is_measure(data) => {
            let span = value.span.clone();
            let entries = [(Key { name: option.to_owned(), span }, Value::clone(value))];
            chosen(kind, kind.mode, given.options_of(&entries))
        }
        (_, Data::String(_)) => {
            let mode = given.read().unwrap_or(kind.mode);
            chosen(kind, mode, given.options_of(&[]))
        }
        (shorthand, _) => {
            let number = if shorthand.is_some() { ", a number" } else { "" };
            let fault = format!(
                "expected \"enforce\", \"observe\", \"off\"{number} or a table, found {}",
                value.kind()
            );
            given.fault(fault, None);
            None
        }
    }
}

fn chosen(kind: &'static Kind, mode: Mode, options: Options<'_>) -> Option<Chosen> {
    let make = (kind.read)(&options);
    options.finish();
    (mode != Mode::Off).then_some(Chosen { kind, mode, make })
}

/// Whether it is a number, with or without unit.
fn is_measure(data: &Data) -> bool {
    match data {
        Data::Integer(_) | Data::Float(_) => true,
        Data::String(text) => text.starts_with(|c: char| c.is_ascii_digit()),
        _ => false,
    }
}

impl OneOf for Mode {
    const NOUN: &'static str = "mode";
    const WORDS: &'static [(&'static str, Self)] =
        &[("enforce", Self::Enforce), ("observe", Self::Observe), ("off", Self::Off)];
}

const EJECTION: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(24 * 60 * 60);
