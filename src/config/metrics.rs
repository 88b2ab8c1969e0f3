//! `[metrics]`: how finely durations are counted, and how much one scrape may hold. Does not know what
//! is measured.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::model::options::Options;
use crate::model::settings::{BadBuckets, Buckets, Metrics};

/// `[metrics]`
pub(super) fn metrics(options: Options<'_>) -> Metrics {
    let default = Metrics::default();
    let metrics = Metrics {
        buckets: buckets(&options).unwrap_or(default.buckets),
        max_series: options.within("max_series", SERIES, default.max_series),
    };
    options.finish();
    metrics
}

fn buckets(options: &Options<'_>) -> Option<Buckets> {
    let given = options.given("buckets")?;
    let (items, bounds) = (given.items(), given.list::<Duration>());
    if items.len() != bounds.len() {
        // What is no duration is reported already.
        return None;
    }
    let bad = match Buckets::new(bounds.clone()) {
        Ok(buckets) => return Some(buckets),
        Err(bad) => bad,
    };
    let at = |bound: Duration| bounds.iter().rposition(|own| *own == bound).and_then(|at| items.get(at));
    let culprit = match bad {
        BadBuckets::Bound(bound) | BadBuckets::Order(bound, _) => at(bound),
        BadBuckets::None | BadBuckets::TooMany(_) => None,
    };
    let hint = "as in `buckets = [\"5ms\", \"25ms\", \"100ms\", \"1s\"]`";
    culprit.unwrap_or(&given).fault(bad.to_string(), Some(hint.into()));
    None
}

/// Less than a thousand is less than a process without any endpoint may have; more than ten million is
/// more than anyone reads.
const SERIES: RangeInclusive<usize> = 1_000..=10_000_000;
