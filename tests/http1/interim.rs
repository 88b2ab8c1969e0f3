//! Responses that come before the one that counts (1xx), and final ones that come early.

use std::sync::mpsc::channel;
use std::thread;

use crate::support::*;

const EXPECTING: &str = "POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";

#[test]
fn the_origins_100_comes_before_the_body_is_sent() {
    let origin = Origin::run(|conn| {
        while let Some(head) = conn.head() {
            assert_eq!(head.field("expect"), Some("100-continue"));
            assert!(conn.link.unread().is_empty());
            conn.send("HTTP/1.1 100 Continue\r\n\r\n");
            let body = conn.link.take(4);
            conn.send(ok(&String::from_utf8_lossy(&body)));
        }
    });
    let proxy = Proxy::to(origin.address());
    let mut client = proxy.connect();
    for body in ["once", "more"] {
        client.send(EXPECTING);
        let interim = client.head().unwrap();
        assert_eq!(interim.status(), 100);
        client.send(body);
        assert_eq!(client.response().text(), body);
    }
}

#[test]
fn a_final_status_instead_of_100_reaches_a_client_that_waits() {
    let origin = Origin::run(|conn| {
        conn.head();
        conn.send("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 2\r\n\r\nno");
        conn.until_end();
    });
    let proxy = Proxy::to(origin.address());
    let mut client = proxy.connect();
    client.send(EXPECTING);
    let response = client.head().unwrap();
    assert_eq!(response.status(), 417);
    assert_eq!(client.take(2), b"no");
    // Whether the body still comes is not known, so neither connection may carry another request.
    assert_eq!(response.field("connection"), Some("close"), "{response:?}");
    client.finish();
    origin.wait_end(0);
}

#[test]
fn early_hints_pass_to_http_1_1_and_not_to_http_1_0() {
    let origin = Origin::run(|conn| {
        while conn.request().is_some() {
            conn.send("HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nX-N: 1\r\n\r\n");
            conn.send("HTTP/1.1 103 Early Hints\r\nLink: </b.css>; rel=preload\r\nConnection: X-Hop\r\n");
            conn.send("X-Hop: 1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n");
            conn.send(ok("page"));
        }
    });
    let proxy = Proxy::to(origin.address());
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    let first = client.head().unwrap();
    assert_eq!(
        (first.status(), first.field("link"), first.field("x-n")),
        (103, Some("</a.css>; rel=preload"), Some("1"))
    );
    let second = client.head().unwrap();
    assert_eq!(second.fields(), [("Link", "</b.css>; rel=preload")], "hop by hop fields stay behind");
    assert_eq!(client.response().text(), "page");
    let mut old = proxy.connect();
    old.send("GET / HTTP/1.0\r\n\r\n");
    assert_eq!(old.head().unwrap().status(), 200);
    assert_eq!(old.rest(), (b"page".to_vec(), Ended::Closed));
}

#[test]
fn an_endless_row_of_interim_responses_ends() {
    let origin = Origin::run(|conn| {
        conn.request();
        while conn.send("HTTP/1.1 102 Processing\r\n\r\n") {}
        conn.until_end();
    });
    let proxy = Proxy::to(origin.address());
    let response = proxy.get("/");
    crate::assert_own_error(&response, 502, &["http_protocol_error"]);
    origin.wait_end(0);
}

/// Origins that answer while most of a body is still to come: one closes at once, one reads on.
#[test]
fn an_early_response_is_delivered_while_the_client_still_uploads() {
    const BODY: usize = 8 * 1024 * 1024;
    for (status, framing, reads_on) in [
        ("413 Content Too Large", "Connection: close", false),
        ("401 Unauthorized", "X-Stays: open", true),
        ("401 Unauthorized", "X-Stays: open", false),
    ] {
        let origin = Origin::run(move |conn| {
            conn.head();
            conn.send(format!("HTTP/1.1 {status}\r\n{framing}\r\nContent-Length: 5\r\n\r\nearly"));
            if reads_on {
                conn.until_end();
            }
        });
        let proxy = Proxy::to(origin.address());
        for chunked in [false, true] {
            let mut client = proxy.connect();
            let framing =
                if chunked { "Transfer-Encoding: chunked".into() } else { format!("Content-Length: {BODY}") };
            client.send(format!("POST / HTTP/1.1\r\nHost: h\r\n{framing}\r\n\r\n"));
            let mut writer = Link::over(client.tcp().try_clone().unwrap());
            let uploading = thread::spawn(move || {
                let piece = vec![b'x'; 64 * 1024];
                for _ in 0..BODY / piece.len() {
                    let sized =
                        if chunked { [b"10000\r\n", &piece[..], b"\r\n"].concat() } else { piece.clone() };
                    if writer.try_send(sized).is_err() {
                        return;
                    }
                }
                if chunked {
                    let _ = writer.try_send("0\r\n\r\n");
                }
            });
            let response = client.response();
            assert_eq!(response.first_line(), format!("HTTP/1.1 {status}"));
            assert_eq!(response.text(), "early");
            drop(client);
            uploading.join().unwrap();
        }
    }
}

/// A client that writes all of its request before it looks for an answer, as many do.
#[test]
fn an_early_response_is_there_for_a_client_that_reads_late() {
    const BODY: usize = 6 * 1024 * 1024;
    for pool in [true, false] {
        let (tell, told) = channel();
        let origin = Origin::run(move |conn| {
            conn.head();
            conn.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 5\r\n\r\nearly");
            tell.send(()).unwrap();
        });
        let filter = if pool { "" } else { "filters = [{ max_body = \"1KiB\" }]" };
        let proxy = Plain { route: filter, ..Plain::default() }.to(&[origin.address()]);
        let mut client = proxy.connect();
        client.send(format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {BODY}\r\n\r\n"));
        for _ in 0..BODY / 65536 {
            client.try_send(vec![b'x'; 65536]).expect("the upload is not reset");
        }
        assert_eq!(client.response().status(), 413);
        assert!(!pool || told.recv_timeout(DEADLINE).is_ok());
    }
}
