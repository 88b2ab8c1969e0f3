//! What concerns the process as a whole: its own log, and its end.

use std::ops::RangeInclusive;
use std::time::Duration;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use super::Cx;
use super::plan::{LogFormat, LogPlan, ReloadPlan, UpgradePlan};
use crate::model::options::{Fault, FromValue, OneOf, Options, Value};
use crate::model::settings::Drain;

impl OneOf for LogFormat {
    const NOUN: &'static str = "log format";
    const WORDS: &'static [(&'static str, Self)] = &[("text", Self::Text), ("json", Self::Json)];
}

/// `[log]`
pub(super) fn log(options: Options<'_>) -> LogPlan {
    let default = LogPlan::default();
    let plan = LogPlan {
        level: options.get::<Directives>("level").map_or(default.level, |level| level.0),
        format: options.get_or("format", default.format),
    };
    options.finish();
    plan
}

/// What `tracing` takes as a filter.
struct Directives(String);

impl FromValue for Directives {
    fn from_value(value: &Value) -> Result<Self, Fault> {
        let text = value.text("a level such as \"info\"")?;
        // A lone word that is no level would be taken for a part of the program, without a fault.
        let parts: Vec<_> = text.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
        let is_lone = |part: &str| part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if let Some(part) = parts.iter().find(|part| is_lone(part) && part.parse::<LevelFilter>().is_err()) {
            return Err(Fault::unknown("log level", part, &LEVELS));
        }
        match EnvFilter::builder().parse(parts.join(",")) {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(error) => Err(Fault::new(format_args!("{text:?} is not a filter of log lines: {error}"))
                .hint("write a level, or targets with levels as in \"info,forebay=debug\"")),
        }
    }
}

/// `[drain]`
pub(super) fn drain(options: Options<'_>) -> Drain {
    let default = Drain::default();
    let plan = Drain {
        delay: options.within("delay", WAIT, default.delay),
        timeout: options.within("timeout", WAIT, default.timeout),
    };
    options.finish();
    plan
}

/// `[upgrade]`
pub(super) fn upgrade(options: Options<'_>, cx: &Cx<'_>) -> UpgradePlan {
    let default = UpgradePlan::default();
    let plan = UpgradePlan {
        socket: options.given("socket").and_then(|given| cx.socket_path(&given)),
        start_timeout: options.within("start_timeout", START, default.start_timeout),
        timeout: options.within("timeout", WAIT, default.timeout),
    };
    options.finish();
    plan
}

/// `[reload]`
pub(super) fn reload(options: Options<'_>) -> ReloadPlan {
    let default = ReloadPlan::default();
    let plan = ReloadPlan {
        watch: options.get_or("watch", default.watch),
        debounce: options.within("debounce", DEBOUNCE, default.debounce),
    };
    options.finish();
    plan
}

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
/// How long a process may take to become ready in the place of another.
const START: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(60 * 60);
/// How long each part of a drain may take.
const WAIT: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(24 * 60 * 60);
/// How long files have to be left alone before they are read.
const DEBOUNCE: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(60);
