//! Deadlines that clients set, and bodies that move too slowly, over real sockets.

mod support;

use std::thread;
use std::time::Duration;

use forebay::ambient;
use support::*;

fn before(origin: &Origin, more: &str) -> Proxy {
    Proxy::start(&format!(
        "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\ntimeouts.min_rate = \"64KiB\"\n\
         [[route]]\npool = \"app\"\ndeadline_header = \"X-Timeout\"\ntimeouts.request = \"9s\"\n\
         [pool.app]\nendpoints = \"{}\"\n{more}\n",
        origin.address()
    ))
}

fn ask(proxy: &Proxy, fields: &str) -> Message {
    let mut client = proxy.connect();
    client.send(format!("GET / HTTP/1.1\r\nHost: test\r\n{fields}\r\n"));
    client.response()
}

#[test]
fn endpoints_are_told_what_is_left() {
    let origin = answers("hello");
    let proxy = before(&origin, "");
    for (sent, unit) in [("2s", "ms"), ("2000", ""), ("2000ms", "ms")] {
        assert_eq!(ask(&proxy, &format!("X-Timeout: {sent}\r\n")).status(), 200);
        let seen = origin.next_request();
        let left = seen.field("x-timeout").unwrap().strip_suffix(unit).unwrap();
        assert!((1..=2000).contains(&left.parse::<u32>().unwrap()), "{sent} became {left}");
    }
    assert_eq!(ask(&proxy, "grpc-timeout: 2S\r\n").status(), 200);
    let seen = origin.next_request();
    let left = seen.field("grpc-timeout").unwrap().strip_suffix('u').unwrap();
    assert!((1..=2_000_000).contains(&left.parse::<u32>().unwrap()), "2S became {left}");
}

#[test]
fn no_client_gets_more_than_the_route_allows() {
    let origin = answers("hello");
    let proxy = before(&origin, "");
    ask(&proxy, "X-Timeout: 1h\r\n");
    let left = origin.next_request().field("x-timeout").unwrap().strip_suffix("ms").unwrap().to_owned();
    assert!(left.parse::<u32>().unwrap() <= 9000, "{left}");
}

#[test]
fn what_cannot_be_read_is_passed_on_as_it_is() {
    let origin = answers("hello");
    let proxy = before(&origin, "");
    for garbage in ["soon", "-1", "1.5s", "99999999999999999999"] {
        assert_eq!(ask(&proxy, &format!("X-Timeout: {garbage}\r\n")).status(), 200);
        assert_eq!(origin.next_request().field("x-timeout"), Some(garbage));
    }
}

#[test]
fn a_deadline_that_passes_ends_the_request() {
    let origin = never_answers();
    let proxy = before(&origin, "");
    let began = ambient::now();
    let answer = ask(&proxy, "X-Timeout: 200ms\r\n");
    assert!(began.elapsed() >= Duration::from_millis(200));
    assert_eq!(answer.status(), 504);
    let why = answer.field("proxy-status").unwrap();
    assert!(why.contains("http_response_timeout") && why.contains("200ms"), "{why}");
    assert!(why.contains("deadline_header of the route"), "{why}");
    // The endpoint sees that nobody waits.
    origin.wait_end(0);
}

#[test]
fn grpc_is_told_in_its_own_words() {
    let origin = never_answers();
    let proxy = before(&origin, "");
    let answer = ask(&proxy, "Content-Type: application/grpc\r\ngrpc-timeout: 100m\r\n");
    assert_eq!(answer.field("grpc-status"), Some("4"), "DEADLINE_EXCEEDED");
}

#[test]
fn nothing_is_begun_after_the_deadline() {
    let origin = never_answers();
    let proxy = before(&origin, "limits = { in_flight = 1, wait = \"5s\" }");
    let mut first = proxy.connect();
    first.send("GET /first HTTP/1.1\r\nHost: test\r\n\r\n");
    origin.next_request();
    let answer = ask(&proxy, "X-Timeout: 100ms\r\n");
    assert_eq!(answer.status(), 504, "it waits for its turn no longer than its client waits");
    let answer = ask(&proxy, "X-Timeout: 0\r\n");
    assert_eq!(answer.status(), 504);
    assert_eq!(origin.recorded().len(), 1, "the origin saw the first only");
    let metrics = proxy.metrics();
    assert_eq!(metrics.sum("forebay_rejections_total", &[("pool", "app"), ("limit", "deadline")]), 2.0);
}

#[test]
fn a_client_that_sends_too_slowly_is_cut_off() {
    let origin = echoes();
    let proxy = before(&origin, "");
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 1000000\r\n\r\n");
    let began = ambient::now();
    // A byte now and then keeps every idle timeout quiet.
    while client.try_send("x").is_ok() && client.unread().is_empty() && began.elapsed() < DEADLINE {
        client.tcp().set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        if !matches!(std::io::Read::read(&mut client.tcp(), &mut [0; 12]), Err(error) if is_timeout(&error)) {
            break;
        }
    }
    assert!(began.elapsed() < DEADLINE, "it was not cut off");
    assert!(began.elapsed() > Duration::from_secs(4), "it was given its time");
    eventually("the timeout is counted", || {
        proxy.metrics().sum("forebay_client_timeouts_total", &[("timeout", "rate")]) == 1.0
    });
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
}

#[test]
fn an_endpoint_that_sends_too_slowly_is_cut_off_and_its_client_is_not_blamed() {
    let origin = Origin::run(|conn| {
        while conn.request().is_some() {
            conn.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n");
            while conn.send("x") {
                thread::park_timeout(Duration::from_millis(100));
            }
        }
    });
    let proxy = before(&origin, "timeouts.min_rate = \"64KiB\"");
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    let (received, _) = client.rest();
    assert!(received.len() < 10_000, "the response ends early");
    eventually("the endpoint is charged", || {
        let metrics = proxy.metrics();
        metrics.sum("forebay_endpoint_failures_total", &[("pool", "app"), ("kind", "timeout")]) == 1.0
    });
    assert_eq!(proxy.metrics().sum("forebay_client_timeouts_total", &[("timeout", "rate")]), 0.0);
}

#[test]
fn a_second_try_is_told_what_is_left_by_then() {
    let (one, other) = (never_answers(), never_answers());
    let proxy = Proxy::start(&format!(
        "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n\
         [[route]]\npool = \"app\"\ndeadline_header = \"X-Timeout\"\nhedge = {{ after = \"100ms\", extra = \"100%\" }}\n\
         [pool.app]\nendpoints = [\"{}\", \"{}\"]\npolicy = \"round_robin\"\n",
        one.address(),
        other.address()
    ));
    assert_eq!(ask(&proxy, "X-Timeout: 1000\r\ngrpc-timeout: 1S\r\n").status(), 504);
    let told = [one.next_request(), other.next_request()];
    let mut millis = told.each_ref().map(|request| request.field("x-timeout").unwrap().parse().unwrap());
    millis.sort_unstable();
    let [later, first]: [u32; 2] = millis;
    assert!(later <= 900 && first <= 1000, "{later} after {first}");
    let micros = told.each_ref().map(|request| {
        request.field("grpc-timeout").unwrap().strip_suffix('u').unwrap().parse::<u32>().unwrap()
    });
    assert!(micros.iter().any(|left| *left <= 900_000), "{micros:?}");
}

#[test]
fn an_endpoint_that_answers_early_is_not_blamed_for_a_slow_client() {
    let origin = Origin::run(|conn| {
        if conn.head().is_some() && conn.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n") {
            conn.link.take(SLOW_BYTES);
            conn.send("ok");
        }
    });
    let proxy = Plain { pool: "timeouts.min_rate = \"64KiB\"", ..Plain::default() }.to(&[origin.address()]);
    let mut client = proxy.connect();
    client.send(format!("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: {SLOW_BYTES}\r\n\r\n"));
    for _ in 0..SLOW_BYTES {
        thread::park_timeout(Duration::from_millis(100));
        client.send("x");
    }
    assert_eq!(client.response().text(), "ok");
    let failures = proxy.metrics().sum("forebay_endpoint_failures_total", &[("pool", "app")]);
    assert_eq!(failures, 0.0);
}

/// At ten a second, more than the time over which rates are averaged.
const SLOW_BYTES: usize = 60;
