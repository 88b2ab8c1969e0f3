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

/// Two listeners and two pools with nearly everything that has series, in front of these endpoints.
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
        let memory = metrics.has("forebay_overload_memory_bytes", &[]);
        estimates == 4 && checks == 8 && looped && memory
    };
    eventually("everything that has series has happened", everything_has_happened);
    let text = text(&proxy);
    assert_eq!(series(&text), all, "{text}");
}
