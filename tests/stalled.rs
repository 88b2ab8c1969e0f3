//! Nobody takes what is written of requests: the log's disk is full and the collector of traces never
//! answers, both at once. Requests go on as if nothing were, so does everything else, and what was lost is counted.

mod support;

use std::time::Duration;

use forebay::ambient;
use serde_json::Value;

use support::*;

#[test]
fn a_full_disk_and_a_stalled_collector_cost_requests_nothing() {
    let (origin, collector) = (answers("hello"), never_answers());
    let proxy = Proxy::start(&format!(
        "[tracing]\nsample = \"100%\"\n[tracing.otlp]\nendpoint = \"http://{}\"\nprotocol = \"http\"\n\
         [[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n\
         access_log = {{ format = \"json\", path = \"/dev/full\" }}\n\
         [[route]]\npool = \"app\"\n[pool.app]\nendpoints = [\"{}\"]\n",
        collector.address(),
        origin.address()
    ));
    let (mut client, mut slowest) = (proxy.connect(), Duration::ZERO);
    let ask = |client: &mut Link| {
        let began = ambient::now();
        client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        assert_eq!(client.response().status(), 200);
        began.elapsed()
    };
    for _ in 0..REQUESTS / 2 {
        slowest = slowest.max(ask(&mut client));
    }
    collector.wait_connection(0);
    for _ in 0..REQUESTS / 2 {
        slowest = slowest.max(ask(&mut client));
    }
    // Half of what the collector is waited for.
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");

    let lines = |what: &str| {
        let name = format!("forebay_access_log_{what}_total");
        proxy.metrics().sum(&name, &[("listener", "web")]) as usize
    };
    eventually("every line is counted as lost", || lines("lines_lost") == REQUESTS);
    assert_eq!(lines("lines"), 0);
    assert_eq!(proxy.metrics().sum("forebay_spans_total", &[("result", "exported")]), 0.0);
    // Those who look do not wait either.
    let told =
        || -> Value { serde_json::from_str(&proxy.ask_admin("/v1/report.json").text()).expect("an object") };
    eventually("the report", || told()["requests"]["requests"] == REQUESTS);
    assert_eq!(told()["requests"]["errors"], 0);
    let began = ambient::now();
    proxy.drain_and_wait();
    assert!(began.elapsed() < Duration::from_secs(6), "it does not hold up the end");
}

const REQUESTS: usize = 1000;
