//! Limits and timeouts: what is too large, too slow or not there, and what is said about it.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use crate::assert_own_error;
use crate::support::*;

/// Starts a proxy with this listener table, in front of an origin that answers.
fn with_listener(listener: &str) -> (Proxy, Origin) {
    let origin = answers("hello");
    (Plain { listener, ..Plain::default() }.to(&[origin.address()]), origin)
}

/// Starts a proxy with this pool table in front of `endpoint`.
fn with_pool(pool: &str, endpoint: SocketAddr) -> Proxy {
    Plain { pool, ..Plain::default() }.to(&[endpoint])
}

#[test]
fn what_no_route_takes_is_not_found() {
    let origin = answers("hello");
    let proxy = Plain { route: "path_prefix = \"/app\"", ..Plain::default() }.to(&[origin.address()]);
    let mut client = proxy.connect();
    client.send("GET /other HTTP/1.1\r\nHost: h\r\n\r\n");
    let response = client.response();
    assert_own_error(&response, 404, &["error=destination_not_found", "no route matches"]);
    client.send("GET /app/x HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(client.response().text(), "hello", "the connection is kept");
    client.send("HEAD /other HTTP/1.1\r\nHost: h\r\n\r\n");
    let head = client.response_to("HEAD");
    assert!(head.status() == 404 && head.field("proxy-status").is_some());
    client.send("GET /app HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(client.response().text(), "hello");
}

#[test]
fn heads_have_their_limits() {
    let (proxy, origin) = with_listener("max_head = \"2KiB\"\nmax_fields = 10");
    let long = "x".repeat(3000);
    for (request, status) in [
        (format!("GET /{long} HTTP/1.1\r\nHost: h\r\n\r\n"), 414),
        (format!("GET /{long}{long}{long}"), 414),
        (format!("GET / HTTP/1.1\r\nHost: h\r\nX: {long}\r\n\r\n"), 431),
        (format!("GET / HTTP/1.1\r\nHost: h\r\nX: {long}{long}{long}"), 431),
        (format!("GET / HTTP/1.1\r\nHost: h\r\n{}", "a: b\r\n".repeat(2000)), 431),
        (format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "a: b\r\n".repeat(10)), 431),
    ] {
        let mut client = proxy.connect();
        client.send(&request);
        let response = client.response();
        assert_own_error(&response, status, &["http_request_error", "(max_"]);
        assert_eq!(response.field("connection"), Some("close"));
        client.finish();
        client.expect_end();
    }
    assert_eq!(origin.connections(), 0);
    let mut client = proxy.connect();
    client.send(format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "a: b\r\n".repeat(9)));
    assert_eq!(client.response().text(), "hello");
    client.send(format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "x".repeat(1900)));
    assert_eq!(client.response().text(), "hello");
}

#[test]
fn an_origins_head_has_a_limit_too() {
    let origin = Origin::run(|conn| {
        conn.request();
        conn.send("HTTP/1.1 200 OK\r\n");
        while conn.send(format!("X: {}\r\n", "x".repeat(9000))) {}
        conn.until_end();
    });
    assert_own_error(&Proxy::to(origin.address()).get("/"), 502, &["http_protocol_error", "head too large"]);
    origin.wait_end(0);
}

#[test]
fn bodies_have_their_limit() {
    let origin = echoes();
    let route = "filters = [{ max_body = \"1KiB\" }]";
    let proxy = Plain { route, ..Plain::default() }.to(&[origin.address()]);
    let fits = "x".repeat(1024);
    let chunk = |body: &str| format!("{:x}\r\n{body}\r\n", body.len());
    let mut client = proxy.connect();
    client.send(format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1024\r\n\r\n{fits}"));
    assert_eq!(client.response().body.len(), 1024);
    client.send(format!(
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n{}0\r\n\r\n",
        chunk(&fits)
    ));
    assert_eq!(client.response().body.len(), 1024);
    let whole = origin.requests().len();
    for request in [
        format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1025\r\n\r\n{fits}x"),
        "POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 1025\r\n\r\n".to_owned(),
        format!(
            "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n{}{}",
            chunk(&fits),
            chunk("x")
        ),
        format!("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n{}", chunk(&fits.repeat(4))),
    ] {
        let mut client = proxy.connect();
        client.send(&request);
        let response = client.response();
        assert_eq!(response.status(), 413, "{response:?}");
        assert!(response.field("proxy-status").is_some_and(|s| s.contains("max_body")), "{response:?}");
        assert_eq!(response.field("connection"), Some("close"));
        client.finish();
        client.expect_end();
    }
    assert_eq!(origin.requests().len(), whole);
}

#[test]
fn a_head_that_comes_byte_by_byte_times_out() {
    let (proxy, origin) = with_listener("[listener.timeouts]\nheader = \"200ms\"");
    let mut client = proxy.connect();
    let mut slow = Link::over(client.tcp().try_clone().unwrap());
    let writing = thread::spawn(move || {
        for byte in "GET / HTTP/1.1\r\nHost: h\r\nX-Slow: yes and no and yes\r\n".repeat(20).bytes() {
            if slow.try_send([byte]).is_err() {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
    });
    let response = client.response();
    assert_own_error(&response, 408, &["http_request_error", "200ms", "timeouts.header"]);
    drop(client);
    writing.join().unwrap();
    assert_eq!(origin.connections(), 0);
    let metrics = proxy.metrics();
    assert_eq!(metrics.sum("forebay_client_timeouts_total", &[("timeout", "header")]), 1.0);
    assert_eq!(metrics.sum("forebay_requests_total", &[("class", "4xx"), ("route", "")]), 1.0);
}

#[test]
fn the_header_timeout_begins_with_the_request_not_with_the_connection() {
    let (proxy, _origin) = with_listener("[listener.timeouts]\nheader = \"200ms\"");
    let mut client = proxy.connect();
    for _ in 0..2 {
        thread::sleep(Duration::from_millis(300));
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(client.response().text(), "hello");
    }
}

#[test]
fn an_idle_connection_is_closed_without_a_word() {
    let (proxy, _origin) = with_listener("[listener.timeouts]\nkeep_alive = \"100ms\"");
    let mut fresh = proxy.connect();
    let mut used = proxy.connect();
    used.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(used.response().text(), "hello");
    for client in [&mut fresh, &mut used] {
        assert_eq!(client.expect_end(), Ended::Closed);
    }
}

#[test]
fn a_request_body_that_stalls_times_out() {
    let origin = never_answers();
    let listener = "[listener.timeouts]\nidle = \"150ms\"";
    let proxy = Plain { listener, ..Plain::default() }.to(&[origin.address()]);
    for framing in ["Content-Length: 10\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"] {
        let mut client = proxy.connect();
        client.send(format!("POST / HTTP/1.1\r\nHost: h\r\n{framing}"));
        let response = client.response();
        assert_own_error(&response, 408, &["http_request_error", "150ms", "timeouts.idle of the listener"]);
        assert_eq!(response.field("connection"), Some("close"));
    }
    assert!(origin.requests().is_empty());
}

#[test]
fn a_client_that_takes_nothing_is_dropped() {
    let origin = Origin::run(|conn| {
        conn.request();
        conn.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n");
        while conn.send([b'x'; 65536]) {}
        conn.until_end();
    });
    let listener = "[listener.timeouts]\nidle = \"200ms\"";
    let proxy = Plain { listener, ..Plain::default() }.to(&[origin.address()]);
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    origin.wait_end(0);
    assert!(client.rest().0.len() < 1_000_000_000);
}

#[test]
fn a_refused_connection_is_named() {
    let nobody = refuses();
    let address = nobody.address();
    let proxy = Proxy::to(address);
    let mut client = proxy.connect();
    for _ in 0..2 {
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        let next_hop = format!("next-hop=\"{address}\"");
        assert_own_error(&client.response(), 502, &["error=connection_refused", &next_hop, "pool app"]);
    }
}

#[test]
fn a_connection_that_is_not_taken_times_out() {
    let full = never_accepts();
    let proxy = with_pool("[pool.app.timeouts]\nconnect = \"150ms\"", full.address());
    let next_hop = format!("next-hop=\"{}\"", full.address());
    let says = ["error=connection_timeout", &next_hop, "pool app", "150ms", "timeouts.connect"];
    assert_own_error(&proxy.get("/"), 504, &says);
    let route = "[route.timeouts]\nconnect = \"100ms\"";
    let proxy = Plain { route, ..Plain::default() }.to(&[full.address()]);
    assert_own_error(&proxy.get("/"), 504, &["error=connection_timeout", "100ms"]);
}

#[test]
fn an_origin_that_says_nothing_times_out() {
    let origin = never_answers();
    let next_hop = format!("next-hop=\"{}\"", origin.address());
    let proxy = with_pool("[pool.app.timeouts]\nidle = \"150ms\"", origin.address());
    let says = ["error=connection_read_timeout", &next_hop, "pool app", "150ms", "timeouts.idle"];
    assert_own_error(&proxy.get("/"), 504, &says);
    origin.wait_end(0);
    let route = "[route.timeouts]\nidle = \"100ms\"";
    let proxy = Plain { route, ..Plain::default() }.to(&[origin.address()]);
    assert_own_error(&proxy.get("/"), 504, &["connection_read_timeout", "100ms"]);
    let route = "[route.timeouts]\nrequest = \"120ms\"";
    let proxy = Plain { route, ..Plain::default() }.to(&[origin.address()]);
    let says = ["error=http_response_timeout", &next_hop, "pool app", "120ms", "timeouts.request"];
    assert_own_error(&proxy.get("/"), 504, &says);
}

#[test]
fn a_response_that_stalls_is_broken_off() {
    let origin = stalls_after_head();
    let pool = with_pool("[pool.app.timeouts]\nidle = \"150ms\"", origin.address());
    let route = "[route.timeouts]\nrequest = \"150ms\"";
    let route = Plain { route, ..Plain::default() }.to(&[origin.address()]);
    for proxy in [pool, route] {
        let mut client = proxy.connect();
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(client.head().unwrap().status(), 200);
        client.expect_end();
    }
}

#[test]
fn slow_but_steady_is_no_timeout() {
    let origin = Origin::run(|conn| {
        while conn.request().is_some() {
            conn.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n");
            for _ in 0..10 {
                thread::sleep(Duration::from_millis(40));
                conn.send("x");
            }
        }
    });
    let proxy = with_pool("[pool.app.timeouts]\nidle = \"250ms\"", origin.address());
    assert_eq!(proxy.get("/").text(), "xxxxxxxxxx");
}

#[test]
fn what_an_origin_does_wrong_is_named() {
    for (origin, error) in [
        (sends_garbage(), "error=http_protocol_error"),
        (closes_before_answer(), "error=connection_terminated"),
        (resets_before_answer(), "error=connection_terminated"),
        (answers_raw("HTTP/1.1 200 OK\r\nContent-Le"), "error=http_response_timeout"),
    ] {
        let next_hop = format!("next-hop=\"{}\"", origin.address());
        let route = "[route.timeouts]\nrequest = \"200ms\"";
        let proxy = Plain { route, ..Plain::default() }.to(&[origin.address()]);
        let status = if error.ends_with("timeout") { 504 } else { 502 };
        assert_own_error(&proxy.get("/"), status, &[error, &next_hop, "pool app"]);
    }
    let origin = Origin::run(|conn| {
        conn.request();
        conn.send("HTTP/1.1 200 OK\r\nContent-Le");
    });
    assert_own_error(&Proxy::to(origin.address()).get("/"), 502, &["error=http_response_incomplete"]);
}

#[test]
fn another_endpoint_is_asked_when_one_refuses() {
    let nobody = refuses();
    let origin = answers("hello");
    let proxy = Plain::default().to(&[nobody.address(), origin.address()]);
    for _ in 0..6 {
        assert_eq!(proxy.get("/").text(), "hello");
    }
}
