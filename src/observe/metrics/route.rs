//! What is measured of requests, by the route that they took.

use std::sync::Arc;
use std::time::Duration;

use super::exposition::{Exposition, Labels, Table, Title, labels};
use super::histogram::{Bounds, Distribution, Histogram};
use super::status::{CLASSES, Classes};
use crate::model::Name;
use crate::observe::shard::{Shard, Sharded};

/// Which requests are counted together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteLabels {
    /// The listener that took them.
    pub listener: Name,
    /// The route that they took.
    pub route: Name,
    /// The pool that they went to; `None` for what the route answered itself.
    pub pool: Option<Name>,
}

/// Counts and durations of one route's requests.
#[derive(Debug)]
pub struct RouteMetrics {
    cells: Sharded<Cells>,
    bounds: Arc<Bounds>,
}

/// A request that is over, to its last byte.
#[derive(Clone, Copy, Debug)]
pub struct Finished {
    /// The status sent to the client, or 499 when it left before there was one.
    pub status: u16,
    /// From the whole request head to the first byte of the response, when there was one.
    pub first_byte: Option<Duration>,
    /// From the whole request head to the last byte of the response.
    pub duration: Duration,
}

#[derive(Debug, Default)]
struct Cells {
    classes: Classes,
    duration: Histogram,
    first_byte: Histogram,
}

impl RouteMetrics {
    pub(super) fn new(workers: usize, bounds: &Arc<Bounds>) -> Self {
        Self { cells: Sharded::new(workers), bounds: Arc::clone(bounds) }
    }

    /// Counts a request.
    #[inline]
    pub fn finish(&self, shard: Shard, request: &Finished) {
        let Some(cells) = self.cells.of(shard) else { return };
        cells.classes.add(request.status);
        cells.duration.record(&self.bounds, request.duration);
        if let Some(took) = request.first_byte {
            cells.first_byte.record(&self.bounds, took);
        }
    }

    /// Requests so far by class of status, from 1xx to 5xx.
    #[must_use]
    pub fn requests(&self) -> [u64; 5] {
        self.cells.totals(|cells| cells.classes.counts())
    }

    /// How long requests took so far, to the last byte of the response.
    pub(super) fn durations(&self) -> Distribution {
        self.distribution(|cells| &cells.duration)
    }

    fn distribution(&self, histogram: impl Fn(&Cells) -> &Histogram) -> Distribution {
        Distribution::of(&self.bounds, &self.cells, histogram)
    }

    /// How long requests took at most but for one in a hundred, if there were enough to say.
    pub(super) fn p99(&self) -> Option<Duration> {
        let durations = self.durations();
        if durations.count() < ENOUGH { None } else { durations.quantile(0.99) }
    }
}

/// Requests without which a quantile says nothing.
const ENOUGH: u64 = 100;

/// The labels of requests by class. `route` and `pool` are empty for those refused before a route
/// was known.
pub(super) fn request_labels(
    listener: &Name,
    route: &str,
    pool: &str,
    counts: [u64; 5],
) -> Vec<(Labels, f64)> {
    let listener = listener.as_str();
    let sample = |(class, count)| {
        (labels([("listener", listener), ("route", route), ("pool", pool), ("class", class)]), count as f64)
    };
    CLASSES.into_iter().zip(counts).map(sample).collect()
}

/// Adds what routes measure; `unrouted` are samples of [`REQUESTS`] that belong to no route.
pub(super) fn expose<'a>(
    routes: impl Iterator<Item = (&'a RouteLabels, &'a RouteMetrics)> + Clone,
    unrouted: Vec<(Labels, f64)>,
    out: &mut Exposition,
) {
    let pool = |labels: &'a RouteLabels| labels.pool.as_ref().map_or("", Name::as_str);
    let requests = routes.clone().flat_map(|(labels, metrics)| {
        request_labels(&labels.listener, labels.route.as_str(), pool(labels), metrics.requests())
    });
    out.counter(REQUESTS, requests.chain(unrouted));
    for (title, histogram) in HISTOGRAMS {
        let sample = |(of, metrics): (&'a RouteLabels, &'a RouteMetrics)| {
            let names =
                [("listener", of.listener.as_str()), ("route", of.route.as_str()), ("pool", pool(of))];
            (labels(names), metrics.distribution(histogram))
        };
        out.histogram(*title, routes.clone().map(sample));
    }
}

const REQUESTS: Title = Title(
    "forebay_requests_total",
    "Requests answered, by class of status; route and pool are empty for those refused before a route was known.",
);

const HISTOGRAMS: Table<Cells, Histogram> = &[
    (
        Title(
            "forebay_request_duration_seconds",
            "Time from the whole request head to the last byte of the response.",
        ),
        |cells| &cells.duration,
    ),
    (
        Title(
            "forebay_time_to_first_byte_seconds",
            "Time from the whole request head to the first byte of the response.",
        ),
        |cells| &cells.first_byte,
    ),
];
