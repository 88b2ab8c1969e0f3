//! What a decision costs, in process: choosing an endpoint under every policy, and finding the
//! route of a request among few and many; and what all that is counted of a request costs. Nothing here
//! opens a socket.

#![expect(clippy::print_stdout, reason = "a program that prints a table")]
#![expect(clippy::disallowed_methods, reason = "measures in real time, outside the proxy")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use forebay::balance::{self, Gauge, Kind, Pick, Setup, estimate};
use forebay::model::{Fields, Name};
use forebay::observe::Shard;
use forebay::observe::metrics::{Finished, Registry, RouteLabels};
use forebay::route::{HostMatch, PathMatch, Pattern, Rule, Table, View};
use http::Method;

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("decisions: runs under `cargo bench --bench decisions` only");
        return;
    }
    println!("| decision | ns, median | ns, least |\n|---|---|---|");
    picks();
    routes();
    counting();
}

/// All that metrics count of one request on kept connections, as its route, endpoint and listener do it.
fn counting() {
    let (registry, shard) = (Registry::new(1), Shard::worker(0));
    let [listener, route, pool] = ["web", "all", "app"].map(|name| Name::new(name).expect("it is a name"));
    let clients = registry.listener(&listener);
    let labels = RouteLabels { listener, route, pool: Some(pool.clone()) };
    let requests = registry.route(&labels);
    let endpoint = registry.endpoint(&pool, "127.0.0.1:1", &Arc::new(Gauge::new(1, Instant::now())));
    let mut micros = 0;
    measure("metrics of one request", || {
        // Over all buckets, so that no branch is foreseen that would not be.
        micros = (micros * 17 + 97) % 5_000_000;
        let (first, took) = (Duration::from_micros(micros), Duration::from_micros(micros + 50));
        endpoint.requested(shard);
        endpoint.reused(shard);
        endpoint.sent(shard, 300);
        endpoint.received(shard, 400);
        endpoint.responded(shard, 200, first);
        clients.received(shard, 100);
        clients.sent(shard, 300);
        requests.finish(shard, &Finished { status: 200, first_byte: Some(first), duration: took });
    });
}

fn picks() {
    for kind in balance::KINDS {
        for endpoints in [2, 10, 100, 1000] {
            pick(&format!("`{}`, {endpoints} endpoints", kind.name), kind, &pool(endpoints, |_| 1), None);
        }
        for endpoints in [10, 1000] {
            let name = format!("`{}`, {endpoints} endpoints, weights 1 to 4", kind.name);
            pick(&name, kind, &pool(endpoints, |at| 1 + at % 4), None);
        }
        for endpoints in if kind.hashes { &[10, 1000][..] } else { &[] } {
            let name = format!("`{}`, {endpoints} endpoints, bounded load", kind.name);
            pick(&name, kind, &pool(*endpoints, |_| 1), Some(1.25));
        }
        if kind.hashes {
            let (gauges, now) = (pool(1000, |_| 1), Instant::now());
            let at = Pick { usable: &[0], key: 0, draw: 0, now };
            let first = || (kind.build)(&Setup::default()).pick(&gauges, &at);
            measure(&format!("`{}`, its table for 1000 endpoints", kind.name), first);
        }
    }
}

/// Endpoints that have answered in 5 to 8 ms, with up to two requests in flight, one of them waiting.
fn pool(endpoints: u32, weight_of: impl Fn(u32) -> u32) -> Vec<Arc<Gauge>> {
    let born = Instant::now();
    let gauge = |at: u32| {
        let gauge = Gauge::new(weight_of(at), born);
        estimate::observe(&gauge, Duration::from_millis(5 + u64::from(at % 4)), born);
        (0..at % 3).for_each(|_| gauge.begin(born));
        if at % 3 == 2 {
            gauge.waited(born);
        }
        Arc::new(gauge)
    };
    (0..endpoints).map(gauge).collect()
}

fn pick(name: &str, kind: &Kind, gauges: &[Arc<Gauge>], balance_factor: Option<f64>) {
    let usable: Vec<u32> = (0..).zip(gauges).map(|(index, _)| index).collect();
    let policy = (kind.build)(&Setup { balance_factor, ..Setup::default() });
    let now = Instant::now();
    let mut draw = 1_u64;
    measure(name, || {
        // Knuth's multiplier: draws that differ, at next to no cost.
        draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        policy.pick(gauges, &Pick { usable: &usable, key: draw, draw, now })
    });
}

fn routes() {
    for hosts in [1, 100, 10_000] {
        let rules = (0..hosts).map(|at| rule(&format!("host-{at}.example"), PathMatch::Any));
        find(&format!("route: {hosts} hosts"), rules, &format!("host-{}.example", hosts / 2), "/");
    }
    for paths in [10, 1000] {
        let prefix = |at| PathMatch::Prefix(format!("/service-{at}/api"));
        let rules = (0..paths).map(|at| rule("one.example", prefix(at)));
        let path = format!("/service-{}/api/items/17", paths / 2);
        find(&format!("route: one host, {paths} prefixes"), rules, "one.example", &path);
    }
    let rules = (0..10).map(|at| rule("one.example", expression(at)));
    find("route: one host, the tenth of 10 expressions", rules, "one.example", "/service-9/17");
    let rules = (0..100).map(|at| rule(&format!("*.zone-{at}.example"), PathMatch::Any));
    find("route: 100 wildcard hosts", rules, "a.b.zone-50.example", "/");
    let rules = (0..100).map(|at| rule(&format!("host-{at}.example"), PathMatch::Any));
    find("route: 100 hosts, none of them right", rules, "other.example", "/");
}

fn expression(number: u32) -> PathMatch {
    let pattern = Pattern::new(&format!("/service-{number}/[0-9]+"));
    PathMatch::Regex(pattern.expect("the expression is right"))
}

fn rule(host: &str, path: PathMatch) -> Rule {
    let host: HostMatch = host.parse().expect("the host is right");
    Rule { hosts: vec![host], path, ..Rule::default() }
}

fn find(name: &str, rules: impl Iterator<Item = Rule>, host: &str, path: &str) {
    let table = Table::new(rules.zip(0_u32..).collect());
    let fields = Fields::default();
    let view = View { method: &Method::GET, host, path: path.as_bytes(), query: None, fields: &fields };
    measure(name, || table.find(black_box(&view)).copied());
}

/// Prints what one call takes: the median and the least of several samples, in nanoseconds.
fn measure<T>(name: &str, mut call: impl FnMut() -> T) {
    let mut calls = 1_u32;
    while sample(&mut call, calls) < SAMPLE {
        calls = calls.saturating_mul(2);
    }
    let mut samples: Vec<f64> =
        (0..SAMPLES).map(|_| sample(&mut call, calls).as_secs_f64() * 1e9 / f64::from(calls)).collect();
    samples.sort_by(f64::total_cmp);
    let (median, least) = (samples.get(SAMPLES / 2), samples.first());
    let shown = |nanoseconds: Option<&f64>| nanoseconds.map_or("–".into(), |value| format!("{value:.1}"));
    println!("| {name} | {} | {} |", shown(median), shown(least));
}

fn sample<T>(call: &mut impl FnMut() -> T, calls: u32) -> Duration {
    let start = Instant::now();
    for _ in 0..calls {
        black_box(call());
    }
    start.elapsed()
}

/// Long enough for the clock's coarseness not to matter.
const SAMPLE: Duration = Duration::from_millis(5);
const SAMPLES: usize = 21;
