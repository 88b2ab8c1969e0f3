//! What is read of clients and told to endpoints.

use crate::support::{Plain, Proxy, answers, eventually};
use crate::{ALL, parent_of, request, requests, says, tracing, tries};

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

#[track_caller]
fn ask(proxy: &Proxy, fields: &[&str]) {
    let fields = fields.iter().map(|field| format!("{field}\r\n")).collect::<String>();
    let mut client = proxy.connect();
    client.send(format!("GET /a?b=c HTTP/1.1\r\nHost: shop.example:81\r\nUser-Agent: me\r\n{fields}\r\n"));
    assert_eq!(client.response().status(), 200);
}

#[test]
fn a_trace_goes_on_from_client_to_endpoint() {
    let origin = answers("hello");
    let proxy = tracing(ALL, Plain::default(), &[origin.address()]);
    ask(&proxy, &[&format!("Traceparent: {PARENT}"), "Tracestate: a=1, b=2", "tracestate: c=3"]);
    let spans = request(&proxy);
    let (first, tried) = (&spans[0], tries(&spans)[0]);
    assert_eq!((first.trace.to_string().as_str(), first.parent.unwrap().to_string().as_str()), (TRACE, SPAN));
    assert!(spans.iter().all(|span| span.state.as_deref() == Some("a=1,b=2,c=3")));
    let asked = origin.next_request();
    assert_eq!(asked.values("traceparent"), [parent_of(tried, true)]);
    assert_eq!(asked.values("tracestate"), ["a=1,b=2,c=3"]);
    assert_eq!(tried.parent, Some(first.id));
}

#[test]
fn a_trace_begins_here_for_whoever_has_none() {
    let origin = answers("hello");
    let proxy = tracing(ALL, Plain::default(), &[origin.address()]);
    for fields in
        [&[][..], &["Traceparent: nonsense", "Tracestate: a=1"], &[&*format!("Traceparent: {PARENT}"); 2]]
    {
        ask(&proxy, fields);
        let spans = request(&proxy);
        assert_eq!((spans[0].parent, &spans[0].state), (None, &None));
        assert_ne!(spans[0].trace.to_string(), TRACE);
        let asked = origin.next_request();
        assert_eq!(asked.values("traceparent"), [parent_of(tries(&spans)[0], true)]);
        assert_eq!(asked.field("tracestate"), None);
    }
}

#[test]
fn strangers_neither_choose_nor_hide() {
    let origin = answers("hello");
    for (sample, flag, kept) in [("0%", "01", 0), ("100%", "00", 1)] {
        let unless = "errors = false\nslow = \"off\"";
        let proxy =
            tracing(&format!("sample = \"{sample}\"\n{unless}"), Plain::default(), &[origin.address()]);
        ask(&proxy, &[&format!("Traceparent: 00-{TRACE}-{SPAN}-{flag}"), "Tracestate: a=1"]);
        let spans = requests(&proxy, kept);
        assert!(spans.iter().flatten().all(|span| span.trace.to_string() != TRACE));
        let asked = origin.next_request();
        let told = asked.field("traceparent").unwrap();
        assert!(!told.contains(TRACE) && told.ends_with(if kept == 1 { "-01" } else { "-00" }), "{told}");
        assert_eq!(asked.field("tracestate"), None);
    }
}

#[test]
fn trusted_proxies_decide() {
    let origin = answers("hello");
    let plain = Plain { listener: "trusted_proxies = [\"127.0.0.0/8\"]", ..Plain::default() };
    let proxy = tracing("sample = \"50%\"", plain, &[origin.address()]);
    for _ in 0..8 {
        ask(&proxy, &[&format!("Traceparent: 00-{TRACE}-{SPAN}-00")]);
        let told = origin.next_request().field("traceparent").unwrap().to_owned();
        assert!(told.starts_with(&format!("00-{TRACE}-")) && told.ends_with("-00"), "{told}");
    }
    ask(&proxy, &[&format!("Traceparent: {PARENT}")]);
    assert_eq!(request(&proxy)[0].trace.to_string(), TRACE);
}

#[test]
fn what_nobody_wants_to_know_is_passed_on_as_it_came() {
    let origin = answers("hello");
    let lines = "sample = \"0%\"\nparent = true\nerrors = false\nslow = \"off\"";
    let proxy = tracing(lines, Plain::default(), &[origin.address()]);
    let unsampled = format!("00-{TRACE}-{SPAN}-00");
    ask(&proxy, &[&format!("Traceparent: {unsampled}"), "Tracestate: a=1"]);
    let asked = origin.next_request();
    assert_eq!((asked.field("traceparent"), asked.field("tracestate")), (Some(&*unsampled), Some("a=1")));
    ask(&proxy, &[]);
    let told = origin.next_request().field("traceparent").unwrap().to_owned();
    assert!(told.len() == 55 && told.ends_with("-00"), "{told}");
    assert!(requests(&proxy, 0).is_empty());
}

#[test]
fn without_tracing_nothing_is_touched() {
    let origin = answers("hello");
    let proxy = Proxy::to(origin.address());
    ask(&proxy, &["Traceparent: x", "Tracestate: y", "b3: z"]);
    let asked = origin.next_request();
    assert_eq!((asked.field("traceparent"), asked.field("tracestate")), (Some("x"), Some("y")));
    ask(&proxy, &[]);
    assert_eq!(origin.next_request().field("traceparent"), None);
    assert!(requests(&proxy, 0).is_empty());
}

#[test]
fn b3_is_read_and_written_both_ways() {
    let origin = answers("hello");
    let lines = format!("{ALL}\npropagate = [\"b3\", \"b3multi\", \"w3c\"]");
    let proxy = tracing(&lines, Plain::default(), &[origin.address()]);
    let multi = [&*format!("X-B3-TraceId: {TRACE}"), &*format!("X-B3-SpanId: {SPAN}"), "X-B3-Flags: 1"];
    for fields in [&[&*format!("b3: {TRACE}-{SPAN}-d")][..], &multi] {
        ask(&proxy, fields);
        let spans = request(&proxy);
        assert_eq!(
            (spans[0].trace.to_string(), spans[0].parent.unwrap().to_string()),
            (TRACE.into(), SPAN.into())
        );
        let (asked, tried) = (origin.next_request(), tries(&spans)[0].id.to_string());
        assert_eq!(asked.values("b3"), [format!("{TRACE}-{tried}-d")]);
        assert_eq!(asked.values("x-b3-traceid"), [TRACE]);
        assert_eq!(asked.values("x-b3-spanid"), [&*tried]);
        assert_eq!((asked.field("x-b3-flags"), asked.field("x-b3-sampled")), (Some("1"), None));
        assert_eq!(asked.values("traceparent"), [format!("00-{TRACE}-{tried}-01")]);
    }
    let state = "tracestate: a=1";
    for (parent, told) in [(TRACE, Some("a=1")), (SPAN, None)] {
        let parent = format!("traceparent: 00-{parent:0>32}-{SPAN}-01");
        ask(&proxy, &[&format!("b3: {TRACE}-{SPAN}-1"), &parent, state]);
        assert_eq!(origin.next_request().field("tracestate"), told, "{parent}");
    }
    ask(&proxy, &["b3: 0"]);
    let told = origin.next_request().field("b3").unwrap().to_owned();
    assert!(told.ends_with("-0") && !told.contains(TRACE), "{told}");
}

#[test]
fn spans_say_what_the_conventions_ask_for() {
    let origin = answers("hello");
    let proxy = tracing(ALL, Plain { route: "name = \"orders\"", ..Plain::default() }, &[origin.address()]);
    ask(&proxy, &[]);
    let spans = request(&proxy);
    let (port, first, tried) = (origin.address().port().to_string(), &spans[0], tries(&spans)[0]);
    assert_eq!((&*first.name, &first.failed), ("GET orders", &None));
    for (key, value) in [
        ("http.request.method", "GET"),
        ("url.scheme", "http"),
        ("url.path", "/a"),
        ("url.query", "b=c"),
        ("server.address", "shop.example"),
        ("server.port", "81"),
        ("http.response.status_code", "200"),
        ("network.protocol.version", "1.1"),
        ("client.address", "127.0.0.1"),
        ("user_agent.original", "me"),
        ("http.response.body.size", "5"),
        ("error.type", ""),
        ("forebay.listener", "web"),
        ("forebay.route", "orders"),
        ("forebay.pool", "app"),
        ("forebay.kept", "sampled"),
    ] {
        assert_eq!(says(first, key), value, "{key}");
    }
    assert_eq!((&*tried.name, &tried.failed), ("GET", &None));
    for (key, value) in [
        ("http.request.method", "GET"),
        ("url.full", &*format!("http://127.0.0.1:{port}/a?b=c")),
        ("server.address", "127.0.0.1"),
        ("server.port", &port),
        ("network.peer.address", "127.0.0.1"),
        ("network.peer.port", &port),
        ("http.response.status_code", "200"),
        ("http.request.resend_count", ""),
        ("forebay.cancelled", ""),
    ] {
        assert_eq!(says(tried, key), value, "{key}");
    }
}

#[test]
fn the_access_log_has_the_trace() {
    let folder = tempfile::tempdir().unwrap();
    let origin = answers("hello");
    let log = folder.path().join("access.log");
    let plain = Plain {
        listener: &format!("access_log = {{ format = \"json\", path = \"{}\" }}", log.display()),
        ..Plain::default()
    };
    for (lines, kept) in [(ALL, 1), ("sample = \"0%\"\nerrors = false\nslow = \"off\"", 0)] {
        let proxy = tracing(lines, plain, &[origin.address()]);
        ask(&proxy, &[]);
        let told = origin.next_request().field("traceparent").unwrap().to_owned();
        assert_eq!(requests(&proxy, kept).len(), kept);
        let trace = format!("\"trace_id\":\"{}\"", &told[3..35]);
        eventually("a line with the trace", || {
            std::fs::read_to_string(&log).is_ok_and(|all| all.contains(&trace))
        });
    }
}
