//! Bodies on their way through: in pieces as they come, at the pace of whoever reads them, bit by
//! bit as they were sent.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use crate::support::*;

const MIB: usize = 1024 * 1024;

/// Bytes without a period that a buffer could have.
fn pattern(len: usize, seed: u64) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(seed);
    std::iter::repeat_with(|| rng.u8(..)).take(len).collect()
}

/// `body` in chunks of many sizes, with extensions here and there, and `trailers`.
fn chunked(body: &[u8], trailers: &str, seed: u64) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut out = Vec::with_capacity(body.len() + body.len() / 8);
    let mut rest = body;
    while !rest.is_empty() {
        let most = if rng.u8(..) < 128 { 16 } else { 100_000 };
        let (chunk, left) = rest.split_at(rng.usize(1..=most).min(rest.len()));
        let extension = if rng.u8(..) < 16 { ";name=\"va;lue\"" } else { "" };
        out.extend(format!("{:X}{extension}\r\n", chunk.len()).into_bytes());
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
        rest = left;
    }
    out.extend_from_slice(format!("0\r\n{trailers}\r\n").as_bytes());
    out
}

/// Waits for a word from the test.
fn wait(told: &Mutex<Receiver<()>>) {
    let told = told.lock().expect("nobody panicked");
    told.recv_timeout(DEADLINE).expect("the test says so in time");
}

#[test]
fn the_first_bytes_of_a_response_come_before_the_last_are_sent() {
    for (head, first, last) in [
        ("Content-Length: 9", "first", "last"),
        ("Transfer-Encoding: chunked", "5\r\nfirst\r\n", "4\r\nlast\r\n0\r\n\r\n"),
        ("X-Ends: by closing", "first", "last"),
    ] {
        let (tell, told) = channel();
        let told = Mutex::new(told);
        let origin = Origin::run(move |conn| {
            if conn.request().is_some() {
                conn.send(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{first}"));
                wait(&told);
                conn.send(last);
            }
        });
        let proxy = Proxy::to(origin.address());
        let mut client = proxy.connect();
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        client.head().unwrap();
        assert!(client.take_until(b"first").is_some(), "{head}");
        tell.send(()).unwrap();
        assert!(client.take_until(b"last").is_some(), "{head}");
    }
}

#[test]
fn the_first_bytes_of_a_request_come_before_the_last_are_sent() {
    for (head, first, last) in [
        ("Content-Length: 9", "first", "last"),
        ("Transfer-Encoding: chunked", "5\r\nfirst\r\n", "4\r\nlast\r\n0\r\n\r\n"),
    ] {
        let (tell, told) = channel();
        let origin = Origin::run(move |conn| {
            conn.link.take_until(b"first").unwrap();
            tell.send(()).unwrap();
            conn.link.take_until(b"last").unwrap();
            conn.send(ok("both"));
        });
        let proxy = Proxy::to(origin.address());
        let mut client = proxy.connect();
        client.send(format!("POST / HTTP/1.1\r\nHost: h\r\n{head}\r\n\r\n{first}"));
        told.recv_timeout(DEADLINE).unwrap();
        client.send(last);
        assert_eq!(client.response().text(), "both");
    }
}

/// What may lie between two sockets and in the buffers of two kernels' ends, with room to spare:
/// far less than is offered.
const IN_BETWEEN: usize = 40 * MIB;
const OFFERED: usize = 160 * MIB;
const QUIET: Duration = Duration::from_millis(300);

#[test]
fn a_client_that_does_not_read_holds_the_origin_back() {
    let (tell, told) = channel();
    let origin = Origin::run(move |conn| {
        conn.request();
        conn.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {OFFERED}\r\n\r\n"));
        let sent = conn.link.stuff(OFFERED, QUIET);
        tell.send(sent).unwrap();
        conn.link.stuff(OFFERED - sent, DEADLINE);
    });
    let proxy = Proxy::to(origin.address());
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    let ahead = told.recv_timeout(DEADLINE).unwrap();
    assert!(ahead < IN_BETWEEN, "{ahead} bytes were read ahead");
    client.head().unwrap();
    let mut read = 0;
    while read < OFFERED {
        let n = client.take(MIB).len();
        client.seen.clear();
        assert!(n > 0, "ended after {read}");
        read += n;
    }
    assert_eq!(read, OFFERED);
}

#[test]
fn an_origin_that_does_not_read_holds_the_client_back() {
    let (tell, told) = channel();
    let told = Mutex::new(told);
    let origin = Origin::run(move |conn| {
        conn.head();
        wait(&told);
        let mut read = 0;
        while read < OFFERED {
            let n = conn.link.take(MIB).len();
            conn.link.seen.clear();
            assert!(n > 0, "ended after {read}");
            read += n;
        }
        conn.send(ok(&read.to_string()));
    });
    let proxy = Proxy::to(origin.address());
    let mut client = proxy.connect();
    client.send(format!("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: {OFFERED}\r\n\r\n"));
    let sent = client.stuff(OFFERED, QUIET);
    assert!(sent < IN_BETWEEN, "{sent} bytes were read ahead");
    tell.send(()).unwrap();
    client.stuff(OFFERED - sent, DEADLINE);
    assert_eq!(client.response().text(), OFFERED.to_string());
}

#[test]
fn large_bodies_arrive_bit_by_bit() {
    let down = pattern(5 * MIB + 17, 1);
    let up = pattern(3 * MIB + 5, 2);
    let (tell, told) = channel();
    let answer = down.clone();
    let origin = Origin::run(move |conn| {
        while let Some(request) = conn.request() {
            let wanted = request.target() == "/chunked";
            tell.send(request).unwrap();
            let (head, body) = if wanted {
                ("Transfer-Encoding: chunked".to_owned(), chunked(&answer, "", 3))
            } else {
                (format!("Content-Length: {}", answer.len()), answer.clone())
            };
            conn.send(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n"));
            conn.send(body);
        }
    });
    let proxy = Proxy::to(origin.address());
    let mut client = proxy.connect();
    for target in ["/length", "/chunked"] {
        for (head, body) in [
            (format!("Content-Length: {}", up.len()), up.clone()),
            ("Transfer-Encoding: chunked".to_owned(), chunked(&up, "", 4)),
        ] {
            client.send(format!("POST {target} HTTP/1.1\r\nHost: h\r\n{head}\r\n\r\n"));
            client.send(body);
            let response = client.response();
            let request = told.recv_timeout(DEADLINE).unwrap();
            assert!(
                request.body == up,
                "{target}, {head}: the request differs, {} bytes",
                request.body.len()
            );
            assert!(response.body == down, "{target}, {head}: the response differs, {}", response.body.len());
            client.seen.clear();
        }
    }
}

#[test]
fn trailers_pass_both_ways_behind_large_bodies() {
    let body = pattern(MIB + 1, 5);
    let (tell, told) = channel();
    let answer = body.clone();
    let origin = Origin::run(move |conn| {
        tell.send(conn.request().unwrap()).unwrap();
        conn.send("HTTP/1.1 200 OK\r\nTrailer: X-Sum, X-Two\r\nTransfer-Encoding: chunked\r\n\r\n");
        conn.send(chunked(&answer, "X-Sum: 1\r\nx-two: 2\r\n", 6));
        conn.until_end();
    });
    let proxy = Proxy::to(origin.address());
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nHost: h\r\nTE: trailers\r\nConnection: TE\r\n");
    client.send("Trailer: X-Up\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.send(chunked(&body, "X-Up: up and away\r\n", 7));
    let response = client.response();
    let request = told.recv_timeout(DEADLINE).unwrap();
    assert!(request.body == body && response.body == body);
    assert_eq!(request.trailers, "X-Up: up and away\r\n");
    assert_eq!(request.field("te"), Some("trailers"));
    assert_eq!(request.field("trailer"), Some("X-Up"));
    assert_eq!(response.trailers, "X-Sum: 1\r\nx-two: 2\r\n");
    assert_eq!(response.field("trailer"), Some("X-Sum, X-Two"));
}

#[test]
fn trailers_cannot_change_what_was_said_in_the_head() {
    let origin = echoes();
    let proxy = Proxy::to(origin.address());
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n");
    client.send("Content-Length: 9\r\nTransfer-Encoding: gzip\r\nHost: evil\r\nX-Good: yes\r\n\r\n");
    assert_eq!(client.response().text(), "hi");
    assert_eq!(origin.next_request().trailers, "X-Good: yes\r\n");
}

#[test]
fn bodies_of_a_byte_at_a_time_arrive() {
    let origin = echoes();
    let proxy = Proxy::to(origin.address());
    let mut client = proxy.connect();
    let request = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n\
                   5;a=b\r\nhello\r\n1\r\n!\r\n0\r\nX-T: 1\r\n\r\n";
    for byte in request.as_bytes() {
        client.send([*byte]);
        thread::yield_now();
    }
    assert_eq!(client.response().text(), "hello!");
}
