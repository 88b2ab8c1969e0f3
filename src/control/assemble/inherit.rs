//! What a new plan takes over from the one in force, since every reading of a file makes it anew though
//! nothing else is written: TLS settings with their sessions and tickets, and filters with what they have
//! counted. Changes nothing of the plan in force.

use std::collections::HashMap;
use std::sync::Arc;

use crate::config::Plan;
use crate::config::diff::same_routes;
use crate::config::plan::{ListenerPlan, PoolPlan, RoutePlan};
use crate::model::Name;
use crate::route::filter::{Filters, RateLimit};

/// Has `plan` go on with what is the same in `before`; which of its routes were called otherwise there.
pub fn inherit(plan: &mut Plan, before: &Plan) -> Renamed {
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
    routes(plan, before)
}

/// Routes whose names say nothing of what they were: those without a name of their own are called by their
/// place, which another had before.
#[derive(Debug, Default)]
pub struct Renamed(HashMap<Name, Option<Name>>);

impl Renamed {
    /// What the route that is called `now` was called before; `None` for one that was not there.
    pub(super) fn before<'a>(&'a self, now: &'a Name) -> Option<&'a Name> {
        self.0.get(now).map_or(Some(now), Option::as_ref)
    }
}

fn routes(plan: &mut Plan, before: &Plan) -> Renamed {
    let known: HashMap<_, _> = same_routes(before, plan).into_iter().map(|(was, is)| (is, was)).collect();
    let mut renamed = Renamed::default();
    for (index, route) in plan.routes.iter_mut().enumerate() {
        let before = known.get(&index).and_then(|was| before.routes.get(*was));
        if let Some(before) = before {
            filters(route, before);
        }
        if before.is_none_or(|before| before.name != route.name) {
            renamed.0.insert(route.name.clone(), before.map(|before| before.name.clone()));
        }
    }
    renamed
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
