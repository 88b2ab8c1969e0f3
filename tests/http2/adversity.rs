//! HTTP/2 clients and endpoints that break rules, leave at any moment, or send what means nothing.

use std::future::poll_fn;
use std::time::Duration;

use bytes::Bytes;
use h2::{Reason, SendStream};
use http::Request;

use crate::client::{Client, get, pattern, post, send_all, status, whole, within};
use crate::frames::{self, Frames};
use crate::origin::{Asked, Origin as Http2Origin};
use crate::support::*;

/// Numbers that look random and are the same in every run.
struct Draws(u64);

impl Draws {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_stays_gets_their_own_bytes_whatever_others_do() {
    let h1 = echoes();
    let h2 = Http2Origin::run(|asked: Asked| asked.echo()).await;
    let proxy = Proxy::start(&format!(
        "workers = 2\n[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n\
         [[route]]\npath = \"/h2\"\npool = \"h2\"\n[[route]]\npool = \"h1\"\n\
         [pool.h1]\nendpoints = [\"{}\"]\n[pool.h2]\nendpoints = [\"{}\"]\nprotocol = \"http2\"\n",
        h1.address(),
        h2.address,
    ));
    let mut clients = Vec::new();
    // Fifteen requests each: a connection on which more than twenty are taken back before they were
    // looked at is closed, as it should be, and that is not what is asked here.
    for _ in 0..40 {
        clients.push(Client::to(proxy.address("web")).await);
    }
    let mut draws = Draws(7);
    let acts = (0..600).map(|number| {
        let client = &clients[number % clients.len()];
        let path = if draws.next(2) == 0 { "/h1" } else { "/h2" };
        act(client, path, number, [draws.next(4), draws.next(60_000), draws.next(3_000)])
    });
    let acts: Vec<_> = acts.collect();
    futures_util::future::join_all(acts).await;
    drop(clients);
    eventually("nothing under way", || {
        let metrics = proxy.metrics();
        metrics.sum("forebay_connections_active", &[]) == 0.0
            && metrics.sum("forebay_endpoint_requests_in_flight", &[]) == 0.0
    });
    assert_eq!(proxy.metrics().sum("forebay_requests_total", &[]), 600.0);
}

/// One request: three in four leave at some moment.
async fn act(client: &Client, path: &str, number: usize, [how, len, micros]: [u64; 3]) {
    let body = Bytes::from(format!("{number};").repeat(1 + len as usize / 5));
    let (response, mut stream) = client.start(post(path), false).await.unwrap();
    let leave_after = Duration::from_micros(micros);
    match how {
        0 => {
            let (answer, sent) = tokio::join!(whole(response), send_all(&mut stream, body.clone(), true));
            sent.unwrap();
            let answer = answer.unwrap();
            assert!(answer.status == 200 && answer.body == body, "{number}: {} bytes", answer.body.len());
        }
        1 => {
            let _ = tokio::time::timeout(leave_after, send_all(&mut stream, body, true)).await;
            stream.send_reset(Reason::CANCEL);
        }
        2 => {
            let _ = send_all(&mut stream, body, true).await;
            let _ = tokio::time::timeout(leave_after, whole(response)).await;
        }
        _ => {
            let _ = send_all(&mut stream, body.slice(..body.len() / 2), false).await;
            let _ = tokio::time::timeout(leave_after, response).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_breaks_its_promise_is_no_whole_request() {
    let origin = never_answers();
    let proxy = Proxy::to(origin.address());
    for (number, sent) in [&b"five!"[..], b"more than ten bytes"].into_iter().enumerate() {
        let client = Client::to(proxy.address("web")).await;
        let request = Request::post("http://test/").header("content-length", "10").body(()).unwrap();
        let (response, mut stream) = client.start(request, false).await.unwrap();
        // Not by the client's library, which would not have it.
        origin.wait_connection(number);
        stream.send_data(Bytes::copy_from_slice(sent), true).unwrap();
        let error = within(response).await.unwrap_err();
        assert!(error.is_reset() || error.is_go_away(), "{error:?}");
        origin.wait_end(number);
    }
    assert!(origin.requests().is_empty(), "{:?}", origin.requests());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_breaks_its_promise_ends_in_a_reset() {
    let origin = Http2Origin::run(|mut asked: Asked| async move {
        let mut response = status(200);
        response.headers_mut().insert("content-length", 10.into());
        let mut stream: SendStream<Bytes> = asked.respond.send_response(response, false).unwrap();
        let body = if asked.request.uri().path() == "/less" { "five!" } else { "more than ten bytes" };
        let _ = stream.send_data(Bytes::from(body), true);
    })
    .await;
    let proxy = Plain { pool: "protocol = \"http2\"", ..Plain::default() }.to(&[origin.address]);
    let client = Client::to(proxy.address("web")).await;
    for path in ["/less", "/more"] {
        match client.ask(get(path), b"").await {
            Ok(answer) => assert_eq!(answer.status, 502, "{path}"),
            Err(error) => assert!(error.is_reset(), "{path}: {error:?}"),
        }
        let mut plain = proxy.connect();
        plain.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"));
        let head = plain.head().unwrap();
        let (body, _) = plain.rest();
        assert!(head.status() == 502 || body.len() < 10, "{path} {head:?} {body:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_may_wait_for_100_continue() {
    let http1 = Origin::run(|conn| {
        while let Some(head) = conn.head() {
            assert!(head.lists("expect", "100-continue"), "{}", head.head);
            conn.send("HTTP/1.1 100 Continue\r\n\r\n");
            let body = conn.link.take(4);
            conn.send(ok(&String::from_utf8_lossy(&body)));
        }
    });
    let http2 = Http2Origin::run(|mut asked: Asked| async move {
        asked.respond.send_informational(status(100)).unwrap();
        asked.echo().await;
    })
    .await;
    for (address, pool) in [(http1.address(), ""), (http2.address, "protocol = \"http2\"")] {
        let proxy = Plain { pool, ..Plain::default() }.to(&[address]);
        let client = Client::to(proxy.address("web")).await;
        let request = Request::post("http://test/").header("expect", "100-continue");
        let request = request.header("content-length", "4").body(()).unwrap();
        let (mut response, mut stream) = client.start(request, false).await.unwrap();
        let interim = within(poll_fn(|cx| response.poll_informational(cx))).await.unwrap().unwrap();
        assert_eq!(interim.status(), 100);
        send_all(&mut stream, Bytes::from_static(b"four"), true).await.unwrap();
        assert_eq!(whole(response).await.unwrap().body, "four");
    }
}

#[test]
fn frames_that_mean_nothing_end_a_connection_and_nothing_else() {
    let origin = answers("hello");
    let proxy = Proxy::to(origin.address());
    let mut bystander = proxy.connect();
    for seed in 0..150 {
        let mut draws = Draws(seed);
        let mut frames = Frames::to(proxy.address("web"));
        for _ in 0..=draws.next(20) {
            let (kind, flags) = (draws.next(12) as u8, draws.next(256) as u8);
            let stream = draws.next(8) as u32;
            let payload = pattern(draws.next(64) as usize);
            frames.send(kind, flags, stream, &payload[payload.len() / 3..]);
        }
        drop(frames);
        if seed % 10 == 0 {
            bystander.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
            assert_eq!(bystander.response().text(), "hello", "after seed {seed}");
        }
    }
    drop(bystander);
    eventually("no connection", || proxy.metrics().sum("forebay_connections_active", &[]) == 0.0);
}

#[test]
fn floods_wedge_nothing() {
    let origin = answers("hello");
    let proxy = Proxy::to(origin.address());
    const PING: u8 = 6;
    const DATA: u8 = 0;
    const CONTINUATION: u8 = 9;
    let open_request = [0, 1, b'x', 1, b'y'];
    for flood in [PING, frames::SETTINGS, CONTINUATION, DATA] {
        let mut frames = Frames::to(proxy.address("web"));
        match flood {
            // A head that never ends.
            CONTINUATION => frames.send(frames::HEADERS, 0, 1, &open_request),
            _ => frames.request(1, &frames::GET),
        }
        for _ in 0..20_000 {
            match flood {
                PING => frames.send(PING, 0, 0, &[0; 8]),
                CONTINUATION => frames.send(CONTINUATION, 0, 1, &open_request),
                DATA => frames.send(DATA, 0, 1, &[]),
                kind => frames.send(kind, 0, 0, &[]),
            }
        }
        assert_eq!(proxy.get("/").text(), "hello");
    }
    eventually("no connection", || proxy.metrics().sum("forebay_connections_active", &[]) == 0.0);
}

#[test]
fn a_preface_may_come_byte_by_byte_and_must_come_whole() {
    let origin = answers("hello");
    let listener = "[listener.timeouts]\nheader = \"300ms\"";
    let proxy = Plain { listener, ..Plain::default() }.to(&[origin.address()]);
    let mut slow = Link::to(proxy.address("web"));
    for byte in b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" {
        slow.send([*byte]);
    }
    let settings = slow.take(9);
    assert_eq!(settings[3], frames::SETTINGS);
    let mut half = Link::to(proxy.address("web"));
    half.send("PRI * HTTP/2.0\r\n\r\nSM");
    let (answer, _) = half.rest();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 505"), "{answer}");
    let mut other = Link::to(proxy.address("web"));
    other.send("PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n");
    let (answer, _) = other.rest();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(answer.starts_with("HTTP/1.1 505"), "{answer}");
    assert!(origin.requests().is_empty());
}
