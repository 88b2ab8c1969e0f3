//! HTTP/1.1 and HTTP/1.0 through the proxy, over real sockets: bodies, fields, framing, limits and
//! timeouts, as clients and origins see them.

#[path = "../support/mod.rs"]
mod support;

mod bodies;
mod curl;
mod fields;
mod framing;
mod interim;
mod leaving;
mod limits;
mod persistence;

use support::{Message, Proxy, answers};

#[test]
fn a_request_gets_its_answer() {
    let origin = answers("hello");
    let proxy = Proxy::to(origin.address());
    let response = proxy.get("/a?b");
    assert_eq!((response.status(), response.text().as_str()), (200, "hello"));
    assert_eq!(origin.next_request().target(), "/a?b");
    let metrics = proxy.metrics();
    assert_eq!(metrics.sum("forebay_endpoint_requests_total", &[("pool", "app")]), 1.0);
}

/// Checks that an error is Forebay's own, short, and says these things in `Proxy-Status`.
#[track_caller]
fn assert_own_error(response: &Message, status: u16, says: &[&str]) {
    let proxy_status = response.field("proxy-status").unwrap_or_default();
    assert_eq!(response.status(), status, "{response:?}");
    assert!(proxy_status.starts_with("forebay; error="), "{response:?}");
    for part in says {
        assert!(proxy_status.contains(part), "no {part} in {proxy_status}");
    }
    assert!((1..500).contains(&response.body.len()), "{response:?}");
    assert!(response.text().starts_with(&status.to_string()), "{response:?}");
}
