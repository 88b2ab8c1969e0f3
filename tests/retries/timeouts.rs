//! Tries that take too long: by a fixed time, and by one that is learned.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::support::{Origin, Plain, Proxy, answers, eventually, never_accepts, never_answers, ok};
use crate::{refused, retries};

fn before(lines: &str, origins: &[std::net::SocketAddr]) -> Proxy {
    let pool = format!("policy = \"round_robin\"\noutlier = \"off\"\n{lines}");
    Plain { pool: &pool, ..Plain::default() }.to(origins)
}

#[test]
fn a_try_that_takes_too_long_is_given_up_for_another() {
    let (hangs, good) = (never_answers(), answers("hello"));
    let proxy = before("timeouts.try = \"80ms\"", &[hangs.address(), good.address()]);
    for _ in 0..2 {
        assert_eq!(proxy.get("/").status(), 200);
    }
    assert_eq!((hangs.requests().len(), retries(&proxy, "try_timeout")), (1, 1.0));
    let failures = proxy.metrics().sum("forebay_endpoint_failures_total", &[("kind", "timeout")]);
    assert_eq!(failures, 1.0);
}

#[test]
fn connecting_is_part_of_a_try() {
    let (hangs, good) = (never_accepts(), answers("hello"));
    let proxy = before("timeouts.try = \"80ms\"", &[hangs.address(), good.address()]);
    let mut client = proxy.connect();
    for _ in 0..2 {
        // Nothing was sent, so that it may be anything.
        client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\nbody");
        assert_eq!(client.response().status(), 200);
    }
    assert_eq!((good.requests().len(), retries(&proxy, "try_timeout")), (2, 1.0));
}

#[test]
fn what_may_have_been_processed_is_a_504() {
    let hangs = never_answers();
    let proxy = before("timeouts.try = \"80ms\"", &[hangs.address()]);
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\nbody");
    let answer = client.response();
    let status = answer.field("proxy-status").expect("says what happened");
    assert_eq!(answer.status(), 504, "{status}");
    assert!(status.contains("http_response_timeout") && status.contains("timeouts.try"), "{status}");
    assert_eq!((hangs.requests().len(), refused(&proxy, "not_idempotent")), (1, 1.0));
}

#[test]
fn a_response_that_has_begun_may_take_its_time() {
    let origin = Origin::run(|conn| {
        if conn.request().is_some() {
            conn.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel");
            std::thread::sleep(Duration::from_millis(200));
            conn.send("lo");
        }
    });
    let proxy = before("timeouts.try = \"80ms\"", &[origin.address()]);
    assert_eq!(proxy.get("/").text(), "hello");
}

#[test]
fn a_time_limit_is_learned() {
    let hang = Arc::new(AtomicBool::new(false));
    let hangs = Arc::clone(&hang);
    let moody = Origin::run(move |conn| {
        while conn.request().is_some() {
            if hangs.load(Ordering::SeqCst) {
                conn.until_end();
                return;
            }
            conn.send(ok("hello"));
        }
    });
    let good = answers("hello");
    // What hangs before anything is learned ends by the idle timeout, which is not tried again.
    let lines = "timeouts = { idle = \"400ms\", try = { factor = 3, floor = \"100ms\" } }";
    let proxy = before(lines, &[moody.address(), good.address()]);
    (0..120).for_each(|_| assert_eq!(proxy.get("/").status(), 200));
    hang.store(true, Ordering::SeqCst);
    eventually("a try was given up", || {
        proxy.get("/");
        retries(&proxy, "try_timeout") > 0.0
    });
    assert_eq!(proxy.get("/").status(), 200);
    assert_eq!(proxy.get("/").status(), 200);
}
