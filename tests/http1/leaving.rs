//! Clients that leave before they have their answer: what was asked of an origin for them is taken
//! back.

use std::sync::mpsc::channel;

use crate::support::*;

#[test]
fn a_client_that_leaves_while_it_waits_takes_its_request_back() {
    for reset in [false, true] {
        let origin = never_answers();
        let proxy = Proxy::to(origin.address());
        let mut client = proxy.connect();
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        origin.next_request();
        if reset {
            client.reset()
        } else {
            drop(client)
        }
        origin.wait_end(0);
        eventually("the request is over", || {
            proxy.metrics().sum("forebay_endpoint_requests_in_flight", &[]) == 0.0
        });
    }
}

#[test]
fn a_client_that_leaves_within_a_response_stops_the_origin() {
    for head in ["Content-Length: 1000000000000", "X-Length: unknown"] {
        let (tell, told) = channel();
        let origin = Origin::run(move |conn| {
            conn.request();
            conn.send(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n"));
            while conn.send([b'x'; 65536]) {}
            tell.send(()).unwrap();
        });
        let proxy = Proxy::to(origin.address());
        let mut client = proxy.connect();
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        client.take(100_000);
        drop(client);
        told.recv_timeout(DEADLINE).expect("the origin can write no more");
    }
}

#[test]
fn a_client_that_leaves_within_a_quiet_response_stops_the_origin() {
    let origin = stalls_after_head();
    let proxy = Proxy::to(origin.address());
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    client.head().unwrap();
    drop(client);
    origin.wait_end(0);
}

#[test]
fn a_client_that_leaves_within_its_body_leaves_no_whole_request() {
    for framing in ["Content-Length: 10\r\n\r\n01234", "Transfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n"] {
        for reset in [false, true] {
            let origin = never_answers();
            let proxy = Proxy::to(origin.address());
            let mut client = proxy.connect();
            client.send(format!("POST / HTTP/1.1\r\nHost: h\r\n{framing}"));
            origin.wait_connection(0);
            if reset {
                client.reset()
            } else {
                drop(client)
            }
            origin.wait_end(0);
            assert!(origin.requests().is_empty(), "{:?}", origin.requests());
        }
    }
}
