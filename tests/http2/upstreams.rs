//! HTTP/2 endpoints, behind clients of both versions.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use h2::server::Builder;
use http::{HeaderMap, Method, Request, Version};
use tokio::sync::mpsc;

use crate::client::{Client, drained, get, pattern, post, send_all, status, whole, within};
use crate::origin::{Asked, Origin};
use crate::support::{Plain, Proxy, eventually};

/// The proxy in front of an HTTP/2 endpoint, with more lines of its pool.
fn before(origin: &Origin, pool: &str) -> Proxy {
    let pool = format!("protocol = \"http2\"\n{pool}");
    Plain { pool: &pool, ..Plain::default() }.to(&[origin.address])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http1_clients_reach_http2_endpoints() {
    let (tell, mut told) = mpsc::unbounded_channel();
    let origin = Origin::run(move |mut asked: Asked| {
        let tell = tell.clone();
        async move {
            let (body, trailers) = asked.body().await;
            tell.send((asked.request.method().clone(), asked.request.uri().clone(), body, trailers)).unwrap();
            assert_eq!(asked.request.version(), Version::HTTP_2);
            let te = asked.request.headers().get("te").cloned();
            let mut stream = asked.respond.send_response(status(200), false).unwrap();
            let mut end = HeaderMap::new();
            end.insert("x-te", te.unwrap_or_else(|| "none".parse().unwrap()));
            send_all(&mut stream, Bytes::from_static(b"hello"), false).await.unwrap();
            stream.send_trailers(end).unwrap();
        }
    })
    .await;
    let proxy = before(&origin, "");
    let mut client = proxy.connect();
    client.send("GET /a?b HTTP/1.1\r\nHost: test\r\nConnection: keep-alive, x-y\r\nX-Y: 1\r\n\r\n");
    let response = client.response();
    assert_eq!((response.status(), response.text().as_str()), (200, "hello"));
    assert_eq!(response.trailers.to_ascii_lowercase(), "x-te: none\r\n");
    let (method, uri, body, trailers) = told.recv().await.unwrap();
    assert_eq!((method, uri.to_string().as_str(), body.len()), (Method::GET, "http://test/a?b", 0));
    assert!(trailers.is_none());

    client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\nTE: trailers\r\n\r\nfour");
    assert_eq!(client.response().trailers.to_ascii_lowercase(), "x-te: trailers\r\n");
    assert_eq!(told.recv().await.unwrap().2, "four");

    client.send(
        "POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 6\r\n\r\n",
    );
    assert_eq!(client.response().status(), 200);
    let (_, _, body, trailers) = told.recv().await.unwrap();
    assert_eq!((body, &trailers.unwrap()["x-sum"]), (Bytes::from("abc"), &"6".parse().unwrap()));
    assert_eq!(origin.connections(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_is_not_asked_of_an_http2_endpoint() {
    let origin = Origin::run(|asked: Asked| async move {
        let names: Vec<_> = asked.request.headers().keys().map(|name| name.to_string()).collect();
        asked.answer(names.join(" ")).await;
    })
    .await;
    let proxy = before(&origin, "");
    let mut client = proxy.connect();
    for asked in ["h2c", "websocket"] {
        client.send(format!(
            "GET / HTTP/1.1\r\nHost: test\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: {asked}\r\n\
             HTTP2-Settings: AAMAAABk\r\n\r\n"
        ));
        let response = client.response();
        assert_eq!(response.status(), 200, "{}", response.text());
        assert!(!response.text().contains("upgrade"), "{}", response.text());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http2_all_the_way_is_exact() {
    let origin = Origin::run(|asked: Asked| async move {
        let mut asked = asked;
        let mut stream = asked.respond.send_response(status(200), false).unwrap();
        let body = asked.request.body_mut();
        while let Some(Ok(data)) = body.data().await {
            body.flow_control().release_capacity(data.len()).unwrap();
            send_all(&mut stream, data, false).await.unwrap();
        }
        let trailers = body.trailers().await.unwrap();
        stream.send_trailers(trailers.unwrap_or_default()).unwrap();
    })
    .await;
    let proxy = before(&origin, "");
    let client = Client::to(proxy.address("web")).await;
    let body = pattern(5_000_001);
    let (response, mut stream) = client.start(post("/"), false).await.unwrap();
    let sending = async {
        send_all(&mut stream, Bytes::from(body.clone()), false).await.unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "1".parse().unwrap());
        stream.send_trailers(trailers).unwrap();
    };
    let (answer, ()) = tokio::join!(whole(response), within(sending));
    let answer = answer.unwrap();
    assert!(answer.body == body);
    assert_eq!(answer.trailers.unwrap()["x-sum"], "1");
    let metrics = proxy.metrics();
    for counter in [
        "forebay_received_bytes_total",
        "forebay_sent_bytes_total",
        "forebay_endpoint_sent_bytes_total",
        "forebay_endpoint_received_bytes_total",
    ] {
        let bytes = metrics.sum(counter, &[]);
        assert!((5_000_001.0..5_200_000.0).contains(&bytes), "{counter} {bytes}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn responses_without_a_body_end_with_their_head() {
    let origin = Origin::run(|mut asked: Asked| async move {
        let mut response = status(asked.request.uri().path()[1..].parse().unwrap());
        response.headers_mut().insert("etag", "\"a\"".parse().unwrap());
        if asked.request.method() == Method::HEAD {
            response.headers_mut().insert("content-length", 5.into());
        }
        asked.respond.send_response(response, true).unwrap();
    })
    .await;
    let proxy = before(&origin, "");
    let client = Client::to(proxy.address("web")).await;
    let mut plain = proxy.connect();
    for (method, code) in [(Method::HEAD, 200), (Method::GET, 204), (Method::GET, 304), (Method::GET, 200)] {
        let request = Request::builder().method(&method).uri(format!("http://test/{code}")).body(()).unwrap();
        let answer = client.ask(request, b"").await.unwrap();
        assert_eq!((answer.status, answer.body.len()), (code, 0));
        let length = if method == Method::HEAD { Some("5") } else { None };
        let stated = answer.headers.get("content-length").map(|v| v.to_str().unwrap());
        assert!(stated == length || (code == 200 && stated == Some("0")), "{method} {code} {stated:?}");
        plain.send(format!("{method} /{code} HTTP/1.1\r\nHost: test\r\n\r\n"));
        let response = plain.response_to(method.as_str());
        assert_eq!((response.status(), response.body.len()), (code, 0));
        assert_eq!(response.field("etag"), Some("\"a\""));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_leaves_cancels_the_request_at_the_endpoint() {
    let (tell, mut told) = mpsc::unbounded_channel();
    let origin = Origin::run(move |mut asked: Asked| {
        let tell = tell.clone();
        async move {
            tell.send(None).unwrap();
            let reason = poll_fn(|cx| asked.respond.poll_reset(cx)).await.unwrap();
            tell.send(Some(reason)).unwrap();
        }
    })
    .await;
    let proxy = before(&origin, "");
    let client = Client::to(proxy.address("web")).await;
    let (response, stream) = client.start(get("/"), true).await.unwrap();
    assert_eq!(within(told.recv()).await.unwrap(), None);
    drop((response, stream));
    assert_eq!(within(told.recv()).await.unwrap(), Some(Reason::CANCEL));

    let mut plain = proxy.connect();
    plain.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(within(told.recv()).await.unwrap(), None);
    drop(plain);
    assert_eq!(within(told.recv()).await.unwrap(), Some(Reason::CANCEL));
    assert_eq!(origin.connections(), 1);
    eventually("nothing in flight", || {
        proxy.metrics().sum("forebay_endpoint_requests_in_flight", &[]) == 0.0
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_in_mid_body_is_no_clean_end() {
    let origin = Origin::run(|mut asked: Asked| async move {
        let mut response = status(200);
        if asked.request.uri().path() == "/stated" {
            response.headers_mut().insert("content-length", 10.into());
        }
        let mut stream = asked.respond.send_response(response, false).unwrap();
        send_all(&mut stream, Bytes::from_static(b"01234"), false).await.unwrap();
        // What was sent is to arrive before the reset, which would overtake it.
        tokio::time::sleep(Duration::from_millis(50)).await;
        stream.send_reset(Reason::INTERNAL_ERROR);
    })
    .await;
    let proxy = before(&origin, "");
    let client = Client::to(proxy.address("web")).await;
    for path in ["/", "/stated"] {
        let (response, _) = client.start(get(path), true).await.unwrap();
        let error = drained(&mut within(response).await.unwrap().into_body()).await.unwrap_err();
        assert!(error.is_reset(), "{error:?}");
        let mut plain = proxy.connect();
        plain.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"));
        let head = plain.head().unwrap();
        let (body, _) = plain.rest();
        let body = String::from_utf8_lossy(&body).into_owned();
        assert!(body.contains("01234"), "{head:?} {body}");
        assert!(!body.contains("\r\n0\r\n"), "a last chunk: {body}");
    }
    let failures = proxy.metrics().sum("forebay_endpoint_failures_total", &[("kind", "reset")]);
    assert_eq!(failures, 4.0);
    assert_eq!(origin.connections(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_before_the_response_is_a_502() {
    let origin = Origin::run(|mut asked: Asked| async move {
        asked.respond.send_reset(Reason::INTERNAL_ERROR);
    })
    .await;
    let proxy = before(&origin, "");
    let answer = Client::to(proxy.address("web")).await.get("/").await;
    assert_eq!(answer.status, 502);
    let why = answer.headers["proxy-status"].to_str().unwrap();
    assert!(why.contains("connection_terminated") && why.contains("pool app"), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn interim_responses_are_passed_on() {
    let origin = Origin::run(|mut asked: Asked| async move {
        let mut hints = status(103);
        hints.headers_mut().insert("link", "</a.css>".parse().unwrap());
        asked.respond.send_informational(hints).unwrap();
        asked.answer("done").await;
    })
    .await;
    let proxy = before(&origin, "");
    let client = Client::to(proxy.address("web")).await;
    let (mut response, _) = client.start(get("/"), true).await.unwrap();
    let interim = within(poll_fn(|cx| response.poll_informational(cx))).await.unwrap().unwrap();
    assert_eq!(interim.status(), 103);
    assert_eq!(whole(response).await.unwrap().body, "done");
    let mut plain = proxy.connect();
    plain.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    let head = plain.head().unwrap();
    assert_eq!((head.status(), head.field("link")), (103, Some("</a.css>")));
    assert_eq!(plain.response().text(), "done");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_may_come_before_the_request_is_over() {
    let origin = Origin::run(|asked: Asked| asked.answer("enough")).await;
    let proxy = before(&origin, "");
    let client = Client::to(proxy.address("web")).await;
    let (response, mut stream) = client.start(post("/"), false).await.unwrap();
    send_all(&mut stream, Bytes::from_static(b"a beginning"), false).await.unwrap();
    assert_eq!(whole(response).await.unwrap().body, "enough");
    let reason = within(poll_fn(|cx| stream.poll_reset(cx))).await.unwrap();
    assert_eq!(reason, Reason::NO_ERROR);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_read_holds_the_endpoint_back() {
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&sent);
    let origin = Origin::run(move |mut asked: Asked| {
        let sent = Arc::clone(&counted);
        async move {
            let mut stream = asked.respond.send_response(status(200), false).unwrap();
            while send_all(&mut stream, Bytes::from(vec![0; 16_384]), false).await.is_ok() {
                sent.fetch_add(16_384, Ordering::SeqCst);
            }
        }
    })
    .await;
    let proxy = before(&origin, "");
    let client = Client::to(proxy.address("web")).await;
    let (response, _) = client.start(get("/"), true).await.unwrap();
    let response = within(response).await.unwrap();
    let mut before = usize::MAX;
    while sent.load(Ordering::SeqCst) != before {
        before = sent.load(Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(before < 2_000_000, "{before} bytes were taken for a client that takes none");
    drop(response);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunks_of_every_size_reach_a_slow_reader_exactly() {
    let mut settings = Builder::new();
    settings.max_frame_size(1_000_000);
    let origin = Origin::with(settings, |mut asked: Asked| async move {
        let mut stream = asked.respond.send_response(status(200), false).unwrap();
        let mut body = Bytes::from(pattern(400_000));
        for size in [1, 16_380, 16_384, 100, 40_000, 3, 16_500].into_iter().cycle() {
            let piece = body.split_to(size.min(body.len()));
            send_all(&mut stream, piece, body.is_empty()).await.unwrap();
            if body.is_empty() {
                break;
            }
        }
    })
    .await;
    let proxy = before(&origin, "");
    let mut client = proxy.connect();
    socket2::SockRef::from(client.tcp()).set_recv_buffer_size(32_768).unwrap();
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    let response = client.response();
    assert!(response.lists("transfer-encoding", "chunked"), "{}", response.head);
    assert!(response.body == pattern(400_000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_stream_leaves_the_others_alone() {
    let origin = Origin::run(|asked: Asked| async move {
        if asked.request.uri().path() == "/large" {
            asked.answer(vec![0; 3_000_000]).await;
        } else {
            asked.answer("small").await;
        }
    })
    .await;
    let proxy = before(&origin, "");
    let stalled = Client::to(proxy.address("web")).await;
    let mut held = Vec::new();
    for _ in 0..8 {
        let (response, _) = stalled.start(get("/large"), true).await.unwrap();
        held.push(within(response).await.unwrap());
    }
    let other = Client::to(proxy.address("web")).await;
    assert_eq!(other.get("/").await.body, "small");
    assert_eq!(other.get("/large").await.body.len(), 3_000_000);
    assert_eq!(origin.connections(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_streams_than_the_endpoint_allows() {
    let running = Arc::new(Mutex::new(HashMap::<usize, (usize, usize)>::new()));
    let counted = Arc::clone(&running);
    let mut settings = Builder::new();
    settings.max_concurrent_streams(3);
    let origin = Origin::with(settings, move |asked: Asked| {
        let running = Arc::clone(&counted);
        async move {
            let connection = asked.connection;
            {
                let mut running = running.lock().unwrap();
                let (now, most) = running.entry(connection).or_default();
                *now += 1;
                *most = (*most).max(*now);
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
            running.lock().unwrap().get_mut(&connection).unwrap().0 -= 1;
            asked.answer("hello").await;
        }
    })
    .await;
    let proxy = before(&origin, "");
    let client = Client::to(proxy.address("web")).await;
    let answers = futures_util::future::join_all((0..40).map(|_| client.get("/"))).await;
    assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
    let most = running.lock().unwrap().values().map(|(_, most)| *most).max();
    assert_eq!(most, Some(3));
    assert!((2..=14).contains(&origin.connections()), "{}", origin.connections());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_streams_than_the_pool_allows_take_more_connections() {
    let (tell, mut told) = mpsc::unbounded_channel();
    let origin = Origin::run(move |asked: Asked| {
        let tell = tell.clone();
        async move { tell.send(asked).map_err(|_| ()).unwrap() }
    })
    .await;
    let proxy = before(&origin, "max_concurrent_streams = 2");
    let client = Client::to(proxy.address("web")).await;
    let gets = futures_util::future::join_all((0..6).map(|_| client.get("/")));
    let answering = async {
        let mut all = Vec::new();
        while all.len() < 6 {
            all.push(told.recv().await.unwrap());
        }
        let mut streams = [0; 3];
        for asked in all {
            streams[asked.connection] += 1;
            asked.answer("hello").await;
        }
        streams
    };
    let (answers, streams) = tokio::join!(gets, within(answering));
    assert!(answers.iter().all(|answer| answer.body == "hello"));
    assert_eq!(streams, [2, 2, 2]);
    let metrics = proxy.metrics();
    assert_eq!(metrics.sum("forebay_endpoint_connections_opened_total", &[]), 3.0);
    assert_eq!(metrics.sum("forebay_endpoint_connections_open", &[]), 3.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unused_connections_are_closed() {
    let (tell, mut told) = mpsc::unbounded_channel();
    let origin = Origin::scripted(Builder::new(), move |mut connection, _| {
        let tell = tell.clone();
        async move {
            while let Some(Ok((request, respond))) = connection.accept().await {
                Asked { request, respond, connection: 0 }.answer("").await;
            }
            tell.send(()).unwrap();
        }
    })
    .await;
    let proxy = before(&origin, "[pool.app.timeouts]\nkeep_alive = \"300ms\"");
    let client = Client::to(proxy.address("web")).await;
    client.get("/").await;
    client.get("/").await;
    assert_eq!(origin.connections(), 1);
    within(told.recv()).await.unwrap();
    eventually("no connection open", || proxy.metrics().sum("forebay_endpoint_connections_open", &[]) == 0.0);
    client.get("/").await;
    assert_eq!(origin.connections(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_closed_after_so_many_requests() {
    let origin = Origin::run(|asked: Asked| asked.answer("")).await;
    let proxy = before(&origin, "max_requests = 3");
    let client = Client::to(proxy.address("web")).await;
    for _ in 0..7 {
        client.get("/").await;
    }
    assert_eq!(origin.connections(), 3);
    eventually("one connection open", || {
        proxy.metrics().sum("forebay_endpoint_connections_open", &[]) == 1.0
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_without_http2_is_a_502() {
    let http1 = crate::support::Origin::run(|conn| {
        conn.link.take(24);
        conn.send("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    });
    let silent = crate::support::Origin::run(|conn| {
        conn.until_end();
    });
    for (origin, code, error) in [(http1, 502, "http_protocol_error"), (silent, 504, "connection_timeout")] {
        let pool = "protocol = \"http2\"\n[pool.app.timeouts]\nconnect = \"300ms\"";
        let proxy = Plain { pool, ..Plain::default() }.to(&[origin.address()]);
        let client = Client::to(proxy.address("web")).await;
        // Many at once wait for one connection, but not one after another for its time limit.
        let start = forebay::ambient::now();
        for answer in futures_util::future::join_all((0..20).map(|_| client.get("/"))).await {
            assert_eq!(answer.status, code);
            let why = answer.headers["proxy-status"].to_str().unwrap();
            assert!(why.contains(error), "{why}");
        }
        assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    }
}
