//! `[pool.NAME]`: endpoints, the choice among them, and how they are spoken to.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::names::Names;
use super::plan::{EndpointPlan, PoolPlan};
use super::{Cx, health, tls};
use crate::balance::{self, Choice, FailOpen, HashKey};
use crate::health::pool::Ejection;
use crate::model::Name;
use crate::model::options::{Fault, FromValue, Given, OneOf, Options, Problem, Value};
use crate::model::settings::{ConnectionLimits, UpstreamProtocol, UpstreamTimeouts};

/// The pools of the file and how to find them by name.
pub(super) struct Pools {
    pub(super) names: Names,
    /// As many as in the file, if there is no error.
    pub(super) plans: Vec<PoolPlan>,
}

/// Reads every `[pool.NAME]`.
pub(super) fn pools(options: Options<'_>, cx: &Cx<'_>) -> Pools {
    let mut names = Names::of("pool");
    let mut plans = Vec::new();
    for (index, (key, given)) in options.entries().enumerate() {
        let name = match Name::new(&key.name) {
            Ok(name) => name,
            Err(error) => {
                given.report(Problem::new(given.path(), Some(key.span.clone()), error.to_string()));
                continue;
            }
        };
        names.take(&name, index, (given.path(), key.span.clone()), cx.sink);
        plans.extend(given.table().map(|options| pool(options, name, cx)));
    }
    Pools { names, plans }
}

fn pool(options: Options<'_>, name: Name, cx: &Cx<'_>) -> PoolPlan {
    for (key, what) in LATER {
        if options.given(key).is_some() {
            options.problem(key, format!("this version has no {what} yet"), Some("leave it out".into()));
        }
    }
    let protocol = options.get_or("protocol", UpstreamProtocol::default());
    let endpoints = endpoints(&options, cx);
    let tls = options.table("tls").and_then(|options| tls::client(options, protocol, &endpoints, cx));
    let asked = health::Asked { protocol, tls: tls.is_some(), endpoints: &endpoints };
    let check = options.table("health").and_then(|options| health::check(options, &asked, cx));
    let plan = PoolPlan {
        name,
        endpoints,
        policy: options.get_or("policy", Choice::default()),
        hash_key: HashKey::default(),
        balance_factor: None,
        sticky: None,
        check,
        detectors: Vec::new(),
        ejection: Ejection::default(),
        slow_start: SLOW_START,
        fail_open: FailOpen::default(),
        protocol,
        tls,
        timeouts: timeouts(options.section("timeouts")),
        connections: connections(&options),
    };
    options.finish();
    plan
}

impl FromValue for Choice {
    fn from_value(value: &Value) -> Result<Self, Fault> {
        let text = value.text("the name of a policy")?;
        let known: Vec<_> = balance::KINDS.iter().map(|kind| kind.name).collect();
        Self::named(text).ok_or_else(|| Fault::unknown("policy", text, &known))
    }
}

impl OneOf for UpstreamProtocol {
    const NOUN: &'static str = "upstream protocol";
    const WORDS: &'static [(&'static str, Self)] = &[("http1", Self::Http1), ("http2", Self::Http2)];
}

fn endpoints(options: &Options<'_>, cx: &Cx<'_>) -> Vec<EndpointPlan> {
    let hint = || Some("write `endpoints = [\"127.0.0.1:9001\"]`".to_owned());
    let Some(given) = options.given("endpoints") else {
        options.missing("endpoints", "a pool needs endpoints", hint());
        return Vec::new();
    };
    let items = given.items();
    if items.is_empty() {
        given.fault("a pool needs endpoints", hint());
    }
    let mut seen: Vec<(EndpointPlan, Given<'_>)> = Vec::new();
    for item in items {
        let Some(endpoint) = endpoint(&item, cx) else { continue };
        if let Some((_, first)) = seen.iter().find(|(other, _)| other.target == endpoint.target) {
            let fault = format!("the endpoint {} is there twice", endpoint.target);
            let problem = Problem::new(item.path(), Some(item.span()), fault);
            item.report(problem.see(Some(first.span()), "the first one is here").hint(WEIGHT_HINT));
        }
        seen.push((endpoint, item));
    }
    seen.into_iter().map(|(endpoint, _)| endpoint).collect()
}

/// `"127.0.0.1:9001"` or `{ address = "127.0.0.1:9001", weight = 2 }`.
fn endpoint(given: &Given<'_>, cx: &Cx<'_>) -> Option<EndpointPlan> {
    if !given.is_table() {
        return Some(EndpointPlan { target: cx.target(given)?, weight: 1, level: 0, zone: None });
    }
    let options = given.table()?;
    let target = options.required("address").and_then(|given| cx.target(&given));
    let weight = options.within("weight", WEIGHT, 1);
    options.finish();
    Some(EndpointPlan { target: target?, weight, level: 0, zone: None })
}

fn timeouts(options: Options<'_>) -> UpstreamTimeouts {
    let default = UpstreamTimeouts::default();
    let timeouts = UpstreamTimeouts {
        connect: options.within("connect", LIMIT, default.connect),
        tls_handshake: options.within("tls_handshake", LIMIT, default.tls_handshake),
        idle: options.within("idle", LIMIT, default.idle),
        keep_alive: options.within("keep_alive", LIMIT, default.keep_alive),
        tunnel: options.within("tunnel", LIMIT, default.tunnel),
    };
    options.finish();
    timeouts
}

fn connections(options: &Options<'_>) -> ConnectionLimits {
    let default = ConnectionLimits::default();
    ConnectionLimits {
        idle: options.within("max_idle", IDLE, default.idle),
        requests: options.given("max_requests").and_then(|given| given.within(REQUESTS)).or(default.requests),
        concurrent_streams: options.within("max_concurrent_streams", STREAMS, default.concurrent_streams),
    }
}

/// Tables that are planned and have a meaning in later versions.
const LATER: [(&str, &str); 1] = [("outlier", "outlier detection")];
const SLOW_START: Duration = Duration::from_secs(10);
const WEIGHT_HINT: &str = "for a greater share, give one endpoint a `weight`";
const WEIGHT: RangeInclusive<u32> = 1..=1000;
const LIMIT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(24 * 60 * 60);
const IDLE: RangeInclusive<usize> = 0..=1_000_000;
const REQUESTS: RangeInclusive<u64> = 1..=1_000_000_000;
const STREAMS: RangeInclusive<usize> = 1..=65_536;
