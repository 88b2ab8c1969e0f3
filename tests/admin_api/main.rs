//! The description of the admin interface says what is true: it has the paths and methods that there are,
//! and what a running proxy answers is as its schemas say.

#[path = "../support/mod.rs"]
mod support;

mod schema;

use std::collections::BTreeSet;

use serde_json::{Value, json};

use schema::Description;
use support::*;

fn description(proxy: &Proxy) -> Description {
    let page = proxy.ask_admin("/v1/openapi.json");
    assert_eq!(page.status(), 200);
    Description(serde_json::from_slice(&page.body).expect("JSON"))
}

#[test]
fn every_path_is_described_and_every_described_path_is_there() {
    let origin = answers("hello");
    let proxy = Proxy::to(origin.address());
    let listed: BTreeSet<_> = proxy.ask_admin("/").text().lines().filter_map(row).collect();
    let described: BTreeSet<_> = description(&proxy).operations().collect();
    assert_eq!(listed, described);
}

/// `GET     /v1/status  what runs` as `GET /v1/status`.
fn row(line: &str) -> Option<String> {
    let mut words = line.split_whitespace();
    Some(format!("{} {}", words.next()?, words.next()?))
}

#[test]
fn what_is_answered_is_as_described() {
    let origin = answers("hello");
    let proxy = Plain { pool: "limits.endpoint_in_flight = 7", ..Plain::default() };
    let proxy = proxy.to(&[origin.address(), ([127, 0, 0, 1], 9).into()]);
    for _ in 0..4 {
        proxy.get("/");
    }
    let _idle = proxy.connect();
    let description = description(&proxy);
    let mut checked = 0;
    for path in description.paths_of("get") {
        // What is no JSON may be text, or go on for as long as it is read.
        if description.answer("get", &path, 200).is_none() {
            continue;
        }
        let target = filled(&path, &origin);
        let page = proxy.ask_admin(&target);
        let Some(schema) = description.answer("get", &path, page.status()) else { continue };
        let body: Value =
            serde_json::from_slice(&page.body).unwrap_or_else(|error| panic!("{path}: {error}"));
        let faults = description.faults(schema, &body);
        assert!(faults.is_empty(), "{target}: {faults:#?}\n{body:#}");
        checked += 1;
    }
    assert!(checked >= 10, "{checked} pages have a schema");
}

#[test]
fn orders_and_refusals_are_as_described() {
    let origin = answers("hello");
    let proxy = Proxy::to(origin.address());
    let description = description(&proxy);
    let endpoint = "/v1/endpoints/{pool}/{address}";
    for order in ["drain", "undrain", "disable", "enable"] {
        let path = format!("{endpoint}/{order}");
        let (status, body) = order_of(&proxy, "POST", &filled(&path, &origin), "");
        assert_eq!(status, 200, "{order}");
        let faults = description.faults(description.answer("post", &path, 200).expect("a schema"), &body);
        assert!(faults.is_empty(), "{order}: {faults:#?}");
    }
    for (method, target, body, status) in [
        ("POST", format!("{}?until=1", filled(&format!("{endpoint}/drain"), &origin)), "", 400),
        ("GET", "/v1/endpoints/nothing".to_owned(), "", 404),
        ("DELETE", "/v1/pools".to_owned(), "", 405),
        ("PUT", "/v1/log-level".to_owned(), "{", 400),
        ("PUT", "/v1/log-level".to_owned(), "{\"level\":\"debug\",\"for\":\"0s\"}", 400),
        ("PUT", "/v1/log-level".to_owned(), "{\"level\":\"debug\"}", 409),
    ] {
        let (found, body) = order_of(&proxy, method, &target, body);
        assert_eq!(found, status, "{method} {target}");
        let faults = description.faults(&json!({ "$ref": "#/components/schemas/Error" }), &body);
        assert!(faults.is_empty(), "{method} {target}: {faults:#?}");
    }
}

#[test]
fn a_body_that_is_too_long_is_refused() {
    let origin = answers("hello");
    let proxy = Proxy::to(origin.address());
    let mut client = Link::to(proxy.admin());
    client.send("PUT /v1/log-level HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000000\r\n\r\n");
    // What is read before the refusal is of no account; the connection may be closed at any time.
    client.send(vec![b' '; 8 * 1024 * 1024 + 1]);
    assert_eq!(client.response().status(), 413);
}

#[test]
fn the_journal_can_be_asked_for_parts_of_it() {
    let origin = answers("hello");
    let proxy = Proxy::to(origin.address());
    let path = filled("/v1/endpoints/{pool}/{address}", &origin);
    for order in ["drain", "undrain", "drain"] {
        assert_eq!(order_of(&proxy, "POST", &format!("{path}/{order}"), "").0, 200);
    }
    let entries = |query: &str| -> usize {
        let page = proxy.ask_admin(&format!("/v1/journal{query}"));
        let body: Value = serde_json::from_slice(&page.body).expect("JSON");
        body["entries"].as_array().expect("a list").len()
    };
    let all = entries("");
    assert!(all >= 3, "{all} entries");
    assert_eq!(entries("?limit=2"), 2);
    assert_eq!(entries("?pool=app"), all);
    assert_eq!(entries("?pool=other"), 0);
    assert_eq!(entries("?since=2020-01-01T00:00:00Z&limit=1"), 1);
    assert_eq!(entries("?since=2999-01-01T00:00:00Z"), 0);
    assert_eq!(proxy.ask_admin("/v1/journal?since=yesterday").status(), 400);
}

#[test]
fn the_status_warns_in_words() {
    let origin = answers("hello");
    let proxy = Proxy::to(origin.address());
    let warnings = || {
        let page = proxy.ask_admin("/v1/status");
        let body: Value = serde_json::from_slice(&page.body).expect("JSON");
        body["warnings"].to_string()
    };
    assert_eq!(warnings(), "[]");
    let path = filled("/v1/endpoints/{pool}/{address}/disable", &origin);
    assert_eq!(order_of(&proxy, "POST", &path, "").0, 200);
    eventually("the warning", || warnings().contains("pool app: none of its 1 endpoints is available"));
}

/// A described path with its braces filled in.
fn filled(path: &str, origin: &Origin) -> String {
    path.replace("{pool}", "app").replace("{address}", &origin.address().to_string())
}

fn order_of(proxy: &Proxy, method: &str, target: &str, body: &str) -> (u16, Value) {
    let mut client = Link::to(proxy.admin());
    let length = body.len();
    client.send(format!(
        "{method} {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}"
    ));
    let answer = client.response_to(method);
    (answer.status(), serde_json::from_slice(&answer.body).expect("JSON"))
}
