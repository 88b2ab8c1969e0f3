//! HTTP/2 clients, in front of HTTP/1 endpoints.

use std::future::poll_fn;
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use h2::client::Builder;
use http::{HeaderMap, Method, Request};

use crate::client::{Client, drained, get, pattern, post, send_all, whole, within};
use crate::frames::{self, Frames};
use crate::support::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_go_both_ways() {
    let origin = echoes();
    let proxy = Proxy::to(origin.address());
    let client = Client::to(proxy.address("web")).await;
    let answer = client.ask(post("/a?b=c"), b"some text").await.unwrap();
    assert_eq!((answer.status, &answer.body[..]), (200, &b"some text"[..]));
    assert_eq!(answer.headers["x-target"], "/a?b=c");
    let seen = origin.next_request();
    assert_eq!((seen.method(), seen.field("host")), ("POST", Some("test")));
    assert!(seen.lists("transfer-encoding", "chunked"), "{}", seen.head);
    assert!(seen.field("via").is_some_and(|via| via.starts_with("2")), "{}", seen.head);

    let stated = Request::post("http://test/").header("content-length", "4").body(()).unwrap();
    assert_eq!(&client.ask(stated, b"four").await.unwrap().body[..], b"four");
    let seen = origin.next_request();
    assert_eq!((seen.field("content-length"), seen.field("transfer-encoding")), (Some("4"), None));

    assert_eq!(client.get("/").await.status, 200);
    let seen = origin.next_request();
    assert_eq!((seen.field("content-length"), seen.field("transfer-encoding")), (None, None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trailers_go_both_ways() {
    let origin = Origin::run(|conn| {
        while conn.request().is_some() {
            conn.send(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n\
                 3\r\nabc\r\n0\r\nX-Sum: 6\r\n\r\n",
            );
        }
    });
    let proxy = Proxy::to(origin.address());
    let client = Client::to(proxy.address("web")).await;
    let request = Request::post("http://test/").header("te", "trailers").body(()).unwrap();
    let (response, mut stream) = client.start(request, false).await.unwrap();
    send_all(&mut stream, Bytes::from_static(b"body"), false).await.unwrap();
    let mut trailers = HeaderMap::new();
    trailers.insert("x-end", "yes".parse().unwrap());
    stream.send_trailers(trailers).unwrap();
    let answer = whole(response).await.unwrap();
    assert_eq!((answer.status, &answer.body[..]), (200, &b"abc"[..]));
    assert_eq!(answer.trailers.unwrap()["x-sum"], "6");
    let seen = origin.next_request();
    assert_eq!((seen.text().as_str(), seen.field("te")), ("body", Some("trailers")));
    assert_eq!(seen.trailers.to_ascii_lowercase(), "x-end: yes\r\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_bodies_are_exact() {
    let origin = echoes();
    let proxy = Proxy::to(origin.address());
    let client = Client::to(proxy.address("web")).await;
    let body = pattern(5_000_001);
    for _ in 0..2 {
        let answer = client.ask(post("/"), &body).await.unwrap();
        assert!(answer.body == body, "{} bytes of {}", answer.body.len(), body.len());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_chunk_comes_last_whatever_the_size() {
    let origin = echoes();
    let proxy = Proxy::to(origin.address());
    let client = Client::to(proxy.address("web")).await;
    for len in (15_900..16_400).step_by(50).chain([16_383, 16_384, 16_385, 32_768, 65_535, 65_536]) {
        let body = pattern(len);
        // In one frame that also ends the stream, where it fits.
        let answer = client.ask(post("/"), &body).await.unwrap();
        assert!(answer.status == 200 && answer.body == body, "{len}: {}", answer.status);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_read_holds_the_endpoint_back() {
    let (tell, told) = std::sync::mpsc::channel();
    let origin = Origin::run(move |conn| {
        if conn.request().is_some() {
            conn.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n");
            tell.send(conn.link.stuff(200_000_000, Duration::from_millis(500))).unwrap();
            conn.until_end();
        }
    });
    let proxy = Proxy::to(origin.address());
    let client = Client::to(proxy.address("web")).await;
    let (response, _) = client.start(get("/"), true).await.unwrap();
    let response = within(response).await.unwrap();
    let written = told.recv_timeout(DEADLINE).unwrap();
    assert!(written < 20_000_000, "{written} bytes were read for a client that takes none");
    drop(response);
    origin.wait_end(0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_does_not_read_holds_the_client_back() {
    let origin = Origin::run(|conn| {
        conn.head();
        std::thread::park_timeout(DEADLINE);
    });
    let proxy = Proxy::to(origin.address());
    let client = Client::to(proxy.address("web")).await;
    let (_response, mut stream) = client.start(post("/"), false).await.unwrap();
    let mut sent = 0;
    let pieces = async {
        while sent < 200_000_000 {
            send_all(&mut stream, Bytes::from(vec![0; 65_536]), false).await.unwrap();
            sent += 65_536;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(2), pieces).await.is_err());
    assert!(sent < 20_000_000, "{sent} bytes were taken for an endpoint that takes none");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_streams_share_a_connection() {
    let origin = echoes();
    let proxy = Proxy::to(origin.address());
    let client = Client::to(proxy.address("web")).await;
    let asks = (0..200).map(|i| {
        let client = &client;
        async move {
            let answer = client.ask(post(&format!("/{i}")), format!("body {i}").as_bytes()).await.unwrap();
            assert_eq!(answer.headers["x-target"], format!("/{i}"));
            assert_eq!(answer.body, format!("body {i}"));
        }
    });
    futures_util::future::join_all(asks).await;
    assert_eq!(proxy.metrics().sum("forebay_connections_accepted_total", &[]), 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_by_the_client_cancels_the_request() {
    let origin = never_answers();
    let proxy = Proxy::to(origin.address());
    let client = Client::to(proxy.address("web")).await;
    let (response, mut stream) = client.start(get("/"), true).await.unwrap();
    origin.next_request();
    stream.send_reset(Reason::CANCEL);
    drop((response, stream));
    origin.wait_end(0);
    eventually("nothing in flight", || {
        proxy.metrics().sum("forebay_endpoint_requests_in_flight", &[]) == 0.0
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_while_the_response_is_under_way_cancels_it() {
    let origin = Origin::run(|conn| {
        if conn.request().is_some() {
            conn.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
            conn.until_end();
        }
    });
    let proxy = Proxy::to(origin.address());
    let client = Client::to(proxy.address("web")).await;
    let (response, _) = client.start(get("/"), true).await.unwrap();
    let mut body = within(response).await.unwrap().into_body();
    assert_eq!(&within(body.data()).await.unwrap().unwrap()[..], b"abc");
    drop(body);
    origin.wait_end(0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_while_we_connect_is_not_waited_for() {
    let full = never_accepts();
    let pools = ["", "protocol = \"http2\"\n"].map(|protocol| {
        let pool = format!("{protocol}[pool.app.timeouts]\nconnect = \"60s\"");
        Plain { pool: &pool, ..Plain::default() }.to(&[full.address()])
    });
    for proxy in pools {
        let in_flight = || proxy.metrics().sum("forebay_endpoint_requests_in_flight", &[]);
        let client = Client::to(proxy.address("web")).await;
        let mut plain = proxy.connect();
        plain.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        let (response, stream) = client.start(get("/"), true).await.unwrap();
        eventually("two in flight", || in_flight() == 2.0);
        drop((response, stream, plain));
        eventually("none in flight", || in_flight() == 0.0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_response_that_ends_early_ends_in_a_reset() {
    let chunked = Origin::run(|conn| {
        if conn.request().is_some() {
            conn.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
        }
    });
    for origin in [resets_midway(), truncates_body(), chunked] {
        let proxy = Proxy::to(origin.address());
        let client = Client::to(proxy.address("web")).await;
        let (response, _) = client.start(get("/"), true).await.unwrap();
        match within(response).await {
            Ok(response) => {
                let error = drained(&mut response.into_body()).await.unwrap_err();
                assert!(error.is_reset(), "{error:?}");
            }
            Err(error) => assert!(error.is_reset(), "{error:?}"),
        }
        assert!(client.start(get("/"), true).await.is_ok(), "the connection outlives its streams");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cookies_are_joined_for_http1() {
    let origin = answers("hello");
    let proxy = Proxy::to(origin.address());
    let client = Client::to(proxy.address("web")).await;
    let request = Request::get("http://test/")
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .header("cookie", "c=3; d=4")
        .body(())
        .unwrap();
    client.ask(request, b"").await.unwrap();
    assert_eq!(origin.next_request().values("cookie"), ["a=1; b=2; c=3; d=4"]);
}

#[test]
fn fields_of_a_connection_are_refused() {
    let origin = answers("hello");
    let proxy = Proxy::to(origin.address());
    let mut frames = Frames::to(proxy.address("web"));
    let protocol_error = Err(1);
    for (stream, field) in (1..).step_by(2).zip([
        ("connection", "close"),
        ("transfer-encoding", "chunked"),
        ("te", "gzip"),
        ("upgrade", "websocket"),
        ("keep-alive", "5"),
        ("proxy-connection", "x"),
    ]) {
        let fields: Vec<_> = frames::GET.into_iter().chain([field]).collect();
        frames.request(stream, &fields);
        assert_eq!(frames.outcome(), protocol_error, "{field:?}");
    }
    frames.request(101, &frames::GET);
    assert_eq!(frames.outcome(), Ok(200));
    assert_eq!(origin.requests().len(), 1);
}

#[test]
fn a_request_needs_one_authority() {
    let origin = answers("hello");
    let proxy = Proxy::to(origin.address());
    let mut frames = Frames::to(proxy.address("web"));
    let without = [(":method", "GET"), (":scheme", "http"), (":path", "/")];
    frames.request(1, &without);
    assert_eq!(frames.outcome(), Ok(400));
    let by_host: Vec<_> = without.into_iter().chain([("host", "by-host")]).collect();
    frames.request(3, &by_host);
    assert_eq!(frames.outcome(), Ok(200));
    assert_eq!(origin.next_request().field("host"), Some("by-host"));
    let twice: Vec<_> = by_host.iter().copied().chain([("host", "another")]).collect();
    frames.request(5, &twice);
    assert_eq!(frames.outcome(), Ok(400));
    let both: Vec<_> = frames::GET.into_iter().chain([("host", "another")]).collect();
    frames.request(7, &both);
    assert_eq!(frames.outcome(), Ok(400), "an authority and a host that differ");
    assert_eq!(origin.requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connect_is_refused() {
    let origin = answers("hello");
    let proxy = Proxy::to(origin.address());
    let client = Client::to(proxy.address("web")).await;
    let request = Request::builder().method(Method::CONNECT).uri("test:443").body(()).unwrap();
    assert_eq!(client.ask(request, b"").await.unwrap().status, 501);
    assert!(origin.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn responses_without_a_body_end_with_their_head() {
    for (raw, method, status, length) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", Method::HEAD, 200, Some("5")),
        ("HTTP/1.1 204 No Content\r\n\r\n", Method::GET, 204, None),
        (
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nETag: \"a\"\r\n\r\n",
            Method::GET,
            304,
            Some("5"),
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Method::GET, 200, Some("0")),
    ] {
        let origin = answers_raw(raw);
        let proxy = Proxy::to(origin.address());
        let client = Client::to(proxy.address("web")).await;
        for _ in 0..2 {
            let request = Request::builder().method(method.clone()).uri("http://test/").body(()).unwrap();
            let (response, _) = client.start(request, true).await.unwrap();
            let response = within(response).await.unwrap();
            assert_eq!(response.status(), status);
            let stated = response.headers().get("content-length").map(|v| v.to_str().unwrap());
            assert_eq!(stated, length, "{raw}");
            assert!(response.body().is_end_stream(), "{raw}");
        }
        assert_eq!(origin.connections(), 1, "{raw}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_past_the_limit_gets_413_and_leaves_the_connection_usable() {
    let origin = echoes();
    let route = "filters = [{ max_body = \"1KiB\" }]";
    let proxy = Plain { route, ..Plain::default() }.to(&[origin.address()]);
    let client = Client::to(proxy.address("web")).await;
    let body = Bytes::from(vec![b'x'; 200_000]);
    for stated in [true, false].repeat(8) {
        let mut request = post("/");
        if stated {
            request.headers_mut().insert("content-length", body.len().into());
        }
        let (response, mut stream) = client.start(request, false).await.unwrap();
        let sending = send_all(&mut stream, body.clone(), true);
        let (answer, _) = tokio::join!(whole(response), within(sending));
        assert_eq!(answer.unwrap().status, 413);
    }
    assert_eq!(client.ask(post("/"), b"small").await.unwrap().body, "small");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_may_come_before_the_request_is_over() {
    let origin = Origin::run(|conn| {
        if conn.head().is_some() {
            conn.send(ok("enough"));
            conn.until_end();
        }
    });
    let proxy = Proxy::to(origin.address());
    let client = Client::to(proxy.address("web")).await;
    let (response, mut stream) = client.start(post("/"), false).await.unwrap();
    // The whole answer, and with it the end of the stream, may come before this is sent.
    let _ = send_all(&mut stream, Bytes::from_static(b"a beginning"), false).await;
    let answer = whole(response).await.unwrap();
    assert_eq!((answer.status, &answer.body[..]), (200, &b"enough"[..]));
    let reason = within(poll_fn(|cx| stream.poll_reset(cx))).await.unwrap();
    assert_eq!(reason, Reason::NO_ERROR);
    assert!(client.start(post("/"), true).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn interim_responses_are_passed_on() {
    let origin = answers_raw(&format!(
        "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n{}",
        ok("done")
    ));
    let proxy = Proxy::to(origin.address());
    let client = Client::to(proxy.address("web")).await;
    let (mut response, _) = client.start(get("/"), true).await.unwrap();
    let interim = within(poll_fn(|cx| response.poll_informational(cx))).await.unwrap().unwrap();
    assert_eq!(
        (interim.status().as_u16(), &interim.headers()["link"]),
        (103, &"</a.css>; rel=preload".parse().unwrap())
    );
    let answer = whole(response).await.unwrap();
    assert_eq!((answer.status, &answer.body[..]), (200, &b"done"[..]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_large_heads_are_refused() {
    let origin = answers("hello");
    let proxy = Plain { listener: "max_head = \"4KiB\"\nmax_fields = 20", ..Plain::default() }
        .to(&[origin.address()]);
    let client = Client::to(proxy.address("web")).await;
    // A client that has seen the proxy's settings would not send it.
    client.get("/").await;
    let large = Request::get("http://test/").header("x-large", "x".repeat(8_000)).body(()).unwrap();
    let refused = match client.ask(large, b"").await {
        Ok(answer) => answer.status == 431,
        Err(error) => error.is_reset(),
    };
    assert!(refused);
    let mut many = get("/");
    for i in 0..30 {
        many.headers_mut().insert(http::HeaderName::try_from(format!("x-{i}")).unwrap(), 1.into());
    }
    assert_eq!(client.ask(many, b"").await.unwrap().status, 431);
    assert_eq!(client.get("/").await.status, 200);
    assert_eq!(origin.requests().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_connection_is_ended_and_a_busy_one_is_not() {
    let origin = Origin::run(|conn| {
        while conn.request().is_some() {
            std::thread::sleep(Duration::from_millis(600));
            conn.send(ok("late"));
        }
    });
    let listener = "[listener.timeouts]\nkeep_alive = \"200ms\"";
    let proxy = Plain { listener, ..Plain::default() }.to(&[origin.address()]);
    let client = Client::to(proxy.address("web")).await;
    assert_eq!(client.get("/").await.body, "late");
    assert_eq!(client.ended().await, Ok(()));
    let mut frames = Frames::to(proxy.address("web"));
    let goaway = frames.next_of(&[frames::GOAWAY]).unwrap();
    assert_eq!(goaway.payload[4..8], [0; 4], "no error");
    eventually("two timeouts", || {
        proxy.metrics().sum("forebay_client_timeouts_total", &[("timeout", "keep_alive")]) == 2.0
    });
}

#[test]
fn a_client_that_does_not_say_goodbye_is_dropped() {
    let origin = answers("hello");
    let listener = "[listener.timeouts]\nkeep_alive = \"200ms\"";
    let proxy = Plain { listener, ..Plain::default() }.to(&[origin.address()]);
    let mut frames = Frames::to(proxy.address("web"));
    frames.request(1, &frames::GET);
    assert_eq!(frames.outcome(), Ok(200));
    // Whatever comes is not acknowledged.
    while frames.next().is_some() {}
    let mut draining = Frames::to(proxy.address("web"));
    draining.request(1, &frames::GET);
    assert_eq!(draining.outcome(), Ok(200));
    proxy.drain_and_wait();
    while draining.next().is_some() {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_whose_requests_were_reset_is_idle_too() {
    let origin = never_answers();
    let listener = "[listener.timeouts]\nkeep_alive = \"200ms\"";
    let proxy = Plain { listener, ..Plain::default() }.to(&[origin.address()]);
    let client = Client::to(proxy.address("web")).await;
    let (response, stream) = client.start(get("/"), true).await.unwrap();
    origin.next_request();
    drop((response, stream));
    assert_eq!(client.ended().await, Ok(()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_says_goaway_and_lets_requests_finish() {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let origin = Origin::run(move |conn| {
        if conn.request().is_some() {
            wait.lock().unwrap().recv_timeout(DEADLINE).unwrap();
            conn.send(ok("finished"));
            conn.until_end();
        }
    });
    let proxy = Proxy::to(origin.address());
    let client = Client::to(proxy.address("web")).await;
    let idle = Client::to(proxy.address("web")).await;
    let (response, _) = client.start(get("/"), true).await.unwrap();
    origin.next_request();
    proxy.server().drain();
    assert_eq!(idle.ended().await, Ok(()));
    go.send(()).unwrap();
    assert_eq!(whole(response).await.unwrap().body, "finished");
    assert_eq!(client.ended().await, Ok(()));
    within(tokio::task::spawn_blocking(|| proxy.drain_and_wait())).await.unwrap();
}

#[test]
fn rapid_resets_wedge_nothing() {
    let origin = never_answers();
    let healthy = answers("hello");
    let proxy = Proxy::start(&format!(
        "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n\
         [[route]]\npath = \"/ok\"\npool = \"good\"\n[[route]]\npool = \"bad\"\n\
         [pool.good]\nendpoints = [\"{}\"]\n[pool.bad]\nendpoints = [\"{}\"]\n",
        healthy.address(),
        origin.address()
    ));
    let mut frames = Frames::to(proxy.address("web"));
    for stream in (1..20_000).step_by(2) {
        frames.request(stream, &frames::GET);
        frames.send(frames::RST_STREAM, 0, stream, &8_u32.to_be_bytes());
    }
    assert_eq!(proxy.get("/ok").text(), "hello");
    drop(frames);
    eventually("nothing in flight", || {
        let metrics = proxy.metrics();
        metrics.sum("forebay_endpoint_requests_in_flight", &[]) == 0.0
            && metrics.sum("forebay_connections_active", &[]) == 0.0
    });
    assert!(origin.connections() < 5_000, "{} connections for nobody", origin.connections());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_stalls_is_given_up() {
    let origin = answers(&"x".repeat(2_000_000));
    let listener = "[listener.timeouts]\nidle = \"300ms\"";
    let proxy = Plain { listener, ..Plain::default() }.to(&[origin.address()]);
    let client = Client::with(proxy.address("web"), Builder::new().initial_window_size(1_000)).await;
    let (response, _) = client.start(get("/"), true).await.unwrap();
    let mut body = within(response).await.unwrap().into_body();
    let error = loop {
        match within(body.data()).await {
            Some(Ok(_)) => {}
            Some(Err(error)) => break error,
            None => panic!("a clean end of a response that was cut"),
        }
    };
    assert!(error.is_reset(), "{error:?}");
    assert_eq!(proxy.metrics().sum("forebay_client_timeouts_total", &[("timeout", "idle")]), 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_stalls_is_given_up() {
    let origin = never_answers();
    let listener = "[listener.timeouts]\nidle = \"300ms\"";
    let proxy = Plain { listener, ..Plain::default() }.to(&[origin.address()]);
    let client = Client::to(proxy.address("web")).await;
    let (response, mut stream) = client.start(post("/"), false).await.unwrap();
    send_all(&mut stream, Bytes::from_static(b"a beginning"), false).await.unwrap();
    assert_eq!(whole(response).await.unwrap().status, 408);
}
