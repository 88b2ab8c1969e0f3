//! What is shown of the configuration: which one is in force, and what became of the last attempts to
//! replace it. Does not know what a configuration is.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::exposition::{Exposition, Title, labels};

/// How an attempt to put a configuration in force ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReloadResult {
    /// It is in force.
    Replaced,
    /// It was in force already.
    Unchanged,
    /// It has problems, or cannot run here and now; what ran before goes on.
    Failed,
}

/// Which configuration is in force, and how attempts to replace it ended.
#[derive(Debug)]
pub struct ConfigMetrics {
    generation: AtomicU64,
    hash: Mutex<String>,
    last_failed: AtomicBool,
    /// Milliseconds since 1970 at which a configuration was last put in force or found to be.
    succeeded_at: AtomicU64,
    /// What the last attempt took, in microseconds.
    took: AtomicU64,
    results: [AtomicU64; RESULTS.len()],
    rollbacks: AtomicU64,
}

impl Default for ConfigMetrics {
    fn default() -> Self {
        Self {
            generation: AtomicU64::new(1),
            hash: Mutex::default(),
            last_failed: AtomicBool::new(false),
            succeeded_at: AtomicU64::new(0),
            took: AtomicU64::new(0),
            results: Default::default(),
            rollbacks: AtomicU64::new(0),
        }
    }
}

impl ConfigMetrics {
    /// The configuration with this number is in force.
    pub fn set_generation(&self, generation: u64) {
        self.generation.store(generation, Ordering::Relaxed);
    }

    /// The number of the configuration in force; that of the first to be, before there is one.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    /// A configuration with this digest was put in force at `at`, or found to be in force.
    pub fn succeeded(&self, hash: &str, at: SystemTime) {
        hash.clone_into(&mut self.hash.lock().unwrap_or_else(PoisonError::into_inner));
        let since = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        self.succeeded_at.store(u64::try_from(since).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// An attempt ended so, after `took`.
    pub fn ended(&self, result: ReloadResult, took: Duration) {
        self.last_failed.store(result == ReloadResult::Failed, Ordering::Relaxed);
        self.took.store(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
        if let Some(count) = self.results.get(result as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A configuration was taken back because more requests failed under it.
    pub fn rolled_back(&self) {
        self.rollbacks.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn expose(&self, out: &mut Exposition) {
        let get = |cell: &AtomicU64| cell.load(Ordering::Relaxed) as f64;
        out.gauge(GENERATION, [(Vec::new(), get(&self.generation))]);
        let hash = self.hash.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if hash.is_empty() {
            return;
        }
        out.gauge(HASH, [(labels([("hash", &*hash)]), 1.0)]);
        let successful = !self.last_failed.load(Ordering::Relaxed);
        out.gauge(SUCCESSFUL, [(Vec::new(), f64::from(u8::from(successful)))]);
        out.gauge(SUCCEEDED_AT, [(Vec::new(), get(&self.succeeded_at) / 1e3)]);
        out.gauge(TOOK, [(Vec::new(), get(&self.took) / 1e6)]);
        let results = RESULTS.into_iter().zip(&self.results);
        out.counter(RELOADS, results.map(|(name, count)| (labels([("result", name)]), get(count))));
        out.counter(ROLLBACKS, [(Vec::new(), get(&self.rollbacks))]);
    }
}

/// In the order of [`ReloadResult`].
const RESULTS: [&str; 3] = ["replaced", "unchanged", "failed"];

const GENERATION: Title = Title("forebay_config_generation", "Number of the configuration in force.");
const HASH: Title = Title("forebay_config_hash", "1 for the digest of the configuration in force.");
const SUCCESSFUL: Title = Title(
    "forebay_config_last_reload_successful",
    "Whether the last reload was done; 0 means that what runs is not what is configured.",
);
const SUCCEEDED_AT: Title = Title(
    "forebay_config_last_reload_success_timestamp_seconds",
    "When a configuration was last put in force, or found to be in force.",
);
const TOOK: Title = Title("forebay_config_last_reload_duration_seconds", "What the last reload took.");
const RELOADS: Title = Title("forebay_config_reloads_total", "Reloads, by how they ended.");
const ROLLBACKS: Title =
    Title("forebay_config_auto_rollbacks_total", "Configurations taken back because more requests failed.");
