//! Rate limits over real sockets: who is let through, what the others are told, and what is counted.

mod support;

use std::time::Duration;

use forebay::ambient;
use support::*;

/// A proxy in front of `origin` with these filters.
fn limited(origin: &Origin, filters: &str) -> Proxy {
    let route = format!("name = \"main\"\nfilters = [{filters}]");
    let listener = "trusted_proxies = [\"127.0.0.1\"]";
    Plain { listener, route: &route, ..Plain::default() }.to(&[origin.address()])
}

/// The answer to a request with these header lines, on a connection of its own.
fn ask(proxy: &Proxy, fields: &str) -> Message {
    let mut client = proxy.connect();
    client.send(format!("GET / HTTP/1.1\r\nHost: test\r\n{fields}\r\n"));
    client.response()
}

fn statuses(proxy: &Proxy, fields: &[&str]) -> Vec<u16> {
    fields.iter().map(|fields| ask(proxy, fields).status()).collect()
}

fn counted(proxy: &Proxy, limit: &str, mode: &str) -> f64 {
    let labels = [("route", "main"), ("limit", limit), ("mode", mode)];
    let metrics = proxy.metrics();
    assert!(metrics.has("forebay_rate_limit_forgotten_total", &labels[..2]));
    metrics.sum("forebay_rate_limited_total", &labels)
}

#[test]
fn past_the_burst_clients_are_told_when_to_come_again() {
    let origin = answers("hello");
    let proxy = limited(&origin, r#"{ rate_limit = { rate = "2/h", burst = 3, name = "per-client" } }"#);
    let mut client = proxy.connect();
    // Some of the seconds may have gone by, from the second on.
    for left in ["r=2;t=1800", "r=1;t=3", "r=0;t=5"] {
        client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        let answer = client.response();
        assert_eq!((answer.status(), answer.text().as_str()), (200, "hello"));
        assert_eq!(answer.field("ratelimit-policy"), Some(r#""per-client";q=2;w=3600"#));
        let told = answer.field("ratelimit").unwrap();
        assert!(told.starts_with(&format!("\"per-client\";{left}")), "{told} for {left}");
        assert_eq!(answer.field("retry-after"), None);
    }
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    let answer = client.response();
    assert_eq!(answer.status(), 429, "{}", answer.head);
    assert_eq!(answer.text(), "the rate limit per-client of the route is exceeded");
    assert_eq!(answer.field("ratelimit-policy"), Some(r#""per-client";q=2;w=3600"#));
    assert!(answer.field("ratelimit").unwrap().starts_with("\"per-client\";r=0;t=5"), "{}", answer.head);
    let wait: u32 = answer.field("retry-after").unwrap().parse().unwrap();
    assert!((1780..=1800).contains(&wait), "{wait}");
    let status =
        r#"forebay; error=http_request_denied; details="the rate limit per-client of the route is exceeded""#;
    assert_eq!(answer.field("proxy-status"), Some(status));
    assert_eq!(origin.requests().len(), 3);
    assert_eq!(counted(&proxy, "per-client", "enforce"), 1.0);
}

#[test]
fn a_bucket_fills_again_at_its_rate() {
    let origin = answers("hello");
    let proxy = limited(&origin, r#"{ rate_limit = { rate = "20/s", burst = 2 } }"#);
    let began = ambient::now();
    let mut passed = 0;
    eventually("as many as the burst and four more", || {
        passed += u32::from(ask(&proxy, "").status() == 200);
        passed == 6
    });
    assert!(began.elapsed() >= Duration::from_millis(200), "one passes every 50 ms: {:?}", began.elapsed());
}

#[test]
fn clients_share_a_bucket_by_address_or_ipv6_network() {
    let filters = r#"{ rate_limit = { rate = "1/h" } }"#;
    let origin = answers("hello");
    let proxy = limited(&origin, filters);
    let of = |client: &str| ask(&proxy, &format!("X-Forwarded-For: {client}\r\n")).status();
    assert_eq!(["192.0.2.1", "192.0.2.2", "192.0.2.1"].map(of), [200, 200, 429]);
    assert_eq!(["2001:db8::1", "2001:db8::9:1", "2001:db8:0:1::1"].map(of), [200, 429, 200]);
}

#[test]
fn requests_with_one_value_of_a_field_share_a_bucket() {
    let filters = r#"{ rate_limit = { rate = "1/h", by = "header:X-Api-Key" } }"#;
    let origin = answers("hello");
    let proxy = limited(&origin, filters);
    let asked = ["X-Api-Key: a\r\n", "X-Api-Key: b\r\n", "x-api-key: a\r\n", "", ""];
    assert_eq!(statuses(&proxy, &asked), [200, 200, 429, 200, 429]);
    assert_eq!(counted(&proxy, "x-api-key", "enforce"), 2.0);
}

#[test]
fn all_limits_of_a_route_count() {
    let origin = answers("hello");
    let filters = r#"{ rate_limit = { rate = "1/h", by = "header:X-Key", name = "key" } },
                     { rate_limit = { rate = "2/h", burst = 2, by = "route" } }"#;
    let proxy = limited(&origin, filters);
    let key = |key: &str| ask(&proxy, &format!("X-Key: {key}\r\n"));
    let first = key("a");
    assert_eq!(first.values("ratelimit-policy"), [r#""key";q=1;w=3600"#, r#""route";q=2;w=3600"#]);
    assert_eq!(first.values("ratelimit"), [r#""key";r=0;t=3600"#, r#""route";r=1;t=1800"#]);
    assert_eq!(["a", "b", "c"].map(|name| key(name).status()), [429, 200, 429]);
    assert_eq!([counted(&proxy, "key", "enforce"), counted(&proxy, "route", "enforce")], [1.0, 1.0]);
    assert_eq!(origin.requests().len(), 2);
}

#[test]
fn workers_share_a_limit() {
    let origin = answers("hello");
    let proxy = Proxy::start(&format!(
        "workers = 3\n[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n\
         [[route]]\npool = \"app\"\nfilters = [{{ rate_limit = {{ rate = \"1/h\", burst = 5 }} }}]\n\
         [pool.app]\nendpoints = [\"{}\"]\n",
        origin.address()
    ));
    let passed = (0..20).filter(|_| ask(&proxy, "").status() == 200).count();
    assert_eq!(passed, 5);
}

#[test]
fn what_is_only_observed_is_let_through_and_counted() {
    let origin = answers("hello");
    let proxy = limited(&origin, r#"{ rate_limit = { rate = "1/h", mode = "observe" } }"#);
    for _ in 0..3 {
        let answer = ask(&proxy, "");
        assert_eq!(answer.status(), 200);
        assert_eq!((answer.field("ratelimit"), answer.field("ratelimit-policy")), (None, None));
    }
    assert_eq!([counted(&proxy, "client", "observe"), counted(&proxy, "client", "enforce")], [2.0, 0.0]);
}

#[test]
fn what_filters_and_forebay_answer_tells_what_is_left_as_well() {
    let filters = r#"{ rate_limit = { rate = "5/h", burst = 5 } }"#;
    let gone = refuses();
    let route = format!("filters = [{filters}]");
    let proxy = Plain { route: &route, ..Plain::default() }.to(&[gone.address()]);
    let answer = ask(&proxy, "");
    assert_eq!((answer.status(), answer.field("ratelimit")), (502, Some(r#""client";r=4;t=720"#)));
}

#[test]
fn calls_of_grpc_that_a_filter_refuses_end_with_a_status_of_grpc() {
    let grpc = "Content-Type: application/grpc\r\n";
    let limit = r#"{ rate_limit = { rate = "1/h" } }"#;
    let reason = "the rate limit client of the route is exceeded";
    let denial = "the address of the client is not allowed here";
    for (filters, spent, code, message) in
        [(limit, 1, "14", reason), (r#"{ deny = "127.0.0.1" }"#, 0, "7", denial)]
    {
        let origin = answers("hello");
        let proxy = limited(&origin, filters);
        (0..spent).for_each(|_| assert_eq!(ask(&proxy, grpc).status(), 200));
        let answer = ask(&proxy, grpc);
        assert_eq!((answer.status(), answer.text().as_str()), (200, ""), "{}", answer.head);
        assert_eq!(answer.values("content-type"), ["application/grpc"]);
        assert_eq!(answer.field("grpc-status"), Some(code));
        assert_eq!(answer.field("grpc-message"), Some(message));
        assert!(answer.field("proxy-status").unwrap().contains(message));
        assert_eq!(answer.field("retry-after").is_some(), spent > 0);
    }
}
