//! Which requests are kept.

use crate::support::{
    Gate, Plain, answers, answers_raw, answers_slow_requests_through, closes_before_answer, truncates_body,
};
use crate::{names, request, requests, says, tracing, tries};

/// Nothing is chosen at its beginning.
const NONE: &str = "sample = \"0%\"\nparent = false";

#[test]
fn nothing_is_kept_of_what_was_neither_chosen_nor_failed_nor_slow() {
    let origin = answers("hello");
    let proxy = tracing(NONE, Plain::default(), &[origin.address()]);
    assert_eq!(proxy.get("/").status(), 200);
    let told = origin.next_request().field("traceparent").unwrap().to_owned();
    assert!(told.ends_with("-00"), "{told}");
    assert!(requests(&proxy, 0).is_empty());
    assert_eq!(proxy.server().registry().spans().dropped(), 0);
}

#[test]
fn what_the_endpoint_failed_is_kept() {
    let origin = answers_raw("HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n");
    let proxy = tracing(NONE, Plain::default(), &[origin.address()]);
    assert_eq!(proxy.get("/").status(), 500);
    let spans = request(&proxy);
    for span in [&spans[0], tries(&spans)[0]] {
        assert_eq!((says(span, "error.type"), span.failed.as_deref()), ("500".into(), Some("")));
    }
    assert_eq!(says(&spans[0], "forebay.kept"), "error");
}

#[test]
fn what_got_no_answer_is_kept_with_the_reason() {
    let origin = closes_before_answer();
    let proxy = tracing(NONE, Plain { pool: "retry.tries = 0", ..Plain::default() }, &[origin.address()]);
    assert_eq!(proxy.get("/").status(), 502);
    let spans = request(&proxy);
    assert_eq!(says(&spans[0], "error.type"), "connection_terminated");
    assert!(spans[0].failed.as_deref().unwrap().contains("closed the connection"));
    let tried = tries(&spans)[0];
    assert_eq!(says(tried, "error.type"), "connection_terminated");
    assert_eq!((says(tried, "http.response.status_code"), tried.failed.is_some()), (String::new(), true));
}

#[test]
fn what_broke_off_is_kept_though_it_began_well() {
    let origin = truncates_body();
    let proxy = tracing(NONE, Plain::default(), &[origin.address()]);
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nHost: t\r\n\r\n");
    client.rest();
    let spans = request(&proxy);
    assert_eq!(says(&spans[0], "http.response.status_code"), "200");
    for span in [&spans[0], tries(&spans)[0]] {
        assert_eq!(
            (says(span, "error.type"), span.failed.is_some()),
            ("http_response_incomplete".into(), true)
        );
    }
}

#[test]
fn mistakes_of_clients_are_none_of_ours() {
    let origin = answers_raw("HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n");
    let proxy = tracing(NONE, Plain { route: "host = \"shop\"", ..Plain::default() }, &[origin.address()]);
    assert_eq!(proxy.get("/").status(), 404);
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nHost: shop\r\n\r\n");
    assert_eq!(client.response().status(), 404);
    client.send("GET / HTTP/1.1\r\nNo\r\n\r\n");
    assert_eq!(client.response().status(), 400);
    assert!(requests(&proxy, 0).is_empty());
}

#[test]
fn mistakes_of_clients_are_told_where_all_is() {
    let origin = answers_raw("HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n");
    let proxy =
        tracing(crate::ALL, Plain { route: "host = \"shop\"", ..Plain::default() }, &[origin.address()]);
    assert_eq!(proxy.get("/").status(), 404);
    let spans = request(&proxy);
    assert_eq!((names(&spans), &spans[0].failed), (vec!["GET"], &None));
    assert_eq!(
        (says(&spans[0], "error.type"), says(&spans[0], "forebay.error")),
        ("".into(), "destination_not_found".into())
    );
    let mut client = proxy.connect();
    client.send("BREW / HTTP/1.1\r\nHost: shop\r\n\r\n");
    assert_eq!(client.response().status(), 404);
    let spans = request(&proxy);
    let (first, tried) = (&spans[0], tries(&spans)[0]);
    assert_eq!((&first.failed, tried.failed.as_deref()), (&None, Some("")), "only who asks is wrong");
    for span in [first, tried] {
        assert!(span.name.starts_with("HTTP"), "{}", span.name);
        assert_eq!(says(span, "http.request.method"), "_OTHER");
        assert_eq!(says(span, "http.request.method_original"), "BREW");
    }
}

#[test]
fn what_a_filter_refused_is_told_with_or_without_a_log() {
    let origin = answers("hello");
    let plain = Plain { route: "filters = [{ max_body = \"1B\" }]", ..Plain::default() };
    let proxy = tracing(crate::ALL, plain, &[origin.address()]);
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\n\r\n");
    assert_eq!(client.response().status(), 413);
    let spans = request(&proxy);
    assert_eq!((spans.len(), says(&spans[0], "forebay.error")), (1, "http_request_denied".into()));
}

#[test]
fn what_is_slow_is_kept() {
    let gate = std::sync::Arc::new(Gate::default());
    let origin = answers_slow_requests_through(&gate, "hello");
    let proxy = tracing(&format!("{NONE}\nslow = \"20ms\""), Plain::default(), &[origin.address()]);
    let mut client = proxy.connect();
    client.send("GET /slow HTTP/1.1\r\nHost: t\r\n\r\n");
    origin.next_request();
    std::thread::sleep(std::time::Duration::from_millis(25));
    gate.open();
    assert_eq!(client.response().status(), 200);
    let spans = request(&proxy);
    assert_eq!((says(&spans[0], "forebay.kept"), &spans[0].failed), ("slow".into(), &None));
    assert!(spans[0].end - spans[0].start >= 20_000_000);
}

#[test]
fn what_fails_is_not_kept_where_that_is_not_wanted() {
    let origin = closes_before_answer();
    let proxy = tracing(&format!("{NONE}\nerrors = false"), Plain::default(), &[origin.address()]);
    assert_eq!(proxy.get("/").status(), 502);
    assert!(requests(&proxy, 0).is_empty());
}
