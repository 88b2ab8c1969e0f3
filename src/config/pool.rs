//! `[pool.NAME]`: endpoints, the choice among them, how they are judged and how they are spoken to.

pub(super) mod adaptive;
mod autoscaling;
mod balance;
mod breaker;
mod degradation;
mod discovery;
pub(super) mod endpoints;
mod limits;
mod outlier;
pub(super) mod retry;
mod sticky;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use super::names::Names;
use super::plan::PoolPlan;
use super::{Cx, attempt, health, proxy_protocol, socket, tls};
use crate::health::pool::SLOW_START;
use crate::limit::loops::LoopSettings;
use crate::model::Name;
use crate::model::options::{OneOf, Options, Problem};
use crate::model::settings::{ConnectionLimits, Limits, UpstreamProtocol, UpstreamTimeouts};

/// The pools of the file and how to find them by name.
pub(super) struct Pools {
    pub(super) names: Names,
    /// As many as in the file, if there is no error.
    pub(super) plans: Vec<PoolPlan>,
    /// The places of those that leave it to us how much goes on at once.
    unlimited: Vec<usize>,
}

impl Pools {
    /// Has the pools that are not among `routed` take as many connections and flows as those are good for.
    pub(super) fn widen(&mut self, routed: &HashSet<usize>) {
        for index in self.unlimited.iter().filter(|index| !routed.contains(index)) {
            if let Some(plan) = self.plans.get_mut(*index) {
                plan.limits.in_flight = Limits::PASSED_ON;
            }
        }
    }
}

/// Reads every `[pool.NAME]`.
pub(super) fn pools(options: Options<'_>, cx: &Cx<'_>) -> Pools {
    let mut names = Names::of("pool");
    let mut plans: Vec<PoolPlan> = Vec::new();
    let (mut ladders, mut unlimited) = (Vec::new(), Vec::new());
    for (index, (key, given)) in options.entries().enumerate() {
        let name = match Name::new(&key.name) {
            Ok(name) => name,
            Err(error) => {
                given.report(Problem::new(given.path(), Some(key.span.clone()), error.to_string()));
                continue;
            }
        };
        names.take(&name, index, (given.path(), key.span.clone()), cx.sink);
        let Some(options) = given.table() else { continue };
        ladders
            .extend(options.table("degradation").map(|options| (index, degradation::degradation(options))));
        let (plan, limited) = pool(options, name, cx);
        if !limited {
            unlimited.push(plans.len());
        }
        plans.push(plan);
    }
    for (index, plan) in degradation::resolve(ladders, &names, cx) {
        if let Some(pool) = plans.get_mut(index) {
            pool.degradation = Some(plan);
        }
    }
    Pools { names, plans, unlimited }
}

/// Reads one; also says whether it bounds by itself how much goes on at once.
fn pool(options: Options<'_>, name: Name, cx: &Cx<'_>) -> (PoolPlan, bool) {
    let mark = cx.files.mark();
    let protocol = options.get_or("protocol", UpstreamProtocol::default());
    let (discovery, discovers) = discovery::discovery(&options, cx);
    let endpoints = endpoints::endpoints(&options, discovers, cx);
    let balance = balance::balance(&options);
    let outlier = outlier::outlier(&options);
    let tls = options.table("tls").and_then(|options| tls::client(options, protocol, &endpoints, cx));
    let headers = proxy_protocol::outgoing(&options);
    let version = headers.map(|headers| headers.version);
    let asked = health::Asked { protocol, tls: tls.is_some(), headers: version, endpoints: &endpoints };
    let check = options.table("health").and_then(|options| health::check(options, &asked, cx));
    let (limits, loops, limited) = limits(&options);
    let scale = options.table("autoscaling");
    let scale = scale.and_then(|options| autoscaling::autoscaling(options, &limits, &loops));
    let plan = PoolPlan {
        name,
        fingerprint: cx.files.cover(options.fingerprint(), mark),
        endpoints,
        discovery,
        policy: balance.policy,
        hash_key: balance.hash_key,
        balance_factor: balance.factor,
        sticky: options.table("sticky").map(sticky::sticky),
        check,
        detectors: outlier.detectors,
        ejection: outlier.ejection,
        slow_start: options.within("slow_start", PAUSE, SLOW_START),
        fail_open: balance::fail_open(&options),
        protocol,
        tls,
        headers,
        socket: socket::upstream(&options).map(Arc::new),
        timeouts: timeouts(options.section("timeouts")),
        connections: connections(&options),
        retry: retry::retry(options.section("retry")),
        limits,
        degradation: None,
        loops,
        scale,
    };
    options.finish();
    (plan, limited)
}

impl OneOf for UpstreamProtocol {
    const NOUN: &'static str = "upstream protocol";
    const WORDS: &'static [(&'static str, Self)] = &[("http1", Self::Http1), ("http2", Self::Http2)];
}

fn limits(pool: &Options<'_>) -> (Limits, LoopSettings, bool) {
    let options = pool.section("limits");
    let mut limited = options.given("in_flight").is_some();
    let limits = limits::limits(&options);
    let loops = LoopSettings {
        adaptive: adaptive::adaptive(&options, &limits),
        admission: adaptive::admission(&options),
        breaker: pool.table("breaker").map(breaker::breaker),
    };
    options.finish();
    limited |= loops.adaptive.is_some();
    (limits, loops, limited)
}

fn timeouts(options: Options<'_>) -> UpstreamTimeouts {
    let default = UpstreamTimeouts::default();
    let timeouts = UpstreamTimeouts {
        connect: options.within("connect", LIMIT, default.connect),
        tls_handshake: options.within("tls_handshake", LIMIT, default.tls_handshake),
        idle: options.within("idle", LIMIT, default.idle),
        keep_alive: options.within("keep_alive", LIMIT, default.keep_alive),
        tunnel: options.within("tunnel", LIMIT, default.tunnel),
        attempt: attempt::try_timeout(&options),
        min_rate: attempt::min_rate(&options),
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

const PAUSE: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(24 * 60 * 60);
pub(super) const LIMIT: RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_secs(24 * 60 * 60);
const IDLE: RangeInclusive<usize> = 0..=1_000_000;
const REQUESTS: RangeInclusive<u64> = 1..=1_000_000_000;
const STREAMS: RangeInclusive<usize> = 1..=65_536;
