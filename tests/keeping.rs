//! What goes on over a change of the configuration, over real sockets: counts, queues, buckets, estimates,
//! and requests under way. That connections do is shown elsewhere.

#![expect(clippy::unwrap_used, reason = "what is not as expected fails the test")]

mod support;

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};

use forebay::config;
use forebay::control::running::Replaced;
use forebay::upstream::{Pool, Snapshot};
use support::*;

/// Lets so many requests go that wait at an origin.
#[derive(Debug, Default)]
struct Hold(Mutex<(usize, usize)>, Condvar);

impl Hold {
    /// An origin that answers a request once it may go.
    fn origin(self: &Arc<Self>) -> Origin {
        let hold = Arc::clone(self);
        Origin::run(move |conn| {
            while conn.request().is_some() {
                hold.pass();
                if !conn.send(ok("held")) {
                    return;
                }
            }
        })
    }

    fn pass(&self) {
        let mut state = self.0.lock().unwrap();
        state.0 += 1;
        let (mut state, _) = self.1.wait_timeout_while(state, DEADLINE, |state| state.1 == 0).unwrap();
        *state = (state.0 - 1, state.1.saturating_sub(1));
    }

    fn let_go(&self, n: usize) {
        self.0.lock().unwrap().1 += n;
        self.1.notify_all();
    }

    /// Waits until so many are held.
    #[track_caller]
    fn wait(&self, n: usize) {
        eventually("requests at the origin", || self.0.lock().unwrap().0 == n);
    }
}

/// One listener, and these tables.
fn text(tables: &str) -> String {
    format!(
        "workers = 1\n[admin]\nbind = \"127.0.0.1:0\"\n[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n{tables}"
    )
}

fn start(tables: &str) -> Proxy {
    Proxy::start(&text(tables))
}

/// Has these tables in force instead.
#[track_caller]
fn change(proxy: &Proxy, tables: &str) -> Replaced {
    let plan = config::from_str("test.toml", &text(tables), &|_| None, Path::new("."));
    proxy.server().running().replace(plan.unwrap()).unwrap()
}

fn snapshot(proxy: &Proxy) -> Arc<Snapshot> {
    proxy.server().running().published().load_full()
}

fn pool(proxy: &Proxy, name: &str) -> Arc<Pool> {
    let snapshot = snapshot(proxy);
    let pool = snapshot.pools.iter().find(|pool| pool.settings.name.as_str() == name);
    Arc::clone(pool.unwrap())
}

fn ask(proxy: &Proxy) -> Link {
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    client
}

#[track_caller]
fn wait_for_line(proxy: &Proxy, n: usize) {
    eventually("requests that wait", || proxy.metrics().sum("forebay_pool_waiting", &[]) == n as f64);
}

#[test]
fn who_waits_keeps_its_place_over_a_changed_limit() {
    let hold = Arc::new(Hold::default());
    let origin = hold.origin();
    let tables = |in_flight: u32, waiting: u32| {
        format!(
            "[[route]]\npool = \"app\"\n[pool.app]\nendpoints = [\"{}\"]\n\
             limits = {{ in_flight = {in_flight}, waiting = {waiting}, wait = \"30s\" }}\n",
            origin.address()
        )
    };
    let proxy = start(&tables(1, 10));
    let mut first = ask(&proxy);
    hold.wait(1);
    let mut others = [ask(&proxy), ask(&proxy), ask(&proxy)];
    wait_for_line(&proxy, 3);
    // Shorter than it is: nobody is sent away, and nobody else gets in.
    change(&proxy, &tables(1, 2));
    wait_for_line(&proxy, 3);
    assert_eq!(ask(&proxy).response().status(), 503);
    // Room for two more: two of those that wait are let in at once.
    change(&proxy, &tables(3, 2));
    hold.wait(3);
    wait_for_line(&proxy, 1);
    assert_eq!(proxy.metrics().sum("forebay_pool_in_flight", &[]), 3.0);
    // Less room than there are inside: they stay.
    change(&proxy, &tables(1, 2));
    hold.let_go(4);
    assert_eq!(first.response().status(), 200);
    for other in &mut others {
        assert_eq!(other.response().status(), 200);
    }
    eventually("nobody is inside", || proxy.metrics().sum("forebay_pool_in_flight", &[]) == 0.0);
    assert_eq!(proxy.metrics().sum("forebay_pool_in_flight_limit", &[]), 1.0);
}

#[test]
fn who_waits_for_an_endpoint_hears_of_room() {
    let hold = Arc::new(Hold::default());
    let origin = hold.origin();
    let tables = |limit: &str| {
        format!(
            "[[route]]\npool = \"app\"\n[pool.app]\nendpoints = [\"{}\"]\n\
             limits = {{ {limit} wait = \"30s\" }}\n",
            origin.address()
        )
    };
    for limit in ["endpoint_in_flight = 1,", "endpoint_connections = 1,", "connections = 1,"] {
        let proxy = start(&tables(limit));
        let mut clients = [ask(&proxy), ask(&proxy), ask(&proxy)];
        hold.wait(1);
        wait_for_line(&proxy, 2);
        change(&proxy, &tables(""));
        hold.wait(3);
        hold.let_go(3);
        for client in &mut clients {
            assert_eq!(client.response().status(), 200, "{limit}");
        }
        // A limit that comes back counts the connections that are there.
        change(&proxy, &tables("endpoint_connections = 3,"));
        assert!(pool(&proxy, "app").endpoints[0].places.limit_connections());
        let mut client = ask(&proxy);
        hold.wait(1);
        hold.let_go(1);
        assert_eq!(client.response().status(), 200);
    }
}

#[test]
fn counts_and_estimates_go_on() {
    let (one, other) = (answers("one"), answers("other"));
    let tables = |weight: u32, route: &str| {
        format!(
            "[[route]]\nname = \"main\"\npool = \"app\"\n{route}\n\
             [pool.app]\npolicy = \"round_robin\"\n\
             endpoints = [{{ address = \"{}\", weight = {weight} }}, \"{}\"]\n",
            one.address(),
            other.address()
        )
    };
    let proxy = start(&tables(1, ""));
    (0..20).for_each(|_| assert_eq!(proxy.get("/").status(), 200));
    let before = pool(&proxy, "app");
    let estimates: Vec<_> = before.gauges.iter().map(|gauge| gauge.estimate().unwrap()).collect();
    change(&proxy, &tables(50, "timeouts = { request = \"9s\" }"));
    let after = pool(&proxy, "app");
    assert!(!Arc::ptr_eq(&before, &after));
    assert_eq!(after.gauges.iter().map(|gauge| gauge.estimate().unwrap()).collect::<Vec<_>>(), estimates);
    (0..20).for_each(|_| assert_eq!(proxy.get("/").status(), 200));
    let metrics = proxy.metrics();
    assert_eq!(metrics.sum("forebay_requests_total", &[("route", "main"), ("class", "2xx")]), 40.0);
    assert_eq!(metrics.sum("forebay_endpoint_requests_total", &[("pool", "app")]), 40.0);
    assert!(one.requests().len() > other.requests().len() + 5, "the weight counts");
    assert_eq!(metrics.sum("forebay_config_generation", &[]), 2.0);
}

#[test]
fn buckets_go_on_over_a_change_of_their_route() {
    let origin = answers("hello");
    let tables = |burst: u32, more: &str| {
        format!(
            "[[route]]\npool = \"app\"\nfilters = [{{ rate_limit = {{ rate = \"1/h\", burst = {burst} }} }}]\n\
             {more}\n[pool.app]\nendpoints = [\"{}\"]\n",
            origin.address()
        )
    };
    let proxy = start(&tables(2, ""));
    assert_eq!(proxy.get("/").status(), 200);
    change(&proxy, &tables(2, "timeouts = { request = \"9s\" }"));
    assert_eq!([proxy.get("/").status(), proxy.get("/").status()], [200, 429]);
    change(&proxy, &tables(3, ""));
    assert_eq!(proxy.get("/").status(), 200, "another limit begins anew");
    assert_eq!(proxy.metrics().sum("forebay_rate_limited_total", &[]), 1.0);
}

#[test]
fn pools_stand_in_for_each_other_in_any_order() {
    let (down, good) = (refuses(), answers("stood in"));
    let a = format!(
        "[pool.a]\nendpoints = [\"{}\"]\n[pool.a.degradation]\nladder = [{{ pool = \"b\" }}]\n",
        down.address()
    );
    let b = format!("[pool.b]\nendpoints = [\"{}\"]\n", good.address());
    let c = "[pool.c]\nendpoints = [\"127.0.0.1:1\"]\n";
    let routes = "[[route]]\npool = \"a\"\n[[route]]\npath = \"/c\"\npool = \"c\"\n";
    let proxy = start(&format!("{routes}{a}{b}{c}"));
    assert_eq!(proxy.get("/").text(), "stood in");
    let before = pool(&proxy, "a");
    for order in [[c, &a, &b], [&b, c, &a], [&a, c, &b]] {
        change(&proxy, &format!("{routes}{}", order.concat()));
        assert!(Arc::ptr_eq(&before, &pool(&proxy, "a")));
        assert_eq!(proxy.get("/").text(), "stood in");
    }
}

#[test]
fn a_request_ends_at_an_endpoint_that_was_removed() {
    let hold = Arc::new(Hold::default());
    let (leaving, staying) = (hold.origin(), answers("staying"));
    let tables = |origin: &Origin| {
        format!("[[route]]\npool = \"app\"\n[pool.app]\nendpoints = [\"{}\"]\n", origin.address())
    };
    let proxy = start(&tables(&leaving));
    let mut client = ask(&proxy);
    hold.wait(1);
    change(&proxy, &tables(&staying));
    assert_eq!(proxy.get("/").text(), "staying");
    assert_eq!(proxy.metrics().sum("forebay_pool_in_flight", &[]), 1.0, "it is counted on");
    hold.let_go(1);
    assert_eq!(client.response().text(), "held");
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(client.response().text(), "staying", "on the same connection");
    let gone = leaving.address().to_string();
    eventually("its counts are forgotten", || {
        !proxy.metrics().has("forebay_endpoint_requests_total", &[("endpoint", &gone)])
    });
}

#[test]
fn a_log_that_is_not_wanted_any_more_ends_whole() {
    let hold = Arc::new(Hold::default());
    let origin = hold.origin();
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    let tables = |logged: bool| {
        let log =
            if logged { format!("access_log = {{ path = \"{}\" }}\n", log.display()) } else { String::new() };
        format!("{log}[[route]]\npool = \"app\"\n[pool.app]\nendpoints = [\"{}\"]\n", origin.address())
    };
    let proxy = start(&tables(true));
    let mut client = ask(&proxy);
    hold.wait(1);
    change(&proxy, &tables(false));
    hold.let_go(1);
    assert_eq!(client.response().status(), 200);
    // The request belongs to what it began with.
    eventually("its line is written", || std::fs::read_to_string(&log).unwrap().lines().count() == 1);
    hold.let_go(1);
    assert_eq!(proxy.get("/").status(), 200);
    assert_eq!(std::fs::read_to_string(&log).unwrap().lines().count(), 1);
}
