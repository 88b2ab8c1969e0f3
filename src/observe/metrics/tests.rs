use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::*;

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn route(pool: Option<&str>) -> RouteLabels {
    RouteLabels { listener: name("web"), route: name("all"), pool: pool.map(name) }
}

fn text(registry: &Registry) -> String {
    String::from_utf8(registry.render()).unwrap()
}

/// The value of the one sample that is written as `sample`.
fn value(text: &str, sample: &str) -> f64 {
    let mut found = text.lines().filter_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    let value = found.next().unwrap_or_else(|| panic!("no {sample} in:\n{text}"));
    assert_eq!(found.next(), None, "{sample} twice");
    value.parse().unwrap()
}

fn requests(seconds: Duration, status: u16) -> Finished {
    Finished { status, first_byte: Some(seconds / 2), duration: seconds }
}

#[test]
fn sums_over_workers_are_exact() {
    const WORKERS: usize = 4;
    const EACH: u64 = 20_000;
    let registry = Registry::new(WORKERS);
    let gauge = Arc::new(Gauge::new(1, crate::ambient::now()));
    // Whatever nobody holds any more is forgotten once it was shown.
    let _held = (
        registry.route(&route(Some("app"))),
        registry.listener(&name("web")),
        registry.endpoint(&name("app"), "127.0.0.1:9001", &gauge),
    );
    std::thread::scope(|scope| {
        for worker in 0..WORKERS {
            let (route, listener) = (registry.route(&route(Some("app"))), registry.listener(&name("web")));
            let endpoint = registry.endpoint(&name("app"), "127.0.0.1:9001", &gauge);
            let shard = Shard::worker(worker);
            scope.spawn(move || {
                for i in 0..EACH {
                    listener.accepted(shard);
                    route.finish(
                        shard,
                        &requests(Duration::from_millis(2), if i % 4 == 0 { 503 } else { 200 }),
                    );
                    endpoint.requested(shard);
                    endpoint.sent(shard, 100);
                }
                (0..EACH - 1).for_each(|_| listener.closed(shard));
            });
        }
        for _ in 0..20 {
            text(&registry);
        }
    });
    let text = text(&registry);
    let all = EACH as f64 * WORKERS as f64;
    let of = r#"{listener="web",route="all",pool="app""#;
    assert_eq!(value(&text, &format!(r#"forebay_requests_total{of},class="2xx"}}"#)), all * 0.75);
    assert_eq!(value(&text, &format!(r#"forebay_requests_total{of},class="5xx"}}"#)), all * 0.25);
    assert_eq!(value(&text, &format!("forebay_request_duration_seconds_count{of}}}")), all);
    assert_eq!(value(&text, &format!(r#"forebay_request_duration_seconds_bucket{of},le="0.0025"}}"#)), all);
    assert_eq!(value(&text, &format!(r#"forebay_request_duration_seconds_bucket{of},le="0.001"}}"#)), 0.0);
    assert_eq!(value(&text, &format!("forebay_time_to_first_byte_seconds_sum{of}}}")), all * 0.001);
    assert_eq!(value(&text, r#"forebay_connections_active{listener="web"}"#), WORKERS as f64);
    let endpoint = r#"{pool="app",endpoint="127.0.0.1:9001"}"#;
    assert_eq!(value(&text, &format!("forebay_endpoint_requests_total{endpoint}")), all);
    assert_eq!(value(&text, &format!("forebay_endpoint_sent_bytes_total{endpoint}")), all * 100.0);
}

#[test]
fn the_same_labels_are_the_same_handle() {
    let registry = Registry::new(1);
    let gauge = Arc::new(Gauge::new(1, crate::ambient::now()));
    assert!(Arc::ptr_eq(&registry.listener(&name("web")), &registry.listener(&name("web"))));
    assert!(Arc::ptr_eq(&registry.route(&route(Some("a"))), &registry.route(&route(Some("a")))));
    assert!(!Arc::ptr_eq(&registry.route(&route(Some("a"))), &registry.route(&route(None))));
    let endpoint = |pool, address| registry.endpoint(&name(pool), address, &gauge);
    assert!(Arc::ptr_eq(&endpoint("a", "[::1]:80"), &endpoint("a", "[::1]:80")));
    assert!(!Arc::ptr_eq(&endpoint("a", "[::1]:80"), &endpoint("b", "[::1]:80")));
}

#[test]
fn what_is_removed_is_shown_once_more() {
    let registry = Registry::new(1);
    let sample = r#"forebay_connections_accepted_total{listener="web"} 1"#;
    let listener = registry.listener(&name("web"));
    listener.accepted(Shard::worker(0));
    assert!(text(&registry).contains(sample) && text(&registry).contains(sample));
    drop(listener);
    assert!(text(&registry).contains(sample));
    let again = registry.listener(&name("web"));
    assert!(text(&registry).contains(sample));
    drop(again);
    assert!(text(&registry).contains(sample));
    assert!(!text(&registry).contains("listener=\"web\""));
}

#[test]
fn requests_in_flight_are_the_gauges() {
    let registry = Registry::new(1);
    let (old, new) =
        (Arc::new(Gauge::new(1, crate::ambient::now())), Arc::new(Gauge::new(1, crate::ambient::now())));
    let endpoint = registry.endpoint(&name("app"), "unix:/run/app", &old);
    let in_flight = r#"forebay_endpoint_requests_in_flight{pool="app",endpoint="unix:/run/app"}"#;
    old.begin(crate::ambient::now());
    assert_eq!(value(&text(&registry), in_flight), 1.0);
    assert_eq!(endpoint.totals().in_flight, 1);
    let _same = registry.endpoint(&name("app"), "unix:/run/app", &new);
    assert_eq!(value(&text(&registry), in_flight), 0.0);
}

#[test]
fn a_request_without_route_is_counted_all_the_same() {
    let registry = Registry::new(1);
    let listener = registry.listener(&name("web"));
    listener.refused(Shard::worker(0), 404);
    listener.timed_out(Shard::worker(0), ClientTimeout::Header);
    let text = text(&registry);
    assert_eq!(value(&text, r#"forebay_requests_total{listener="web",route="",pool="",class="4xx"}"#), 1.0);
    assert_eq!(value(&text, r#"forebay_client_timeouts_total{listener="web",timeout="header"}"#), 1.0);
}

#[test]
fn the_process_describes_itself() {
    let registry = Registry::new(3);
    registry.config().set_generation(7);
    let text = text(&registry);
    assert_eq!(value(&text, "forebay_workers"), 3.0);
    assert_eq!(value(&text, "forebay_config_generation"), 7.0);
    let started = value(&text, "process_start_time_seconds");
    let now = crate::ambient::wall().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    assert!((now - 3600.0..=now + 1.0).contains(&started), "{started} against {now}");
    assert!(value(&text, "process_resident_memory_bytes") > 1e5);
    let fds = value(&text, "process_open_fds");
    assert!(fds >= 3.0 && fds <= value(&text, "process_max_fds"));
}

/// A registry with nearly every family in it, labels that need escaping, and endpoints that are shown
/// together.
fn full() -> (Arc<Registry>, Vec<Arc<dyn std::any::Any>>) {
    let (registry, _) = cramped(1);
    let (app, gauge) = (name("app"), Arc::new(Gauge::new(1, crate::ambient::now())));
    gauge.set_estimate(Duration::from_millis(1), crate::ambient::now());
    let mut held: Vec<Arc<dyn std::any::Any>> = Vec::new();
    for address in ["unix:/a \"b\"\\c\nd", "127.0.0.1:1", "127.0.0.1:2"] {
        let endpoint = registry.endpoint(&app, address, &gauge);
        endpoint.responded(Shard::worker(0), 200, Duration::from_millis(3));
        endpoint.failed(Shard::CONTROL, FailureKind::Reset);
        let health = registry.endpoint_health(&app, address, &gauge);
        health.checked(true);
        let breaker = registry.breaker(&app, Some(address));
        held.extend([endpoint as Arc<dyn std::any::Any>, health, breaker]);
    }
    let (routed, pool, loops) =
        (registry.route(&route(Some("app"))), registry.pool(&app), registry.loops(&app));
    routed.finish(Shard::worker(0), &requests(Duration::from_millis(7), 200));
    pool.set_scale(0.5, Some(&crate::limit::scale::Scale { needed: 1.5, desired: 2 }));
    loops.set_limit(7, Duration::from_millis(1), Duration::from_millis(2));
    loops.set_probability(1 << 31);
    let (health, ladder) = (
        registry.pool_health(&app, ["latency"].into_iter()),
        registry.ladder(&app, vec!["stale".to_owned()]),
    );
    health.check_took(Duration::from_millis(1));
    ladder.set_kept(1000);
    registry.config().succeeded("0f", crate::ambient::wall());
    registry.overload().set_memory(1, 2);
    held.extend([
        routed as Arc<dyn std::any::Any>,
        registry.route(&route(None)),
        registry.listener(&name("web")),
    ]);
    held.extend([pool as Arc<dyn std::any::Any>, loops, health, ladder, registry.breaker(&app, None)]);
    held.extend([
        registry.rate_limit(&name("all"), &name("client")) as Arc<dyn std::any::Any>,
        registry.discovery(&app),
    ]);
    (registry, held)
}

#[test]
fn the_text_is_well_formed() {
    let (registry, _held) = full();
    let text = text(&registry);
    let (mut families, mut samples) = (BTreeMap::new(), BTreeSet::new());
    let (mut helped, mut typed) = ("", "");
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            helped = help.split_once(' ').unwrap().0;
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (family, kind) = kind.split_once(' ').unwrap();
            assert_eq!(family, helped, "HELP stands before TYPE");
            assert_eq!(families.insert(family, kind), None, "{family} is declared once");
            assert_eq!(kind == "counter", family.ends_with("_total"), "{family}");
            assert_eq!(kind == "histogram", HISTOGRAMS.contains(&family), "{family}");
            let base = ["_milliseconds", "_ms", "_micros", "_kilobytes", "_percent"];
            assert!(base.iter().all(|unit| !family.contains(unit)), "{family} is in a base unit");
            typed = family;
        } else {
            let (sample, value) = line.rsplit_once(' ').unwrap();
            value.parse::<f64>().unwrap();
            assert!(sample.starts_with(typed), "{sample} stands under {typed}");
            assert!(samples.insert(sample), "{sample} occurs once");
        }
    }
    assert!(families.keys().all(|family| family.starts_with("forebay_") || family.starts_with("process_")));
    for histogram in HISTOGRAMS {
        assert!(families.contains_key(histogram) && histogram.ends_with("_seconds"), "{histogram}");
    }
    let escaped = r#"forebay_endpoint_requests_total{pool="app",endpoint="unix:/a \"b\"\\c\nd"}"#;
    assert!(samples.contains(escaped), "{text}");
}

const HISTOGRAMS: [&str; 5] = [
    "forebay_request_duration_seconds",
    "forebay_time_to_first_byte_seconds",
    "forebay_endpoint_time_to_first_byte_seconds",
    "forebay_queue_seconds",
    "forebay_pool_check_duration_seconds",
];

#[test]
fn promtool_finds_nothing_to_complain_about() {
    let (registry, _held) = full();
    let promtool =
        Command::new("promtool").args(["check", "metrics"]).stdin(Stdio::piped()).output_of(&registry);
    match promtool {
        Ok(complaints) => assert_eq!(complaints, ""),
        #[expect(clippy::print_stderr, reason = "says why the test checked nothing")]
        Err(error) => eprintln!("skipped: promtool does not run here ({error})"),
    }
}

trait OutputOf {
    fn output_of(&mut self, registry: &Registry) -> std::io::Result<String>;
}

impl OutputOf for Command {
    fn output_of(&mut self, registry: &Registry) -> std::io::Result<String> {
        let mut child = self.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        child.stdin.take().unwrap().write_all(&registry.render())?;
        let output = child.wait_with_output()?;
        Ok(format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
    }
}

#[test]
fn readings_are_what_was_counted() {
    let registry = Registry::new(2);
    let (a, b, answered) = (
        registry.route(&RouteLabels { route: name("a"), ..route(Some("app")) }),
        registry.route(&RouteLabels { route: name("b"), ..route(Some("app")) }),
        registry.route(&route(None)),
    );
    let (_pool, listener) = (registry.pool(&name("app")), registry.listener(&name("web")));
    a.finish(Shard::worker(0), &requests(Duration::from_millis(2), 200));
    b.finish(Shard::worker(1), &requests(Duration::from_millis(40), 503));
    answered.finish(Shard::worker(1), &requests(Duration::from_millis(1), 301));
    listener.refused(Shard::worker(0), 404);
    for _ in 0..3 {
        listener.accepted(Shard::worker(1));
    }
    listener.closed(Shard::worker(1));
    let mut routes = Vec::new();
    registry.each_route(|labels, reading| routes.push((labels.route.as_str().to_owned(), reading)));
    let counted = routes.iter().map(|(route, reading)| (route.as_str(), reading.requests));
    let wanted = [("a", [0, 1, 0, 0, 0]), ("all", [0, 0, 1, 0, 0]), ("b", [0, 0, 0, 0, 1])];
    assert_eq!(counted.collect::<Vec<_>>(), wanted);
    assert!(routes[2].1.durations.quantile(1.0) > Some(Duration::from_millis(25)));
    assert_eq!(registry.requests_without_route(), [0, 0, 0, 1, 0]);
    let connections: Vec<_> = registry.workers_use().iter().map(|of| (of.worker, of.connections)).collect();
    assert_eq!(connections, [(0, 0), (1, 2)]);
    let text = text(&registry);
    assert_eq!(value(&text, r#"forebay_worker_connections{worker="1"}"#), 2.0);
    assert_eq!(value(&text, r#"forebay_worker_busy_seconds_total{worker="0"}"#), 0.0);
    assert_eq!(value(&text, r#"forebay_worker_loop_lag_seconds{worker="0"}"#), 0.0);
}

fn series(text: &str) -> usize {
    text.lines().filter(|line| !line.starts_with('#')).count()
}

/// A registry that has room for so many endpoints of a pool of four by themselves.
fn cramped(endpoints: usize) -> (Arc<Registry>, usize) {
    let shape = Shape { workers: 1, pools: 1, endpoints: 4, ..Shape::default() };
    let Expected { fixed, each, .. } = expected(&shape, &Metrics::default());
    let max_series = fixed + (endpoints + 1) * each;
    let settings = Metrics { max_series, ..Metrics::default() };
    let Expected { shown, folded, .. } = expected(&shape, &settings);
    assert_eq!((shown, folded), (endpoints, 4 - endpoints));
    let registry = Registry::with(1, &settings);
    registry.prepare(&shape);
    (registry, max_series)
}

#[test]
fn endpoints_past_the_budget_are_shown_together() {
    let (registry, max_series) = cramped(2);
    let gauge = Arc::new(Gauge::new(1, crate::ambient::now()));
    let pool = registry.pool(&name("app"));
    let health_of = |address: &str| registry.endpoint_health(&name("app"), address, &gauge);
    let endpoint = |address: &str, requests: u64| {
        let endpoint = registry.endpoint(&name("app"), address, &gauge);
        (0..requests).for_each(|_| endpoint.requested(Shard::worker(0)));
        endpoint.responded(Shard::worker(0), 200, Duration::from_millis(requests));
        (endpoint, health_of(address))
    };
    let requests = |text: &str, endpoint: &str| {
        let of = format!(r#"forebay_endpoint_requests_total{{pool="app",endpoint="{endpoint}"}}"#);
        text.contains(&of).then(|| value(text, &of))
    };
    let (a, b, c, d) = (endpoint("a", 1), endpoint("b", 2), endpoint("c", 3), endpoint("d", 4));
    c.1.ejected();
    gauge.begin(crate::ambient::now());
    let shown = text(&registry);
    assert_eq!(
        ["a", "b", "c", "d", "other"].map(|e| requests(&shown, e)),
        [Some(1.0), Some(2.0), None, None, Some(7.0)]
    );
    let other = r#"{pool="app",endpoint="other"}"#;
    assert_eq!(value(&shown, &format!("forebay_endpoint_time_to_first_byte_seconds_count{other}")), 2.0);
    assert_eq!(value(&shown, &format!("forebay_endpoint_ejections_total{other}")), 1.0);
    assert_eq!(value(&shown, &format!("forebay_endpoint_requests_in_flight{other}")), 2.0, "one of each");
    assert!(!shown.contains(&format!("forebay_endpoint_up{other}")), "of several that says nothing");
    assert_eq!(c.0.totals().requests, 3, "its own handle has what is its own");
    assert!(series(&shown) <= max_series, "{} of {max_series}", series(&shown));
    let dropped = value(&shown, "forebay_series_dropped");
    assert!(dropped > 80.0, "{dropped}");
    drop(c);
    for _ in 0..3 {
        assert_eq!(requests(&text(&registry), "other"), Some(7.0), "what c has counted stays");
    }
    assert!(value(&text(&registry), "forebay_series_dropped") < dropped);
    let (e, again) = (endpoint("e", 5), endpoint("c", 1));
    assert_eq!(requests(&text(&registry), "other"), Some(13.0));
    drop((a, e));
    text(&registry);
    let shown = text(&registry);
    assert_eq!((requests(&shown, "a"), requests(&shown, "other")), (None, Some(13.0)));
    let f = endpoint("f", 6);
    let shown = text(&registry);
    assert_eq!((requests(&shown, "f"), requests(&shown, "other")), (Some(6.0), Some(13.0)));
    drop((b, d, again, f));
    text(&registry);
    assert_eq!(requests(&text(&registry), "other"), Some(13.0));
    drop(pool);
    text(&registry);
    text(&registry);
    assert_eq!(requests(&text(&registry), "other"), None, "it goes with its pool");
}

#[test]
fn breakers_of_endpoints_past_the_budget_add_up() {
    let (registry, _) = cramped(1);
    let _pool = registry.pool(&name("app"));
    let breakers = ["a", "b", "c"].map(|address| registry.breaker(&name("app"), Some(address)));
    breakers.iter().for_each(|breaker| breaker.set(BreakerState::Open));
    let text = text(&registry);
    let opened = |endpoint| format!(r#"forebay_breaker_opened_total{{pool="app",endpoint="{endpoint}"}}"#);
    assert_eq!((value(&text, &opened("a")), value(&text, &opened("other"))), (1.0, 2.0));
    assert!(!text.contains(r#"forebay_breaker_state{pool="app",endpoint="other""#), "{text}");
}

#[test]
fn buckets_are_those_that_were_asked_for() {
    let ms = Duration::from_millis;
    let buckets = crate::model::settings::Buckets::new(vec![ms(1), ms(20)]).unwrap();
    let registry = Registry::with(1, &Metrics { buckets, ..Metrics::default() });
    let handle = registry.route(&route(Some("app")));
    for took in [ms(1), ms(2), ms(20), ms(21)] {
        handle.finish(Shard::worker(0), &requests(took, 200));
    }
    let text = text(&registry);
    let family = "forebay_request_duration_seconds_bucket";
    let found: Vec<_> =
        text.lines().filter_map(|line| line.strip_prefix(family)?.split_once("le=")).collect();
    let found: Vec<_> = found.into_iter().map(|(_, rest)| rest).collect();
    assert_eq!(found, ["\"0.001\"} 1", "\"0.02\"} 3", "\"+Inf\"} 4"]);
    assert_eq!(handle.p99(), None);
    assert_eq!(handle.durations().quantile(0.25), Some(ms(1)));
}
