//! What rate limits of routes turned away, or would have, and what their tables had no room for.

use super::exposition::{Exposition, Title, labels};
use crate::model::Name;
use crate::route::filter::{Mode, RateCounts};

/// A rate limit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RateLabels {
    pub(super) route: Name,
    pub(super) limit: Name,
}

/// Adds what rate limits count.
pub(super) fn expose<'a>(
    limits: impl Iterator<Item = (&'a RateLabels, &'a RateCounts)> + Clone,
    out: &mut Exposition,
) {
    let limited = limits.clone().flat_map(|(of, counts)| {
        Mode::ALL.into_iter().map(move |mode| {
            let names = [("route", of.route.as_str()), ("limit", of.limit.as_str()), ("mode", mode.name())];
            (labels(names), counts.limited(mode) as f64)
        })
    });
    out.counter(LIMITED, limited);
    let forgotten = limits.map(|(of, counts)| {
        let names = [("route", of.route.as_str()), ("limit", of.limit.as_str())];
        (labels(names), counts.forgotten() as f64)
    });
    out.counter(FORGOTTEN, forgotten);
}

const LIMITED: Title = Title(
    "forebay_rate_limited_total",
    "Requests that came too often: refused where the mode is enforce, let through where it is observe.",
);

const FORGOTTEN: Title = Title(
    "forebay_rate_limit_forgotten_total",
    "Keys that got back the requests they had used up, for others needed their room (max_keys).",
);
