//! Pools of listeners that do not look into what they pass on: what is written of such a pool and cannot
//! be had, or does nothing. Which listener leads where is known by then.

use super::lower::used_pools;
use super::plan::{ListenerPlan, PoolPlan, RoutePlan, ServicePlan};
use crate::balance::HashKey;
use crate::model::options::{Options, Problem};
use crate::model::settings::HeaderVersion;
use crate::model::{Address, Target};

/// Reports it. `root` is the file, of which everything else is good.
pub(super) fn report(
    root: &Options<'_>,
    listeners: &[ListenerPlan],
    routes: &[RoutePlan],
    pools: &[PoolPlan],
) {
    let read = used_pools(&[], routes, pools);
    let written = root.section("pool");
    for (index, ((_, given), plan)) in written.entries().zip(pools).enumerate() {
        let leads_here = |listener: &&ListenerPlan| listener.service.pools().iter().any(|id| id.0 == index);
        let is_udp = |listener: &ListenerPlan| matches!(listener.service, ServicePlan::Udp(_));
        let mut leading = listeners.iter().filter(leads_here).peekable();
        if leading.peek().is_none() {
            continue;
        }
        let Some(pool) = given.table() else { continue };
        let is_read = read.contains(&index);
        if !is_read {
            warn_of_hash_key(&pool, plan);
        }
        let (of_datagrams, of_bytes): (Vec<_>, Vec<_>) = leading.partition(|listener| is_udp(listener));
        let Some(listener) = of_datagrams.first() else { continue };
        refuse(&pool, plan, listener);
        if !is_read && of_bytes.is_empty() {
            warn_of_idle_keys(&pool);
        }
    }
}

/// What there is no way to do for datagrams.
fn refuse(pool: &Options<'_>, plan: &PoolPlan, listener: &ListenerPlan) {
    let name = &listener.name;
    if plan.headers.is_some_and(|headers| headers.version == HeaderVersion::V1) {
        let fault = format!("version 1 has no word for datagrams, which the udp listener `{name}` passes on");
        pool.problem("proxy_protocol", fault, Some("write \"v2\"".into()));
    }
    if plan.tls.is_some() {
        let fault = format!("the udp listener `{name}` leads here, and datagrams are passed on as they are");
        let hint = "give it a pool without `tls`; clients' own, as QUIC's and DTLS, passes";
        pool.problem("tls", fault, Some(hint.into()));
    }
    let is_unix = |target: &Target| matches!(target, Target::Address(Address::Unix(_)));
    if let Some(endpoint) = plan.endpoints.iter().find(|endpoint| is_unix(&endpoint.target)) {
        let fault =
            format!("{} takes no datagrams, which the udp listener `{name}` passes on", endpoint.target);
        let hint = "give it a pool of IP addresses and names alone";
        pool.problem("endpoints", fault, Some(hint.into()));
    }
}

/// A key that is in no connection and no datagram.
fn warn_of_hash_key(pool: &Options<'_>, plan: &PoolPlan) {
    if !matches!(plan.hash_key, HashKey::Client | HashKey::Source) {
        let fault = "only requests have this, and none come here";
        warn(pool, "hash_key", fault, "write \"client\"");
    }
}

/// What does nothing where only datagrams come.
fn warn_of_idle_keys(pool: &Options<'_>) {
    for (key, fault) in IDLE {
        warn(pool, key, fault, "leave it out: only udp listeners lead to this pool");
    }
}

fn warn(pool: &Options<'_>, key: &'static str, fault: &str, hint: &str) {
    if let Some(given) = pool.given(key) {
        given.report(Problem::new(given.path(), Some(given.span()), fault).warning().hint(hint));
    }
}

const IDLE: [(&str, &str); 8] = [
    ("protocol", "datagrams are passed on without a look at their protocol"),
    ("timeouts", "no connections are opened for datagrams, and a flow's time is its listener's"),
    ("retry", "no datagram is sent again, save to another endpoint when one refuses it"),
    ("sticky", "datagrams have no cookies; a policy that hashes keeps clients where they are"),
    ("degradation", "nothing stands in for what answers datagrams"),
    ("max_idle", "no connections are opened for datagrams"),
    ("max_requests", "no connections are opened for datagrams"),
    ("max_concurrent_streams", "no connections are opened for datagrams"),
];
