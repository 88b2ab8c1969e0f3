//! What is tried again, how often, and what with its body.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::support::{
    Link, Message, Origin, Plain, Proxy, answers, answers_raw, closes_before_answer, echoes, ok, refuses,
    resets_before_answer,
};
use crate::{refused, retries};

/// The origins are asked in turn, the first one first, so that a test knows who is asked when.
fn before(pool: &str, origins: &[&Origin]) -> Proxy {
    let pool = format!("policy = \"round_robin\"\noutlier = \"off\"\n{pool}");
    let addresses: Vec<_> = origins.iter().map(|origin| origin.address()).collect();
    Plain { pool: &pool, ..Plain::default() }.to(&addresses)
}

/// Asks until both have been asked first; what the client got.
fn ask_twice(proxy: &Proxy, method: &str, body: &str) -> [Message; 2] {
    [0, 1].map(|_| {
        let mut client = proxy.connect();
        send(&mut client, method, body.as_bytes());
        client.response_to(method)
    })
}

fn send(client: &mut Link, method: &str, body: &[u8]) {
    client.send(format!("{method} / HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n", body.len()));
    client.send(body);
}

fn unavailable(fields: &str) -> Origin {
    answers_raw(&format!("HTTP/1.1 503 Service Unavailable\r\n{fields}Content-Length: 4\r\n\r\nbusy"))
}

#[test]
fn a_get_that_got_no_answer_is_tried_elsewhere() {
    for bad in [closes_before_answer(), resets_before_answer()] {
        let good = answers("hello");
        let proxy = before("", &[&bad, &good]);
        assert_eq!(ask_twice(&proxy, "GET", "").map(|answer| answer.status()), [200, 200]);
        assert_eq!((bad.requests().len(), good.requests().len()), (1, 2));
        assert_eq!((retries(&proxy, "reset"), refused(&proxy, "budget")), (1.0, 0.0));
    }
}

#[test]
fn nothing_is_tried_again_where_that_is_off() {
    let (bad, good) = (closes_before_answer(), answers("hello"));
    let proxy = before("retry.tries = 0", &[&bad, &good]);
    let mut statuses = ask_twice(&proxy, "GET", "").map(|answer| answer.status());
    statuses.sort_unstable();
    assert_eq!((statuses, retries(&proxy, "reset")), ([200, 502], 0.0));
}

#[test]
fn a_post_is_never_duplicated() {
    let (bad, good) = (closes_before_answer(), answers("hello"));
    let proxy = before("retry.on = [\"reset\", \"gateway_error\"]", &[&bad, &good]);
    let mut statuses = ask_twice(&proxy, "POST", "once").map(|answer| answer.status());
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 502]);
    assert_eq!((bad.requests().len(), good.requests().len()), (1, 1));
    assert_eq!((retries(&proxy, "reset"), refused(&proxy, "not_idempotent")), (0.0, 1.0));
}

#[test]
fn a_post_that_reached_nobody_is_sent_elsewhere() {
    let (nobody, good) = (refuses(), echoes());
    let pool = "policy = \"round_robin\"\noutlier = \"off\"";
    let proxy = Plain { pool, ..Plain::default() }.to(&[nobody.address(), good.address()]);
    for answer in ask_twice(&proxy, "POST", "body") {
        assert_eq!((answer.status(), answer.text().as_str()), (200, "body"));
    }
    assert_eq!((good.requests().len(), retries(&proxy, "connect")), (2, 1.0));
}

#[test]
fn a_post_is_repeated_where_that_does_no_harm() {
    let (bad, good) = (closes_before_answer(), echoes());
    let proxy = before("retry.non_idempotent = true", &[&bad, &good]);
    for answer in ask_twice(&proxy, "POST", "body") {
        assert_eq!((answer.status(), answer.text().as_str()), (200, "body"));
    }
    assert_eq!(bad.requests().first().map(Message::text).as_deref(), Some("body"));
}

#[test]
fn gateway_errors_and_statuses_are_tried_again_by_option() {
    for (on, cause) in [("gateway_error", "gateway_error"), ("503", "gateway_error")] {
        let (bad, good) = (unavailable(""), answers("hello"));
        let proxy = before(&format!("retry.on = \"{on}\""), &[&bad, &good]);
        assert_eq!(ask_twice(&proxy, "GET", "").map(|answer| answer.status()), [200, 200], "{on}");
        assert_eq!(retries(&proxy, cause), 1.0, "{on}");
    }
    let (bad, good) = (answers_raw("HTTP/1.1 429 Slow down\r\nContent-Length: 0\r\n\r\n"), answers("hello"));
    let proxy = before("retry.on = [\"429\"]", &[&bad, &good]);
    assert_eq!(ask_twice(&proxy, "GET", "").map(|answer| answer.status()), [200, 200]);
    assert_eq!(retries(&proxy, "status"), 1.0);
}

#[test]
fn a_retried_answer_leaves_its_connection_open() {
    let (bad, good) = (unavailable(""), answers("hello"));
    let proxy = before("retry.on = \"503\"", &[&bad, &good]);
    for _ in 0..4 {
        assert_eq!(ask_twice(&proxy, "GET", "").map(|answer| answer.status()), [200, 200]);
    }
    assert_eq!((bad.connections(), good.connections()), (1, 1));
}

#[test]
fn the_last_answer_is_passed_on_as_it_is() {
    let origin = unavailable("X-Own: yes\r\n");
    let proxy = before("retry.on = \"gateway_error\"", &[&origin]);
    let answer = proxy.get("/");
    assert_eq!((answer.status(), answer.field("x-own")), (503, Some("yes")));
    assert_eq!((answer.text().as_str(), answer.field("proxy-status")), ("busy", None));
    assert_eq!(origin.requests().len(), 3, "one and two further tries");
    assert_eq!((retries(&proxy, "gateway_error"), refused(&proxy, "tries_spent")), (2.0, 1.0));
}

#[test]
fn those_that_were_not_asked_come_first() {
    let origins = [unavailable(""), unavailable(""), unavailable("")];
    let proxy = before("retry = { tries = 5, on = \"503\", min_budget = 100 }", &origins.each_ref());
    assert_eq!(proxy.get("/").status(), 503);
    assert_eq!(origins.each_ref().map(|origin| origin.requests().len()), [2, 2, 2]);
}

#[test]
fn a_route_changes_what_its_pool_says() {
    let origin = unavailable("");
    let route = "retry = { on = \"503\", tries = 1 }";
    let proxy = Plain { route, ..Plain::default() }.to(&[origin.address()]);
    assert_eq!(proxy.get("/").status(), 503);
    assert_eq!(origin.requests().len(), 2);
}

#[test]
fn retry_after_is_waited_for_or_not_at_all() {
    let (bad, good) = (unavailable("Retry-After: 1\r\n"), answers("hello"));
    let proxy = before("retry.on = \"503\"", &[&bad, &good]);
    let began = forebay::ambient::now();
    assert_eq!(ask_twice(&proxy, "GET", "").map(|answer| answer.status()), [200, 200]);
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
    let hourly = unavailable("Retry-After: 3600\r\n");
    let proxy = before("retry.on = \"503\"", &[&hourly]);
    let answer = proxy.get("/");
    assert_eq!((answer.status(), answer.field("retry-after")), (503, Some("3600")));
    assert_eq!((hourly.requests().len(), refused(&proxy, "retry_after")), (1, 1.0));
}

#[test]
fn nothing_is_tried_past_the_deadline() {
    let origin = unavailable("Retry-After: 2\r\n");
    let route = "retry.on = \"503\"\n[route.timeouts]\nrequest = \"1500ms\"";
    let proxy = Plain { route, ..Plain::default() }.to(&[origin.address()]);
    assert_eq!(proxy.get("/").status(), 503, "at once");
    assert_eq!((origin.requests().len(), refused(&proxy, "retry_after")), (1, 1.0));
}

#[test]
fn a_client_that_leaves_ends_the_wait() {
    let origin = unavailable("Retry-After: 4\r\n");
    let proxy = before("retry.on = \"503\"", &[&origin]);
    let mut client = proxy.connect();
    send(&mut client, "GET", b"");
    origin.next_request();
    client.reset();
    crate::support::eventually("the request is over", || {
        proxy.metrics().sum("forebay_pool_in_flight", &[("pool", "app")]) == 0.0
    });
    assert_eq!(origin.requests().len(), 1);
}

/// An origin that reads a whole request and closes, once; then it echoes.
fn loses_the_first() -> Origin {
    let lost = Arc::new(AtomicUsize::new(0));
    Origin::run(move |conn| {
        while let Some(request) = conn.request() {
            if lost.fetch_add(1, Ordering::SeqCst) == 0 {
                return;
            }
            conn.send(ok(&request.text()));
        }
    })
}

#[test]
fn a_body_is_sent_again_if_it_is_kept() {
    for chunked in [false, true] {
        for (len, kept) in [(1, true), (1000, true), (1024, true), (1025, false), (100_000, false)] {
            let origin = loses_the_first();
            let proxy = before("retry.body = \"1KiB\"", &[&origin]);
            let body = "x".repeat(len);
            let mut client = proxy.connect();
            if chunked {
                client.send("PUT / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n");
                client.send(format!("{len:x}\r\n{body}\r\n0\r\n\r\n"));
            } else {
                send(&mut client, "PUT", body.as_bytes());
            }
            let answer = client.response();
            let case = format!("{len} bytes, chunked: {chunked}");
            if kept {
                assert_eq!((answer.status(), answer.text()), (200, body), "{case}");
                assert_eq!(refused(&proxy, "body_too_large"), 0.0, "{case}");
            } else {
                assert_eq!((answer.status(), refused(&proxy, "body_too_large")), (502, 1.0), "{case}");
                assert_eq!(origin.requests().len(), 1, "{case}");
            }
        }
    }
}

#[test]
fn a_body_that_is_still_coming_is_sent_again_from_its_beginning() {
    // The first try ends after the first half; the second half comes only then.
    let seen = Arc::new(AtomicUsize::new(0));
    let origin = Origin::run(move |conn| {
        if seen.fetch_add(1, Ordering::SeqCst) == 0 {
            conn.head();
            conn.link.take(5);
            return conn.reset();
        }
        while let Some(request) = conn.request() {
            conn.send(ok(&request.text()));
        }
    });
    let proxy = before("", &[&origin]);
    let mut client = proxy.connect();
    client.send("PUT / HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\nfirst");
    origin.wait_connection(1);
    client.send("again");
    let answer = client.response();
    assert_eq!((answer.status(), answer.text().as_str()), (200, "firstagain"));
}

#[test]
fn failing_together_does_not_multiply_the_load() {
    const CLIENTS: usize = 8;
    const EACH: usize = 125;
    for origin in [closes_before_answer(), unavailable("")] {
        let pool = "retry = { on = [\"reset\", \"503\"], min_budget = 1 }";
        let proxy = before(pool, &[&origin]);
        thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| (0..EACH).for_each(|_| assert!(proxy.get("/").status() >= 502)));
            }
        });
        let (asked, sent) = ((CLIENTS * EACH) as f64, origin.requests().len() as f64);
        // What is always allowed is one at once, and one in each second.
        assert!(sent <= asked * 1.2 + 10.0, "{sent} requests of {asked}");
        assert!(refused(&proxy, "budget") > 0.0);
    }
}
