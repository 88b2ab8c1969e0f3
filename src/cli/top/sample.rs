//! What is known of a running Forebay at one moment: its status, its endpoints, and from its metrics the
//! counts of how long endpoints took.

use std::collections::HashMap;
use std::time::Instant;

use serde_json::Value;

use super::super::Failure;
use super::super::running::{Admin, names};
use crate::ambient;
use crate::model::json;

/// One moment.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) at: Instant,
    /// As `/v1/status` has it.
    pub(super) status: Value,
    pub(super) endpoints: Vec<Endpoint>,
    /// Requests of clients since the start, and those of them that were answered with 500 and more.
    pub(super) requests: (u64, u64),
    /// Connections and flows that were passed on unread since the start; `None` where none are.
    pub(super) passed_on: Option<u64>,
}

/// An endpoint at that moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Endpoint {
    pub(super) pool: String,
    pub(super) name: String,
    pub(super) state: String,
    /// What happened to it last, in words.
    pub(super) reason: String,
    pub(super) in_flight: u64,
    pub(super) requests: u64,
    /// Attempts that failed, and answers from 500 on.
    pub(super) errors: u64,
    pub(super) times: Times,
}

/// How many answers took at most so long, by rising bounds in seconds.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Times(pub(super) Vec<(f64, u64)>);

impl Sample {
    /// Asks for all of it.
    pub(super) fn take(admin: &Admin) -> Result<Self, Failure> {
        let status = admin.ask("GET", "/v1/status")?;
        let listing = admin.ask("GET", "/v1/endpoints")?;
        let metrics = admin.page("/metrics")?;
        Ok(Self::of(ambient::now(), status, &listing, &metrics))
    }

    /// What was answered, put together.
    pub(super) fn of(at: Instant, status: Value, listing: &Value, metrics: &str) -> Self {
        let (mut times, requests) = (times(metrics), requests(metrics));
        let endpoints = json::list(listing, "endpoints").iter().map(|shown| {
            let (pool, name) = names(shown);
            let number = |name: &str| json::number::<u64>(shown, name).unwrap_or_default();
            let last = shown.get("last_event").and_then(|event| json::text(event, "words"));
            Endpoint {
                pool: pool.to_owned(),
                name: name.to_owned(),
                state: json::text(shown, "state").unwrap_or_default().to_owned(),
                reason: last.unwrap_or_default().to_owned(),
                in_flight: number("in_flight"),
                requests: number("requests"),
                errors: number("failures") + number("server_errors"),
                times: times.remove(&(pool.to_owned(), name.to_owned())).unwrap_or_default(),
            }
        });
        Self { at, endpoints: endpoints.collect(), status, requests, passed_on: passed_on(metrics) }
    }
}

/// Requests of clients, and those that were answered badly.
fn requests(metrics: &str) -> (u64, u64) {
    let lines = metrics.lines().filter_map(|line| line.strip_prefix(REQUESTS)?.rsplit_once("} "));
    lines.fold((0, 0), |(all, bad), (labels, count)| {
        let count: u64 = count.trim().parse().unwrap_or_default();
        let is_bad = label(labels, "class").as_deref() == Some("5xx");
        (all + count, bad + if is_bad { count } else { 0 })
    })
}

/// Connections and flows that are over.
fn passed_on(metrics: &str) -> Option<u64> {
    let of = |line: &str| PASSED_ON.iter().any(|name| line.starts_with(name));
    let lines = metrics.lines().filter(|line| of(line)).filter_map(|line| line.rsplit_once("} "));
    lines.map(|(_, count)| count.trim().parse::<u64>().unwrap_or_default()).reduce(|sum, count| sum + count)
}

/// The buckets of every endpoint by its pool and name.
fn times(metrics: &str) -> HashMap<(String, String), Times> {
    let mut times: HashMap<_, Times> = HashMap::new();
    for line in metrics.lines().filter_map(|line| line.strip_prefix(BUCKET)) {
        let Some((labels, count)) = line.rsplit_once("} ") else { continue };
        let (Some(pool), Some(endpoint), Some(bound)) =
            (label(labels, "pool"), label(labels, "endpoint"), label(labels, "le"))
        else {
            continue;
        };
        let (Ok(bound), Ok(count)) = (bound.replace("+Inf", "inf").parse(), count.trim().parse()) else {
            continue;
        };
        times.entry((pool, endpoint)).or_default().0.push((bound, count));
    }
    times
}

/// The value of a label. Those that are asked for have no escapes in them but in paths of Unix sockets.
fn label(labels: &str, name: &str) -> Option<String> {
    let (_, rest) = labels.split_once(&format!("{name}=\""))?;
    let end = rest.find('"')?;
    rest.get(..end).map(|value| value.replace("\\\\", "\\"))
}

impl Times {
    /// What came since `before`.
    pub(super) fn since(&self, before: &Self) -> Self {
        let earlier =
            |bound: f64| before.0.iter().find(|(own, _)| *own == bound).map_or(0, |(_, count)| *count);
        Self(self.0.iter().map(|(bound, count)| (*bound, count.saturating_sub(earlier(*bound)))).collect())
    }

    /// Both together.
    pub(super) fn add(&mut self, other: &Self) {
        if self.0.is_empty() {
            self.0.clone_from(&other.0);
            return;
        }
        for ((_, own), (_, count)) in self.0.iter_mut().zip(&other.0) {
            *own += count;
        }
    }

    /// The time in seconds that a share `q` does not exceed, linear within its bucket; `None` when there
    /// is nothing.
    pub(super) fn quantile(&self, q: f64) -> Option<f64> {
        let whole = self.0.last().map(|(_, count)| *count).filter(|count| *count > 0)?;
        let rank = q * whole as f64;
        let (mut lower, mut below) = (0.0, 0.0);
        for (bound, count) in &self.0 {
            let count = *count as f64;
            if count >= rank && count > below {
                let part = (rank - below) / (count - below);
                return Some(if bound.is_finite() { lower + (bound - lower) * part } else { lower });
            }
            (lower, below) = (*bound, count);
        }
        None
    }
}

const PASSED_ON: [&str; 2] = ["forebay_tcp_connections_total{", "forebay_udp_flows_ended_total{"];
const REQUESTS: &str = "forebay_requests_total{";
const BUCKET: &str = "forebay_endpoint_time_to_first_byte_seconds_bucket{";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_from_metrics() {
        let text = "# HELP x y\n\
            forebay_endpoint_time_to_first_byte_seconds_bucket{pool=\"app\",endpoint=\"a:1\",le=\"0.1\"} 90\n\
            forebay_endpoint_time_to_first_byte_seconds_bucket{pool=\"app\",endpoint=\"a:1\",le=\"0.2\"} 100\n\
            forebay_endpoint_time_to_first_byte_seconds_bucket{pool=\"app\",endpoint=\"a:1\",le=\"+Inf\"} 100\n";
        let times = times(text);
        let own = &times[&("app".to_owned(), "a:1".to_owned())];
        assert_eq!(own.0, [(0.1, 90), (0.2, 100), (f64::INFINITY, 100)]);
        let at = |q| own.quantile(q).map(|seconds| (seconds * 1000.0).round());
        assert_eq!((at(0.5), at(0.95), at(1.0)), (Some(56.0), Some(150.0), Some(200.0)));
    }

    #[test]
    fn connections_and_flows_are_no_requests() {
        let text = "forebay_requests_total{class=\"2xx\"} 7\n\
            forebay_tcp_connections_total{listener=\"db\",pool=\"db\",result=\"done\"} 3\n\
            forebay_tcp_connections_total{listener=\"db\",pool=\"db\",result=\"idle\"} 1\n\
            forebay_udp_flows_ended_total{listener=\"dns\",cause=\"complete\"} 20\n";
        assert_eq!((requests(text), passed_on(text)), ((7, 0), Some(24)));
        assert_eq!(passed_on("forebay_requests_total{class=\"2xx\"} 7\n"), None);
    }

    #[test]
    fn an_interval_is_the_difference() {
        let (before, after) = (Times(vec![(0.1, 5), (0.2, 5)]), Times(vec![(0.1, 5), (0.2, 15)]));
        let mut part = after.since(&before);
        assert_eq!(part.0, [(0.1, 0), (0.2, 10)]);
        assert_eq!(part.quantile(0.5).map(|seconds| (seconds * 1000.0).round()), Some(150.0));
        part.add(&before);
        assert_eq!(part.0, [(0.1, 5), (0.2, 15)]);
        assert_eq!(Times::default().quantile(0.5), None);
    }
}
