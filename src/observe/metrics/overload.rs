//! What is shown of the process's own load: the level, and what it is judged by where the kernel's
//! metrics do not have it already.

use std::sync::atomic::{AtomicU64, Ordering};

use super::exposition::{Exposition, Title};
use crate::limit::pressure::Level;

/// The process's own load, as last found.
#[derive(Debug, Default)]
pub struct OverloadMetrics {
    level: AtomicU64,
    max_connections: AtomicU64,
    memory_used: AtomicU64,
    /// 0 while memory is not watched.
    memory_limit: AtomicU64,
}

impl OverloadMetrics {
    /// The level in force.
    pub fn set_level(&self, level: Level) {
        self.level.store(level as u64, Ordering::Relaxed);
    }

    /// How many connections of clients there may be.
    pub fn set_max_connections(&self, most: u64) {
        self.max_connections.store(most, Ordering::Relaxed);
    }

    /// Bytes of memory in use, and how many there may be; 0 of both where that is not watched.
    pub fn set_memory(&self, used: u64, limit: u64) {
        self.memory_used.store(used, Ordering::Relaxed);
        self.memory_limit.store(limit, Ordering::Relaxed);
    }

    pub(super) fn expose(&self, out: &mut Exposition) {
        let read = |value: &AtomicU64| value.load(Ordering::Relaxed);
        let sample = |value: u64| [(Vec::new(), value as f64)];
        out.gauge(LEVEL, sample(read(&self.level)));
        out.gauge(MAX_CONNECTIONS, sample(read(&self.max_connections)));
        if read(&self.memory_limit) > 0 {
            out.gauge(MEMORY_USED, sample(read(&self.memory_used)));
            out.gauge(MEMORY_LIMIT, sample(read(&self.memory_limit)));
        }
    }
}

const LEVEL: Title = Title(
    "forebay_overload_level",
    "0: there is room; 1: idle connections are closed soon, new ones paced; 2: new ones are refused.",
);
const MAX_CONNECTIONS: Title =
    Title("forebay_client_connections_limit", "Connections of clients that there may be.");
const MEMORY_USED: Title = Title(
    "forebay_overload_memory_bytes",
    "Memory in use, by the process or its cgroup, that overload is judged by.",
);
const MEMORY_LIMIT: Title = Title("forebay_overload_memory_limit_bytes", "Memory that there is.");
