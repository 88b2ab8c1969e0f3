//! What a new plan takes over from the one in force, since every reading of a file makes it anew though
//! nothing else is written: TLS settings with their sessions and tickets, and filters with what they have
//! counted. Changes nothing of the plan in force.

use std::collections::HashMap;
use std::sync::Arc;

use crate::config::Plan;
use crate::config::plan::{ListenerPlan, PoolPlan, RoutePlan};
use crate::route::filter::{Filters, RateLimit};

/// Has `plan` go on with what is the same in `before`.
pub fn inherit(plan: &mut Plan, before: &Plan) {
    let known: HashMap<_, _> = before.pools.iter().map(|pool| (&pool.name, pool)).collect();
    for pool in &mut plan.pools {
        if let Some(before) = known.get(&pool.name) {
            pool_tls(pool, before);
        }
    }
    let known: HashMap<_, _> = before.listeners.iter().map(|own| (&own.name, own)).collect();
    for listener in &mut plan.listeners {
        if let Some(before) = known.get(&listener.name) {
            listener_tls(listener, before);
        }
    }
    let known: HashMap<_, _> = before.routes.iter().map(|route| (&route.name, route)).collect();
    for route in &mut plan.routes {
        if let Some(before) = known.get(&route.name) {
            filters(route, before);
        }
    }
}

fn pool_tls(pool: &mut PoolPlan, before: &PoolPlan) {
    if let (Some(own), Some(before)) = (&mut pool.tls, &before.tls)
        && own.fingerprint == before.fingerprint
    {
        own.config = Arc::clone(&before.config);
    }
}

fn listener_tls(listener: &mut ListenerPlan, before: &ListenerPlan) {
    if let (Some(own), Some(tls)) = (&mut listener.tls, &before.tls)
        && listener.tls_fingerprint == before.tls_fingerprint
    {
        *own = Arc::clone(tls);
    }
}

fn filters(route: &mut RoutePlan, before: &RoutePlan) {
    if route.fingerprint == before.fingerprint {
        route.filters = Arc::clone(&before.filters);
        return;
    }
    for limit in limits(&route.filters) {
        if let Some(before) = limits(&before.filters).find(|known| known.name() == limit.name()) {
            limit.go_on_from(before);
        }
    }
}

fn limits(filters: &Filters) -> impl Iterator<Item = &RateLimit> {
    filters.iter().filter_map(|filter| filter.rate_limit())
}
