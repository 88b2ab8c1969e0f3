//! What concerns the process as a whole: the admin listener, its own log, and its end.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::Cx;
use super::binds::Binds;
use super::plan::{AdminPlan, LogFormat, LogPlan};
use crate::model::options::{OneOf, Options};
use crate::model::settings::Drain;

impl OneOf for LogFormat {
    const NOUN: &'static str = "log format";
    const WORDS: &'static [(&'static str, Self)] = &[("text", Self::Text), ("json", Self::Json)];
}

/// `[admin]`
pub(super) fn admin<'a>(options: Options<'a>, binds: &mut Binds<'a>, cx: &Cx<'_>) -> Option<AdminPlan> {
    let enabled = options.get_or("enabled", true);
    let given = options.given("bind");
    let bind = given.as_ref().and_then(|given| cx.address(given));
    let plan = bind.map_or_else(AdminPlan::default, |bind| AdminPlan { bind });
    options.finish();
    if !enabled {
        return None;
    }
    binds.take(&plan.bind, given.as_ref(), cx.sink);
    Some(plan)
}

/// `[log]`
pub(super) fn log(options: Options<'_>) -> LogPlan {
    let default = LogPlan::default();
    let plan = LogPlan {
        level: options.get_or("level", default.level),
        format: options.get_or("format", default.format),
    };
    options.finish();
    plan
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

/// How long each part of a drain may take.
const WAIT: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(24 * 60 * 60);
