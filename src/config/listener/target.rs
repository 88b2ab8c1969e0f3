//! Where what a listener does not look into goes: one pool, or several by weight.

use std::ops::RangeInclusive;

use crate::config::Cx;
use crate::config::names::Names;
use crate::config::plan::{PoolId, SplitPlan};
use crate::model::options::{Given, Key, Options};

/// `pool = "NAME"` or `split = { a = 90, b = 10 }`; `None` when there is neither, which is not reported.
pub(super) fn target(options: &Options<'_>, pools: &Names, cx: &Cx<'_>) -> Option<SplitPlan> {
    match (options.given("pool"), options.given("split")) {
        (Some(_), Some(split)) => {
            split.fault("`pool` and `split` exclude each other", Some("leave one of them out".into()));
            None
        }
        (Some(given), None) => pools.find(&given, cx.sink).map(|pool| vec![(PoolId(pool), 1)]),
        (None, Some(given)) => split(&given, pools, cx),
        (None, None) => None,
    }
}

/// As [`target`], where one is needed.
pub(super) fn required(options: &Options<'_>, pools: &Names, cx: &Cx<'_>) -> Option<SplitPlan> {
    if options.given("pool").is_none() && options.given("split").is_none() {
        options.missing("pool", "the listener leads nowhere", Some("add `pool = \"NAME\"`".into()));
    }
    target(options, pools, cx)
}

fn split(given: &Given<'_>, pools: &Names, cx: &Cx<'_>) -> Option<SplitPlan> {
    let part = |(key, weight): (&Key, Given<'_>)| {
        let pool = pools.find_named(&key.name, weight.path(), key.span.clone(), cx.sink);
        let weight = weight.within(SPLIT);
        Some((PoolId(pool?), weight?))
    };
    let split: Vec<_> = given.table()?.entries().map(part).collect();
    if split.is_empty() {
        given.fault("a split needs a pool", Some("write `split = { blue = 90, green = 10 }`".into()));
        return None;
    }
    split.into_iter().collect()
}

/// Keeps the sum of any sensible number of weights within 32 bits.
const SPLIT: RangeInclusive<u32> = 1..=1_000_000;
