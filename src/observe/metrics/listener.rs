//! What is measured of clients' connections, by listener.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::exposition::{Exposition, Labels, Table, Title, labels};
use super::route::request_labels;
use super::status::Classes;
use crate::limit::Refusal;
use crate::model::Name;
use crate::observe::shard::{Count, Shard, Sharded};

/// Counts of one listener.
#[derive(Debug)]
pub struct ListenerMetrics {
    cells: Sharded<Cells>,
    log_lines: Arc<LogLines>,
}

/// Which of a client's time limits ran out: the label `timeout`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ClientTimeout {
    /// The TLS handshake's.
    TlsHandshake,
    /// The request head's.
    Header,
    /// That on progress while a request is under way.
    Idle,
    /// That between requests.
    KeepAlive,
    /// The whole request's.
    Request,
    /// The least rate at which a body has to move.
    Rate,
}

/// What came of reading the PROXY protocol header of a client's connection: the label `result`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Introduction {
    /// It was read.
    Read,
    /// The connection began with something else.
    Missing,
    /// It could not be understood.
    Malformed,
    /// It was not all there in time.
    Late,
    /// It was cut off.
    Cut,
    /// The connection was closed before its first byte, as by one who looks whether somebody listens.
    Silent,
    /// Whoever sends it is not believed.
    Untrusted,
}

/// What came of a client's first message to a `tls` listener: the label `result`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum HelloResult {
    /// The connection went to a pool.
    PassedOn,
    /// It went to another listener, which ends TLS.
    HandedOver,
    /// It fitted nowhere.
    Unmatched,
    /// It was no ClientHello, or a malformed one.
    Malformed,
    /// It did not come in time.
    TimedOut,
    /// The client left before it was complete.
    Closed,
}

impl HelloResult {
    /// All, in the order of their numbers, with the words for them.
    const ALL: [(Self, &str); 6] = [
        (Self::PassedOn, "passed_on"),
        (Self::HandedOver, "handed_over"),
        (Self::Unmatched, "unmatched"),
        (Self::Malformed, "malformed"),
        (Self::TimedOut, "timed_out"),
        (Self::Closed, "closed"),
    ];

    /// The word for it in metrics and logs.
    #[must_use]
    pub fn word(self) -> &'static str {
        Self::ALL.get(self as usize).map_or("", |(_, word)| word)
    }
}

/// What became of a listener's access log lines. Any thread may count here: it happens once a batch,
/// or when lines are lost.
#[derive(Debug, Default)]
pub struct LogLines {
    written: AtomicU64,
    lost: AtomicU64,
}

#[derive(Debug, Default)]
struct Cells {
    accepted: Count,
    accept_errors: Count,
    turned_away: [Count; Refusal::ALL.len()],
    closed: Count,
    received: Count,
    sent: Count,
    tls_handshakes: Count,
    tls_failures: Count,
    refused: Classes,
    unlogged: Count,
    timeouts: [Count; TIMEOUTS.len()],
    introductions: [Count; INTRODUCTIONS.len()],
    hellos: [Count; HelloResult::ALL.len()],
}

impl ListenerMetrics {
    pub(super) fn new(workers: usize) -> Self {
        Self { cells: Sharded::new(workers), log_lines: Arc::default() }
    }

    /// A connection was accepted.
    #[inline]
    pub fn accepted(&self, shard: Shard) {
        self.add(shard, |cells| &cells.accepted, 1);
    }

    /// Accepting failed, for want of descriptors or the like.
    pub fn accept_failed(&self, shard: Shard) {
        self.add(shard, |cells| &cells.accept_errors, 1);
    }

    /// A connection was not taken. It does not count as accepted.
    pub fn turned_away(&self, shard: Shard, why: Refusal) {
        if let Some(count) = self.cells.of(shard).and_then(|cells| cells.turned_away.get(why as usize)) {
            count.add(1);
        }
    }

    /// An accepted connection is gone. To be called once for each.
    #[inline]
    pub fn closed(&self, shard: Shard) {
        self.add(shard, |cells| &cells.closed, 1);
    }

    /// `bytes` came from clients: heads, bodies and framing, without TLS.
    #[inline]
    pub fn received(&self, shard: Shard, bytes: u64) {
        self.add(shard, |cells| &cells.received, bytes);
    }

    /// `bytes` went to clients: heads, bodies and framing, without TLS.
    #[inline]
    pub fn sent(&self, shard: Shard, bytes: u64) {
        self.add(shard, |cells| &cells.sent, bytes);
    }

    /// A TLS handshake was completed.
    #[inline]
    pub fn tls_established(&self, shard: Shard) {
        self.add(shard, |cells| &cells.tls_handshakes, 1);
    }

    /// A TLS handshake failed or took too long.
    #[inline]
    pub fn tls_failed(&self, shard: Shard) {
        self.add(shard, |cells| &cells.tls_failures, 1);
    }

    /// A request was answered with `status` before a route was known for it. It appears in
    /// `forebay_requests_total` with an empty route and pool.
    #[inline]
    pub fn refused(&self, shard: Shard, status: u16) {
        if let Some(cells) = self.cells.of(shard) {
            cells.refused.add(status);
        }
    }

    /// A request was left out of the access log, as its sampling has it.
    #[inline]
    pub fn left_out_of_log(&self, shard: Shard) {
        self.add(shard, |cells| &cells.unlogged, 1);
    }

    /// A client's connection or request was ended by a time limit.
    #[inline]
    pub fn timed_out(&self, shard: Shard, which: ClientTimeout) {
        if let Some(count) = self.cells.of(shard).and_then(|cells| cells.timeouts.get(which as usize)) {
            count.add(1);
        }
    }

    /// A client's connection was to begin with a PROXY protocol header. All but those that were read are
    /// closed.
    pub fn introduced(&self, shard: Shard, result: Introduction) {
        if let Some(count) = self.cells.of(shard).and_then(|cells| cells.introductions.get(result as usize)) {
            count.add(1);
        }
    }

    /// A client's first message was read, or not.
    #[inline]
    pub fn hello(&self, shard: Shard, result: HelloResult) {
        if let Some(count) = self.cells.of(shard).and_then(|cells| cells.hellos.get(result as usize)) {
            count.add(1);
        }
    }

    /// Connections that are open now.
    #[must_use]
    pub fn active(&self) -> u64 {
        // In this order, so that a connection seen as closed has been seen as accepted.
        let closed = self.cells.total(|cells| &cells.closed);
        self.cells.total(|cells| &cells.accepted).saturating_sub(closed)
    }

    /// Those of one worker.
    pub(super) fn active_of(&self, shard: Shard) -> u64 {
        self.cells.of(shard).map_or(0, |cells| {
            let closed = cells.closed.get();
            cells.accepted.get().saturating_sub(closed)
        })
    }

    /// Requests answered before a route was known, by class of status.
    pub(super) fn requests_without_route(&self) -> [u64; 5] {
        self.cells.totals(|cells| cells.refused.counts())
    }

    /// What became of this listener's access log lines; for the access log to count in.
    #[must_use]
    pub fn log_lines(&self) -> &Arc<LogLines> {
        &self.log_lines
    }

    #[inline]
    fn add(&self, shard: Shard, count: impl Fn(&Cells) -> &Count, n: u64) {
        if let Some(cells) = self.cells.of(shard) {
            count(cells).add(n);
        }
    }
}

impl LogLines {
    /// `lines` were written.
    pub fn wrote(&self, lines: u64) {
        self.written.fetch_add(lines, Ordering::Relaxed);
    }

    /// `lines` were not written and will not be.
    pub fn lose(&self, lines: u64) {
        self.lost.fetch_add(lines, Ordering::Relaxed);
    }

    /// Lines written so far.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Lines lost so far.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

/// Samples of requests that were refused before a route was known.
pub(super) fn refused_requests<'a>(
    listeners: impl Iterator<Item = (&'a Name, &'a ListenerMetrics)>,
) -> Vec<(Labels, f64)> {
    let samples = |(name, metrics): (&Name, &ListenerMetrics)| {
        request_labels(name, "", "", metrics.requests_without_route())
    };
    listeners.flat_map(samples).collect()
}

/// Adds what listeners measure, requests excepted.
pub(super) fn expose<'a>(
    listeners: impl Iterator<Item = (&'a Name, &'a ListenerMetrics)> + Clone,
    out: &mut Exposition,
) {
    let of = |name: &Name| labels([("listener", name.as_str())]);
    for (title, count) in COUNTERS {
        let sample =
            |(name, metrics): (&Name, &ListenerMetrics)| (of(name), metrics.cells.total(count) as f64);
        out.counter(*title, listeners.clone().map(sample));
    }
    out.gauge(ACTIVE, listeners.clone().map(|(name, metrics)| (of(name), metrics.active() as f64)));
    let timeouts = listeners.clone().flat_map(|(name, metrics)| {
        let counts = metrics.cells.totals(|cells| &cells.timeouts);
        let sample =
            |(timeout, count)| (labels([("listener", name.as_str()), ("timeout", timeout)]), count as f64);
        TIMEOUTS.into_iter().zip(counts).map(sample).collect::<Vec<_>>()
    });
    out.counter(TIMED_OUT, timeouts);
    let introductions = listeners.clone().flat_map(|(name, metrics)| {
        let counts = metrics.cells.totals(|cells| &cells.introductions);
        let sample =
            |(result, count)| (labels([("listener", name.as_str()), ("result", result)]), count as f64);
        INTRODUCTIONS.into_iter().zip(counts).map(sample).collect::<Vec<_>>()
    });
    out.counter(INTRODUCED, introductions);
    let hellos = listeners.clone().flat_map(|(name, metrics)| {
        let counts = metrics.cells.totals(|cells| &cells.hellos);
        let sample =
            |((_, result), count)| (labels([("listener", name.as_str()), ("result", result)]), count as f64);
        HelloResult::ALL.into_iter().zip(counts).map(sample).collect::<Vec<_>>()
    });
    out.counter(HELLOS, hellos);
    let turned_away = listeners.clone().flat_map(|(name, metrics)| {
        let counts = metrics.cells.totals(|cells| &cells.turned_away);
        let sample = |(why, count): (Refusal, u64)| {
            (labels([("listener", name.as_str()), ("limit", why.name())]), count as f64)
        };
        Refusal::ALL.into_iter().zip(counts).map(sample).collect::<Vec<_>>()
    });
    out.counter(TURNED_AWAY, turned_away);
    for (title, count) in LOG_LINES {
        let sample = |(name, metrics): (&Name, &ListenerMetrics)| {
            (of(name), count(&metrics.log_lines).load(Ordering::Relaxed) as f64)
        };
        out.counter(*title, listeners.clone().map(sample));
    }
}

const COUNTERS: Table<Cells, Count> = &[
    (Title("forebay_connections_accepted_total", "Connections accepted from clients."), |cells| {
        &cells.accepted
    }),
    (Title("forebay_accept_errors_total", "Failures to accept a connection."), |cells| &cells.accept_errors),
    (Title("forebay_received_bytes_total", "Bytes received from clients, TLS excluded."), |cells| {
        &cells.received
    }),
    (Title("forebay_sent_bytes_total", "Bytes sent to clients, TLS excluded."), |cells| &cells.sent),
    (Title("forebay_tls_handshakes_total", "TLS handshakes with clients that were completed."), |cells| {
        &cells.tls_handshakes
    }),
    (
        Title(
            "forebay_tls_handshake_failures_total",
            "TLS handshakes with clients that failed or took too long.",
        ),
        |cells| &cells.tls_failures,
    ),
    (
        Title("forebay_access_log_unsampled_total", "Requests that sampling left out of the access log."),
        |cells| &cells.unlogged,
    ),
];

const ACTIVE: Title = Title("forebay_connections_active", "Connections from clients that are open.");

const TIMED_OUT: Title = Title(
    "forebay_client_timeouts_total",
    "Connections and requests of clients ended by a time limit, by which.",
);

const INTRODUCED: Title = Title(
    "forebay_proxy_protocol_total",
    "PROXY protocol headers of clients' connections, by what came of reading them; all but `read` were closed.",
);

/// The values of the label `result`, in the order of [`Introduction`].
const INTRODUCTIONS: [&str; 7] = ["read", "missing", "malformed", "timeout", "cut", "silent", "untrusted"];

const HELLOS: Title = Title(
    "forebay_tls_client_hello_total",
    "Connections to tls listeners, by what came of the client's first message.",
);

const TURNED_AWAY: Title = Title(
    "forebay_connections_refused_total",
    "Connections from clients that were not taken, by the limit that was reached.",
);

/// The values of the label `timeout`, in the order of [`ClientTimeout`].
const TIMEOUTS: [&str; 6] = ["tls_handshake", "header", "idle", "keep_alive", "request", "rate"];

const LOG_LINES: Table<LogLines, AtomicU64> = &[
    (Title("forebay_access_log_lines_total", "Access log lines written."), |lines| &lines.written),
    (
        Title(
            "forebay_access_log_lines_lost_total",
            "Access log lines not written: queue full or write failed.",
        ),
        |lines| &lines.lost,
    ),
];
