//! From the client by way of the proxy to the endpoint, and what the collector is told of it: every span is
//! a part of the one that it follows from, on whatever side that is.

use std::net::SocketAddr;
use std::sync::mpsc;

use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;

use crate::client::{Client, get};
use crate::collector::{Collector, number, text};
use crate::origin;
use crate::support::{Plain, Proxy, answers, answers_raw};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

/// The proxy, which keeps every trace and tells `collector`.
#[track_caller]
fn start(collector: &Collector, pool: &str, endpoints: &[SocketAddr]) -> Proxy {
    let pool = format!(
        "policy = \"round_robin\"\noutlier = \"off\"\n{pool}\n[tracing]\nsample = \"100%\"\nparent = true\n\
         [tracing.otlp]\nendpoint = \"http://{}\"\ninterval = \"10ms\"\n",
        collector.address
    );
    Plain { pool: &pool, ..Plain::default() }.to(endpoints)
}

#[test]
fn a_request_is_a_part_of_its_clients_trace_and_its_endpoint_of_ours() {
    let (origin, collector) = (answers("hello"), Collector::start());
    let proxy = start(&collector, "", &[origin.address()]);
    let mut client = proxy.connect();
    client.send(format!("GET /a HTTP/1.1\r\nHost: a\r\nTraceparent: 00-{TRACE}-{SPAN}-01\r\n\r\n"));
    assert_eq!(client.response().text(), "hello");
    // The request, its try, and the connection that the try had to open.
    let spans = collector.wait_for(3);
    let request = hang_together(&spans);
    assert_eq!((hex(&request.trace_id), hex(&request.parent_span_id)), (TRACE.into(), SPAN.into()));
    let tried = tries(&spans);
    assert_eq!((tried.len(), &tried[0].parent_span_id), (1, &request.span_id));
    assert_eq!(origin.next_request().values("traceparent"), [parent(tried[0])]);
    assert_eq!(text(&request.attributes, "http.request.method"), Some("GET"));
    assert_eq!(number(&request.attributes, "http.response.status_code"), Some(200));
    assert_eq!(request.status, None);
}

#[test]
fn every_try_is_a_part_of_its_request_and_its_endpoint_of_the_try() {
    let busy = answers_raw("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n");
    let (good, collector) = (answers("hello"), Collector::start());
    let retry = "retry = { on = \"503\", backoff = \"1ms\" }";
    let proxy = start(&collector, retry, &[busy.address(), good.address()]);
    // In turn: one of the two meets the busy one first.
    for _ in 0..2 {
        assert_eq!(proxy.get("/").text(), "hello");
    }
    // Two requests, three tries, and at least the two connections that these needed.
    let spans = collector.wait_for(7);
    let failed = spans.iter().find(|span| is_try(span) && span.status.is_some()).unwrap();
    assert_eq!(failed.status.as_ref().unwrap().code, StatusCode::Error as i32);
    let of_it: Vec<_> = spans.iter().filter(|span| span.trace_id == failed.trace_id).cloned().collect();
    let request = hang_together(&of_it);
    let tried = tries(&of_it);
    assert_eq!(tried.len(), 2);
    assert!(tried.iter().all(|span| span.parent_span_id == request.span_id));
    assert!(tried[0].end_time_unix_nano <= tried[1].start_time_unix_nano);
    assert_eq!(busy.next_request().values("traceparent"), [parent(tried[0])]);
    let told = good.requests().into_iter().map(|request| request.values("traceparent").concat());
    assert!(told.collect::<Vec<_>>().contains(&parent(tried[1])));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_are_parts_of_traces_as_well() {
    let (tell, told) = mpsc::channel();
    let origin = origin::Origin::run(move |asked: origin::Asked| {
        let parent = asked.request.headers().get("traceparent").unwrap().to_str().unwrap().to_owned();
        tell.send(parent).unwrap();
        asked.answer("hello")
    })
    .await;
    let collector = tokio::task::spawn_blocking(Collector::start).await.unwrap();
    let proxy = start(&collector, "protocol = \"http2\"", &[origin.address]);
    let client = Client::to(proxy.address("web")).await;
    let mut request = get("/");
    request.headers_mut().insert("traceparent", format!("00-{TRACE}-{SPAN}-01").parse().unwrap());
    assert_eq!(client.ask(request, b"").await.unwrap().body, "hello");
    let spans = collector.wait_for(3);
    let request = hang_together(&spans);
    assert_eq!((hex(&request.trace_id), hex(&request.parent_span_id)), (TRACE.into(), SPAN.into()));
    assert_eq!(told.recv().unwrap(), parent(tries(&spans)[0]));
    assert_eq!(text(&request.attributes, "network.protocol.version"), Some("2"));
    // Its runtime is not to end within another.
    tokio::task::spawn_blocking(move || drop((proxy, collector))).await.unwrap();
}

/// The span of the request, of which all the others are parts, in the same trace and within its time.
#[track_caller]
fn hang_together(spans: &[Span]) -> &Span {
    let request = spans.iter().find(|span| span.kind == SpanKind::Server as i32).unwrap();
    for span in spans {
        assert_eq!((span.trace_id.len(), span.span_id.len()), (16, 8));
        assert_eq!(span.trace_id, request.trace_id);
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano);
        assert!(!span.name.is_empty());
        assert_eq!(spans.iter().filter(|other| other.span_id == span.span_id).count(), 1);
        if span.span_id != request.span_id {
            assert!(spans.iter().any(|other| other.span_id == span.parent_span_id), "{span:?}");
            assert!(span.start_time_unix_nano >= request.start_time_unix_nano);
            assert!(span.end_time_unix_nano <= request.end_time_unix_nano);
        }
    }
    request
}

/// The tries, the first one first.
fn tries(spans: &[Span]) -> Vec<&Span> {
    let mut tries: Vec<_> = spans.iter().filter(|span| is_try(span)).collect();
    tries.sort_by_key(|span| span.start_time_unix_nano);
    tries
}

fn is_try(span: &Span) -> bool {
    span.kind == SpanKind::Client as i32
}

/// What an endpoint is told that is asked by this try.
fn parent(span: &Span) -> String {
    format!("00-{}-{}-01", hex(&span.trace_id), hex(&span.span_id))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
