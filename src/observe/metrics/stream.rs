//! What is measured of connections that are passed on as bytes, by listener and pool.

use std::sync::Arc;
use std::time::Duration;

use super::exposition::{Exposition, Labels, Table, Title, labels};
use super::histogram::{Bounds, Distribution, Histogram};
use crate::model::Name;
use crate::observe::ended::StreamResult;
use crate::observe::shard::{Count, Shard, Sharded};

/// Which connections are counted together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamLabels {
    /// The listener that took them.
    pub listener: Name,
    /// The pool that they went to.
    pub pool: Name,
}

/// Counts and durations of the connections from one listener to one pool.
#[derive(Debug)]
pub struct StreamMetrics {
    cells: Sharded<Cells>,
    bounds: Arc<Bounds>,
}

#[derive(Debug, Default)]
struct Cells {
    begun: Count,
    ended: [Count; StreamResult::ALL.len()],
    /// Those of `ended` added up.
    over: Count,
    received: Count,
    sent: Count,
    connect: Histogram,
    duration: Histogram,
}

impl StreamMetrics {
    pub(super) fn new(workers: usize, bounds: &Arc<Bounds>) -> Self {
        Self { cells: Sharded::new(workers), bounds: Arc::clone(bounds) }
    }

    /// A connection is for this pool.
    #[inline]
    pub fn begin(&self, shard: Shard) {
        if let Some(cells) = self.cells.of(shard) {
            cells.begun.add(1);
        }
    }

    /// An endpoint was connected to, `took` after the client was accepted.
    #[inline]
    pub fn connected(&self, shard: Shard, took: Duration) {
        if let Some(cells) = self.cells.of(shard) {
            cells.connect.record(&self.bounds, took);
        }
    }

    /// Bytes were passed on: `received` from clients, `sent` to them.
    #[inline]
    pub fn moved(&self, shard: Shard, received: u64, sent: u64) {
        if let Some(cells) = self.cells.of(shard) {
            cells.received.add(received);
            cells.sent.add(sent);
        }
    }

    /// A connection is over, which has lasted for `took`. To be called once for each that began.
    #[inline]
    pub fn end(&self, shard: Shard, result: StreamResult, took: Duration) {
        let Some(cells) = self.cells.of(shard) else { return };
        if let Some(count) = cells.ended.get(result as usize) {
            count.add(1);
        }
        cells.over.add(1);
        cells.duration.record(&self.bounds, took);
    }

    /// Connections so far by what became of them, in the order of [`StreamResult::ALL`].
    #[must_use]
    pub fn results(&self) -> [u64; StreamResult::ALL.len()] {
        self.cells.totals(|cells| &cells.ended)
    }

    /// Bytes passed on so far: from clients, and to them.
    #[must_use]
    pub fn bytes(&self) -> (u64, u64) {
        (self.cells.total(|cells| &cells.received), self.cells.total(|cells| &cells.sent))
    }

    /// Connections that are open.
    #[must_use]
    pub fn open(&self) -> u64 {
        // In this order, so that one that is seen as over has been seen as begun.
        let over = self.cells.total(|cells| &cells.over);
        self.cells.total(|cells| &cells.begun).saturating_sub(over)
    }

    fn distribution(&self, histogram: impl Fn(&Cells) -> &Histogram) -> Distribution {
        Distribution::of(&self.bounds, &self.cells, histogram)
    }
}

/// Adds what is measured of connections that are passed on.
pub(super) fn expose<'a>(
    streams: impl Iterator<Item = (&'a StreamLabels, &'a StreamMetrics)> + Clone,
    out: &mut Exposition,
) {
    let results = streams.clone().flat_map(|(of, metrics)| {
        let count = |(result, count): (StreamResult, u64)| (more(of, "result", result.word()), count as f64);
        StreamResult::ALL.into_iter().zip(metrics.results()).map(count).collect::<Vec<_>>()
    });
    out.counter(CONNECTIONS, results);
    out.gauge(OPEN, streams.clone().map(|(of, metrics)| (named(of), metrics.open() as f64)));
    let bytes = streams.clone().flat_map(|(of, metrics)| {
        let (received, sent) = metrics.bytes();
        [("received", received), ("sent", sent)]
            .map(|(direction, bytes)| (more(of, "direction", direction), bytes as f64))
    });
    out.counter(BYTES, bytes);
    for (title, histogram) in HISTOGRAMS {
        let sample = |(of, metrics): (&'a StreamLabels, &'a StreamMetrics)| {
            (named(of), metrics.distribution(histogram))
        };
        out.histogram(*title, streams.clone().map(sample));
    }
}

fn named(of: &StreamLabels) -> Labels {
    labels([("listener", of.listener.as_str()), ("pool", of.pool.as_str())])
}

fn more(of: &StreamLabels, name: &'static str, value: &str) -> Labels {
    labels([("listener", of.listener.as_str()), ("pool", of.pool.as_str()), (name, value)])
}

const CONNECTIONS: Title = Title(
    "forebay_tcp_connections_total",
    "Connections passed on as bytes that are over, by what became of them.",
);

const OPEN: Title = Title("forebay_tcp_open", "Connections passed on as bytes that are open.");

const BYTES: Title = Title(
    "forebay_tcp_bytes_total",
    "Bytes passed on, TLS excluded where it ends or begins here: received from clients, and sent to them.",
);

const HISTOGRAMS: Table<Cells, Histogram> = &[
    (
        Title(
            "forebay_tcp_connect_seconds",
            "Time from accepting a client until an endpoint was connected to, waits and further tries included.",
        ),
        |cells| &cells.connect,
    ),
    (Title("forebay_tcp_duration_seconds", "Time from accepting a client until all was over."), |cells| {
        &cells.duration
    }),
];
