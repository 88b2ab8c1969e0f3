//! What two readers could understand differently: such requests reach no origin, such responses no
//! client, and the connection that carried them carries nothing more.

use crate::assert_own_error;
use crate::support::*;

/// What an attacker would have an origin read as a request of its own.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: evil\r\n\r\n";

/// Sends `request` with more behind it: whether the one answer has `status`, with all that such an
/// answer has to have, and the connection ends behind it.
fn is_refused(proxy: &Proxy, request: &str, status: u16) -> Result<(), String> {
    let mut client = proxy.connect();
    client.send(request);
    // The proxy may have closed by now.
    let _ = client.try_send(SMUGGLED);
    let response = client.response();
    let own = response.field("proxy-status").is_some_and(|s| s.contains("error=http_request_error"));
    let closing = response.field("connection") == Some("close");
    client.finish();
    if response.status() == status && own && closing && client.rest().0.is_empty() {
        return Ok(());
    }
    Err(format!("{request:?} was answered with {:?}", String::from_utf8_lossy(&client.seen)))
}

/// Fails with every case that was not refused as it should have been.
#[track_caller]
fn assert_all_refused(results: impl Iterator<Item = Result<(), String>>) {
    let faults: Vec<_> = results.filter_map(Result::err).collect();
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

/// Sends each request to the proxy; none of it may reach the origin.
#[track_caller]
fn assert_none_arrives(cases: impl IntoIterator<Item = (String, u16)>) {
    let origin = answers("hello");
    let proxy = Proxy::to(origin.address());
    assert_all_refused(cases.into_iter().map(|(request, status)| is_refused(&proxy, &request, status)));
    assert_eq!(origin.connections(), 0, "{:?}", origin.recorded());
}

#[test]
fn ambiguous_lengths_reach_no_origin() {
    let post = |fields: &str, body: &str| format!("POST / HTTP/1.1\r\nHost: h\r\n{fields}\r\n{body}");
    assert_none_arrives([
        // Several lengths, or none that is a number.
        (post("Content-Length: 5\r\nContent-Length: 6\r\n", "hello"), 400),
        (post("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"), 400),
        (post("Content-Length: 5, 5\r\n", "hello"), 400),
        (post("Content-Length: +5\r\n", "hello"), 400),
        (post("Content-Length: -5\r\n", "hello"), 400),
        (post("Content-Length: 0x5\r\n", "hello"), 400),
        (post("Content-Length: 5 5\r\n", "hello"), 400),
        (post("Content-Length: 5;a\r\n", "hello"), 400),
        (post("Content-Length: \r\n", "hello"), 400),
        (post("Content-Length: 18446744073709551616\r\n", "hello"), 400),
        // Both kinds.
        (post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), 400),
        (post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n"), 400),
        // Other codings, and chunked in disguise.
        (post("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"), 501),
        (post("Transfer-Encoding: gzip\r\n", "0\r\n\r\n"), 400),
        (post("Transfer-Encoding: identity\r\n", "0\r\n\r\n"), 400),
        (post("Transfer-Encoding: chunked, chunked\r\n", "0\r\n\r\n"), 400),
        (post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), 400),
        (post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", "0\r\n\r\n"), 400),
        (post("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"), 400),
        (post("Transfer-Encoding: \"chunked\"\r\n", "0\r\n\r\n"), 400),
        (post("Transfer-Encoding: chunked;q=1\r\n", "0\r\n\r\n"), 400),
        (post("Transfer-Encoding: \x0bchunked\r\n", "0\r\n\r\n"), 400),
        (post("Transfer-Encoding: ,chunked\r\n", "0\r\n\r\n"), 400),
        (post("Transfer-Encoding:\r\n", "0\r\n\r\n"), 400),
        ("POST / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(), 400),
    ]);
}

#[test]
fn malformed_fields_reach_no_origin() {
    let get = |fields: &str| (format!("GET / HTTP/1.1\r\n{fields}\r\n"), 400);
    assert_none_arrives([
        // Control characters, odd white space, folded lines.
        get("Host: h\r\nX: a\rb\r\n"),
        get("Host: h\rX: a\r\n"),
        get("Host: h\r\nX: a\r\r\n"),
        get("Host: h\r\nX: a\0b\r\n"),
        get("Host: h\r\nX\0: a\r\n"),
        get("Host: h\r\nX: a\x08b\r\n"),
        get("Host : h\r\n"),
        get("Host\t: h\r\n"),
        get("Host: h\r\nTransfer-Encoding : chunked\r\n"),
        get("Host: h\r\nX: a\r\n folded\r\n"),
        get("Host: h\r\nX: a\r\n\tfolded\r\n"),
        get(" Host: h\r\n"),
        get("Host: h\r\n: nameless\r\n"),
        get("Host: h\r\nno colon\r\n"),
        get("Host: h\r\nX(y): a\r\n"),
        // Host missing, repeated or none.
        get(""),
        get("Host: h\r\nHost: h\r\n"),
        get("Host: h\r\nhost: i\r\n"),
        get("Host: a b\r\n"),
        get("Host: a/b\r\n"),
        get("Host: a,b\r\n"),
        get("Host: u@h\r\n"),
        get("Host: h:port\r\n"),
        get("Host: h:80:80\r\n"),
        get("Host: h:999999\r\n"),
        get("Host: [::1\r\n"),
        get("Host: ::1\r\n"),
    ]);
}

#[test]
fn malformed_request_lines_reach_no_origin() {
    let line = |line: &str| format!("{line}\r\nHost: h\r\n\r\n");
    assert_none_arrives([
        (line("GET / HTTP/2.0"), 505),
        (line("GET / HTTP/3.1"), 505),
        (line("GET / HTTP/1.10"), 400),
        (line("GET /"), 400),
        (line("GET  / HTTP/1.1"), 400),
        (line("GET /  HTTP/1.1"), 400),
        (line("GET\t/ HTTP/1.1"), 400),
        (line("GET / HTTP/1.1 "), 400),
        (line(" GET / HTTP/1.1"), 400),
        (line("GET /a b HTTP/1.1"), 400),
        (line("GET /a\rb HTTP/1.1"), 400),
        (line("GET /a\0b HTTP/1.1"), 400),
        (line("G(T / HTTP/1.1"), 400),
        (line("GET a HTTP/1.1"), 400),
        (line("GET * HTTP/1.1"), 400),
        (line("GET ftp://h/ HTTP/1.1"), 400),
        (line("GET http:/// HTTP/1.1"), 400),
        (line("GET http://u@h/ HTTP/1.1"), 400),
        (line("GET /../x HTTP/1.1"), 400),
        (line("GET /a/%2e%2e/../../x HTTP/1.1"), 400),
        (line("GET /a#b HTTP/1.1"), 400),
        (line("CONNECT h:443 HTTP/1.1"), 501),
        (line("CONNECT / HTTP/1.1"), 501),
    ]);
}

#[test]
fn ambiguous_bodies_make_no_whole_request() {
    let long = "x".repeat(20_000);
    let cases = [
        // Sizes.
        "ffffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        "10000000000000005\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "\r\nhello\r\n0\r\n\r\n",
        "g\r\nhello\r\n0\r\n\r\n",
        "5_0\r\nhello\r\n0\r\n\r\n",
        "5 5\r\nhello\r\n0\r\n\r\n",
        "5\t5\r\nhello\r\n0\r\n\r\n",
        // Extensions.
        "5;a\rb\r\nhello\r\n0\r\n\r\n",
        "5;a\0b\r\nhello\r\n0\r\n\r\n",
        "5;a\nhello\r\n0\r\n\r\n",
        "5;a\r\rhello\r\n0\r\n\r\n",
        &format!("5;{long}\r\nhello\r\n0\r\n\r\n"),
        // Line ends.
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhelloXX0\r\n\r\n",
        "5\r\nhello\r\r0\r\n\r\n",
        "5\r\nhello\r\n0\n\n",
        // Trailers.
        "5\r\nhello\r\n0\r\nX: a\r\n folded\r\n\r\n",
        "5\r\nhello\r\n0\r\nX : a\r\n\r\n",
        "5\r\nhello\r\n0\r\nX: a\rb\r\n\r\n",
        "5\r\nhello\r\n0\r\nX: a\0b\r\n\r\n",
        "5\r\nhello\r\n0\r\nno colon\r\n\r\n",
        &format!("5\r\nhello\r\n0\r\nX: {long}\r\n\r\n"),
    ];
    assert_all_refused(cases.into_iter().map(|body| {
        let origin = answers("hello");
        let proxy = Proxy::to(origin.address());
        let head = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
        is_refused(&proxy, &format!("{head}{body}"), 400)?;
        if origin.connections() > 0 {
            origin.wait_end(0);
        }
        assert!(origin.requests().is_empty(), "{body:?}: {:?}", origin.requests());
        let raw = origin.recorded().into_iter().map(|recorded| recorded.raw).collect::<Vec<_>>().concat();
        assert!(!String::from_utf8_lossy(&raw).contains("smuggled"), "{body:?}");
        Ok(())
    }));
}

#[test]
fn requests_are_rewritten_into_one_unambiguous_form() {
    let origin = answers("hello");
    let listener = "x_forwarded = \"off\"\nrequest_id = false\nvia = false";
    let proxy = Plain { listener, ..Plain::default() }.to(&[origin.address()]);
    for (request, sent) in [
        (
            "GET http://target.example:8/a?b HTTP/1.1\r\nHost: other\r\n\r\n",
            "GET /a?b HTTP/1.1\r\nHost: target.example:8\r\n\r\n",
        ),
        (
            "GET http://target.example HTTP/1.1\r\nHost: other\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: target.example\r\n\r\n",
        ),
        ("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n"),
        ("OPTIONS http://h HTTP/1.1\r\nHost: h\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n"),
        ("GET / HTTP/1.1\nHost: h\nX: a\n\n", "GET / HTTP/1.1\r\nHost: h\r\nX: a\r\n\r\n"),
        ("GET / HTTP/1.1\r\nHost:h\r\nX:   a \t \r\n\r\n", "GET / HTTP/1.1\r\nHost: h\r\nX: a\r\n\r\n"),
        ("GET /a/../b/./c?../x HTTP/1.1\r\nHost: h\r\n\r\n", "GET /b/c?../x HTTP/1.1\r\nHost: h\r\n\r\n"),
        ("GET /a/%2e%2E/b HTTP/1.1\r\nHost: h\r\n\r\n", "GET /b HTTP/1.1\r\nHost: h\r\n\r\n"),
    ] {
        let mut client = proxy.connect();
        client.send(request);
        assert_eq!(client.response().status(), 200, "{request:?}");
        assert_eq!(origin.next_request().head, sent, "{request:?}");
    }
    let mut old = proxy.connect();
    old.send("GET / HTTP/1.0\r\n\r\n");
    assert_eq!(old.response().status(), 200);
    assert_eq!(origin.next_request().head, "GET / HTTP/1.1\r\nHost: \r\n\r\n");
}

#[test]
fn ambiguous_responses_reach_no_client() {
    for response in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nContent-Length: 3, 3\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nContent-Length: three\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length : 3\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nX: a\r\n folded\r\nContent-Length: 3\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 3\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 3\r\n\r\nabc",
        "HTTP/1.1 20 OK\r\nContent-Length: 3\r\n\r\nabc",
        "HTTP/1.1 2000 OK\r\nContent-Length: 3\r\n\r\nabc",
        "HTTP/1.1 600 Odd\r\nContent-Length: 3\r\n\r\nabc",
        "HTTP/1.1 099 Odd\r\nContent-Length: 3\r\n\r\nabc",
        "HTTP/2 200 OK\r\nContent-Length: 3\r\n\r\nabc",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nabc",
        "<html>hello</html>",
    ] {
        let origin = answers_raw(response);
        let proxy = Proxy::to(origin.address());
        let mut client = proxy.connect();
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        let own = client.response();
        let next_hop = format!("next-hop=\"{}\"", origin.address());
        assert_own_error(&own, 502, &["http_protocol_error", "pool app", &next_hop]);
        origin.wait_end(0);
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(client.response().status(), 502);
        assert_eq!(origin.connections(), 2, "{response:?}: the connection was used again");
    }
}

#[test]
fn a_response_body_that_breaks_off_never_looks_whole() {
    for (head, body) in [
        ("Content-Length: 10", "01234"),
        ("Transfer-Encoding: chunked", "5\r\n01234\r\n"),
        ("Transfer-Encoding: chunked", "5\r\n01234\r\nnot a size\r\n"),
        ("Transfer-Encoding: chunked", "5\r\n01234XX0\r\n\r\n"),
        ("Transfer-Encoding: chunked", "5\r\n01234\r\n0\r\nX : a\r\n\r\n"),
    ] {
        let response = format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{body}");
        let origin = Origin::run(move |conn| {
            conn.request();
            conn.send(&response);
        });
        let proxy = Proxy::to(origin.address());
        let mut client = proxy.connect();
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        let got = client.head().unwrap();
        let (rest, _) = client.rest();
        assert_eq!(got.status(), 200);
        assert!(
            rest.len() < 20 && !rest.ends_with(b"0\r\n\r\n"),
            "{body:?}: {:?}",
            String::from_utf8_lossy(&rest)
        );
    }
}

/// Only the end of the connection tells an HTTP/1.0 client where a body ends, so an orderly one
/// would make half a body look whole.
#[test]
fn a_response_to_http_1_0_that_breaks_off_ends_in_a_reset() {
    let origin = Origin::run(|conn| {
        conn.request();
        conn.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n");
    });
    let proxy = Proxy::to(origin.address());
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.0\r\n\r\n");
    assert_eq!(client.head().unwrap().status(), 200);
    assert_eq!(client.rest().1, Ended::Reset);
}

#[test]
fn a_response_that_nobody_asked_for_reaches_nobody() {
    const EVIL: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    let origin = Origin::run(|conn| {
        while let Some(request) = conn.request() {
            let extra = if request.target() == "/poison" { EVIL } else { "" };
            conn.send(format!("{}{extra}", ok("good")));
        }
    });
    let proxy = Proxy::to(origin.address());
    let mut client = proxy.connect();
    for target in ["/poison", "/", "/poison", "/poison", "/", "/"] {
        client.send(format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n"));
        assert_eq!(client.response().text(), "good");
    }
}

#[test]
fn a_response_sent_into_an_idle_connection_reaches_nobody() {
    let (ask, asked) = std::sync::mpsc::channel();
    let (tell, told) = std::sync::mpsc::channel();
    let asked = std::sync::Mutex::new(asked);
    let origin = Origin::run(move |conn| {
        while conn.request().is_some() {
            conn.send(ok("good"));
            asked.lock().unwrap().recv_timeout(DEADLINE).unwrap();
            conn.send(ok("evil"));
            tell.send(()).unwrap();
        }
    });
    let proxy = Proxy::to(origin.address());
    let mut client = proxy.connect();
    for _ in 0..20 {
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(client.response().text(), "good");
        ask.send(()).unwrap();
        told.recv_timeout(DEADLINE).unwrap();
    }
    assert_eq!(origin.connections(), 20);
}

/// The memory of a request serves the next one, of whatever client.
#[test]
fn a_refusal_knows_nothing_of_the_request_before() {
    let origin = answers_raw("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n");
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    let listener = format!(
        "[listener.timeouts]\nheader = \"100ms\"\n[listener.access_log]\nformat = \"json\"\npath = {log:?}"
    );
    let proxy = Plain { listener: &listener, ..Plain::default() }.to(&[origin.address()]);
    for (broken, status) in [("nonsense\r\n\r\n", 400), ("GET /half-of-a-request", 408)] {
        let mut first = proxy.connect();
        first.send("HEAD /secret?token HTTP/1.1\r\nHost: secret\r\nUser-Agent: secret\r\n\r\n");
        assert_eq!(first.response_to("HEAD").status(), 200);
        let mut second = proxy.connect();
        second.send(broken);
        assert_own_error(&second.response(), status, &[]);
    }
    proxy.drain_and_wait();
    let log = std::fs::read_to_string(log).unwrap();
    assert_eq!(log.lines().count(), 4, "{log}");
    for line in log.lines().filter(|line| !line.contains("\"status\":200")) {
        assert!(!line.contains("secret") && !line.contains("HEAD"), "{line}");
    }
}
