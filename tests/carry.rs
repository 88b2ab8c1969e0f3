//! What is known of endpoints goes on when the configuration is replaced, or the endpoints of a pool
//! are: ejections, orders, estimates, counts, the rhythm of checks. Those that join start slowly,
//! those that leave end what they have begun.

mod support;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use forebay::config::{self, Plan};
use forebay::control::discovery::Wish;
use forebay::control::health::journal::Entry;
use forebay::discover::Patch;
use forebay::health::State;
use forebay::health::journal::{Command, Order, What};
use forebay::model::{Address, Name};
use support::*;

/// The usual proxy in front of these endpoints, with these lines of the pool `app`.
fn text(endpoints: &[SocketAddr], pool: &str) -> String {
    let endpoints: Vec<_> = endpoints.iter().map(|address| format!("\"{address}\"")).collect();
    format!(
        "workers = 1\n[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n[[route]]\npool = \"app\"\n\
         [admin]\nbind = \"127.0.0.1:0\"\n\
         [pool.app]\npolicy = \"round_robin\"\nendpoints = [{}]\n{pool}\n",
        endpoints.join(", ")
    )
}

fn plan(text: &str) -> Plan {
    config::from_str("test.toml", text, &|_| None, Path::new(".")).expect("a valid configuration")
}

/// Has the proxy run this instead.
#[track_caller]
fn reload(proxy: &Proxy, text: &str) {
    proxy.server().running().replace(plan(text)).expect("it can run");
}

/// Changes an endpoint of the pool `app` by hand.
#[track_caller]
fn change(proxy: &Proxy, endpoint: SocketAddr, wish: Wish) {
    let running = proxy.server().running();
    running.discovery().change("app", &Address::Inet(endpoint), wish).expect("it is taken");
    running.follow().expect("it can run");
}

fn state(proxy: &Proxy, endpoint: SocketAddr) -> State {
    let reading = proxy.server().running().health().reading("app").expect("the pool");
    let shown = endpoint.to_string();
    reading.endpoints.iter().find(|own| own.endpoint.name == shown).expect("it").standing.state
}

/// What happened to an endpoint, the oldest first.
fn journal(proxy: &Proxy, endpoint: SocketAddr) -> Vec<Arc<Entry>> {
    let app = Name::new("app").expect("a name");
    let record = Arc::clone(proxy.server().running().health().record());
    let shown = endpoint.to_string();
    let mut entries = record.with_journal(|journal| journal.of(&app, &shown));
    entries.retain(|entry| entry.endpoint.is_some());
    entries
}

fn when(entries: &[Arc<Entry>], what: &str) -> SystemTime {
    entries.iter().find(|entry| entry.event.what.name() == what).expect(what).at
}

/// The value of a metric of an endpoint of the pool `app`.
fn metric(proxy: &Proxy, name: &str, endpoint: SocketAddr) -> f64 {
    proxy.metrics().sum(name, &[("pool", "app"), ("endpoint", &endpoint.to_string())])
}

/// An origin that answers every request with 503.
fn overloaded() -> Origin {
    answers_raw("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
}

#[test]
fn an_ejection_goes_on_and_ends_when_it_was_to() {
    let origins = [overloaded(), answers("a"), answers("b")];
    let endpoints = origins.each_ref().map(Origin::address);
    let outlier = "outlier = { base_ejection = \"1s\", jitter = \"0%\" }";
    let proxy = Proxy::start(&text(&endpoints, outlier));
    eventually("an ejection", || {
        proxy.get("/");
        state(&proxy, endpoints[0]) == State::Ejected
    });
    let sent = origins[0].requests().len();
    let mut reloads = 0;
    eventually("the end of the ejection", || {
        reloads += 1;
        reload(&proxy, &text(&endpoints, &format!("slow_start = \"{reloads}s\"\n{outlier}")));
        (0..3).for_each(|_| drop(proxy.get("/")));
        let got = origins[0].requests().len();
        let over = journal(&proxy, endpoints[0]).iter().any(|entry| entry.event.what == What::OnTrial);
        assert!(over || got == sent, "it was ejected and got requests");
        over
    });
    let entries = journal(&proxy, endpoints[0]);
    let lasted = when(&entries, "on_trial").duration_since(when(&entries, "detected")).expect("later");
    assert!(lasted >= Duration::from_millis(990), "{lasted:?}, in spite of {reloads} reloads");
    assert!(lasted < Duration::from_secs(3), "{lasted:?}, in spite of {reloads} reloads");
}

#[test]
fn an_endpoint_that_was_drained_stays_drained() {
    let origins = [answers("a"), answers("b")];
    let endpoints = origins.each_ref().map(Origin::address);
    let proxy = Proxy::start(&text(&endpoints, ""));
    let order = |command| {
        let shown = endpoints[0].to_string();
        assert!(proxy.server().running().health().order("app", &shown, Order { command, lasts: None }));
    };
    order(Command::Drain);
    reload(&proxy, &text(&[endpoints[1], endpoints[0]], "slow_start = \"1s\""));
    change(&proxy, endpoints[0], Wish::Adjust(Patch { weight: Some(2), ..Patch::default() }));
    assert_eq!([0, 1].map(|index| state(&proxy, endpoints[index])), [State::Draining, State::Up]);
    assert!((0..6).all(|_| proxy.get("/").text() == "b"));
    assert!(origins[0].requests().is_empty());
    order(Command::Undrain);
    eventually("an answer of the first", || proxy.get("/").text() == "a");
}

#[test]
fn counts_and_estimates_go_on() {
    let origins = [answers("a"), answers("b")];
    let endpoints = origins.each_ref().map(Origin::address);
    let proxy = Proxy::start(&text(&endpoints, "policy = \"peak_ewma\"").replacen(
        "policy = \"round_robin\"\n",
        "",
        1,
    ));
    for _ in 0..20 {
        proxy.get("/");
    }
    let estimate = "forebay_endpoint_latency_estimate_seconds";
    let requests = |endpoint| metric(&proxy, "forebay_endpoint_requests_total", endpoint);
    let before = [metric(&proxy, estimate, endpoints[0]), metric(&proxy, estimate, endpoints[1])];
    assert!(before.iter().any(|known| *known > 0.0), "{before:?}");
    let again = text(&endpoints, "policy = \"peak_ewma\"\nslow_start = \"1s\"");
    reload(&proxy, &again.replacen("policy = \"round_robin\"\n", "", 1));
    assert_eq!([metric(&proxy, estimate, endpoints[0]), metric(&proxy, estimate, endpoints[1])], before);
    proxy.get("/");
    eventually("the count of one more", || {
        (requests(endpoints[0]) + requests(endpoints[1]) - 21.0).abs() < 0.5
    });
}

#[test]
fn an_endpoint_that_joins_starts_slowly() {
    let origins = [answers("a"), answers("b")];
    let endpoints = origins.each_ref().map(Origin::address);
    let proxy = Proxy::start(&text(&endpoints[..1], ""));
    reload(&proxy, &text(&endpoints, ""));
    assert_eq!([0, 1].map(|index| state(&proxy, endpoints[index])), [State::Up, State::Warming]);
    let factor = metric(&proxy, "forebay_endpoint_weight_factor", endpoints[1]);
    assert!((0.1..0.5).contains(&factor), "{factor}");
    eventually("that it gets requests", || proxy.get("/").text() == "b");
    let joined = journal(&proxy, endpoints[1]);
    assert_eq!(joined.first().map(|entry| entry.words()), Some("joined the pool".to_owned()));
}

#[test]
fn an_endpoint_that_joins_is_checked_at_once_and_before_it_is_used() {
    let origins = [answers("a"), answers("b"), never_answers()];
    let endpoints = origins.each_ref().map(Origin::address);
    let checks =
        "[pool.app.health]\nkind = \"http\"\ninterval = \"1h\"\nfast_interval = \"1h\"\ntimeout = \"2s\"";
    let proxy = Proxy::start(&text(&endpoints[..1], checks));
    eventually("the first check", || state(&proxy, endpoints[0]) == State::Up);
    reload(&proxy, &text(&endpoints, checks));
    assert_eq!(state(&proxy, endpoints[2]), State::Unchecked);
    eventually("that it passed", || state(&proxy, endpoints[1]) == State::Warming);
    for _ in 0..6 {
        assert_eq!(proxy.get("/").status(), 200);
    }
    let asked =
        || origins[0].requests().iter().filter(|request| request.field("host") != Some("test")).count();
    assert_eq!(asked(), 1, "who was checked is not checked for it");
}

#[test]
fn an_endpoint_that_leaves_ends_what_it_has_begun() {
    let gate = Arc::new(Gate::default());
    let held = Arc::clone(&gate);
    let slow = Origin::run(move |conn| {
        while conn.request().is_some() {
            conn.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234");
            held.pass();
            conn.send("56789");
        }
    });
    let other = answers("b");
    let proxy = Proxy::start(&text(&[slow.address()], ""));
    let mut client = proxy.connect();
    client.send("GET /slow HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(client.head().expect("a head").status(), 200);
    reload(&proxy, &text(&[other.address()], ""));
    assert_eq!(proxy.get("/").text(), "b");
    let left = journal(&proxy, slow.address());
    assert!(left.last().is_some_and(|entry| entry.event.what == What::Left), "{left:?}");
    gate.open();
    assert_eq!(client.take(10), b"0123456789");
    drop(client);

    // What was counted of it is shown until somebody has seen it, and then no more.
    let labels = [("pool", "app"), ("endpoint", &*slow.address().to_string())];
    let up = [("pool", "app"), ("state", "up")];
    assert_eq!(proxy.metrics().sum("forebay_pool_endpoints", &up), 1.0);
    for metric in ["forebay_endpoint_state", "forebay_endpoint_requests_total"] {
        eventually("that it is forgotten", || !proxy.metrics().has(metric, &labels));
    }
    assert_eq!(proxy.metrics().sum("forebay_pool_endpoints", &up), 1.0);
}

#[test]
fn a_pool_that_is_removed_is_forgotten() {
    let origin = answers("a");
    let both =
        text(&[origin.address()], "") + &format!("[pool.other]\nendpoints = [\"{}\"]\n", origin.address());
    let both = both.replace("[[route]]\npool = \"app\"", "[[route]]\nsplit = { app = 1, other = 1 }");
    let proxy = Proxy::start(&both);
    for _ in 0..4 {
        proxy.get("/");
    }
    let other = [("pool", "other")];
    assert!(proxy.metrics().has("forebay_pool_endpoints", &other));
    reload(&proxy, &text(&[origin.address()], ""));
    assert_eq!(proxy.get("/").text(), "a");
    let entries = proxy.server().running().health().record().entries();
    assert!(entries.iter().any(|entry| entry.pool.as_str() == "other" && entry.event.what == What::Left));
    eventually("that no metric is of it", || {
        !proxy.ask_admin("/metrics").text().lines().any(|line| line.contains("pool=\"other\""))
    });
    reload(&proxy, &both);
    assert!(proxy.metrics().has("forebay_pool_endpoints", &other));
}

#[test]
fn checks_keep_their_rhythm() {
    let origins = [answers("a"), answers("b")];
    let endpoints = origins.each_ref().map(Origin::address);
    let checks = "[pool.app.health]\nkind = \"http\"\ninterval = \"1h\"\nfast_interval = \"1h\"";
    let proxy = Proxy::start(&text(&endpoints, checks));
    let is_known = |endpoint: &SocketAddr| state(&proxy, *endpoint) == State::Up;
    eventually("the first checks", || endpoints.iter().all(is_known));
    for round in 1..=20 {
        // Only what checks have nothing to do with.
        reload(&proxy, &text(&endpoints, checks));
        let turned = [endpoints[1], endpoints[0]];
        reload(&proxy, &text(&turned, &format!("slow_start = \"{round}s\"\n{checks}")));
        change(&proxy, endpoints[0], Wish::Adjust(Patch { weight: Some(round), ..Patch::default() }));
        assert!(endpoints.iter().all(is_known));
    }
    // The control thread does one thing after the other, and these come after all of that.
    let other = answers("c");
    reload(&proxy, &text(&[endpoints[0], endpoints[1], other.address()], checks));
    eventually("the check of another", || state(&proxy, other.address()) != State::Unchecked);
    for origin in &origins {
        assert!(origin.requests().len() <= 2, "{} checks in no time", origin.requests().len());
    }
}

#[test]
fn checks_that_are_new_take_nobody_out_before_they_fail() {
    let unfit = Origin::run(|conn| {
        while let Some(request) = conn.request() {
            let is_check = request.target() == "/healthz";
            let response = "HTTP/1.1 500 Unfit\r\nContent-Length: 0\r\n\r\n".to_owned();
            conn.send(if is_check { response } else { ok("b") });
        }
    });
    let origins = [answers("a"), unfit];
    let endpoints = origins.each_ref().map(Origin::address);
    let proxy = Proxy::start(&text(&endpoints, ""));
    assert_eq!(proxy.get("/").status(), 200);
    let often = "interval = \"20ms\"\nfast_interval = \"20ms\"\ntimeout = \"50ms\"";
    reload(
        &proxy,
        &text(&endpoints, &format!("[pool.app.health]\nkind = \"http\"\npath = \"/healthz\"\n{often}")),
    );
    let states = endpoints.map(|endpoint| state(&proxy, endpoint));
    assert!(!states.contains(&State::Unchecked), "{states:?}");
    eventually("that the other is down", || state(&proxy, endpoints[1]) == State::Down);
    assert!((0..4).all(|_| proxy.get("/").text() == "a"));
    reload(&proxy, &text(&endpoints, ""));
    assert_eq!(state(&proxy, endpoints[1]), State::Warming);
}

#[test]
fn a_pool_without_endpoints_answers_503() {
    let origin = answers("a");
    let proxy = Proxy::start(&text(&[origin.address()], ""));
    assert_eq!(proxy.get("/").status(), 200);
    change(&proxy, origin.address(), Wish::Remove);
    let response = proxy.get("/");
    assert_eq!(response.status(), 503, "{}", response.text());
    assert!(proxy.server().running().health().is_open());
    let metrics = proxy.metrics();
    let app = [("pool", "app")];
    assert!(metrics.has("forebay_pool_endpoints", &app));
    assert_eq!(metrics.sum("forebay_pool_endpoints", &app), 0.0);
    let entries = proxy.server().running().health().record().entries();
    assert!(!entries.iter().any(|entry| matches!(entry.event.what, What::FailedOpen { .. })), "{entries:?}");
    change(&proxy, origin.address(), Wish::Add(Patch::default()));
    assert_eq!((proxy.get("/").status(), state(&proxy, origin.address())), (200, State::Up));
}
