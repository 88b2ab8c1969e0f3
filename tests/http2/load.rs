//! After a known number of requests of every kind, `/metrics` says what was sent.

use crate::client::{Client, get, post};
use crate::origin::{Asked, Origin};
use crate::support::{Metrics, Proxy, answers_raw, echoes, eventually, refuses, resets_midway};

#[test]
fn bytes_of_failed_requests_are_counted_too() {
    let origin = resets_midway();
    let proxy = Proxy::to(origin.address());
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    client.rest();
    let metrics = proxy.metrics();
    assert!(metrics.sum("forebay_endpoint_sent_bytes_total", &[]) > 30.0);
    assert!(metrics.sum("forebay_endpoint_received_bytes_total", &[]) > 30.0);
}

/// Requests of each kind from each client.
const EACH: usize = 30;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_are_exact_after_load() {
    let h1 = echoes();
    let missing = answers_raw("HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnope");
    let h2 = Origin::run(|asked: Asked| asked.echo()).await;
    let gone = refuses();
    let proxy = Proxy::start(&format!(
        "workers = 2\n\
         [[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n\
         [[listener]]\nname = \"other\"\nbind = \"127.0.0.1:0\"\n\
         [[route]]\nname = \"h1\"\npath = \"/h1\"\npool = \"h1\"\n\
         [[route]]\nname = \"h2\"\npath = \"/h2\"\npool = \"h2\"\n\
         [[route]]\nname = \"missing\"\npath = \"/missing\"\npool = \"missing\"\n\
         [[route]]\nname = \"gone\"\npath = \"/gone\"\npool = \"gone\"\n\
         [[route]]\nname = \"own\"\npath = \"/own\"\nfilters = [{{ respond = {{ status = 204 }} }}]\n\
         [pool.h1]\nendpoints = [\"{}\"]\n[pool.missing]\nendpoints = [\"{}\"]\n\
         [pool.h2]\nendpoints = [\"{}\"]\nprotocol = \"http2\"\n[pool.gone]\nretry.tries = 0\nendpoints = [\"{}\"]\n",
        h1.address(),
        missing.address(),
        h2.address,
        gone.address(),
    ));
    let kinds = ["/h1", "/h2", "/missing", "/gone", "/own", "/nowhere"];
    let body = vec![b'x'; 10_000];
    let mut clients = Vec::new();
    for listener in ["web", "web", "other"] {
        clients.push(Client::to(proxy.address(listener)).await);
    }
    let asks = clients.iter().flat_map(|client| {
        let body = &body;
        kinds.iter().flat_map(move |path| {
            (0..EACH).map(move |i| async move {
                if i % 2 == 0 { client.ask(get(path), b"").await } else { client.ask(post(path), body).await }
            })
        })
    });
    for answer in futures_util::future::join_all(asks).await {
        answer.unwrap();
    }
    let mut plain = proxy.connect();
    for path in kinds {
        for _ in 0..EACH {
            plain.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"));
            plain.response();
        }
    }
    drop((plain, clients));
    eventually("no connection open", || proxy.metrics().sum("forebay_connections_active", &[]) == 0.0);
    let metrics = proxy.metrics();
    requests_are_exact(&metrics);
    endpoints_are_exact(&metrics);
    bytes_are_plausible(&metrics);
    assert_eq!(metrics.sum("forebay_connections_accepted_total", &[("listener", "web")]), 3.0);
    assert_eq!(metrics.sum("forebay_connections_accepted_total", &[("listener", "other")]), 1.0);
}

/// By listener, route, pool and class; of the listener `web` two clients made use besides one over
/// HTTP/1.
fn requests_are_exact(metrics: &Metrics) {
    let each = EACH as f64;
    for (listener, clients) in [("web", 3.0), ("other", 1.0)] {
        for (route, pool, class) in [
            ("h1", "h1", "2xx"),
            ("h2", "h2", "2xx"),
            ("missing", "missing", "4xx"),
            ("gone", "gone", "5xx"),
            ("own", "", "2xx"),
            ("", "", "4xx"),
        ] {
            let labels = [("listener", listener), ("route", route), ("pool", pool)];
            let counted = |name: &str| metrics.sum(name, &labels);
            assert_eq!(counted("forebay_requests_total"), clients * each, "{labels:?}");
            let of_class = [labels[0], labels[1], labels[2], ("class", class)];
            assert_eq!(metrics.sum("forebay_requests_total", &of_class), clients * each, "{of_class:?}");
            if !route.is_empty() {
                assert_eq!(counted("forebay_request_duration_seconds_count"), clients * each, "{labels:?}");
            }
            if !pool.is_empty() && pool != "gone" {
                assert_eq!(counted("forebay_time_to_first_byte_seconds_count"), clients * each, "{labels:?}");
            }
        }
    }
    assert_eq!(metrics.sum("forebay_requests_total", &[]), 4.0 * 6.0 * each);
}

fn endpoints_are_exact(metrics: &Metrics) {
    let each = EACH as f64;
    for pool in ["h1", "h2", "missing"] {
        let counted = |name: &str| metrics.sum(name, &[("pool", pool)]);
        assert_eq!(counted("forebay_endpoint_requests_total"), 4.0 * each, "{pool}");
        assert_eq!(counted("forebay_endpoint_responses_total"), 4.0 * each, "{pool}");
        assert_eq!(counted("forebay_endpoint_time_to_first_byte_seconds_count"), 4.0 * each, "{pool}");
        let opened = counted("forebay_endpoint_connections_opened_total");
        let reused = counted("forebay_endpoint_connections_reused_total");
        assert_eq!(opened + reused, 4.0 * each, "{pool}: {opened} opened, {reused} reused");
        let closed = counted("forebay_endpoint_connections_closed_total");
        assert_eq!(counted("forebay_endpoint_connections_open"), opened - closed, "{pool}");
        assert_eq!(counted("forebay_endpoint_failures_total"), 0.0, "{pool}");
    }
    let failures = metrics.sum("forebay_endpoint_failures_total", &[("pool", "gone"), ("kind", "connect")]);
    assert_eq!(failures, 4.0 * each);
    assert_eq!(metrics.sum("forebay_endpoint_connections_opened_total", &[("pool", "gone")]), 0.0);
    assert_eq!(metrics.sum("forebay_endpoint_requests_in_flight", &[]), 0.0);
}

fn bytes_are_plausible(metrics: &Metrics) {
    // Half of what three clients sent had a body of 10,000 bytes; two kinds are sent back.
    let bodies = 3.0 * EACH as f64 / 2.0 * 10_000.0;
    for pool in ["h1", "h2"] {
        for counter in ["forebay_endpoint_sent_bytes_total", "forebay_endpoint_received_bytes_total"] {
            let bytes = metrics.sum(counter, &[("pool", pool)]);
            assert!((bodies..bodies * 1.3).contains(&bytes), "{pool} {counter}: {bytes} of {bodies}");
        }
    }
    let sent = metrics.sum("forebay_sent_bytes_total", &[]);
    assert!((2.0 * bodies..2.6 * bodies).contains(&sent), "{sent} bytes sent of {bodies} twice");
    let received = metrics.sum("forebay_received_bytes_total", &[]);
    assert!((2.0 * bodies..6.6 * bodies).contains(&received), "{received} bytes received");
}
