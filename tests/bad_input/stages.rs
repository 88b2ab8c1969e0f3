//! Connections that end at every stage of an exchange, from either side, and bytes that are no
//! HTTP from the start.

use fastrand::Rng;

use crate::seeds;
use crate::support::*;

/// Time limits that let a test see what becomes of those that say nothing more.
const SHORT: &str = "[listener.timeouts]\nheader = \"200ms\"\nidle = \"200ms\"\nkeep_alive = \"200ms\"";

/// Checks that the proxy serves, and holds nothing on behalf of those who left.
#[track_caller]
fn assert_unharmed(proxy: &Proxy) {
    assert_eq!(proxy.get("/unharmed").status(), 200);
    eventually("nothing is left behind", || {
        let metrics = proxy.metrics();
        metrics.sum("forebay_endpoint_requests_in_flight", &[]) == 0.0
            && metrics.sum("forebay_connections_active", &[("listener", "web")]) == 0.0
    });
}

/// Checks that what came is nothing, or the one error that it may be.
#[track_caller]
fn assert_error_or_nothing(came: &[u8], why: &str) {
    let text = String::from_utf8_lossy(came);
    let refused = [
        "HTTP/1.1 400 ",
        "HTTP/1.1 408 ",
        "HTTP/1.1 414 ",
        "HTTP/1.1 431 ",
        "HTTP/1.1 501 ",
        "HTTP/1.1 505 ",
    ];
    assert!(came.is_empty() || refused.iter().any(|line| text.starts_with(line)), "{why}: {text}");
}

#[test]
fn garbage_is_refused() {
    let origin = answers("hello");
    let proxy = Plain { listener: SHORT, ..Plain::default() }.to(&[origin.address()]);
    for seed in seeds(150) {
        let mut rng = Rng::with_seed(seed);
        let len = if seed % 20 == 0 { 200_000 } else { rng.usize(1..2000) };
        let garbage: Vec<u8> = std::iter::repeat_with(|| rng.u8(..)).take(len).collect();
        let mut client = proxy.connect();
        // The proxy may refuse it before all of it is sent.
        let _ = client.try_send(&garbage);
        if rng.bool() {
            client.finish();
        }
        let (came, _) = client.rest();
        assert_error_or_nothing(&came, &format!("FOREBAY_SEED={seed}"));
    }
    assert_eq!(origin.connections(), 0);
    assert_unharmed(&proxy);
}

#[test]
fn tls_to_a_plain_listener_is_refused() {
    let origin = answers("hello");
    let proxy = Plain { listener: SHORT, ..Plain::default() }.to(&[origin.address()]);
    let mut hello = vec![0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03];
    hello.resize(517, 0x5a);
    for cut in [1, 5, 11, 517] {
        let mut client = proxy.connect();
        client.send(&hello[..cut]);
        let (came, _) = client.rest();
        assert!(came.starts_with(b"HTTP/1.1 400 "), "{cut} bytes: {:?}", String::from_utf8_lossy(&came));
    }
    assert_unharmed(&proxy);
}

#[test]
fn what_only_begins_like_http_2_ends() {
    let origin = answers("hello");
    let proxy = Plain { listener: SHORT, ..Plain::default() }.to(&[origin.address()]);
    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    for cut in 1..=preface.len() {
        let mut client = proxy.connect();
        client.send(&preface[..cut]);
        client.finish();
        client.rest();
    }
    for seed in seeds(50) {
        let mut rng = Rng::with_seed(seed);
        let len = rng.usize(1..500);
        let garbage: Vec<u8> = std::iter::repeat_with(|| rng.u8(..)).take(len).collect();
        let mut client = proxy.connect();
        client.send(preface);
        let _ = client.try_send(garbage);
        client.finish();
        client.rest();
    }
    assert_unharmed(&proxy);
}

#[test]
fn a_request_cut_off_anywhere_reaches_no_origin_as_a_whole() {
    let origin = echoes();
    let proxy = Plain { listener: SHORT, ..Plain::default() }.to(&[origin.address()]);
    let requests = [
        "POST /half HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello",
        "POST /half HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n",
    ];
    for request in requests {
        for cut in 0..request.len() {
            for reset in [false, true] {
                let mut client = proxy.connect();
                client.send(&request[..cut]);
                if reset {
                    client.reset();
                    continue;
                }
                client.finish();
                let (came, _) = client.rest();
                assert_error_or_nothing(&came, &request[..cut]);
            }
        }
    }
    assert_unharmed(&proxy);
    let whole: Vec<_> = origin.requests().into_iter().filter(|request| request.target() == "/half").collect();
    assert!(whole.is_empty(), "{whole:?}");
}

#[test]
fn a_client_may_reset_anywhere_in_a_response() {
    let large = "x".repeat(300_000);
    let origin = answers(&large);
    let proxy = Plain { listener: SHORT, ..Plain::default() }.to(&[origin.address()]);
    for read in [0, 1, 10, 60, 1000, 100_000, 299_000] {
        let mut client = proxy.connect();
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        client.take(read);
        client.reset();
    }
    assert_unharmed(&proxy);
}

#[test]
fn an_origin_may_reset_anywhere() {
    let responses = [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    ];
    let origin = Origin::run(move |conn| {
        while let Some(request) = conn.request() {
            let place: Vec<usize> =
                request.target().split('/').skip(1).filter_map(|n| n.parse().ok()).collect();
            let [kind, cut, how] = place[..] else {
                conn.send(ok("fine"));
                continue;
            };
            conn.send(&responses[kind].as_bytes()[..cut]);
            if how == 0 {
                conn.reset();
            }
            return;
        }
    });
    let proxy = Proxy::to(origin.address());
    for (kind, response) in responses.iter().enumerate() {
        for cut in 0..=response.len() {
            for how in 0..2 {
                let mut client = proxy.connect();
                client.send(format!(
                    "GET /{kind}/{cut}/{how} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
                ));
                let (came, _) = client.rest();
                let text = String::from_utf8_lossy(&came).into_owned();
                let begun =
                    text.contains("HTTP/1.1 200 OK\r\n") || text.contains("HTTP/1.1 502 Bad Gateway\r\n");
                assert!(begun, "{:?} was passed on as {text:?}", &response[..cut]);
                let whole = text.ends_with("\r\n\r\nhello") || text.ends_with("0\r\nX: y\r\n\r\n");
                assert!(cut < response.len() || whole, "all of {response:?} was passed on as {text:?}");
                assert!(cut == response.len() || !whole, "{:?} was passed on as {text:?}", &response[..cut]);
            }
        }
    }
    assert_eq!(proxy.get("/fine").text(), "fine");
}

#[test]
fn an_origin_that_resets_what_it_accepts_is_an_error() {
    let origin = Origin::run(OriginConn::reset);
    let proxy = Proxy::to(origin.address());
    for body in [
        "Content-Length: 0\r\n\r\n".to_owned(),
        format!("Content-Length: 1000000\r\n\r\n{}", "x".repeat(1_000_000)),
    ] {
        let mut client = proxy.connect();
        let _ = client.try_send(format!("POST / HTTP/1.1\r\nHost: h\r\n{body}"));
        assert_eq!(client.response().status(), 502);
    }
}
