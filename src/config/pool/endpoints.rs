//! `endpoints` of `[pool.NAME]`: where they are, their shares, and the order in which they are used.

use std::ops::RangeInclusive;

use crate::config::Cx;
use crate::config::plan::EndpointPlan;
use crate::model::Name;
use crate::model::options::{Given, Options, Problem};

/// An endpoint as it is read.
struct Endpoint<'a> {
    plan: EndpointPlan,
    backup: bool,
    given: Given<'a>,
}

/// Reads the endpoints of a pool. There need be none where it `discovers` others.
pub(super) fn endpoints(options: &Options<'_>, discovers: bool, cx: &Cx<'_>) -> Vec<EndpointPlan> {
    let hint = || Some("write `endpoints = [\"127.0.0.1:9001\"]`".to_owned());
    let Some(given) = options.given("endpoints") else {
        if !discovers {
            options.missing("endpoints", "a pool needs endpoints", hint());
        }
        return Vec::new();
    };
    if given.items().is_empty() && !discovers {
        given.fault("a pool needs endpoints", hint());
    }
    list(&given, cx)
}

/// Reads a list of endpoints, of which none is there twice.
pub(in crate::config) fn list(given: &Given<'_>, cx: &Cx<'_>) -> Vec<EndpointPlan> {
    let mut seen: Vec<Endpoint<'_>> = Vec::new();
    for item in given.items() {
        let Some(endpoint) = endpoint(item, cx) else { continue };
        if let Some(first) = seen.iter().find(|other| other.plan.target == endpoint.plan.target) {
            let fault = format!("the endpoint {} is there twice", endpoint.plan.target);
            let problem = Problem::new(endpoint.given.path(), Some(endpoint.given.span()), fault);
            let problem = problem.see(Some(first.given.span()), "the first one is here").hint(WEIGHT_HINT);
            endpoint.given.report(problem);
        }
        seen.push(endpoint);
    }
    settle_backups(&mut seen);
    seen.into_iter().map(|endpoint| endpoint.plan).collect()
}

/// `"127.0.0.1:9001"` or `{ address = "127.0.0.1:9001", weight = 2 }`.
fn endpoint<'a>(given: Given<'a>, cx: &Cx<'_>) -> Option<Endpoint<'a>> {
    if !given.is_table() {
        let plan = EndpointPlan { target: cx.target(&given)?, weight: 1, level: 0, zone: None };
        return Some(Endpoint { plan, backup: false, given });
    }
    let options = given.table()?;
    let target = options.required("address").and_then(|given| cx.target(&given));
    let weight = options.within("weight", WEIGHT, 1);
    let level = options.within("priority", PRIORITY, 0);
    let backup = options.get_or("backup", false);
    if backup && options.given("priority").is_some() {
        let hint = "leave one of them out".to_owned();
        options.problem("priority", "a backup comes after every priority and has none itself", Some(hint));
    }
    let zone = options.get::<Name>("zone");
    options.finish();
    let plan = EndpointPlan { target: target?, weight, level, zone };
    Some(Endpoint { plan, backup, given })
}

/// Puts backups into a level after all others.
fn settle_backups(endpoints: &mut [Endpoint<'_>]) {
    let others = endpoints.iter().filter(|endpoint| !endpoint.backup);
    let last = others.map(|endpoint| endpoint.plan.level + 1).max();
    for endpoint in endpoints.iter_mut().filter(|endpoint| endpoint.backup) {
        endpoint.plan.level = last.unwrap_or(0);
    }
    if let (None, [endpoint, ..]) = (last, endpoints) {
        let fault = "there is nobody to back up: all endpoints are backups";
        let problem = Problem::new(endpoint.given.path(), Some(endpoint.given.span()), fault).warning();
        endpoint.given.report(problem);
    }
}

const WEIGHT_HINT: &str = "for a greater share, give one endpoint a `weight`";
pub(super) const WEIGHT: RangeInclusive<u32> = 1..=1000;
pub(super) const PRIORITY: RangeInclusive<u32> = 0..=100;
