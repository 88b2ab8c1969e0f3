//! The admin listener: what it says, and that it is exactly what happened.

mod support;

use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::process::Stdio;
use std::sync::Barrier;
use std::thread;

use support::*;

/// Asks the admin listener with `method`.
fn ask(proxy: &Proxy, method: &str, target: &str) -> Message {
    let mut client = Link::to(proxy.admin());
    client.send(format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    client.response_to(method)
}

#[test]
fn pages_are_there_and_others_are_not() {
    let origin = answers("hello");
    let proxy = Proxy::to(origin.address());
    for (target, status, text) in [
        ("/livez", 200, "live\n"),
        ("/readyz", 200, "ready\n"),
        ("/readyz?verbose", 200, "ready\n"),
        ("/nothing", 404, "not found"),
        ("/metrics//", 404, "not found"),
        ("/", 200, "/metrics"),
    ] {
        let page = ask(&proxy, "GET", target);
        assert_eq!(page.status(), status, "{target}");
        assert!(page.text().contains(text), "{target}: {}", page.text());
        let head = ask(&proxy, "HEAD", target);
        assert_eq!((head.status(), head.text().as_str()), (status, ""), "{target}");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let refused = ask(&proxy, method, "/metrics");
        assert_eq!((refused.status(), refused.field("allow")), (405, Some("GET, HEAD")), "{method}");
    }
    let version = ask(&proxy, "GET", "/version");
    assert_eq!(version.field("content-type"), Some("application/json"));
    let version: serde_json::Value = serde_json::from_slice(&version.body).expect("JSON");
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn metrics_are_in_the_format_that_they_claim() {
    let origin = answers("hello");
    let proxy = Proxy::to(origin.address());
    assert_eq!(proxy.get("/").status(), 200);
    let page = ask(&proxy, "GET", "/metrics");
    let kind = page.field("content-type").unwrap_or_default();
    assert!(kind.starts_with("text/plain") && kind.contains("version=0.0.4"), "{kind}");
    let text = page.text();
    let mut seen = HashMap::<_, HashSet<&str>>::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("# ")) {
        let mut words = line.split(' ');
        let (what, family) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        assert!(seen.entry(family).or_default().insert(what), "{what} of {family} twice");
    }
    assert!(seen.values().all(|what| what.len() == 2), "HELP and TYPE of each: {seen:?}");
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().unwrap_or_default();
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        let known = seen.contains_key(name) || family.is_some_and(|family| seen.contains_key(family));
        assert!(known, "{line} has no TYPE");
    }
    let samples: Vec<_> = text.lines().filter_map(|line| line.rsplit_once(' ')).map(|(s, _)| s).collect();
    let distinct: HashSet<_> =
        text.lines().filter_map(|line| line.rsplit_once(' ')).map(|(s, _)| s).collect();
    assert_eq!(samples.len(), distinct.len(), "a sample twice");
    for name in ["forebay_build_info", "forebay_workers", "process_open_fds"] {
        assert!(text.contains(name), "{name} is missing");
    }
}

#[test]
fn promtool_finds_nothing_wrong() {
    let Some(promtool) = peer("promtool") else { return };
    let origin = answers("hello");
    let proxy = Proxy::to(origin.address());
    assert_eq!(proxy.get("/").status(), 200);
    let mut check = promtool.command();
    let check = check.args(["check", "metrics"]).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut check = check.spawn().expect("promtool runs");
    let metrics = ask(&proxy, "GET", "/metrics").body;
    check.stdin.take().expect("which is piped").write_all(&metrics).expect("promtool reads");
    let output = check.wait_with_output().expect("promtool ends");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Sends `n` requests, of which every tenth finds no route. Gives the bytes sent and received.
fn load(mut client: Link, n: usize) -> (usize, usize) {
    let mut sent = 0;
    for n in 0..n {
        let (target, status) = if n.is_multiple_of(10) { ("/bad", 404) } else { ("/good", 200) };
        let request = format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n");
        sent += request.len();
        client.send(request);
        assert_eq!(client.response().status(), status);
    }
    (sent, client.seen.len())
}

#[test]
fn counts_are_exact_after_load_on_two_workers() {
    let origins = [answers("hello"), answers("hello")];
    let endpoints: Vec<_> = origins.iter().map(|origin| format!("\"{}\"", origin.address())).collect();
    let proxy = Proxy::start(&format!(
        "workers = 2\n[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n\
         [[route]]\nname = \"all\"\npath_prefix = \"/good\"\npool = \"app\"\n\
         [pool.app]\nendpoints = [{}]\n",
        endpoints.join(", ")
    ));
    let (clients, requests) = (32_u32, 50_u32);
    let (sent, received) = thread::scope(|scope| {
        let clients = (0..clients).map(|_| proxy.connect());
        let under_way: Vec<_> =
            clients.map(|client| scope.spawn(|| load(client, requests as usize))).collect();
        let done = under_way.into_iter().map(|client| client.join().expect("a client is answered"));
        done.fold((0, 0), |(sent, received), (out, back)| (sent + out, received + back))
    });
    eventually("connections have ended", || proxy.metrics().sum("forebay_connections_active", &[]) == 0.0);
    let metrics = proxy.metrics();
    let (all, bad) = (f64::from(clients * requests), f64::from(clients * requests / 10));
    for (name, labels, value) in [
        ("forebay_requests_total", &[("route", "all"), ("class", "2xx")][..], all - bad),
        ("forebay_requests_total", &[("route", ""), ("class", "4xx")], bad),
        ("forebay_requests_total", &[], all),
        ("forebay_request_duration_seconds_count", &[("route", "all")], all - bad),
        ("forebay_request_duration_seconds_bucket", &[("route", "all"), ("le", "+Inf")], all - bad),
        ("forebay_time_to_first_byte_seconds_count", &[("route", "all")], all - bad),
        ("forebay_endpoint_requests_total", &[], all - bad),
        ("forebay_endpoint_responses_total", &[("class", "2xx")], all - bad),
        ("forebay_endpoint_requests_in_flight", &[], 0.0),
        ("forebay_connections_accepted_total", &[], f64::from(clients)),
        ("forebay_received_bytes_total", &[], sent as f64),
        ("forebay_sent_bytes_total", &[], received as f64),
        ("forebay_workers", &[], 2.0),
    ] {
        assert_eq!(metrics.sum(name, labels), value, "{name} {labels:?}");
    }
    let connections = ["opened", "reused"]
        .map(|what| metrics.sum(&format!("forebay_endpoint_connections_{what}_total"), &[]));
    assert_eq!(connections.iter().sum::<f64>(), all - bad);
    for origin in &origins {
        let endpoint = [("endpoint", &*origin.address().to_string())];
        assert_eq!(metrics.sum("forebay_endpoint_requests_total", &endpoint), origin.requests().len() as f64);
    }
}

#[test]
fn both_workers_serve() {
    let origin = answers("hello");
    let proxy = Proxy::start(&format!(
        "workers = 2\n[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n\
         [[route]]\npool = \"app\"\n[pool.app]\nendpoints = [\"{}\"]\n",
        origin.address()
    ));
    // One client at a time: each worker has its own connection to the origin and needs no second.
    eventually("a request at each worker", || {
        assert_eq!(proxy.get("/").status(), 200);
        origin.connections() == 2
    });
    for _ in 0..50 {
        assert_eq!(proxy.get("/").status(), 200);
    }
    assert_eq!(origin.connections(), 2);
}

#[test]
fn what_is_under_way_shows() {
    let barrier = std::sync::Arc::new(Barrier::new(2));
    let theirs = std::sync::Arc::clone(&barrier);
    let origin = Origin::run(move |conn| {
        while conn.request().is_some() {
            theirs.wait();
            conn.send(ok("hello"));
        }
    });
    let proxy = Proxy::to(origin.address());
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    origin.next_request();
    let metrics = proxy.metrics();
    assert_eq!(metrics.sum("forebay_endpoint_requests_in_flight", &[]), 1.0);
    assert_eq!(metrics.sum("forebay_connections_active", &[("listener", "web")]), 1.0);
    barrier.wait();
    assert_eq!(client.response().status(), 200);
    assert_eq!(proxy.metrics().sum("forebay_endpoint_requests_in_flight", &[]), 0.0);
}

#[test]
fn failures_are_counted_by_kind() {
    for (origin, kind, status) in [
        (sends_garbage(), "protocol", 502),
        (closes_before_answer(), "reset", 502),
        (resets_before_answer(), "reset", 502),
    ] {
        let once = Plain { pool: "retry.tries = 0", ..Plain::default() };
        let proxy = once.to(&[origin.address()]);
        assert_eq!(proxy.get("/").status(), status);
        let metrics = proxy.metrics();
        assert_eq!(metrics.sum("forebay_endpoint_failures_total", &[("kind", kind)]), 1.0, "{kind}");
        assert_eq!(metrics.sum("forebay_endpoint_failures_total", &[]), 1.0, "{kind}");
        assert_eq!(metrics.sum("forebay_requests_total", &[("class", "5xx")]), 1.0, "{kind}");
    }
    for origin in [truncates_body(), resets_midway()] {
        let proxy = Proxy::to(origin.address());
        let mut client = proxy.connect();
        client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        client.rest();
        let failures = || proxy.metrics().sum("forebay_endpoint_failures_total", &[("kind", "reset")]);
        eventually("the failure is counted", || failures() == 1.0);
    }
}

#[test]
fn series_do_not_grow_with_what_clients_send() {
    let origin = answers("hello");
    let proxy = Proxy::to(origin.address());
    let series = || ask(&proxy, "GET", "/metrics").text().lines().count();
    assert_eq!(proxy.get("/").status(), 200);
    let before = series();
    let mut client = proxy.connect();
    for n in 0..50 {
        client.send(format!("M{n} /{n} HTTP/1.1\r\nHost: host{n}\r\nX-{n}: {n}\r\n\r\n"));
        assert_eq!(client.response().status(), 200);
    }
    assert_eq!(series(), before);
}

/// Sends a request with these field lines, and gives the answer with its JSON.
fn tell(proxy: &Proxy, method: &str, target: &str, fields: &str) -> (Message, serde_json::Value) {
    let mut client = Link::to(proxy.admin());
    client.send(format!("{method} {target} HTTP/1.1\r\n{fields}\r\n"));
    let answer = client.response_to(method);
    let json = serde_json::from_slice(&answer.body).unwrap_or_default();
    (answer, json)
}

/// A proxy with two pools that share an endpoint, and endpoints whose names need escapes.
fn two_pools(shared: &Origin) -> Proxy {
    Proxy::start(&format!(
        "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n\
         [[route]]\npool = \"app\"\n[[route]]\npath_prefix = \"/api\"\npool = \"api\"\n\
         [pool.app]\nendpoints = [\"{0}\"]\n\
         [pool.api]\nendpoints = [\"{0}\", \"[::1]:9\", \"unix:/nonexistent/a b.sock\"]\n",
        shared.address()
    ))
}

#[test]
fn endpoints_are_listed_with_how_they_are() {
    let origin = answers("hello");
    let proxy = two_pools(&origin);
    assert_eq!(proxy.get("/").status(), 200);
    for target in ["/endpoints", "/endpoints/", "/v1/endpoints"] {
        let (page, json) = tell(&proxy, "GET", target, "Host: localhost\r\n");
        assert_eq!((page.status(), page.field("content-type")), (200, Some("application/json")), "{target}");
        assert_eq!(json["pools"].as_array().map(Vec::len), Some(2));
        assert_eq!(json["pools"][0]["failed_open"], false);
        let endpoints = json["endpoints"].as_array().expect("a list");
        assert_eq!(endpoints.len(), 4);
        let first = &endpoints[0];
        assert_eq!((&first["pool"], &first["state"]), (&"app".into(), &"up".into()));
        assert_eq!(first["endpoint"], origin.address().to_string());
        assert_eq!((&first["weight"], &first["factor"]), (&1.into(), &1.0.into()));
        assert!(first["since"].as_str().is_some_and(|since| since.ends_with('Z')), "{first}");
        assert_eq!(first["in_flight"], 0);
    }
    let (_, json) = tell(&proxy, "GET", "/endpoints/app", "Host: localhost\r\n");
    assert_eq!(json["endpoints"].as_array().map(Vec::len), Some(1));
    let (_, json) =
        tell(&proxy, "GET", &format!("/endpoints/app/{}", origin.address()), "Host: localhost\r\n");
    assert_eq!(json["requests"], 1);
}

#[test]
fn endpoints_with_odd_names_are_found_by_their_escapes() {
    let origin = answers("hello");
    let proxy = two_pools(&origin);
    for (path, name) in [
        ("[::1]:9", "[::1]:9"),
        ("%5B%3A%3A1%5D%3A9", "[::1]:9"),
        ("unix:%2Fnonexistent%2Fa%20b.sock", "unix:/nonexistent/a b.sock"),
    ] {
        for prefix in ["", "/v1"] {
            let target = format!("{prefix}/endpoints/api/{path}/journal");
            let (page, json) = tell(&proxy, "GET", &target, "Host: localhost\r\n");
            assert_eq!((page.status(), &json["endpoint"]), (200, &name.into()), "{target}");
            assert!(json["entries"].is_array() && json["journal_begins"].is_string(), "{json}");
        }
    }
}

#[test]
fn what_is_not_there_is_answered_with_what_is() {
    let origin = answers("hello");
    let proxy = two_pools(&origin);
    let there = format!("/endpoints/app/{}", origin.address());
    for (method, target, status, hint) in [
        ("GET", "/endpoints/web".to_owned(), 404, "app, api"),
        ("GET", "/endpoints/web/127.0.0.1:1/journal".to_owned(), 404, "app, api"),
        ("POST", "/endpoints/api/127.0.0.1:1/drain".to_owned(), 404, "[::1]:9"),
        ("GET", format!("{there}/nothing"), 404, "journal"),
        ("POST", format!("{there}/journal/drain"), 404, "journal"),
        ("GET", "/endpoints/app/%zz".to_owned(), 400, "%2F"),
        ("GET", format!("{there}/drain"), 405, "POST"),
        ("POST", format!("{there}/journal"), 405, "GET, HEAD"),
        ("POST", "/endpoints".to_owned(), 405, "GET, HEAD"),
        ("POST", format!("{there}/drain?for=soon"), 400, "?for=10m"),
        ("POST", format!("{there}/drain?for=0s"), 400, "365d"),
        ("POST", format!("{there}/drain?for=366d"), 400, "365d"),
        ("POST", format!("{there}/drain?until=5m"), 400, "`for`"),
        ("POST", format!("{there}/undrain?for=5m"), 400, "`drain`"),
    ] {
        let (page, json) = tell(&proxy, method, &target, "Host: localhost\r\n");
        assert_eq!(page.status(), status, "{method} {target}");
        let said = json["hint"].as_str().unwrap_or_default();
        assert!(said.contains(hint) && json["error"].is_string(), "{method} {target}: {json}");
        assert_eq!(page.field("allow").is_some(), status == 405, "{method} {target}");
    }
}

#[test]
fn web_pages_give_no_orders() {
    let origin = answers("hello");
    let proxy = two_pools(&origin);
    let target = format!("/endpoints/app/{}/drain", origin.address());
    for fields in [
        "Host: localhost\r\nOrigin: http://attacker.example\r\n",
        "Host: localhost\r\nOrigin: null\r\n",
        "Host: localhost\r\nSec-Fetch-Site: cross-site\r\n",
        "Host: localhost\r\nSec-Fetch-Site: same-site\r\n",
        "Host: attacker.example\r\n",
    ] {
        let (page, json) = tell(&proxy, "POST", &target, fields);
        assert_eq!(page.status(), 403, "{fields}");
        assert!(json["hint"].is_string(), "{fields}: {json}");
    }
    let open = Proxy::start(&format!(
        "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n[[route]]\npool = \"app\"\n\
         [pool.app]\nendpoints = [\"{}\"]\n[admin]\nbind = \"0.0.0.0:0\"\nread.token = \"reads-reads-reads\"\n",
        origin.address()
    ));
    let mut client = Link::to(([127, 0, 0, 1], open.admin().port()).into());
    client.send(format!("POST {target} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    let refused = client.response();
    assert_eq!(refused.status(), 403);
    assert!(refused.text().contains("[admin.write]"), "it names the remedy: {}", refused.text());
    let (_, json) = tell(&proxy, "GET", "/endpoints/app", "Host: localhost\r\n");
    assert_eq!(json["endpoints"][0]["state"], "up");
}
