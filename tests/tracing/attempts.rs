//! What is told of tries: one after another, beside each other, and of what they waited for.

use std::sync::Arc;
use std::thread;

use forebay::trace::{Kind, Span};

use crate::support::{
    Gate, Origin, Pki, Plain, Proxy, answers, answers_raw, answers_slow_requests_through, eventually,
    never_answers, ok, refuses,
};
use crate::{ALL, holding, names, parent_of, request, requests, says, tracing, tries};

#[track_caller]
fn find<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    spans.iter().find(|span| span.name == name).unwrap()
}

/// Asks until a request has had to be tried twice, which is the first or the second that the endpoints get
/// in turn. Its spans.
#[track_caller]
fn asked_twice(proxy: &Proxy) -> Vec<Span> {
    for _ in 0..2 {
        assert_eq!(proxy.get("/").text(), "hello");
        let spans = request(proxy);
        if tries(&spans).len() == 2 {
            return spans;
        }
    }
    unreachable!("no endpoint fails")
}

#[test]
fn every_try_has_a_span_that_its_endpoint_is_told() {
    let busy = answers_raw("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n");
    let good = answers("hello");
    let pool = "retry = { on = \"503\", backoff = \"1ms\" }";
    let proxy = tracing(ALL, Plain { pool, ..Plain::default() }, &[busy.address(), good.address()]);
    let spans = asked_twice(&proxy);
    let [first, second] = tries(&spans)[..] else { unreachable!("there are two: {spans:#?}") };
    assert_eq!(busy.next_request().values("traceparent"), [parent_of(first, true)]);
    assert_eq!(good.requests().last().unwrap().values("traceparent"), [parent_of(second, true)]);
    assert_eq!(
        (says(first, "http.response.status_code"), says(first, "error.type")),
        ("503".into(), "503".into())
    );
    assert_eq!(
        (says(first, "http.request.resend_count"), says(second, "http.request.resend_count")),
        (String::new(), "1".into())
    );
    assert!(first.end <= second.start && first.failed.is_some() && second.failed.is_none());
    assert_eq!(spans[0].failed, None);
}

#[test]
fn what_could_not_connect_says_so() {
    let closes = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello";
    let (nobody, good) = (refuses(), answers_raw(closes));
    let pool = "retry.backoff = \"1ms\"";
    let proxy = tracing(ALL, Plain { pool, ..Plain::default() }, &[nobody.address(), good.address()]);
    let spans = asked_twice(&proxy);
    assert_eq!(names(&spans), ["GET route-1", "GET", "connect", "GET", "connect"]);
    for span in &spans[1..3] {
        assert_eq!((says(span, "error.type"), span.failed.is_some()), ("connection_refused".into(), true));
    }
    assert_eq!((spans[2].parent, spans[4].parent), (Some(spans[1].id), Some(spans[3].id)));
    assert_eq!(
        (says(&spans[4], "error.type"), &spans[4].failed, spans[4].kind),
        ("".into(), &None, Kind::Internal)
    );
}

#[test]
fn a_connection_belongs_to_who_opened_it() {
    let origin = answers("hello");
    let proxy = tracing(ALL, Plain::default(), &[origin.address()]);
    for connects in [1, 0, 0] {
        assert_eq!(proxy.get("/").text(), "hello");
        let spans = request(&proxy);
        assert_eq!(spans.iter().filter(|span| span.name == "connect").count(), connects);
    }
}

#[test]
fn a_connection_that_had_been_closed_is_a_try_that_failed() {
    let origin = Origin::run(|conn| {
        if conn.request().is_some() && conn.send(ok("hello")) && conn.number > 0 {
            conn.until_end();
        }
        // The first connection ends with the second request on it, unanswered.
        conn.request();
    });
    let proxy = tracing(ALL, Plain::default(), &[origin.address()]);
    for _ in 0..2 {
        assert_eq!(proxy.get("/").text(), "hello");
    }
    let all = requests(&proxy, 2);
    let [first, second] = tries(&all[1])[..] else { unreachable!("there are two: {all:#?}") };
    assert_eq!((says(first, "error.type"), &second.failed), ("connection_terminated".into(), &None));
    assert_eq!(says(first, "forebay.endpoint"), says(second, "forebay.endpoint"));
}

#[test]
fn the_try_that_lost_is_cancelled() {
    let (hangs, good) = (never_answers(), answers("hello"));
    let plain = Plain { route: "[route.hedge]\nafter = \"300ms\"\nextra = \"100%\"", ..Plain::default() };
    let proxy = tracing(ALL, plain, &[hangs.address(), good.address()]);
    let spans = asked_twice(&proxy);
    let [first, second] = tries(&spans)[..] else { unreachable!("there are two: {spans:#?}") };
    assert_eq!((says(first, "forebay.hedge"), says(second, "forebay.hedge")), ("".into(), "true".into()));
    assert_eq!(
        (says(first, "forebay.cancelled"), says(second, "forebay.cancelled")),
        ("true".into(), "".into())
    );
    assert_eq!((&first.failed, &second.failed), (&None, &None));
    assert!(second.start > first.start && second.start < first.end, "they ran beside each other");
    assert_eq!(hangs.next_request().values("traceparent"), [parent_of(first, true)]);
    assert_eq!(good.requests().last().unwrap().values("traceparent"), [parent_of(second, true)]);
    assert_eq!(first.parent, second.parent);
}

#[test]
fn the_wait_for_a_turn_is_told() {
    let gate = Arc::new(Gate::default());
    let origin = answers_slow_requests_through(&gate, "hello");
    let pool = "limits = { in_flight = 1, wait = \"30s\" }";
    let proxy = tracing(ALL, Plain { pool, ..Plain::default() }, &[origin.address()]);
    let mut first = proxy.connect();
    first.send("GET /slow HTTP/1.1\r\nHost: t\r\n\r\n");
    origin.next_request();
    let mut second = proxy.connect();
    second.send("GET / HTTP/1.1\r\nHost: t\r\n\r\n");
    eventually("a request that waits", || {
        proxy.metrics().sum("forebay_pool_waiting", &[("pool", "app")]) == 1.0
    });
    gate.open();
    assert_eq!((first.response().status(), second.response().status()), (200, 200));
    let all = requests(&proxy, 2);
    assert!(!names(&all[0]).contains(&"queue wait"));
    let wait = find(&all[1], "queue wait");
    assert_eq!((wait.parent, wait.kind), (Some(all[1][0].id), Kind::Internal));
    assert!(wait.end <= tries(&all[1])[0].start);
}

#[test]
fn handshakes_are_told_of_both_ends() {
    let pki = Pki::new();
    pki.issue("origin", &["localhost"]);
    let config = pki.server("origin", &["http/1.1"], false);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (tcp, _) = listener.accept().unwrap();
        let connection = rustls::ServerConnection::new(config).unwrap();
        let mut tls = rustls::StreamOwned::new(connection, tcp);
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            std::io::Read::read_exact(&mut tls, &mut byte).unwrap();
            head.extend(byte);
        }
        std::io::Write::write_all(&mut tls, ok("hello").as_bytes()).unwrap();
    });
    let toml = format!(
        "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n[[route]]\npool = \"app\"\n\
         [pool.app]\nendpoints = [\"{address}\"]\n[pool.app.tls]\nserver_name = \"localhost\"\nca = \"ca.pem\"\n"
    );
    let proxy = holding(ALL, |tables| Proxy::start_in(pki.path(), &format!("{toml}{tables}")));
    assert_eq!(proxy.get("/").text(), "hello");
    let spans = request(&proxy);
    assert_eq!(names(&spans), ["GET route-1", "GET", "connect", "TLS handshake"]);
    assert_eq!(spans[3].parent, Some(spans[1].id));
    assert!(spans[2].end <= spans[3].start && says(&spans[1], "url.full").starts_with("https://"));
}

#[test]
fn a_handshake_that_fails_says_so() {
    let origin = crate::support::sends_garbage();
    let toml = format!(
        "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n[[route]]\npool = \"app\"\n\
         [pool.app]\nendpoints = [\"{}\"]\ntls = {{ verify = false }}\ntimeouts.tls_handshake = \"100ms\"\n\
         retry.tries = 0\n",
        origin.address()
    );
    let proxy = holding(ALL, |tables| Proxy::start(&format!("{toml}{tables}")));
    assert!(proxy.get("/").status() >= 502);
    let spans = request(&proxy);
    assert_eq!(names(&spans), ["GET route-1", "GET", "connect", "TLS handshake"]);
    assert_eq!((&spans[2].failed, spans[3].failed.is_some()), (&None, true));
}

#[test]
fn whoever_leaves_is_told_as_such() {
    let origin = never_answers();
    let proxy = tracing(ALL, Plain::default(), &[origin.address()]);
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nHost: t\r\n\r\n");
    origin.next_request();
    drop(client);
    let spans = request(&proxy);
    assert_eq!((&spans[0].failed, says(&spans[0], "forebay.error")), (&None, "http_request_error".into()));
    let tried = tries(&spans)[0];
    assert_eq!((says(tried, "forebay.cancelled"), &tried.failed), ("true".into(), &None));
}

#[test]
fn a_tunnel_is_not_slow_for_being_long() {
    let switching = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: raw/1\r\n\r\n";
    for (sample, kept) in [("0%", 0), ("100%", 1)] {
        let origin = Origin::run(move |conn| {
            if conn.head().is_some() && conn.send(switching) {
                thread::sleep(std::time::Duration::from_millis(1100));
            }
        });
        let lines = format!("sample = \"{sample}\"\nslow = \"1s\"");
        let proxy = tracing(&lines, Plain::default(), &[origin.address()]);
        let mut client = proxy.connect();
        client.send("GET / HTTP/1.1\r\nHost: t\r\nConnection: upgrade\r\nUpgrade: raw/1\r\n\r\n");
        assert_eq!(client.head().unwrap().status(), 101);
        client.finish();
        client.rest();
        for spans in requests(&proxy, kept) {
            assert_eq!(says(&spans[0], "http.response.status_code"), "101");
            assert!(spans[0].failed.is_none() && tries(&spans).len() == 1);
        }
    }
}

#[test]
fn a_filter_that_answers_leaves_a_span_without_tries() {
    let toml = "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n\
                [[route]]\nfilters = [{ respond = { status = 204 } }]\n";
    let proxy = holding(ALL, |tables| Proxy::start(&format!("{toml}{tables}")));
    assert_eq!(proxy.get("/").status(), 204);
    assert_eq!(names(&request(&proxy)), ["GET route-1"]);
}
