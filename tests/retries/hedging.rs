//! Second tries beside the first.

use std::time::Duration;

use crate::hedges;
use crate::support::{Ended, Origin, Plain, Proxy, answers, answers_raw, eventually, never_answers, ok};

fn before(hedge: &str, pool: &str, origins: &[&Origin]) -> Proxy {
    let pool = format!("policy = \"round_robin\"\noutlier = \"off\"\n{pool}");
    let route = format!("[route.hedge]\n{hedge}");
    let addresses: Vec<_> = origins.iter().map(|origin| origin.address()).collect();
    Plain { pool: &pool, route: &route, ..Plain::default() }.to(&addresses)
}

fn answers_after(wait: Duration, body: &str) -> Origin {
    let body = body.to_owned();
    Origin::run(move |conn| {
        while conn.request().is_some() {
            std::thread::sleep(wait);
            conn.send(ok(&body));
        }
    })
}

const AFTER: &str = "after = \"60ms\"\nextra = \"100%\"";

#[test]
fn the_second_try_wins_and_the_first_is_cancelled() {
    let (hangs, good) = (never_answers(), answers("hello"));
    let proxy = before(AFTER, "", &[&hangs, &good]);
    for _ in 0..4 {
        assert_eq!(proxy.get("/").text(), "hello");
    }
    assert_eq!((hangs.requests().len(), hangs.wait_end(0)), (2, Ended::Closed));
    let metrics = proxy.metrics();
    assert_eq!((hedges(&metrics, "won"), hedges(&metrics, "lost")), (2.0, 0.0));
    assert_eq!(metrics.sum("forebay_endpoint_failures_total", &[]), 0.0, "nobody failed");
    assert_eq!(metrics.sum("forebay_endpoint_requests_in_flight", &[]), 0.0);
}

#[test]
fn the_first_try_may_still_win() {
    let (slow, hangs) = (answers_after(Duration::from_millis(250), "slow"), never_answers());
    let proxy = before(AFTER, "", &[&slow, &hangs]);
    for _ in 0..2 {
        assert_eq!(proxy.get("/").text(), "slow");
    }
    let metrics = proxy.metrics();
    assert_eq!((hedges(&metrics, "won"), hedges(&metrics, "lost")), (1.0, 1.0));
}

#[test]
fn a_try_that_fails_leaves_the_other_to_go_on() {
    let slow = answers_after(Duration::from_millis(300), "slow");
    let fails = answers_raw("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n");
    let proxy = before(AFTER, "retry.on = \"503\"", &[&slow, &fails]);
    for _ in 0..2 {
        let answer = proxy.get("/");
        assert_eq!((answer.status(), answer.text().as_str()), (200, "slow"));
    }
    assert_eq!(hedges(&proxy.metrics(), "lost"), 1.0);
}

#[test]
fn what_cannot_be_repeated_has_no_second_try() {
    let slow = answers_after(Duration::from_millis(150), "slow");
    let other = answers_after(Duration::from_millis(150), "slow");
    let proxy = before(AFTER, "", &[&slow, &other]);
    let mut client = proxy.connect();
    for (method, body) in [("POST", ""), ("PUT", "body")] {
        client
            .send(format!("{method} / HTTP/1.1\r\nHost: t\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
        assert_eq!(client.response().text(), "slow");
    }
    assert_eq!(slow.requests().len() + other.requests().len(), 2);
}

#[test]
fn second_tries_are_at_most_their_share() {
    let one = answers_after(Duration::from_millis(8), "slow");
    let two = answers_after(Duration::from_millis(8), "slow");
    let proxy = before("after = \"1ms\"\nextra = \"5%\"", "", &[&one, &two]);
    (0..100).for_each(|_| assert_eq!(proxy.get("/").text(), "slow"));
    let metrics = proxy.metrics();
    let asked = metrics.sum("forebay_endpoint_requests_total", &[("pool", "app")]);
    assert!((101.0..=105.0).contains(&asked), "{asked}");
    let refused = metrics.sum("forebay_hedges_refused_total", &[("reason", "extra")]);
    assert!(refused > 90.0, "{refused}");
}

#[test]
fn a_full_pool_has_no_second_tries() {
    let (hangs, good) = (answers_after(Duration::from_millis(200), "slow"), answers("hello"));
    let proxy = before(AFTER, "limits.in_flight = 1", &[&hangs, &good]);
    for _ in 0..2 {
        assert_eq!(proxy.get("/").status(), 200);
    }
    let metrics = proxy.metrics();
    assert_eq!(metrics.sum("forebay_hedges_refused_total", &[("reason", "saturated")]), 1.0);
    assert_eq!(hedges(&metrics, "won"), 0.0);
}

#[test]
fn the_time_of_a_second_try_is_learned() {
    let moody = Origin::run(|conn| {
        for _ in 0..70 {
            if conn.request().is_none() || !conn.send(ok("hello")) {
                return;
            }
        }
        conn.until_end();
    });
    let good = answers("hello");
    // What hangs before anything is learned ends soon, and well or not does not matter.
    let proxy = before("after = \"95%\"", "timeouts.idle = \"300ms\"", &[&moody, &good]);
    (0..130).for_each(|_| assert_eq!(proxy.get("/").text(), "hello"));
    eventually("a second try won", || {
        proxy.get("/");
        hedges(&proxy.metrics(), "won") > 0.0
    });
}
