//! Which requests are traced, and by which words.

use std::time::Duration;

/// Which requests are traced, and by which words.
#[derive(Clone, Debug, PartialEq)]
pub struct Tracing {
    /// The share of traces that begin here of which everything is kept, 0 to 1.
    pub sample: f64,
    /// Whose word on the trace that a request belongs to is taken. Such a trace is kept if, and only if, it
    /// is kept there; all others begin here.
    pub parent: Parents,
    /// The fields that speak of traces: the first that says anything is believed, all are written.
    pub propagate: Vec<Propagation>,
    /// Whether requests that failed are kept regardless.
    pub errors: bool,
    /// Requests that take longer than this are kept regardless; none when unset.
    pub slow: Option<Duration>,
}

/// Whose word on traces is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parents {
    /// Nobody's.
    None,
    /// That of the listener's trusted proxies: strangers could have everything kept, or hide in the traces
    /// of others.
    Trusted,
    /// Everybody's.
    All,
}

/// Fields that speak of traces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// `traceparent` and `tracestate`.
    W3c,
    /// `b3`.
    B3,
    /// `X-B3-TraceId` and its kin.
    B3Multi,
}

impl Default for Tracing {
    fn default() -> Self {
        Self {
            sample: 0.01,
            parent: Parents::Trusted,
            propagate: vec![Propagation::W3c],
            errors: true,
            slow: Some(Duration::from_secs(1)),
        }
    }
}

impl Tracing {
    /// Whether any request may be kept that was not chosen at its beginning.
    #[must_use]
    pub const fn may_keep(&self) -> bool {
        self.errors || self.slow.is_some()
    }
}
