//! What is counted of pools' ladders of degradation: requests that each rung answered, and the rung
//! that the pool is on. Written on slow paths and by the control thread, so that one cell each will do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::exposition::{Exposition, Title, labels};
use crate::model::Name;

/// What is shown of one ladder.
#[derive(Debug)]
pub struct LadderMetrics {
    /// The rungs below the pool by their names, with the requests that each answered.
    rungs: Vec<(String, Arc<AtomicU64>)>,
    rung: AtomicU64,
    /// Bytes of responses that are kept; `NONE` where none ever are.
    kept: AtomicU64,
}

impl LadderMetrics {
    /// Of rungs with these names.
    #[must_use]
    pub(super) fn new(names: Vec<String>) -> Self {
        let rungs = names.into_iter().map(|name| (name, Arc::default())).collect();
        Self { rungs, rung: AtomicU64::new(0), kept: AtomicU64::new(NONE) }
    }

    /// Of rungs with these names, in place of `self`: those that it has too are counted on.
    #[must_use]
    pub(super) fn renamed(&self, names: Vec<String>) -> Self {
        let counted = |name: String| {
            let known = self.rungs.iter().find(|(own, _)| *own == name);
            let count = known.map(|(_, count)| Arc::clone(count)).unwrap_or_default();
            (name, count)
        };
        Self { rungs: names.into_iter().map(counted).collect(), ..Self::new(Vec::new()) }
    }

    /// The names of the rungs below the pool, in their order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.rungs.iter().map(|(name, _)| name.as_str())
    }

    /// The name of a rung, counted from 1; that of rung 0, and of others, is `own`.
    #[must_use]
    pub fn name(&self, rung: usize) -> &str {
        rung.checked_sub(1).and_then(|index| self.rungs.get(index)).map_or("own", |(name, _)| name)
    }

    /// A rung answered a request.
    pub fn answered(&self, rung: usize) {
        if let Some((_, count)) = rung.checked_sub(1).and_then(|index| self.rungs.get(index)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Requests begin on this rung from now on.
    pub fn set_rung(&self, rung: usize) {
        self.rung.store(rung as u64, Ordering::Relaxed);
    }

    /// So many bytes of responses are kept.
    pub fn set_kept(&self, bytes: usize) {
        self.kept.store(bytes as u64, Ordering::Relaxed);
    }
}

/// Adds what is known of ladders.
pub(super) fn expose<'a>(
    ladders: impl Iterator<Item = (&'a Name, &'a LadderMetrics)> + Clone,
    out: &mut Exposition,
) {
    let degraded = ladders.clone().flat_map(|(pool, ladder)| {
        ladder.rungs.iter().map(|(rung, count)| {
            let labels = labels([("pool", pool.as_str()), ("rung", rung.as_str())]);
            (labels, count.load(Ordering::Relaxed) as f64)
        })
    });
    out.counter(DEGRADED, degraded);
    let rungs = ladders.clone().map(|(pool, ladder)| {
        (labels([("pool", pool.as_str())]), ladder.rung.load(Ordering::Relaxed) as f64)
    });
    out.gauge(RUNG, rungs);
    let kept = ladders.filter_map(|(pool, ladder)| {
        let bytes = ladder.kept.load(Ordering::Relaxed);
        (bytes != NONE).then(|| (labels([("pool", pool.as_str())]), bytes as f64))
    });
    out.gauge(KEPT, kept);
}

/// No number of bytes.
const NONE: u64 = u64::MAX;

const DEGRADED: Title = Title(
    "forebay_degraded_total",
    "Requests that what stands in for a pool answered, by rung: another pool, a stale response, a fixed one.",
);

const RUNG: Title = Title(
    "forebay_pool_rung",
    "The rung of its ladder on which a pool's requests begin; 0 is the pool itself.",
);

const KEPT: Title = Title("forebay_kept_bytes", "Memory that responses take which are kept for bad times.");
