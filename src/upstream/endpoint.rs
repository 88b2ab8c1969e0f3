//! One place that answers requests, as all workers share it. It outlives reloads: its identity is
//! its pool's name and its address, and its gauge and counters go on.

use std::sync::Arc;

use crate::balance::Gauge;
use crate::net::connect::Dial;
use crate::observe::metrics::EndpointMetrics;

/// An endpoint.
#[derive(Debug)]
pub struct Endpoint {
    /// The address as it is shown and as it is labelled in metrics.
    pub name: String,
    /// How to connect to it.
    pub dial: Dial,
    /// What policies see of it.
    pub gauge: Arc<Gauge>,
    /// What is counted of it.
    pub metrics: Arc<EndpointMetrics>,
}
