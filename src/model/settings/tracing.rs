//! Which requests are traced.

use std::time::Duration;

/// Which requests are traced, and by which words.
#[derive(Clone, Debug, PartialEq)]
pub struct Tracing {
    /// The share of traces that begin here of which everything is kept, 0 to 1.
    pub sample: f64,
    /// Whether a trace that began elsewhere is kept if, and only if, it is there.
    pub parent: bool,
    /// Whether requests that failed are kept regardless.
    pub errors: bool,
    /// Requests that take longer than this are kept regardless; none when unset.
    pub slow: Option<Duration>,
}

impl Default for Tracing {
    fn default() -> Self {
        Self { sample: 0.01, parent: true, errors: true, slow: Some(Duration::from_secs(1)) }
    }
}
