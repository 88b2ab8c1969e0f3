//! What Prometheus knows after a load is what the load generators counted, to the last request.

use std::collections::BTreeMap;
use std::thread;

use crate::server::Prometheus;
use crate::support::{Metrics, Peer, Process, answers, answers_raw, eventually, peer, refuses};

/// Requests by route and class of status.
type Counts = BTreeMap<(String, String), f64>;

#[test]
fn prometheus_knows_every_request() {
    let Some(h2load) = peer("h2load") else { return };
    let (good, bad, gone) =
        (answers("hello"), answers_raw("HTTP/1.1 418 No\r\nContent-Length: 2\r\n\r\nno"), refuses());
    let proxy = Process::run(&format!(
        "workers = 2\n[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n\
         [[route]]\nname = \"good\"\npath_prefix = \"/good\"\npool = \"good\"\n\
         [[route]]\nname = \"teapot\"\npath_prefix = \"/teapot\"\npool = \"bad\"\n\
         [[route]]\nname = \"gone\"\npath_prefix = \"/gone\"\npool = \"gone\"\n\
         [[route]]\nname = \"moved\"\npath_prefix = \"/moved\"\nfilters = [{{ redirect = {{ to = \"/good\", status = 302 }} }}]\n\
         [pool.good]\nendpoints = [\"{}\"]\n[pool.bad]\nendpoints = [\"{}\"]\n\
         [pool.gone]\nendpoints = [\"{}\"]\nretry.tries = 0\n",
        good.address(),
        bad.address(),
        gone.address()
    ));
    let Some(prometheus) = Prometheus::scraping(proxy.admin()) else { return };
    // Scraped before, during and after.
    prometheus.wait_for_a_scrape();
    let mut counted = asked_by_hand(&proxy);
    for (options, route, path) in [
        (["-n3000", "-c6", "-m20"].as_slice(), "good", "/good/h2"),
        (&["--h1", "-n1500", "-c5"], "good", "/good/h1"),
        (&["-n1000", "-c2", "-m10"], "teapot", "/teapot"),
        (&["-n700", "-c3", "-m5"], "moved", "/moved"),
    ] {
        let url = format!("http://{}{path}", proxy.address("web"));
        for (class, requests) in loaded(&h2load, options, &url) {
            *counted.entry((route.to_owned(), class)).or_default() += requests;
        }
    }
    eventually("all connections have ended", || {
        let metrics = Metrics::parse(&proxy.ask_admin("/metrics").text());
        metrics.sum("forebay_connections_active", &[]) == 0.0
    });
    prometheus.wait_for_a_scrape();
    assert_eq!(known(&prometheus, "sum by (route, class) (forebay_requests_total) > 0"), counted);
    let by_route = |counts: &Counts| {
        counts.iter().filter(|((route, _), _)| !route.is_empty()).fold(
            BTreeMap::<String, f64>::new(),
            |mut sums, ((route, _), requests)| {
                *sums.entry(route.clone()).or_default() += requests;
                sums
            },
        )
    };
    let timed = known(&prometheus, "sum by (route) (forebay_request_duration_seconds_count)");
    assert_eq!(by_route(&timed), by_route(&counted));
    let within = known(&prometheus, "sum by (route) (forebay_request_duration_seconds_bucket{le=\"+Inf\"})");
    assert_eq!(by_route(&within), by_route(&counted));
    let sent = known(
        &prometheus,
        "sum by (route) (label_replace(forebay_endpoint_requests_total, \"route\", \"$1\", \"pool\", \"(.*)\"))",
    );
    for (pool, origin) in [("good", &good), ("bad", &bad)] {
        let key = (pool.to_owned(), String::new());
        assert_eq!(sent.get(&key).copied(), Some(origin.requests().len() as f64), "what {pool} was asked");
    }
}

/// A vector by its labels `route` and `class`.
#[track_caller]
fn known(prometheus: &Prometheus, expression: &str) -> Counts {
    let label = |labels: &serde_json::Value, name: &str| labels[name].as_str().unwrap_or_default().to_owned();
    let samples = prometheus.ask(expression).unwrap();
    samples.into_iter().map(|(of, value)| ((label(&of, "route"), label(&of, "class")), value)).collect()
}

/// Four clients that keep their connections and count what they are answered.
fn asked_by_hand(proxy: &Process) -> Counts {
    let client = || {
        let (mut link, mut counted) = (proxy.connect(), Counts::new());
        for n in 0..400 {
            let (route, path) =
                [("good", "/good"), ("teapot", "/teapot"), ("gone", "/gone"), ("", "/nowhere")][n % 4];
            link.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"));
            let class = format!("{}xx", link.response().status() / 100);
            *counted.entry((route.to_owned(), class)).or_default() += 1.0;
        }
        counted
    };
    let all = thread::scope(|scope| {
        let clients: Vec<_> = (0..4).map(|_| scope.spawn(client)).collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect::<Vec<_>>()
    });
    let mut sums = Counts::new();
    for (key, requests) in all.into_iter().flatten() {
        *sums.entry(key).or_default() += requests;
    }
    sums
}

/// What h2load counted by class, of requests that all ended well for it or for HTTP.
fn loaded(h2load: &Peer, options: &[&str], url: &str) -> BTreeMap<String, f64> {
    let output = h2load.command().arg("-t1").args(options).arg(url).output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = printed.lines().find_map(|line| line.strip_prefix("status codes: ")).expect("it says so");
    let class = |part: &str| {
        let (count, class) = part.trim().split_once(' ')?;
        Some((class.to_owned(), count.parse::<f64>().ok()?))
    };
    let classes: BTreeMap<_, _> =
        line.split(',').filter_map(class).filter(|(_, count)| *count > 0.0).collect();
    assert!(printed.contains(" 0 errored, 0 timeout"), "{printed}");
    classes
}
