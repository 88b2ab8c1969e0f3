//! Connections from request to request: kept, pipelined or closed as version, fields and lengths
//! say, with a message's end always where the next begins.

use crate::support::*;

#[test]
fn what_has_no_body_is_followed_by_the_next_response() {
    let origin = Origin::run(|conn| {
        while let Some(request) = conn.request() {
            let response = match (request.method(), request.target()) {
                ("HEAD", "/chunked") => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(),
                ("HEAD", "/none") => "HTTP/1.1 200 OK\r\nX-A: b\r\n\r\n".to_owned(),
                ("HEAD", _) => "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n".to_owned(),
                (_, "/204") => "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
                (_, "/205") => "HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n".to_owned(),
                (_, "/204-length") => "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n".to_owned(),
                (_, "/304") => {
                    "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 99\r\n\r\n".to_owned()
                }
                _ => ok("next"),
            };
            conn.send(response);
        }
    });
    let proxy = Proxy::to(origin.address());
    let mut client = proxy.connect();
    for (method, target, status, length) in [
        ("HEAD", "/", 200, Some("1234")),
        ("HEAD", "/chunked", 200, None),
        ("HEAD", "/none", 200, None),
        ("GET", "/204", 204, None),
        ("GET", "/204-length", 204, None),
        ("GET", "/205", 205, Some("0")),
        ("GET", "/304", 304, Some("99")),
    ] {
        client.send(format!("{method} {target} HTTP/1.1\r\nHost: h\r\n\r\n"));
        client.send("GET /next HTTP/1.1\r\nHost: h\r\n\r\n");
        let response = client.response_to(method);
        assert_eq!((response.status(), response.field("content-length")), (status, length), "{target}");
        assert_eq!(client.response().text(), "next", "{target}");
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn http_1_0_keeps_the_connection_when_it_asks_to() {
    let origin = answers("hello");
    let proxy = Proxy::to(origin.address());
    let mut client = proxy.connect();
    for _ in 0..3 {
        client.send("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n");
        let response = client.response();
        assert_eq!((response.text().as_str(), response.field("connection")), ("hello", Some("keep-alive")));
    }
    client.send("GET / HTTP/1.0\r\n\r\n");
    let response = client.response();
    assert_eq!((response.text().as_str(), response.field("connection")), ("hello", Some("close")));
    assert_eq!(client.expect_end(), Ended::Closed);
    assert_eq!(origin.requests()[0].first_line(), "GET / HTTP/1.1");
}

#[test]
fn a_response_without_length_is_chunked_to_1_1_and_ends_by_closing_to_1_0() {
    for framing in [
        "X-Ends: by closing\r\n\r\nsome bytes",
        "Transfer-Encoding: chunked\r\n\r\n4\r\nsome\r\n6\r\n bytes\r\n0\r\n\r\n",
    ] {
        let origin = Origin::run(move |conn| {
            conn.request();
            conn.send(format!("HTTP/1.1 200 OK\r\n{framing}"));
        });
        let proxy = Proxy::to(origin.address());
        let mut client = proxy.connect();
        for _ in 0..2 {
            client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
            let response = client.response();
            assert_eq!(response.text(), "some bytes");
            assert_eq!(response.values("transfer-encoding"), ["chunked"]);
        }
        let mut old = proxy.connect();
        old.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        let head = old.head().unwrap();
        assert_eq!((head.field("transfer-encoding"), head.field("connection")), (None, Some("close")));
        assert_eq!(old.rest(), (b"some bytes".to_vec(), Ended::Closed));
    }
}

#[test]
fn an_http_1_0_origin_is_understood() {
    let origin = Origin::run(|conn| {
        while let Some(request) = conn.request() {
            let kept = request.target() == "/kept";
            let connection = if kept { "Connection: keep-alive\r\n" } else { "" };
            conn.send(format!("HTTP/1.0 200 Fine\r\n{connection}Content-Length: 2\r\n\r\nok"));
            if !kept {
                return;
            }
        }
    });
    let proxy = Proxy::to(origin.address());
    let mut client = proxy.connect();
    for (target, connections) in [("/kept", 1), ("/kept", 1), ("/closed", 1), ("/closed", 2), ("/closed", 3)]
    {
        client.send(format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n"));
        let response = client.response();
        assert_eq!((response.first_line(), response.text().as_str()), ("HTTP/1.1 200 Fine", "ok"));
        assert_eq!(origin.connections(), connections, "{target}");
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let origin = echoes();
    let proxy = Proxy::to(origin.address());
    let mut client = proxy.connect();
    let mut all = String::new();
    for n in 0..100 {
        match n % 3 {
            0 => all.push_str(&format!("GET /{n} HTTP/1.1\r\nHost: h\r\n\r\n")),
            1 => all.push_str(&format!("POST /{n} HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nabcd")),
            _ => all.push_str(&format!(
                "POST /{n} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n\r\n"
            )),
        }
    }
    client.send(all);
    for n in 0..100 {
        let response = client.response();
        assert_eq!(response.field("x-target"), Some(format!("/{n}").as_str()));
        assert_eq!(response.text(), if n % 3 == 0 { "" } else { "abcd" });
    }
}

/// Far more than the proxy reads ahead while a request is under way.
#[test]
fn a_flood_of_pipelined_requests_is_answered_too() {
    const REQUESTS: usize = 3000;
    let origin = answers("ok");
    let proxy = Proxy::to(origin.address());
    let mut client = proxy.connect();
    let mut writer = Link::over(client.tcp().try_clone().unwrap());
    let writing = std::thread::spawn(move || {
        let padding = "x".repeat(100);
        let one = format!("GET / HTTP/1.1\r\nHost: h\r\nX-Padding: {padding}\r\n\r\n");
        writer.send(one.repeat(REQUESTS));
    });
    for _ in 0..REQUESTS {
        assert_eq!(client.response().text(), "ok");
    }
    writing.join().unwrap();
}

#[test]
fn connection_close_is_honoured() {
    let origin = answers("hello");
    let proxy = Proxy::to(origin.address());
    let mut client = proxy.connect();
    client.send(
        "GET / HTTP/1.1\r\nHost: h\r\nConnection: foo, Close\r\n\r\nGET /next HTTP/1.1\r\nHost: h\r\n\r\n",
    );
    let response = client.response();
    assert_eq!((response.text().as_str(), response.field("connection")), ("hello", Some("close")));
    assert_eq!(client.expect_end(), Ended::Closed);
    assert_eq!(origin.requests().len(), 1);
    assert_eq!(proxy.get("/").text(), "hello");
    assert_eq!(origin.connections(), 1, "the client's wish is not the origin's business");
}

#[test]
fn an_origins_connection_close_is_its_own() {
    let origin = answers_raw("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
    let proxy = Proxy::to(origin.address());
    let mut client = proxy.connect();
    for n in 1..4 {
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        let response = client.response();
        assert_eq!((response.text().as_str(), response.field("connection")), ("ok", None));
        assert_eq!(origin.connections(), n);
    }
}

#[test]
fn an_origin_that_closes_after_every_answer_costs_no_get() {
    let origin = closes_after_every_answer("hello");
    let proxy = Proxy::to(origin.address());
    let mut client = proxy.connect();
    for _ in 0..50 {
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(client.response().text(), "hello");
    }
}

#[test]
fn empty_lines_before_a_request_are_skipped() {
    let origin = answers("hello");
    let proxy = Proxy::to(origin.address());
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nab");
    assert_eq!(client.response().text(), "hello");
    client.send("\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(client.response().text(), "hello");
}
