//! Spans of requests, over real sockets: what is kept, whose parts they are, and what clients and
//! endpoints are told and believed of it.

#![expect(clippy::unwrap_used, reason = "what is not as expected fails the test")]

mod attempts;
#[path = "../http2/client.rs"]
#[expect(dead_code, reason = "shared with the tests of HTTP/2, which use more of it")]
mod client;
mod http2;
mod journal;
mod keeping;
#[path = "../http2/origin.rs"]
#[expect(dead_code, reason = "shared with the tests of HTTP/2, which use more of it")]
mod origin;
mod propagation;
#[path = "../support/mod.rs"]
mod support;

use std::net::SocketAddr;

use forebay::observe::metrics::Shard;
use forebay::trace::{Kind, Span, SpanId, TraceId, Value};
use support::{Origin, Plain, Proxy, eventually};

/// A proxy that traces by these lines, in front of these endpoints.
#[track_caller]
fn tracing(lines: &str, plain: Plain<'_>, endpoints: &[SocketAddr]) -> Proxy {
    holding(lines, |tables| {
        let pool = format!("policy = \"round_robin\"\noutlier = \"off\"\n{}\n{tables}", plain.pool);
        Plain { pool: &pool, ..plain }.to(endpoints)
    })
}

/// What is started with the tables that trace by these lines, for a collector that takes one span and never
/// answers: all that come after it stay where tests can take them.
#[track_caller]
fn holding(lines: &str, start: impl FnOnce(&str) -> Proxy) -> Proxy {
    let collector = Origin::run(|conn| {
        conn.until_end();
    });
    let tables = format!(
        "[tracing]\n{lines}\n[tracing.otlp]\nendpoint = \"http://{}\"\nbatch = 1\ntimeout = \"1m\"\n",
        collector.address()
    );
    let proxy = start(&tables);
    let first = Span {
        trace: TraceId::of(0, 1),
        id: SpanId::of(1),
        parent: None,
        state: None,
        kind: Kind::Internal,
        name: "first".into(),
        start: 1,
        end: 2,
        failed: None,
        attributes: Vec::new(),
        events: Vec::new(),
    };
    proxy.server().registry().spans().give(Shard::worker(0), vec![first]);
    collector.wait_connection(0);
    // It goes on for as long as the proxy may.
    std::mem::forget(collector);
    proxy
}

/// Keeps every trace, and believes everybody.
const ALL: &str = "sample = \"100%\"\nparent = true";

/// Takes the spans of so many requests, in the order in which the requests ended.
#[track_caller]
fn requests(proxy: &Proxy, count: usize) -> Vec<Vec<Span>> {
    let mut spans = Vec::new();
    let ends = |span: &&Span| span.kind == Kind::Server;
    eventually("spans of requests", || {
        spans.extend(proxy.server().registry().spans().take());
        spans.iter().filter(ends).count() >= count
    });
    let requests: Vec<_> =
        spans.chunk_by(|_, next| next.kind != Kind::Server).map(<[Span]>::to_vec).collect();
    assert_eq!(requests.len(), count, "{spans:#?}");
    requests.iter().for_each(|spans| hang_together(spans));
    requests
}

/// Takes the spans of one request.
#[track_caller]
fn request(proxy: &Proxy) -> Vec<Span> {
    requests(proxy, 1).remove(0)
}

/// Every span but the first has its parent among the others, lies within it, and has an id of its own.
#[track_caller]
fn hang_together(spans: &[Span]) {
    let (first, rest) = spans.split_first().unwrap();
    assert_eq!(first.kind, Kind::Server);
    for span in rest {
        let parent = spans.iter().find(|parent| Some(parent.id) == span.parent).unwrap();
        assert!(parent.start <= span.start && span.start <= span.end && span.end <= parent.end, "{spans:#?}");
        assert_eq!(span.trace, first.trace);
        assert_eq!(spans.iter().filter(|other| other.id == span.id).count(), 1);
    }
}

/// The names of these spans.
fn names(spans: &[Span]) -> Vec<&str> {
    spans.iter().map(|span| &*span.name).collect()
}

/// What a span says under this key, as text; empty when it says nothing.
fn says(span: &Span, key: &str) -> String {
    let value = span.attributes.iter().find(|(own, _)| *own == key).map(|(_, value)| value);
    match value {
        None => String::new(),
        Some(Value::Text(text)) => text.to_string(),
        Some(Value::Name(name)) => name.to_string(),
        Some(Value::Int(number)) => number.to_string(),
        Some(Value::Float(number)) => number.to_string(),
        Some(Value::Bool(flag)) => flag.to_string(),
    }
}

/// The `traceparent` of what this span asked for.
fn parent_of(span: &Span, sampled: bool) -> String {
    format!("00-{}-{}-{}", span.trace, span.id, if sampled { "01" } else { "00" })
}

/// The tries among spans.
fn tries(spans: &[Span]) -> Vec<&Span> {
    spans.iter().filter(|span| span.kind == Kind::Client).collect()
}
