//! HTTP/1.1 and HTTP/1.0 through the proxy, over real sockets: bodies, fields, framing, limits and
//! timeouts, as clients and origins see them.

mod support;

use support::*;

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

#[test]
fn every_origin_does_what_its_name_says() {
    for (origin, status) in
        [(closes_before_answer(), 502), (resets_before_answer(), 502), (sends_garbage(), 502)]
    {
        let response = Proxy::to(origin.address()).get("/");
        assert_eq!(response.status(), status, "{response:?}");
    }
    assert_eq!(Proxy::to(refuses().address()).get("/").status(), 502);
    let timeout = "[pool.app.timeouts]\nconnect = \"100ms\"";
    let full = never_accepts();
    let proxy = Plain { pool: timeout, ..Plain::default() }.to(&[full.address()]);
    assert_eq!(proxy.get("/").status(), 504);
}
