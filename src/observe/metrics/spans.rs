//! What is shown of spans on their way to a collector.

use super::exposition::{Exposition, Title, labels};
use crate::observe::spans::{Fate, Spans};

/// Adds what became of them.
pub(super) fn expose(spans: &Spans, out: &mut Exposition) {
    out.counter(SPANS, Fate::ALL.map(|fate| (labels([("result", fate.name())]), spans.ended(fate) as f64)));
    out.counter(FAILURES, [(Vec::new(), spans.failures() as f64)]);
}

const SPANS: Title = Title(
    "forebay_spans_total",
    "Spans by what became of them: exported, dropped for want of room, rejected by the collector, failed to be \
     delivered.",
);
const FAILURES: Title = Title(
    "forebay_span_export_failures_total",
    "Tries to deliver spans that failed. They are tried again for a while.",
);
