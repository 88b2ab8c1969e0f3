//! The same over HTTP/2, where streams are refused and cancelled one by one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use h2::Reason;
use http::{HeaderMap, Response};

use crate::client::{Client, get, post};
use crate::origin::{Asked, Origin};
use crate::support::{Plain, Proxy};
use crate::{hedges, refused, retries};

fn before(lines: &str, route: &str, origins: &[&Origin]) -> Proxy {
    let pool = format!("protocol = \"http2\"\npolicy = \"round_robin\"\noutlier = \"off\"\n{lines}");
    let addresses: Vec<_> = origins.iter().map(|origin| origin.address).collect();
    Plain { pool: &pool, route, ..Plain::default() }.to(&addresses)
}

async fn echoes() -> Origin {
    Origin::run(|asked: Asked| asked.echo()).await
}

async fn resets(reason: Reason) -> (Origin, Arc<AtomicUsize>) {
    let asked_so_far = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked_so_far);
    let origin = Origin::run(move |mut asked: Asked| {
        counted.fetch_add(1, Ordering::SeqCst);
        async move {
            asked.body().await;
            asked.respond.send_reset(reason);
        }
    });
    (origin.await, asked_so_far)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_post_that_was_refused_is_sent_elsewhere_with_its_body() {
    let ((bad, asked), good) = (resets(Reason::REFUSED_STREAM).await, echoes().await);
    let proxy = before("", "", &[&bad, &good]);
    let client = Client::to(proxy.address("web")).await;
    for _ in 0..2 {
        let answer = client.ask(post("/"), &[b'x'; 30_000]).await.unwrap();
        assert_eq!((answer.status, answer.body.len()), (200, 30_000));
    }
    assert_eq!(retries(&proxy, "refused"), 1.0);
    assert_eq!(asked.load(Ordering::SeqCst), 2, "also on a new connection");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_was_reset_is_tried_again_if_it_may_be() {
    let ((bad, asked), good) = (resets(Reason::INTERNAL_ERROR).await, echoes().await);
    let proxy = before("", "", &[&bad, &good]);
    let client = Client::to(proxy.address("web")).await;
    for _ in 0..2 {
        assert_eq!(client.ask(get("/"), b"").await.unwrap().status, 200);
    }
    assert_eq!((asked.load(Ordering::SeqCst), retries(&proxy, "reset")), (1, 1.0));
    let mut statuses = Vec::new();
    for _ in 0..2 {
        statuses.push(client.ask(post("/"), b"once").await.unwrap().status);
    }
    statuses.sort_unstable();
    assert_eq!((statuses, refused(&proxy, "not_idempotent")), (vec![200, 502], 1.0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_code_of_grpc_is_tried_again_by_option() {
    let unavailable = Origin::run(|mut asked: Asked| async move {
        let head = Response::builder().header("content-type", "application/grpc").header("grpc-status", "14");
        asked.respond.send_response(head.body(()).unwrap(), true).unwrap();
    })
    .await;
    let good = echoes().await;
    let retry = "retry = { on = \"grpc:unavailable\", non_idempotent = true }";
    let proxy = before(retry, "", &[&unavailable, &good]);
    let client = Client::to(proxy.address("web")).await;
    for _ in 0..2 {
        let answer = client.ask(post("/"), b"call").await.unwrap();
        assert_eq!(
            (answer.status, &answer.body[..], answer.headers.get("grpc-status")),
            (200, &b"call"[..], None)
        );
    }
    assert_eq!(retries(&proxy, "grpc"), 1.0);
    let alone = before(retry, "", &[&unavailable]);
    let answer = Client::to(alone.address("web")).await.ask(post("/"), b"call").await.unwrap();
    assert_eq!(code(&answer.headers), Some("14"), "the last answer is passed on");
}

fn code(headers: &HeaderMap) -> Option<&str> {
    headers.get("grpc-status")?.to_str().ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_try_that_loses_is_reset() {
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let hangs = Origin::run(move |mut asked: Asked| {
        let tell = tell.clone();
        async move {
            let reason = std::future::poll_fn(|cx| asked.respond.poll_reset(cx)).await;
            tell.send(reason.ok()).unwrap();
        }
    })
    .await;
    let good = echoes().await;
    let proxy = before("", "[route.hedge]\nafter = \"50ms\"\nextra = \"100%\"", &[&hangs, &good]);
    let client = Client::to(proxy.address("web")).await;
    for _ in 0..2 {
        assert_eq!(client.get("/").await.status, 200);
    }
    assert_eq!(crate::client::within(told.recv()).await, Some(Some(Reason::CANCEL)));
    assert_eq!(hedges(&proxy.metrics(), "won"), 1.0);
    assert_eq!(hangs.connections(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_leave_at_once_do_not_look_like_an_attack() {
    // Closes connections on which many streams are reset, as endpoints that protect themselves do.
    let origin = Origin::run(|mut asked: Asked| async move {
        if asked.request.uri().path() == "/" {
            return asked.answer("hello").await;
        }
        let _ = std::future::poll_fn(|cx| asked.respond.poll_reset(cx)).await;
    })
    .await;
    let proxy = before("", "", &[&origin]);
    let client = Client::to(proxy.address("web")).await;
    assert_eq!(client.get("/").await.status, 200);
    for _ in 0..30 {
        let asked = proxy.metrics().sum("forebay_endpoint_requests_total", &[]);
        let (response, _) = client.start(get("/hangs"), true).await.unwrap();
        crate::support::eventually("it was sent", || {
            proxy.metrics().sum("forebay_endpoint_requests_total", &[]) > asked
        });
        drop(response);
        crate::support::eventually("it is over", || {
            proxy.metrics().sum("forebay_endpoint_requests_in_flight", &[]) == 0.0
        });
    }
    assert_eq!(client.get("/").await.status, 200);
    assert!((3..=5).contains(&origin.connections()), "{}", origin.connections());
}
