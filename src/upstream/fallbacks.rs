//! What stands in for a pool that fails, rung by rung, and what became of the requests that tried each.
//! Which rung requests begin on is decided elsewhere; here is read which of them are trials.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use crate::cache::Store;
use crate::limit::ladder::Tries;
use crate::model::Name;
use crate::observe::metrics::LadderMetrics;
use crate::route::filter::Reply;

/// The rungs below a pool.
#[derive(Debug)]
pub struct Fallbacks {
    rungs: Vec<Rung>,
    /// The part of the requests that are trials, in 2^-32.
    trials: u32,
    course: Arc<Course>,
    /// What is shown.
    pub metrics: Arc<LadderMetrics>,
}

/// One rung.
#[derive(Debug)]
pub enum Rung {
    /// Another pool, by its name: where it is in the snapshot may change.
    Pool(Name),
    /// The last good response.
    Stale(Arc<Store>),
    /// The same for everyone.
    Respond(Reply),
}

/// Which trial is overdue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Due {
    /// None.
    No,
    /// One that can go elsewhere when it fails.
    Repeatable,
    /// Any.
    Any,
}

/// What goes on over a reload.
#[derive(Debug)]
struct Course {
    /// Of the pool itself and of each rung.
    tries: Vec<Cells>,
    due: AtomicU8,
}

/// Written on slow paths only: when something failed, or while the pool is on a lower rung.
#[derive(Debug, Default)]
struct Cells {
    passed: AtomicU64,
    failed: AtomicU64,
}

impl Fallbacks {
    /// The rungs in order; `trials` is a share, 0 to 1. `metrics` has their names, in the same order. What
    /// became of requests is counted on from `before`, if that has the same rungs by name.
    #[must_use]
    pub fn new(rungs: Vec<Rung>, trials: f64, metrics: Arc<LadderMetrics>, before: Option<&Self>) -> Self {
        // Saturates at all of them.
        let trials = (trials * 2_f64.powi(32)) as u32;
        let same = before.filter(|before| before.metrics.names().eq(metrics.names()));
        let course = same.map_or_else(|| Arc::new(Course::of(rungs.len())), |b| Arc::clone(&b.course));
        Self { rungs, trials, course, metrics }
    }

    /// The rungs from number `from` on, with their numbers; the first below the pool is 1.
    pub fn rungs(&self, from: usize) -> impl Iterator<Item = (usize, &Rung)> {
        (1..).zip(&self.rungs).skip_while(move |(number, _)| *number < from)
    }

    /// Where good responses are kept, if they are.
    #[must_use]
    pub fn store(&self) -> Option<&Arc<Store>> {
        self.rungs.iter().find_map(|rung| match rung {
            Rung::Stale(store) => Some(store),
            Rung::Pool(_) | Rung::Respond(_) => None,
        })
    }

    /// Whether a request tries the pool itself while it is on a lower rung. `draw` is 64 random bits.
    #[must_use]
    pub fn is_trial(&self, repeatable: bool, draw: u64) -> bool {
        let due = self.course.due.load(Ordering::Relaxed);
        if due >= if repeatable { Due::Repeatable as u8 } else { Due::Any as u8 } {
            // Whoever takes it is the only one.
            return self.course.due.swap(Due::No as u8, Ordering::Relaxed) != Due::No as u8;
        }
        repeatable && (draw >> 32) as u32 <= self.trials && self.trials > 0
    }

    /// Has a request try the pool soon, or not. One writer: the control plane.
    pub fn set_due(&self, due: Due) {
        self.course.due.store(due as u8, Ordering::Relaxed);
    }

    /// A request had its answer from this rung, or, where it is 0, a trial from the pool itself.
    pub fn passed(&self, rung: usize) {
        if let Some(cells) = self.course.tries.get(rung) {
            cells.passed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A request had no answer from this rung.
    pub fn failed(&self, rung: usize) {
        if let Some(cells) = self.course.tries.get(rung) {
            cells.failed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What became of the requests that tried each rung, since the start; the pool itself first.
    #[must_use]
    pub fn tries(&self) -> Vec<Tries> {
        let read = |cells: &Cells| Tries {
            passed: cells.passed.load(Ordering::Relaxed),
            failed: cells.failed.load(Ordering::Relaxed),
        };
        self.course.tries.iter().map(read).collect()
    }
}

impl Course {
    fn of(rungs: usize) -> Self {
        let tries = (0..=rungs).map(|_| Cells::default()).collect();
        Self { tries, due: AtomicU8::new(Due::No as u8) }
    }
}
