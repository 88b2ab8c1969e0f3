//! What autoscalers are told: `/v1/scale/{pool}` and metrics follow the load that there is.

mod support;

use serde_json::Value;
use support::*;

/// What `/v1/scale/app` says, once the pool was looked at.
fn scale(proxy: &Proxy) -> Value {
    let mut found = None;
    eventually("the pool to be looked at", || {
        let page = proxy.ask_admin("/v1/scale/app");
        found = (page.status() == 200).then(|| serde_json::from_slice(&page.body).expect("JSON"));
        found.is_some()
    });
    found.expect("which was found")
}

fn number(proxy: &Proxy, key: &str) -> f64 {
    scale(proxy).get(key).and_then(Value::as_f64).unwrap_or(f64::NAN)
}

#[test]
fn the_number_of_endpoints_follows_what_is_under_way() {
    let origin = stalls_after_head();
    let proxy = Plain {
        pool: "autoscaling = { target_utilisation = \"50%\", endpoint_in_flight = 4, min = 2, max = 8, window = \"2s\" }",
        ..Plain::default()
    };
    let proxy = proxy.to(&[origin.address()]);
    let idle = scale(&proxy);
    for (key, value) in [
        ("endpoints", 1.0),
        ("available", 1.0),
        ("in_flight", 0.0),
        ("capacity", 4.0),
        ("target_utilisation", 0.5),
        ("needed_endpoints", 0.0),
        ("desired_endpoints", 2.0),
        ("queue_wait_seconds", 0.0),
    ] {
        assert_eq!(idle[key].as_f64(), Some(value), "{key} of {idle}");
    }
    let mut clients: Vec<_> = (0..10).map(|_| proxy.connect()).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    }
    // Ten, of which each endpoint is to have two.
    eventually("all of the load to be seen", || number(&proxy, "needed_endpoints") == 5.0);
    assert_eq!(number(&proxy, "desired_endpoints"), 5.0);
    assert_eq!(number(&proxy, "utilisation"), 2.5);
    let metrics = proxy.metrics();
    let of = [("pool", "app")];
    assert_eq!(metrics.sum("forebay_pool_desired_endpoints", &of), 5.0);
    assert_eq!(metrics.sum("forebay_pool_needed_endpoints", &of), 5.0);
    assert_eq!(metrics.sum("forebay_pool_utilisation_ratio", &of), 2.5);
    drop(clients);
    eventually("the load to be gone", || number(&proxy, "desired_endpoints") == 2.0);
}

#[test]
fn those_who_wait_are_part_of_the_load_and_are_told() {
    let origin = stalls_after_head();
    let proxy = Plain {
        pool: "limits = { in_flight = 2, waiting = 10, wait = \"1m\", endpoint_in_flight = 2 }\n\
               autoscaling = { window = \"1s\", target_utilisation = \"100%\" }",
        ..Plain::default()
    };
    let proxy = proxy.to(&[origin.address()]);
    let mut clients: Vec<_> = (0..8).map(|_| proxy.connect()).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    }
    eventually("those who wait to be seen", || number(&proxy, "waiting") == 6.0);
    let told = scale(&proxy);
    assert_eq!((told["in_flight"].as_f64(), told["utilisation"].as_f64()), (Some(2.0), Some(1.0)));
    assert_eq!(told["desired_endpoints"], 4);
}

#[test]
fn a_pool_without_autoscaling_has_no_number_and_an_unknown_one_nothing() {
    let origin = answers("hello");
    let proxy = Proxy::to(origin.address());
    let told = scale(&proxy);
    assert_eq!((told["utilisation"].as_f64(), told.get("desired_endpoints")), (Some(0.0), None));
    assert_eq!(proxy.ask_admin("/v1/scale/other").status(), 404);
    let metrics = proxy.metrics();
    assert!(metrics.has("forebay_pool_utilisation_ratio", &[("pool", "app")]));
    assert!(!metrics.has("forebay_pool_desired_endpoints", &[]));
}

/// The words of a text that begin with `prefix`.
fn words<'a>(text: &'a str, prefix: &'a str) -> impl Iterator<Item = &'a str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(move |word| word.starts_with(prefix))
}

#[test]
fn examples_name_what_there_is() {
    let origin = answers("hello");
    let pool = "autoscaling = { endpoint_in_flight = 20 }";
    let proxy = Plain { pool, ..Plain::default() }.to(&[origin.address()]);
    let told = scale(&proxy);
    let keda = include_str!("../config/examples/keda-scaledobject.yaml");
    let fields: Vec<_> = keda.lines().filter_map(|line| line.split_once("valueLocation: ")).collect();
    assert_eq!(fields.len(), 2);
    for (_, field) in fields {
        assert!(told[field.trim_matches('"')].is_number(), "{field} of {told}");
    }
    let metrics = proxy.metrics();
    let named: Vec<_> = words(include_str!("../config/examples/hpa.yaml"), "forebay_pool").collect();
    assert_eq!(named.len(), 2);
    named.iter().for_each(|name| assert!(metrics.has(name, &[("pool", "app")]), "{name}"));
}
