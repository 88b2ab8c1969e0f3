//! When the process itself is overloaded.

/// Bounds of the process as a whole.
#[derive(Clone, Debug, PartialEq)]
pub struct Overload {
    /// The share of descriptors, memory or connections at which idle connections are closed sooner and
    /// new ones are paced, above 0 and below [`Self::hard`].
    pub soft: f64,
    /// The share of descriptors or memory at which new connections are refused, at most 1.
    pub hard: f64,
    /// Connections of clients over all listeners. From the descriptors when unset.
    pub max_connections: Option<u64>,
    /// Bytes of memory that the process may use. The limit of its cgroup when unset.
    pub memory: Option<u64>,
}

impl Default for Overload {
    fn default() -> Self {
        Self { soft: 0.8, hard: 0.95, max_connections: None, memory: None }
    }
}
