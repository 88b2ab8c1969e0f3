//! Requests that fail and are tried again, or not: over real sockets, with origins that count what
//! they were asked.

#[path = "../http2/client.rs"]
#[expect(dead_code, reason = "shared with the tests of HTTP/2, which use more of it")]
mod client;
mod hedging;
mod http2;
#[path = "../http2/origin.rs"]
#[expect(dead_code, reason = "shared with the tests of HTTP/2, which use more of it")]
mod origin;
mod rules;
#[path = "../support/mod.rs"]
mod support;
mod timeouts;

use support::{Metrics, Proxy};

/// Further tries because of `cause`.
fn retries(proxy: &Proxy, cause: &str) -> f64 {
    proxy.metrics().sum("forebay_retries_total", &[("pool", "app"), ("cause", cause)])
}

/// Failures that were not tried again because of `reason`.
fn refused(proxy: &Proxy, reason: &str) -> f64 {
    proxy.metrics().sum("forebay_retries_refused_total", &[("pool", "app"), ("reason", reason)])
}

/// Second tries beside the first that ended so.
fn hedges(metrics: &Metrics, result: &str) -> f64 {
    metrics.sum("forebay_hedges_total", &[("pool", "app"), ("result", result)])
}
