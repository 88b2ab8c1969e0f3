//! What of a plan has series in metrics, as numbers. Does not know which series those are.

use crate::config::Plan;
use crate::config::plan::{Action, ListenerPlan, PoolPlan, RoutePlan, RungPlan, ServicePlan};
use crate::limit::loops::Scope;
use crate::model::Target;
use crate::observe::metrics::Shape;

/// What `plan` has for so many `workers`, where its pools have so many `endpoints`, in their order.
#[must_use]
pub fn shape(plan: &Plan, workers: usize, endpoints: &[usize]) -> Shape {
    let mut shape = Shape {
        workers,
        listeners: plan.listeners.len(),
        routes: plan.routes.iter().map(series_of).sum(),
        streams: plan.listeners.iter().map(streams_of).sum(),
        datagrams: plan.listeners.iter().filter(|listener| passes_datagrams(listener)).count(),
        rate_limits: plan.routes.iter().map(rate_limits).sum(),
        pools: plan.pools.len(),
        ..Shape::default()
    };
    for (pool, endpoints) in plan.pools.iter().zip(endpoints) {
        add(&mut shape, pool, *endpoints);
    }
    shape
}

/// As [`shape`], with the endpoints that the plan itself names. A name counts as one endpoint.
#[must_use]
pub fn shape_as_written(plan: &Plan, workers: usize) -> Shape {
    let endpoints: Vec<_> = plan.pools.iter().map(|pool| pool.endpoints.len()).collect();
    shape(plan, workers, &endpoints)
}

/// A route has series on each listener for each pool, and for what it answers itself.
fn series_of(route: &RoutePlan) -> usize {
    let pools = match &route.action {
        Action::Forward(split) => split.len(),
        Action::Answer => 0,
    };
    route.listeners.len() * (pools + 1)
}

/// A listener that passes connections on has series for each pool.
fn streams_of(listener: &ListenerPlan) -> usize {
    match &listener.service {
        ServicePlan::Http | ServicePlan::Udp(_) => 0,
        passes @ (ServicePlan::Tcp(_) | ServicePlan::Tls(_)) => passes.pools().len(),
    }
}

fn passes_datagrams(listener: &ListenerPlan) -> bool {
    matches!(listener.service, ServicePlan::Udp(_))
}

fn rate_limits(route: &RoutePlan) -> usize {
    route.filters.iter().filter(|filter| filter.rate_limit().is_some()).count()
}

fn add(shape: &mut Shape, pool: &PoolPlan, endpoints: usize) {
    let is_named = |target: &Target| matches!(target, Target::Host { .. });
    let finds = pool.discovery.finds_any() || pool.endpoints.iter().any(|plan| is_named(&plan.target));
    shape.discovering += usize::from(finds);
    shape.detectors += pool.detectors.len();
    shape.adaptive += usize::from(pool.loops.adaptive.is_some());
    shape.admission += usize::from(pool.loops.admission.is_some());
    shape.scaling += usize::from(pool.scale.is_some());
    shape.endpoints += endpoints;
    if pool.check.is_some() {
        shape.checked_pools += 1;
        shape.checked += endpoints;
    }
    match &pool.loops.breaker {
        None => {}
        Some((Scope::Pool, _)) => shape.pool_breakers += 1,
        Some((Scope::Endpoint, _)) => shape.breakers += endpoints,
    }
    if let Some(degradation) = &pool.degradation {
        shape.ladders += 1;
        shape.rungs += degradation.ladder.len();
        let keeps = |rung: &RungPlan| matches!(rung, RungPlan::Stale(_));
        shape.keeping += usize::from(degradation.ladder.iter().any(keeps));
    }
}
