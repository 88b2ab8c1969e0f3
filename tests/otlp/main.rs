//! Spans on their way to collectors: what arrives, and what becomes of those that nobody takes. The
//! collectors are ones by tonic and scripted ones that are broken.

#![expect(clippy::unwrap_used, reason = "what is not as expected fails the test")]

#[path = "../http2/client.rs"]
#[expect(dead_code, reason = "shared with the tests of HTTP/2, which use more of it")]
mod client;
mod collector;
#[path = "../http2/origin.rs"]
#[expect(dead_code, reason = "shared with the tests of HTTP/2, which use more of it")]
mod origin;
#[path = "../support/mod.rs"]
mod support;
mod whole;

use std::num::{NonZeroU64, NonZeroU128};
use std::time::Duration;

use collector::{Collector, text};
use forebay::ambient;
use forebay::observe::metrics::Shard;
use forebay::observe::spans::ROOM;
use forebay::trace::{Kind, Span, SpanId, TraceId, Value};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message as _;
use support::{Origin, OriginConn, Pki, Proxy, answers, eventually};
use tonic::Status;

#[test]
fn spans_arrive_whole_with_whose_they_are() {
    let (origin, collector) = (answers("hello"), Collector::start());
    let proxy = start(
        &origin,
        &format!(
            "endpoint = \"http://localhost:{}\"\nservice = \"edge\"\nheaders = {{ x-api-key = \"k1\" }}\n\
             [tracing.otlp.resource]\n\"deployment.environment.name\" = \"test\"\n",
            collector.address.port()
        ),
    );
    give(&proxy, spans(0, 3));
    let mut arrived = collector.wait_for(3);
    arrived.sort_by(|a, b| a.span_id.cmp(&b.span_id));
    assert_eq!(arrived.len(), 3);
    assert_eq!(arrived[0].trace_id, 1_u128.to_be_bytes());
    assert_eq!(arrived[0].span_id, 1_u64.to_be_bytes());
    assert_eq!(arrived[2].span_id, 3_u64.to_be_bytes());
    assert_eq!((arrived[0].name.as_str(), arrived[0].kind), ("GET", 2));
    assert_eq!(text(&arrived[0].attributes, "http.request.method"), Some("GET"));
    let taken = collector.taken().remove(0);
    let field = |name: &str| taken.metadata.get(name).map(|value| value.to_str().unwrap().to_owned());
    assert_eq!(field("x-api-key").as_deref(), Some("k1"));
    assert!(field("user-agent").unwrap().starts_with("forebay/"));
    let of = &taken.request.resource_spans[0];
    let resource = &of.resource.as_ref().unwrap().attributes;
    assert_eq!(text(resource, "service.name"), Some("edge"));
    assert_eq!(text(resource, "service.version"), Some(env!("CARGO_PKG_VERSION")));
    assert_eq!(text(resource, "deployment.environment.name"), Some("test"));
    assert!(resource.iter().any(|pair| pair.key == "process.pid"));
    eventually("the count", || ended(&proxy, "exported") == 3);
}

#[test]
fn many_spans_arrive_in_batches() {
    let (origin, collector) = (answers("hello"), Collector::start());
    let proxy = start(&origin, &format!("endpoint = \"http://{}\"\nbatch = 100\n", collector.address));
    for number in 0..50 {
        give(&proxy, spans(number * 100, 99));
    }
    let mut arrived = collector.wait_for(50 * 99);
    assert!(collector.taken().iter().all(|taken| count(&taken.request) <= 100));
    arrived.sort_by(|a, b| a.span_id.cmp(&b.span_id));
    arrived.dedup_by(|a, b| a.span_id == b.span_id);
    assert_eq!(arrived.len(), 50 * 99);
}

#[test]
fn both_sides_show_certificates() {
    let pki = Pki::new();
    pki.issue("collector", &["collector.test"]).issue("client", &["edge.test"]);
    let (origin, collector) = (answers("hello"), Collector::with_tls(&pki));
    let settings = format!("endpoint = \"https://{}\"\n", collector.address);
    let tls = "[tracing.otlp.tls]\nca = \"ca.pem\"\nserver_name = \"collector.test\"\n";
    let client = "client_cert = \"client.pem\"\nclient_key = \"client.key\"\n";
    let proxy = Proxy::start_in(pki.path(), &config(&origin, &format!("{settings}{tls}{client}")));
    give(&proxy, spans(0, 5));
    collector.wait_for(5);
    eventually("the count", || ended(&proxy, "exported") == 5);
    // Without one of its own, nobody takes its spans; with another to believe, it sends none.
    for tls in [tls.to_owned(), format!("{tls}{client}").replace("collector.test", "other.test")] {
        let failures = failures(&proxy);
        proxy.reload_in(pki.path(), &config(&origin, &format!("{settings}{tls}"))).unwrap();
        give(&proxy, spans(20, 5));
        eventually("two tries", || self::failures(&proxy) >= failures + 2);
        assert_eq!((collector.spans().len(), ended(&proxy, "exported")), (5, 5));
    }
}

#[test]
fn spans_go_over_http_as_well() {
    let (origin, collector) = (answers("hello"), takes_over_http(""));
    let endpoint = format!("http://{}/some/where/", collector.address());
    let settings = format!("protocol = \"http\"\nendpoint = \"{endpoint}\"\nheaders = {{ x-a = \"b\" }}\n");
    let proxy = start(&origin, &settings);
    for round in 0..3 {
        give(&proxy, spans(round, 2));
        let request = collector.next_request();
        assert_eq!((request.method(), request.target()), ("POST", "/some/where/v1/traces"));
        assert_eq!(request.field("content-type"), Some("application/x-protobuf"));
        assert_eq!(request.field("host"), Some(collector.address().to_string().as_str()));
        assert_eq!(request.field("x-a"), Some("b"));
        assert_eq!(count(&ExportTraceServiceRequest::decode(&*request.body).unwrap()), 2);
    }
    assert_eq!(collector.connections(), 1, "the connection is kept");
    eventually("the count", || ended(&proxy, "exported") == 6);
}

#[test]
fn what_a_collector_rejects_is_counted_and_not_sent_again() {
    let partly = Collector::answering(|_| {
        let error_message = "two are odd".to_owned();
        let partial_success = Some(ExportTracePartialSuccess { rejected_spans: 2, error_message });
        Ok(ExportTraceServiceResponse { partial_success })
    });
    let refusing = Collector::answering(|_| Err(Status::invalid_argument("no")));
    for (collector, counted) in [(&partly, (3, 2)), (&refusing, (0, 5))] {
        let origin = answers("hello");
        let proxy = start(&origin, &format!("endpoint = \"http://{}\"\n", collector.address));
        give(&proxy, spans(0, 5));
        eventually("the count", || (ended(&proxy, "exported"), ended(&proxy, "rejected")) == counted);
        assert_eq!(collector.calls(), 1);
        // The next ones are sent all the same.
        give(&proxy, spans(10, 5));
        eventually("the second call", || collector.calls() == 2);
    }
}

#[test]
fn a_collector_that_is_busy_gets_the_same_spans_again() {
    let (origin, collector) = (
        answers("hello"),
        Collector::answering(|call| match call {
            0 => Err(Status::unavailable("later")),
            _ => Ok(ExportTraceServiceResponse::default()),
        }),
    );
    let proxy = start(&origin, &format!("endpoint = \"http://{}\"\n", collector.address));
    give(&proxy, spans(0, 5));
    assert_eq!(collector.wait_for(5).len(), 5);
    assert_eq!(collector.calls(), 2);
    eventually("the count", || ended(&proxy, "exported") == 5);
}

#[test]
fn spans_wait_for_a_collector_that_is_down() {
    let (origin, gone) = (answers("hello"), support::refuses());
    let address = gone.address();
    let proxy = start(&origin, &format!("endpoint = \"http://{address}\"\n"));
    give(&proxy, spans(0, 50));
    assert_eq!(proxy.get("/").status(), 200);
    drop(gone);
    let collector = Collector::at(address);
    give(&proxy, spans(50, 50));
    assert_eq!(collector.wait_for(100).len(), 100);
    // And for one that was up, and is again.
    drop(collector);
    give(&proxy, spans(100, 50));
    let collector = Collector::at(address);
    assert_eq!(collector.wait_for(50).len(), 50);
}

#[test]
fn a_reload_sends_what_waits_to_the_new_collector() {
    let (origin, gone) = (answers("hello"), support::refuses());
    let proxy = start(&origin, &format!("endpoint = \"http://{}\"\nbatch = 10\n", gone.address()));
    give(&proxy, spans(0, 50));
    let collector = Collector::start();
    let settings = format!("endpoint = \"http://{}\"\nheaders = {{ x-a = \"1\" }}\n", collector.address);
    proxy.reload(&config(&origin, &settings)).unwrap();
    assert_eq!(collector.wait_for(50).len(), 50);
    proxy.reload(&config(&origin, &settings.replace("\"1\"", "\"2\""))).unwrap();
    give(&proxy, spans(50, 10));
    assert_eq!(collector.wait_for(60).len(), 60);
    let said = collector.taken().into_iter().map(|taken| taken.metadata.get("x-a").unwrap().clone());
    assert_eq!(said.last().unwrap(), "2");
    assert_eq!(ended(&proxy, "failed"), 0);
}

#[test]
fn what_was_finished_for_a_collector_still_goes_there_once_there_is_none() {
    let (origin, collector) = (answers("hello"), Collector::start());
    let patient = format!("endpoint = \"http://{}\"\ninterval = \"1m\"\nbatch = 5\n", collector.address);
    let proxy = start(&origin, &patient);
    give(&proxy, spans(0, 5));
    collector.wait_for(5);
    give(&proxy, spans(5, 3));
    let nowhere = config(&origin, "").replace("[tracing.otlp]\ninterval = \"10ms\"\n", "");
    assert!(!nowhere.contains("otlp"), "{nowhere}");
    proxy.reload(&nowhere).unwrap();
    assert_eq!(collector.wait_for(8).len(), 8);
    // And once there is one again, it goes on.
    proxy.reload(&config(&origin, &patient)).unwrap();
    give(&proxy, spans(8, 5));
    assert_eq!(collector.wait_for(13).len(), 13);
}

#[test]
fn a_stalled_collector_costs_spans_and_nothing_else() {
    let (origin, stalled) = (answers("hello"), Origin::run(says_nothing));
    let proxy = start(&origin, &format!("endpoint = \"http://{}\"\ntimeout = \"10s\"\n", stalled.address()));
    give(&proxy, spans(0, 10));
    stalled.wait_connection(0);
    for number in 0..20 {
        give(&proxy, spans(number * ROOM as u64, ROOM / 2));
        assert_eq!(proxy.get("/").status(), 200);
    }
    eventually("drops", || ended(&proxy, "dropped") >= 17 * (ROOM as u64 / 2));
    assert_eq!(ended(&proxy, "exported"), 0);
    let began = ambient::now();
    proxy.drain_and_wait();
    assert!(ambient::now() - began < Duration::from_secs(5), "it does not hold up the end");
}

#[test]
fn a_broken_collector_is_asked_again_and_harms_nobody() {
    let endless = |conn: &mut OriginConn| {
        let _ = conn.head();
        conn.send("HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\n\r\n");
        while conn.send([0x0A; 16 * 1024]) {}
    };
    let headless = |conn: &mut OriginConn| while conn.send(format!("x{}: y\r\n", "x".repeat(9000))) {};
    let odd = |conn: &mut OriginConn| {
        let _ = conn.head();
        conn.send("HTTP/1.1 503 No\r\nRetry-After: 0\r\nContent-Length: 4\r\n\r\n\x0A\x7F\x7F\x7F");
    };
    for (what, broken) in [
        ("endless", Origin::run(endless)),
        ("headless", Origin::run(headless)),
        ("odd", Origin::run(odd)),
        ("garbage", support::sends_garbage()),
        ("resets", support::resets_before_answer()),
        ("closes", support::closes_before_answer()),
        ("silent", Origin::run(says_nothing)),
    ] {
        for protocol in ["grpc", "http"] {
            let (origin, seen) = (answers("hello"), broken.connections());
            let address = broken.address();
            let settings =
                format!("protocol = \"{protocol}\"\nendpoint = \"http://{address}\"\ntimeout = \"50ms\"\n");
            let proxy = start(&origin, &settings);
            give(&proxy, spans(0, 5));
            eventually(&format!("a second try of {protocol} to {what}"), || {
                broken.connections() >= seen + 2 || ended(&proxy, "rejected") == 5
            });
            assert_eq!((proxy.get("/").status(), ended(&proxy, "exported")), (200, 0), "{what} {protocol}");
        }
    }
}

#[test]
fn the_last_spans_are_sent_before_the_end() {
    let (origin, collector) = (answers("hello"), Collector::start());
    let settings = format!("endpoint = \"http://{}\"\ninterval = \"1m\"\nbatch = 40\n", collector.address);
    let proxy = start(&origin, &settings);
    give(&proxy, spans(0, 39));
    proxy.drain_and_wait();
    assert_eq!(collector.spans().len(), 39);
}

#[test]
fn headers_of_a_collector_are_nobodys_business() {
    let (origin, collector) = (answers("hello"), Collector::start());
    let settings =
        format!("endpoint = \"http://{}\"\nheaders = {{ team = \"s3cret\" }}\n", collector.address);
    let proxy = start(&origin, &settings);
    let shown = proxy.ask_admin("/v1/config").text();
    assert!(shown.contains("\"team\"") && !shown.contains("s3cret"), "{shown}");
    let (plan, _) = proxy.server().running().plan();
    assert!(!format!("{:?}", plan.tracing).contains("s3cret"));
}

/// The proxy in front of `origin`, which sends spans as `settings` say.
#[track_caller]
fn start(origin: &Origin, settings: &str) -> Proxy {
    Proxy::start(&config(origin, settings))
}

/// Nothing is sampled, so that spans are those that a test gives.
fn config(origin: &Origin, settings: &str) -> String {
    let interval = if settings.contains("interval") { "" } else { "interval = \"10ms\"\n" };
    format!(
        "[tracing]\nsample = \"0%\"\nerrors = false\n[tracing.otlp]\n{interval}{settings}\n\
         [[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n[[route]]\npool = \"app\"\n\
         [pool.app]\nendpoints = [\"{}\"]\n",
        origin.address()
    )
}

fn give(proxy: &Proxy, spans: Vec<Span>) {
    proxy.server().registry().spans().give(Shard::worker(0), spans);
}

/// Spans numbered from `first`.
fn spans(first: u64, count: usize) -> Vec<Span> {
    let span = |number| Span {
        trace: TraceId(NonZeroU128::MIN),
        id: SpanId(NonZeroU64::MIN.saturating_add(number)),
        parent: None,
        state: None,
        kind: Kind::Server,
        name: "GET".into(),
        start: 1,
        end: 2,
        failed: None,
        attributes: vec![("http.request.method", Value::Text("GET".into()))],
        events: Vec::new(),
    };
    (first..).take(count).map(span).collect()
}

fn count(request: &ExportTraceServiceRequest) -> usize {
    let scopes = request.resource_spans.iter().flat_map(|of| &of.scope_spans);
    scopes.map(|of| of.spans.len()).sum()
}

/// Tries to deliver spans that failed.
fn failures(proxy: &Proxy) -> u64 {
    proxy.metrics().sum("forebay_span_export_failures_total", &[]) as u64
}

/// Spans that this became of.
fn ended(proxy: &Proxy, result: &str) -> u64 {
    proxy.metrics().sum("forebay_spans_total", &[("result", result)]) as u64
}

/// Takes connections, and is never heard of again.
fn says_nothing(conn: &mut OriginConn) {
    conn.until_end();
}

/// A collector of OTLP/HTTP that answers with this body.
fn takes_over_http(body: &'static str) -> Origin {
    Origin::run(move |conn| {
        while conn.request().is_some() {
            conn.send(support::ok(body));
        }
    })
}
