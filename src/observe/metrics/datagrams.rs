//! What is measured of datagrams and their flows, by listener.

use super::exposition::{Exposition, Labels, Table, Title, labels};
use crate::flow::Cause;
use crate::model::Name;
use crate::observe::shard::{Count, Shard, Sharded};

/// Counts of the flows of one listener.
#[derive(Debug)]
pub struct DatagramMetrics(Sharded<Cells>);

/// Why datagrams were dropped: the label `reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Lost {
    /// No endpoint may be used.
    NoEndpoint,
    /// A limit or breaker of the pool, or a limit of the process, lets no further flow in.
    Limited,
    /// The listener takes none from there, or not so many flows.
    Denied,
    /// No further flow is opened, because the listener or the process ends.
    Closing,
    /// There was no room to send it.
    Full,
    /// It is too large for the way that it would take.
    TooLarge,
    /// It could not be sent for another reason, or no socket could be opened for its flow.
    Failed,
    /// It came from an endpoint when its flow was over.
    Late,
}

#[derive(Debug, Default)]
struct Cells {
    opened: Count,
    moved: Count,
    refused: Count,
    ended: [Count; Cause::ALL.len()],
    batches: Count,
    datagrams: [Count; DIRECTIONS.len()],
    bytes: [Count; DIRECTIONS.len()],
    lost: [Count; LOST.len()],
}

impl DatagramMetrics {
    pub(super) fn new(workers: usize) -> Self {
        Self(Sharded::new(workers))
    }

    /// Something was received from clients, in one call.
    #[inline]
    pub fn batch(&self, shard: Shard) {
        self.add(shard, |cells| Some(&cells.batches), 1);
    }

    /// As many datagrams came from a client, with `bytes` of payload together.
    #[inline]
    pub fn received(&self, shard: Shard, datagrams: u64, bytes: u64) {
        self.add(shard, |cells| cells.datagrams.first(), datagrams);
        self.add(shard, |cells| cells.bytes.first(), bytes);
    }

    /// As many datagrams went to a client, with `bytes` of payload together.
    #[inline]
    pub fn sent(&self, shard: Shard, datagrams: u64, bytes: u64) {
        self.add(shard, |cells| cells.datagrams.last(), datagrams);
        self.add(shard, |cells| cells.bytes.last(), bytes);
    }

    /// As many datagrams were dropped.
    pub fn lost(&self, shard: Shard, why: Lost, datagrams: u64) {
        self.add(shard, |cells| cells.lost.get(why as usize), datagrams);
    }

    /// A flow was opened.
    pub fn opened(&self, shard: Shard) {
        self.add(shard, |cells| Some(&cells.opened), 1);
    }

    /// An endpoint told by ICMP that it does not take a flow's datagrams.
    pub fn refused(&self, shard: Shard) {
        self.add(shard, |cells| Some(&cells.refused), 1);
    }

    /// A flow went to another endpoint.
    pub fn moved(&self, shard: Shard) {
        self.add(shard, |cells| Some(&cells.moved), 1);
    }

    /// A flow is over. To be called once for each that was opened.
    pub fn ended(&self, shard: Shard, cause: Cause) {
        let place = Cause::ALL.iter().position(|known| *known == cause);
        self.add(shard, |cells| cells.ended.get(place?), 1);
    }

    /// Flows that are open.
    #[must_use]
    pub fn active(&self) -> u64 {
        // In this order, so that a flow seen as over has been seen as opened.
        let ended = self.0.totals(|cells| &cells.ended).into_iter().fold(0, u64::wrapping_add);
        self.0.total(|cells| &cells.opened).saturating_sub(ended)
    }

    #[inline]
    fn add(&self, shard: Shard, count: impl Fn(&Cells) -> Option<&Count>, n: u64) {
        if let Some(count) = self.0.of(shard).and_then(count) {
            count.add(n);
        }
    }
}

/// Adds what is measured of flows.
pub(super) fn expose<'a>(
    listeners: impl Iterator<Item = (&'a Name, &'a DatagramMetrics)> + Clone,
    out: &mut Exposition,
) {
    let own = |name: &Name| labels([("listener", name.as_str())]);
    for (title, count) in COUNTERS {
        let sample = |(name, metrics): (&Name, &DatagramMetrics)| (own(name), metrics.0.total(count) as f64);
        out.counter(*title, listeners.clone().map(sample));
    }
    out.gauge(ACTIVE, listeners.clone().map(|(name, metrics)| (own(name), metrics.active() as f64)));
    let causes = Cause::ALL.map(Cause::word);
    let samples = |(name, metrics): (&Name, &DatagramMetrics)| {
        row(name, "cause", causes, metrics.0.totals(|c| &c.ended))
    };
    out.counter(ENDED, listeners.clone().flat_map(samples));
    let samples = |(name, metrics): (&Name, &DatagramMetrics)| {
        row(name, "direction", DIRECTIONS, metrics.0.totals(|cells| &cells.datagrams))
    };
    out.counter(DATAGRAMS, listeners.clone().flat_map(samples));
    let samples = |(name, metrics): (&Name, &DatagramMetrics)| {
        row(name, "direction", DIRECTIONS, metrics.0.totals(|cells| &cells.bytes))
    };
    out.counter(BYTES, listeners.clone().flat_map(samples));
    let samples =
        |(name, metrics): (&Name, &DatagramMetrics)| row(name, "reason", LOST, metrics.0.totals(|c| &c.lost));
    out.counter(DROPPED, listeners.flat_map(samples));
}

fn row<const N: usize>(name: &Name, key: &str, words: [&str; N], counts: [u64; N]) -> Vec<(Labels, f64)> {
    let sample = |(word, count)| (labels([("listener", name.as_str()), (key, word)]), count as f64);
    words.into_iter().zip(counts).map(sample).collect()
}

const COUNTERS: Table<Cells, Count> = &[
    (Title("forebay_udp_flows_opened_total", "Flows of datagrams that were opened."), |cells| &cells.opened),
    (Title("forebay_udp_flows_moved_total", "Flows that went to another endpoint than before."), |cells| {
        &cells.moved
    }),
    (
        Title("forebay_udp_refused_total", "Times that an endpoint refused datagrams of a flow by ICMP."),
        |cells| &cells.refused,
    ),
    (Title("forebay_udp_batches_total", "Calls by which datagrams were received from clients."), |cells| {
        &cells.batches
    }),
];

const ACTIVE: Title = Title("forebay_udp_flows_active", "Flows of datagrams that are open.");
const ENDED: Title = Title("forebay_udp_flows_ended_total", "Flows of datagrams that are over, by cause.");
const DATAGRAMS: Title = Title("forebay_udp_datagrams_total", "Datagrams received from and sent to clients.");
const BYTES: Title =
    Title("forebay_udp_bytes_total", "Payload received from and sent to clients in datagrams.");
const DROPPED: Title = Title("forebay_udp_dropped_total", "Datagrams that were not passed on, by reason.");

/// The values of the label `direction`.
const DIRECTIONS: [&str; 2] = ["received", "sent"];
/// The values of the label `reason`, in the order of [`Lost`].
const LOST: [&str; 8] =
    ["no_endpoint", "limited", "denied", "closing", "full", "too_large", "failed", "late"];
