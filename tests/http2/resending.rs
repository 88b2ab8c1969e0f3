//! Requests that an HTTP/2 endpoint has not processed, or that met a dead connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use h2::server::Builder;
use http::HeaderMap;
use tokio::sync::mpsc;

use crate::client::{Client, get, post, send_all, whole, within};
use crate::origin::{Asked, Origin};
use crate::support::{Plain, Proxy};

fn before(origin: &Origin) -> Proxy {
    Plain { pool: "protocol = \"http2\"", ..Plain::default() }.to(&[origin.address])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_stream_is_sent_again_with_its_body() {
    let asked_so_far = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked_so_far);
    let origin = Origin::run(move |mut asked: Asked| {
        let number = counted.fetch_add(1, Ordering::SeqCst);
        async move {
            if number % 2 == 1 {
                asked.respond.send_reset(Reason::REFUSED_STREAM);
            } else {
                asked.echo().await;
            }
        }
    })
    .await;
    let proxy = before(&origin);
    let client = Client::to(proxy.address("web")).await;
    client.get("/").await;
    for body in [&b""[..], b"a body", &[b'x'; 40_000]] {
        let answer = client.ask(post("/"), body).await.unwrap();
        assert_eq!((answer.status, &answer.body[..]), (200, body));
    }
    let metrics = proxy.metrics();
    assert_eq!(metrics.sum("forebay_endpoint_resends_total", &[]), 3.0);
    assert_eq!(metrics.sum("forebay_endpoint_failures_total", &[]), 0.0);
    assert_eq!(metrics.sum("forebay_requests_total", &[("class", "2xx")]), 4.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_stream_is_sent_again_with_its_trailers() {
    let asked_so_far = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked_so_far);
    let origin = Origin::run(move |mut asked: Asked| {
        let number = counted.fetch_add(1, Ordering::SeqCst);
        async move {
            if number == 0 {
                // The whole request is there before it is refused.
                asked.body().await;
                asked.respond.send_reset(Reason::REFUSED_STREAM);
            } else {
                asked.echo().await;
            }
        }
    })
    .await;
    let proxy = before(&origin);
    let client = Client::to(proxy.address("web")).await;
    let (response, mut stream) = client.start(post("/"), false).await.unwrap();
    send_all(&mut stream, Bytes::from_static(b"body"), false).await.unwrap();
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "1".parse().unwrap());
    stream.send_trailers(trailers).unwrap();
    let answer = whole(response).await.unwrap();
    assert_eq!((answer.status, &answer.body[..]), (200, &b"body"[..]));
    assert_eq!(answer.trailers.unwrap()["x-sum"], "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_always_refuses_is_a_502() {
    let origin = Origin::run(|mut asked: Asked| async move {
        asked.respond.send_reset(Reason::REFUSED_STREAM);
    })
    .await;
    let proxy = before(&origin);
    let answer = Client::to(proxy.address("web")).await.get("/").await;
    assert_eq!(answer.status, 502);
    // Sent again at once on another connection, then tried again twice.
    assert_eq!(origin.connections(), 4);
    let refused = proxy.metrics().sum("forebay_endpoint_failures_total", &[("kind", "refused")]);
    assert_eq!(refused, 3.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_graceful_goaway_goes_unnoticed() {
    // Every other connection takes one request and leaves, as an endpoint that is replaced does.
    let origin = Origin::scripted(Builder::new(), |mut connection, number| async move {
        let mut answering = tokio::task::JoinSet::new();
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            if number % 2 == 0 && !answering.is_empty() {
                respond.send_reset(Reason::REFUSED_STREAM);
                continue;
            }
            answering.spawn(Asked { request, respond, connection: number }.echo());
            if number % 2 == 0 {
                connection.graceful_shutdown();
            }
        }
    })
    .await;
    let proxy = before(&origin);
    let client = Client::to(proxy.address("web")).await;
    let asks = (0..20).map(|i| {
        let client = &client;
        async move {
            let body = format!("at once {i}");
            let answer = client.ask(post("/"), body.as_bytes()).await.unwrap();
            (answer.status, answer.body == body)
        }
    });
    let answers = futures_util::future::join_all(asks).await;
    assert!(answers.iter().all(|answer| *answer == (200, true)), "{answers:?}");
    assert_eq!(origin.connections(), 2);
    assert_eq!(proxy.metrics().sum("forebay_requests_total", &[("class", "2xx")]), 20.0);

    let alone = before(&origin);
    let client = Client::to(alone.address("web")).await;
    for round in 0..6 {
        let body = format!("round {round}");
        let answer = client.ask(post("/"), body.as_bytes()).await.unwrap();
        assert_eq!((answer.status, &answer.body[..]), (200, body.as_bytes()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_connection_is_replaced() {
    let (kill, killed) = tokio::sync::watch::channel(0);
    let (tell, mut told) = mpsc::unbounded_channel();
    let origin = Origin::scripted(Builder::new(), move |mut connection, number| {
        let (mut killed, tell) = (killed.clone(), tell.clone());
        async move {
            loop {
                tokio::select! {
                    accepted = connection.accept() => {
                        let Some(Ok((request, respond))) = accepted else { return };
                        Asked { request, respond, connection: number }.answer("hello").await;
                    }
                    () = async { drop(killed.wait_for(|upto| *upto > number).await) } => break,
                }
            }
            drop(connection);
            tell.send(number).unwrap();
        }
    })
    .await;
    let proxy = before(&origin);
    let client = Client::to(proxy.address("web")).await;
    for round in 0..5 {
        assert_eq!(client.get("/").await.body, "hello");
        kill.send_replace(round + 1);
        assert_eq!(within(told.recv()).await, Some(round));
        // At once, whether or not the proxy has noticed.
        assert_eq!(client.get("/").await.body, "hello", "round {round}");
        assert_eq!(origin.connections(), round + 2);
    }
    assert_eq!(proxy.metrics().sum("forebay_endpoint_failures_total", &[]), 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_connection_is_given_up() {
    // As when the machine is gone and nobody is left to say so.
    let origin = Origin::scripted(Builder::new(), |mut connection, number| async move {
        while let Some(Ok((request, respond))) = connection.accept().await {
            Asked { request, respond, connection: number }.answer("hello").await;
            if number == 0 {
                let flushed = tokio::time::timeout(Duration::from_millis(100), connection.accept());
                drop(flushed.await);
                std::future::pending::<()>().await;
            }
        }
    })
    .await;
    let pool = "protocol = \"http2\"\n[pool.app.timeouts]\nidle = \"300ms\"";
    let proxy = Plain { pool, ..Plain::default() }.to(&[origin.address]);
    let client = Client::to(proxy.address("web")).await;
    assert_eq!(client.get("/").await.status, 200);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(client.get("/").await.status, 504);
    assert_eq!(client.get("/").await.status, 200);
    assert_eq!(origin.connections(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_post_that_may_have_been_processed_is_not_sent_again() {
    let seen = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&seen);
    let origin = Origin::scripted(Builder::new(), move |mut connection, number| {
        let seen = Arc::clone(&counted);
        async move {
            while let Some(Ok((request, respond))) = connection.accept().await {
                if request.method() == http::Method::POST {
                    seen.fetch_add(1, Ordering::SeqCst);
                    return;
                }
                Asked { request, respond, connection: number }.answer("hello").await;
            }
        }
    })
    .await;
    let proxy = before(&origin);
    let client = Client::to(proxy.address("web")).await;
    for body in [&b""[..], b"a body"] {
        assert_eq!(client.ask(get("/"), b"").await.unwrap().status, 200);
        assert_eq!(client.ask(post("/"), body).await.unwrap().status, 502);
    }
    assert_eq!(seen.load(Ordering::SeqCst), 2);
}
