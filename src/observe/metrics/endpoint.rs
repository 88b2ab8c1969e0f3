//! What is measured of endpoints: requests and failures, connections, bytes. The registry keeps one
//! set per pool and address over reloads.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::exposition::{Exposition, Labels, Table, Title, labels};
use super::histogram::{Bounds, Distribution, Histogram};
use super::seats::Seat;
use super::status::{CLASSES, Classes};
use crate::balance::Gauge;
use crate::model::Name;
use crate::observe::shard::{Count, Shard, Sharded};

/// Which endpoint is counted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct EndpointLabels {
    pub(super) pool: Name,
    pub(super) endpoint: String,
}

/// Counts of one endpoint.
#[derive(Debug)]
pub struct EndpointMetrics {
    cells: Sharded<Cells>,
    bounds: Arc<Bounds>,
    load: Load,
    /// `None` of several endpoints together.
    seat: Option<Arc<Seat>>,
}

/// Where the requests in flight are read.
#[derive(Debug)]
enum Load {
    Of(Mutex<Arc<Gauge>>),
    Sum(u32),
}

/// How an attempt at an endpoint failed: the label `kind`. An answer is no failure, whatever its
/// status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FailureKind {
    /// No connection: refused, unreachable, out of ports.
    Connect,
    /// The connection was not open in time.
    ConnectTimeout,
    /// The TLS handshake failed or took too long.
    Tls,
    /// No progress in time once the request was under way.
    Timeout,
    /// The connection ended before the response did.
    Reset,
    /// What came was not HTTP, or not allowed by it.
    Protocol,
    /// The endpoint declined the request unprocessed (HTTP/2 `REFUSED_STREAM` or GOAWAY).
    Refused,
}

/// An endpoint's counts over all workers, as read at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointTotals {
    /// Requests sent.
    pub requests: u64,
    /// Responses by class of status, from 1xx to 5xx.
    pub responses: [u64; 5],
    /// Attempts that failed, of every kind.
    pub failures: u64,
    /// Requests under way.
    pub in_flight: u32,
    /// Times from sending a request to the first byte of its response.
    pub first_byte: Distribution,
}

#[derive(Debug, Default)]
struct Cells {
    requests: Count,
    responses: Classes,
    failures: [Count; FailureKind::NAMES.len()],
    resends: Count,
    opened: Count,
    reused: Count,
    closed: Count,
    sent: Count,
    received: Count,
    first_byte: Histogram,
}

impl FailureKind {
    /// The values of the label `kind`, in the order of the variants.
    pub const NAMES: [&'static str; 7] =
        ["connect", "connect_timeout", "tls", "timeout", "reset", "protocol", "refused"];

    /// The value of the label `kind`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        #[expect(
            clippy::indexing_slicing,
            reason = "NAMES has one row per variant; a test holds them together"
        )]
        Self::NAMES[self as usize]
    }
}

impl EndpointMetrics {
    pub(super) fn new(workers: usize, bounds: &Arc<Bounds>, gauge: Arc<Gauge>, seat: Arc<Seat>) -> Self {
        let load = Load::Of(Mutex::new(gauge));
        Self { cells: Sharded::new(workers), bounds: Arc::clone(bounds), load, seat: Some(seat) }
    }

    /// Of no endpoint yet; others are to be added.
    pub(super) fn sum(bounds: &Arc<Bounds>) -> Self {
        Self { cells: Sharded::new(0), bounds: Arc::clone(bounds), load: Load::Sum(0), seat: None }
    }

    /// Adds what was counted of another.
    pub(super) fn absorb(&mut self, other: &Self) {
        if let Load::Sum(sum) = &mut self.load {
            *sum = sum.saturating_add(other.in_flight());
        }
        if let Some(own) = self.cells.of(Shard::CONTROL) {
            other.cells.iter().for_each(|cells| own.absorb(cells));
        }
    }

    /// Whether it has series of its own.
    pub(super) fn is_own(&self) -> bool {
        self.seat.as_ref().is_none_or(|seat| seat.is_own())
    }

    /// Takes the requests in flight from `gauge` from now on.
    pub(super) fn watch(&self, gauge: &Arc<Gauge>) {
        if let Load::Of(own) = &self.load {
            *own.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(gauge);
        }
    }

    /// A request was sent, for the first time or again.
    #[inline]
    pub fn requested(&self, shard: Shard) {
        self.add(shard, |cells| &cells.requests, 1);
    }

    /// A response head came, `first_byte` after the request head was sent.
    #[inline]
    pub fn responded(&self, shard: Shard, status: u16, first_byte: Duration) {
        let Some(cells) = self.cells.of(shard) else { return };
        cells.responses.add(status);
        cells.first_byte.record(&self.bounds, first_byte);
    }

    /// An attempt failed.
    #[inline]
    pub fn failed(&self, shard: Shard, kind: FailureKind) {
        if let Some(count) = self.cells.of(shard).and_then(|cells| cells.failures.get(kind as usize)) {
            count.add(1);
        }
    }

    /// A request was sent again on a new connection, because the pooled one had been closed.
    #[inline]
    pub fn resent(&self, shard: Shard) {
        self.add(shard, |cells| &cells.resends, 1);
    }

    /// A connection was opened.
    #[inline]
    pub fn opened(&self, shard: Shard) {
        self.add(shard, |cells| &cells.opened, 1);
    }

    /// A request went out on a connection that had carried one before.
    #[inline]
    pub fn reused(&self, shard: Shard) {
        self.add(shard, |cells| &cells.reused, 1);
    }

    /// An opened connection is gone. To be called once for each.
    #[inline]
    pub fn closed(&self, shard: Shard) {
        self.add(shard, |cells| &cells.closed, 1);
    }

    /// `bytes` went to the endpoint: heads, bodies and framing, without TLS.
    #[inline]
    pub fn sent(&self, shard: Shard, bytes: u64) {
        self.add(shard, |cells| &cells.sent, bytes);
    }

    /// `bytes` came from the endpoint: heads, bodies and framing, without TLS.
    #[inline]
    pub fn received(&self, shard: Shard, bytes: u64) {
        self.add(shard, |cells| &cells.received, bytes);
    }

    /// The counts so far.
    #[must_use]
    pub fn totals(&self) -> EndpointTotals {
        EndpointTotals {
            requests: self.cells.total(|cells| &cells.requests),
            responses: self.cells.totals(|cells| cells.responses.counts()),
            failures: self.cells.totals(|cells| &cells.failures).iter().sum(),
            in_flight: self.in_flight(),
            first_byte: Distribution::of(&self.bounds, &self.cells, |cells| &cells.first_byte),
        }
    }

    /// Connections that are open now.
    #[must_use]
    pub fn open_connections(&self) -> u64 {
        // In this order, so that a connection seen as closed has been seen as opened.
        let closed = self.cells.total(|cells| &cells.closed);
        self.cells.total(|cells| &cells.opened).saturating_sub(closed)
    }

    fn in_flight(&self) -> u32 {
        match &self.load {
            Load::Of(gauge) => gauge.lock().unwrap_or_else(PoisonError::into_inner).in_flight(),
            Load::Sum(sum) => *sum,
        }
    }

    #[inline]
    fn add(&self, shard: Shard, count: impl Fn(&Cells) -> &Count, n: u64) {
        if let Some(cells) = self.cells.of(shard) {
            count(cells).add(n);
        }
    }
}

impl Cells {
    /// Counts what `other` has counted.
    fn absorb(&self, other: &Self) {
        // Every field, so that none is forgotten.
        let Self {
            requests,
            responses,
            failures,
            resends,
            opened,
            reused,
            closed,
            sent,
            received,
            first_byte,
        } = other;
        let plain = [
            (&self.requests, requests),
            (&self.resends, resends),
            // In this order, so that none is seen as closed that is not seen as opened.
            (&self.closed, closed),
            (&self.opened, opened),
            (&self.reused, reused),
            (&self.sent, sent),
            (&self.received, received),
        ];
        let rows =
            self.failures.iter().zip(failures).chain(self.responses.counts().iter().zip(responses.counts()));
        plain.into_iter().chain(rows).for_each(|(own, other)| own.add(other.get()));
        self.first_byte.absorb(first_byte);
    }
}

/// Adds what endpoints measure.
pub(super) fn expose<'a>(
    endpoints: impl Iterator<Item = (&'a EndpointLabels, &'a EndpointMetrics)> + Clone,
    out: &mut Exposition,
) {
    for (title, count) in COUNTERS {
        let sample = |(of, metrics): (&EndpointLabels, &EndpointMetrics)| {
            (of.labels(), metrics.cells.total(count) as f64)
        };
        out.counter(*title, endpoints.clone().map(sample));
    }
    let responses = endpoints.clone().flat_map(|(of, metrics)| {
        of.labels_by("class", CLASSES, metrics.cells.totals(|cells| cells.responses.counts()))
    });
    out.counter(RESPONSES, responses);
    let failures = endpoints.clone().flat_map(|(of, metrics)| {
        of.labels_by("kind", FailureKind::NAMES, metrics.cells.totals(|cells| &cells.failures))
    });
    out.counter(FAILURES, failures);
    out.gauge(
        IN_FLIGHT,
        endpoints.clone().map(|(of, metrics)| (of.labels(), f64::from(metrics.in_flight()))),
    );
    out.gauge(OPEN, endpoints.clone().map(|(of, metrics)| (of.labels(), metrics.open_connections() as f64)));
    let first_byte = |(of, metrics): (&EndpointLabels, &EndpointMetrics)| {
        (of.labels(), Distribution::of(&metrics.bounds, &metrics.cells, |cells| &cells.first_byte))
    };
    out.histogram(FIRST_BYTE, endpoints.map(first_byte));
}

impl EndpointLabels {
    pub(super) fn new(pool: &Name, endpoint: &str) -> Self {
        Self { pool: pool.clone(), endpoint: endpoint.to_owned() }
    }

    pub(super) fn labels(&self) -> Labels {
        labels([("pool", self.pool.as_str()), ("endpoint", &self.endpoint)])
    }

    pub(super) fn labels_with(&self, name: &str, value: &str) -> Labels {
        labels([("pool", self.pool.as_str()), ("endpoint", &self.endpoint), (name, value)])
    }

    fn labels_by<const N: usize>(
        &self,
        name: &str,
        values: [&str; N],
        counts: [u64; N],
    ) -> Vec<(Labels, f64)> {
        let sample = |(value, count)| (self.labels_with(name, value), count as f64);
        values.into_iter().zip(counts).map(sample).collect()
    }
}

const COUNTERS: Table<Cells, Count> = &[
    (Title("forebay_endpoint_requests_total", "Requests sent, resent ones included."), |cells| {
        &cells.requests
    }),
    (
        Title(
            "forebay_endpoint_resends_total",
            "Requests sent again on a new connection because the pooled one had been closed.",
        ),
        |cells| &cells.resends,
    ),
    (Title("forebay_endpoint_connections_opened_total", "Connections opened."), |cells| &cells.opened),
    (
        Title(
            "forebay_endpoint_connections_reused_total",
            "Requests sent on a connection that had carried one before.",
        ),
        |cells| &cells.reused,
    ),
    (Title("forebay_endpoint_connections_closed_total", "Connections closed, by either side."), |cells| {
        &cells.closed
    }),
    (Title("forebay_endpoint_sent_bytes_total", "Bytes sent to endpoints, TLS excluded."), |cells| {
        &cells.sent
    }),
    (
        Title("forebay_endpoint_received_bytes_total", "Bytes received from endpoints, TLS excluded."),
        |cells| &cells.received,
    ),
];

const RESPONSES: Title = Title("forebay_endpoint_responses_total", "Responses received, by class of status.");

const FAILURES: Title =
    Title("forebay_endpoint_failures_total", "Attempts that failed without an answer, by kind.");

const IN_FLIGHT: Title = Title("forebay_endpoint_requests_in_flight", "Requests under way.");

const OPEN: Title = Title("forebay_endpoint_connections_open", "Connections that are open.");

const FIRST_BYTE: Title = Title(
    "forebay_endpoint_time_to_first_byte_seconds",
    "Time from sending a request head to the first byte of its response.",
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_failure_has_its_name() {
        use FailureKind::{Connect, ConnectTimeout, Protocol, Refused, Reset, Timeout, Tls};
        let kinds = [Connect, ConnectTimeout, Tls, Timeout, Reset, Protocol, Refused];
        assert_eq!(kinds.map(FailureKind::name), FailureKind::NAMES);
        assert!(kinds.iter().enumerate().all(|(row, kind)| *kind as usize == row));
    }
}
