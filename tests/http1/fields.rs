//! Fields as they pass: what is between us and one side only stays there, what we add is added as
//! configured, and everything else arrives as it was sent.

use crate::support::*;

const HOP: &str = "Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: gzip\r\n\
                   Proxy-Authorization: Basic x\r\nConnection: X-Named, keep-alive\r\nX-Named: 1\r\n\
                   Connection: x-also\r\nX-Also: 1\r\nUpgrade: h2c\r\n";

/// A listener that adds nothing.
const SILENT: &str = "x_forwarded = \"off\"\nrequest_id = false\nvia = false";

fn lines(head: &str) -> Vec<&str> {
    head.lines().skip(1).filter(|line| !line.is_empty()).collect()
}

#[test]
fn hop_by_hop_fields_stay_on_their_hop() {
    let origin = answers_raw(&format!(
        "HTTP/1.1 200 OK\r\nX-A: 1\r\n{HOP}Proxy-Authenticate: Basic\r\nX-B: 2\r\nContent-Length: 2\r\n\r\nok"
    ));
    let proxy = Plain { listener: SILENT, ..Plain::default() }.to(&[origin.address()]);
    let mut client = proxy.connect();
    client.send(format!("GET / HTTP/1.1\r\nX-A: 1\r\nHost: h\r\n{HOP}X-B: 2\r\n\r\n"));
    let response = client.response();
    assert_eq!(lines(&response.head), ["X-A: 1", "X-B: 2", "Content-Length: 2"]);
    let request = origin.next_request();
    assert_eq!(lines(&request.head), ["Host: h", "X-A: 1", "X-B: 2"]);
}

#[test]
fn order_and_casing_of_fields_arrive_as_sent() {
    let fields = "X-Zulu: 1\r\nx-ALPHA: a  b\r\nCookie: a=1\r\naccept: */*\r\nX-Zulu: 2\r\nAuthorization: Basic eDp5\r\n\
                  X-Latin: caf\u{e9}\r\nX-Empty: \r\n";
    let answer = "Server: Origin/1.0\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nSet-Cookie: a=1; Path=/\r\nETag: W/\"x\"\r\n\
                  set-cookie: b=2\r\nSet-Cookie: c=3\r\nX-Latin: caf\u{e9}\r\nContent-Length: 2\r\n";
    let origin = answers_raw(&format!("HTTP/1.1 299 Odd Reason\r\n{answer}\r\nok"));
    let proxy = Plain { listener: SILENT, ..Plain::default() }.to(&[origin.address()]);
    let mut client = proxy.connect();
    client.send(format!("GET /a//b?c=%20&d HTTP/1.1\r\nHost: Shop.Example:8080\r\n{fields}\r\n"));
    let response = client.response();
    assert_eq!(response.head, format!("HTTP/1.1 299 Odd Reason\r\n{answer}\r\n"));
    let head = format!("GET /a//b?c=%20&d HTTP/1.1\r\nHost: Shop.Example:8080\r\n{fields}\r\n");
    assert_eq!(origin.next_request().head, head);
}

#[test]
fn a_response_without_date_and_server_gets_none() {
    let origin = answers("hello");
    let response = Proxy::to(origin.address()).get("/");
    assert_eq!((response.field("date"), response.field("server")), (None, None));
}

#[test]
fn who_asked_is_told_to_the_origin() {
    let origin = answers("hello");
    let proxy = Plain { listener: "forwarded = \"append\"", ..Plain::default() }.to(&[origin.address()]);
    let mut client = proxy.connect();
    client.send(
        "GET / HTTP/1.1\r\nHost: shop.example:81\r\nX-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\n",
    );
    client.send("X-Forwarded-Host: evil\r\nForwarded: for=6.6.6.6\r\nVia: 1.0 before\r\n\r\n");
    let response = client.response();
    let request = origin.next_request();
    assert_eq!(request.values("x-forwarded-for"), ["127.0.0.1"], "strangers are not believed");
    assert_eq!(request.values("x-forwarded-proto"), ["http"]);
    assert_eq!(request.values("x-forwarded-host"), ["shop.example:81"]);
    assert_eq!(request.values("forwarded"), ["for=127.0.0.1;proto=http;host=\"shop.example:81\""]);
    assert_eq!(request.values("host"), ["shop.example:81"]);
    assert_eq!(request.values("via"), ["1.0 before, 1.1 forebay"]);
    assert_eq!(request.field("x-request-id").map(str::len), Some(32));
    assert_eq!(response.values("via"), ["1.1 forebay"]);
    client.send("GET / HTTP/1.0\r\nHost: h\r\nX-Request-Id: mine-1\r\n\r\n");
    client.response();
    let second = origin.next_request();
    assert_eq!(second.values("via"), ["1.0 forebay"]);
    assert_ne!(second.field("x-request-id"), request.field("x-request-id"));
}

#[test]
fn trusted_proxies_are_believed() {
    let origin = answers("hello");
    let listener = "forwarded = \"append\"\ntrusted_proxies = [\"127.0.0.0/8\"]";
    let proxy = Plain { listener, ..Plain::default() }.to(&[origin.address()]);
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\n");
    client.send("X-Forwarded-Host: first.example\r\nForwarded: for=6.6.6.6\r\nX-Request-Id: mine-1\r\n\r\n");
    client.response();
    let request = origin.next_request();
    assert_eq!(request.values("x-forwarded-for").join(", "), "6.6.6.6, 127.0.0.1");
    assert_eq!(request.values("x-forwarded-proto"), ["https"]);
    assert_eq!(request.values("x-forwarded-host"), ["first.example"]);
    assert!(request.values("forwarded").join(", ").starts_with("for=6.6.6.6, for=127.0.0.1;"));
    assert_eq!(request.values("x-request-id"), ["mine-1"]);
}

#[test]
fn forwarding_fields_can_be_replaced() {
    let origin = answers("hello");
    let listener = "x_forwarded = \"replace\"\nforwarded = \"replace\"\ntrusted_proxies = [\"127.0.0.0/8\"]";
    let proxy = Plain { listener, ..Plain::default() }.to(&[origin.address()]);
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\n\r\n");
    client.response();
    let request = origin.next_request();
    assert_eq!(request.values("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(request.values("forwarded"), ["for=127.0.0.1;proto=http;host=\"h\""]);
}

#[test]
fn host_is_kept_or_rewritten() {
    let origin = answers("hello");
    let route = "filters = [{ rewrite_host = \"app.internal:81\" }]";
    let proxy = Plain { route, ..Plain::default() }.to(&[origin.address()]);
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n");
    client.response();
    let request = origin.next_request();
    assert_eq!(request.values("host"), ["app.internal:81"]);
    assert_eq!(request.values("x-forwarded-host"), ["shop.example"]);
}

#[test]
fn connection_cannot_name_away_what_identifies_the_client() {
    let origin = answers("hello");
    let proxy = Proxy::to(origin.address());
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nHost: h\r\n");
    client.send(
        "Connection: X-Forwarded-For, X-Forwarded-Proto, X-Forwarded-Host, Via, X-Request-Id, Host\r\n\r\n",
    );
    client.response();
    let request = origin.next_request();
    assert_eq!(request.values("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(request.values("x-forwarded-host"), ["h"]);
    assert_eq!(request.values("host"), ["h"]);
    assert!(request.field("x-request-id").is_some() && request.field("via").is_some());
}

#[test]
fn a_request_without_body_gets_no_length_and_an_empty_post_one() {
    let origin = answers("hello");
    let proxy = Plain { listener: SILENT, ..Plain::default() }.to(&[origin.address()]);
    let mut client = proxy.connect();
    for (request, sent) in [
        ("GET / HTTP/1.1\r\nHost: h\r\n\r\n", &["Host: h"][..]),
        ("GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n", &["Host: h", "Content-Length: 0"]),
        ("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n", &["Host: h", "Content-Length: 0"]),
        ("POST / HTTP/1.1\r\nHost: h\r\n\r\n", &["Host: h", "Content-Length: 0"]),
    ] {
        client.send(request);
        client.response();
        assert_eq!(lines(&origin.next_request().head), sent, "{request:?}");
    }
}
