//! What the number of metrics is held to: what `check` says of a configuration, what a scrape of it then
//! holds, and what becomes of endpoints for which there is no room.

mod support;

use forebay::config::{self, Plan};
use forebay::control::series::shape_as_written;
use forebay::observe::metrics::{Expected, expected};
use support::*;

fn text(proxy: &Proxy) -> String {
    proxy.ask_admin("/metrics").text()
}

fn series(text: &str) -> usize {
    text.lines().filter(|line| !line.starts_with('#')).count()
}

fn plan(toml: &str) -> Plan {
    config::from_str("test.toml", toml, &|_| None, ".".as_ref()).unwrap_or_else(|report| {
        #[expect(clippy::panic, reason = "fails the test")]
        {
            panic!("{report:?}")
        }
    })
}

/// Listeners of every kind and two pools with nearly everything that has series, in front of these endpoints.
fn with_everything(good: &[std::net::SocketAddr], metrics: &str) -> String {
    let endpoints = format!("{:?}", good.iter().map(ToString::to_string).collect::<Vec<_>>());
    format!(
        r#"
workers = 2
[metrics]
{metrics}
[admin]
bind = "127.0.0.1:0"
[overload]
memory = "64GiB"
[[listener]]
name = "web"
bind = "127.0.0.1:0"
[[listener]]
name = "other"
bind = "127.0.0.1:0"
[[listener]]
name = "bytes"
bind = "127.0.0.1:0"
protocol = "tcp"
split = {{ app = 1, calls = 1 }}
[[listener]]
name = "datagrams"
bind = "127.0.0.1:0"
protocol = "udp"
split = {{ app = 1, calls = 1 }}
[[route]]
name = "split"
listener = "web"
split = {{ app = 1, calls = 1 }}
filters = [{{ rate_limit = {{ rate = "1000000/s" }} }}]
[[route]]
name = "fixed"
path = "/fixed"
filters = [{{ respond = {{ status = 200 }} }}]
[pool.app]
endpoints = {endpoints}
health = {{ kind = "http", interval = "100ms" }}
breaker = {{ scope = "endpoint" }}
[[pool.app.degradation.ladder]]
[pool.app.degradation.ladder.stale]
[[pool.app.degradation.ladder]]
respond = {{ status = 503 }}
[pool.calls]
endpoints = {endpoints}
health = {{ kind = "tcp", interval = "100ms" }}
breaker = {{}}
autoscaling = {{ endpoint_in_flight = 10 }}
limits = {{ adaptive = {{ mode = "observe" }}, admission = {{ mode = "observe" }} }}
"#
    )
}

#[test]
fn a_scrape_holds_as_many_series_as_check_says() {
    let origins = [answers("one"), answers("two")];
    let addresses = origins.each_ref().map(Origin::address);
    let toml = with_everything(&addresses, "");
    let plan = plan(&toml);
    let Expected { all, folded, .. } = expected(&shape_as_written(&plan, 2), &plan.metrics);
    assert_eq!(folded, 0);
    let proxy = Proxy::start(&toml);
    let everything_has_happened = || {
        proxy.get("/");
        let metrics = proxy.metrics();
        let estimates = metrics.matching("forebay_endpoint_latency_estimate_seconds", &[]).count();
        let checks = metrics.matching("forebay_endpoint_checks_total", &[]).count();
        let looped =
            metrics.has("forebay_adaptive_limit", &[]) && metrics.has("forebay_admission_probability", &[]);
        let scaled = metrics.has("forebay_pool_desired_endpoints", &[]);
        let memory = metrics.has("forebay_overload_memory_bytes", &[]);
        estimates == 4 && checks == 8 && looped && scaled && memory
    };
    eventually("everything that has series has happened", everything_has_happened);
    let text = text(&proxy);
    assert_eq!(series(&text), all, "{text}");
}

#[test]
fn endpoints_for_which_there_is_no_room_are_shown_together() {
    let origins: Vec<_> = (0..30).map(|_| answers("here")).collect();
    let addresses: Vec<_> = origins.iter().map(Origin::address).collect();
    let toml = |metrics: &str, addresses: &[std::net::SocketAddr]| {
        let endpoints: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        format!(
            "workers = 1\n[metrics]\n{metrics}\n[admin]\nbind = \"127.0.0.1:0\"\n\
             [[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n[[route]]\npool = \"app\"\n\
             [pool.app]\nendpoints = {endpoints:?}\npolicy = \"round_robin\"\n"
        )
    };
    let budget = "max_series = 1000";
    let plan = plan(&toml(budget, &addresses));
    let Expected { all, shown, folded, .. } = expected(&shape_as_written(&plan, 1), &plan.metrics);
    assert!(all > 1000 && shown > 3 && shown + folded == 30, "{shown} and {folded} of {all}");
    let proxy = Proxy::start(&toml(budget, &addresses));
    for _ in 0..60 {
        assert_eq!(proxy.get("/").status(), 200);
    }
    let requests = "forebay_endpoint_requests_total";
    let of = |metrics: &Metrics, endpoint: &str| metrics.sum(requests, &[("endpoint", endpoint)]);
    eventually("every request is counted", || proxy.metrics().sum(requests, &[]) == 60.0);
    let text = text(&proxy);
    assert!(series(&text) <= 1000, "{} series", series(&text));
    let metrics = proxy.metrics();
    assert_eq!(of(&metrics, "other"), folded as f64 * 2.0, "two of each");
    assert_eq!(metrics.matching(requests, &[]).count(), shown + 1);
    assert!(metrics.sum("forebay_series_dropped", &[]) >= (all - 1000) as f64);
    let endpoints = proxy.server().endpoints();
    assert!(
        endpoints.iter().all(|endpoint| endpoint.totals.requests == 2),
        "each is still counted by itself"
    );
    // Ten of those that have no series of their own leave; what they have counted does not.
    proxy.reload(&toml(budget, addresses.get(..20).unwrap_or_default())).expect("it is a good plan");
    eventually("they are forgotten", || {
        let metrics = proxy.metrics();
        assert_eq!(of(&metrics, "other"), folded as f64 * 2.0);
        metrics.sum("forebay_pool_endpoints", &[]) == 20.0
    });
    for _ in 0..3 {
        assert_eq!(of(&proxy.metrics(), "other"), folded as f64 * 2.0);
    }
}

#[test]
fn what_metrics_go_by_takes_a_restart() {
    let origin = answers("here");
    let toml = |metrics: &str| {
        format!(
            "workers = 1\n[metrics]\n{metrics}\n[admin]\nbind = \"127.0.0.1:0\"\n\
             [[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n[[route]]\npool = \"app\"\n\
             [pool.app]\nendpoints = \"{}\"\n",
            origin.address()
        )
    };
    let proxy = Proxy::start(&toml("buckets = [\"5ms\", \"1s\"]"));
    let replaced =
        proxy.server().running().replace(plan(&toml("buckets = [\"7ms\"]"))).expect("it is a good plan");
    assert_eq!(replaced.restart, ["metrics"]);
    assert_eq!(proxy.get("/").status(), 200);
    let metrics = proxy.metrics();
    let all = metrics.matching("forebay_request_duration_seconds_bucket", &[("pool", "app")]);
    let bounds: Vec<_> = all.filter_map(|(labels, _)| labels.get("le").cloned()).collect();
    assert_eq!(bounds, ["0.005", "1", "+Inf"]);
}

#[test]
fn workers_say_how_much_they_have_to_do() {
    let origin = answers("here");
    let proxy = Plain::default().to(&[origin.address()]);
    let worker = [("worker", "0")];
    let before = proxy.metrics().sum("forebay_worker_busy_seconds_total", &worker);
    let mut open: Vec<_> = (0..3).map(|_| proxy.connect()).collect();
    for client in &mut open {
        client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        assert_eq!(client.response().status(), 200);
    }
    assert_eq!(proxy.metrics().sum("forebay_worker_connections", &worker), 3.0);
    eventually("work is counted", || {
        let metrics = proxy.metrics();
        let busy = metrics.sum("forebay_worker_busy_seconds_total", &worker);
        // What was due and has come back is late by something.
        busy > before && metrics.sum("forebay_worker_loop_lag_seconds", &worker) > 0.0
    });
    drop(open);
    eventually("they are gone", || proxy.metrics().sum("forebay_worker_connections", &worker) == 0.0);
}
