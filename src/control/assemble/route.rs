//! Routes on their listeners. One that is configured as before, and leads to the same places, is the very
//! same; of one that is not, what was observed of its tries is kept where the same is wanted of it.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Ground, Known, listener, service};
use crate::ambient;
use crate::config::Plan;
use crate::config::plan::{Action, ListenerPlan, PoolId, RoutePlan};
use crate::model::Name;
use crate::model::settings::{HedgeAfter, TryTimeout};
use crate::observe::access_log::AccessLog;
use crate::observe::metrics::{RouteLabels, RouteMetrics};
use crate::route::Rule;
use crate::upstream::snapshot::Branch;
use crate::upstream::{Listener, Observed, Pool, Route};

/// What routes are made with.
pub(super) struct Routing<'a> {
    pub(super) plan: &'a Plan,
    pub(super) ground: &'a Ground<'a>,
    /// In the order of the plan.
    pub(super) pools: &'a [Arc<Pool>],
    pub(super) known: Option<&'a Known<'a>>,
}

/// The routes of a listener that runs, by name.
type KnownRoutes<'a> = HashMap<&'a Name, &'a Arc<Route>>;

impl<'a> Routing<'a> {
    /// What is to be observed of each route, in their order.
    pub(super) fn observed(&self) -> Vec<Option<Arc<Observed>>> {
        self.plan.routes.iter().map(|route| self.observed_of(route)).collect()
    }

    /// The same by the names of the routes, without those of which there is nothing.
    pub(super) fn named(&self, observed: Vec<Option<Arc<Observed>>>) -> Vec<(Name, Arc<Observed>)> {
        let routes = self.plan.routes.iter().zip(observed);
        routes.filter_map(|(route, observed)| Some((route.name.clone(), observed?))).collect()
    }

    /// The listeners with their routes, by their numbers. `logs` are in the order of the plan.
    pub(super) fn listeners(
        &self,
        observed: &[Option<Arc<Observed>>],
        logs: Vec<Option<Arc<AccessLog>>>,
    ) -> Vec<Option<Arc<Listener>>> {
        let plans = &self.plan.listeners;
        let before: Vec<_> = plans.iter().map(|plan| self.known_listener(plan)).collect();
        let known: Vec<_> = before.iter().map(|before| before.map(by_name).unwrap_or_default()).collect();
        let mut tables: Vec<Vec<(&Rule, Arc<Route>)>> = plans.iter().map(|_| Vec::new()).collect();
        for (route, observed) in self.plan.routes.iter().zip(observed) {
            self.begin_limits(route);
            for index in &route.listeners {
                let (Some(listener), Some(known), Some(table)) =
                    (plans.get(*index), known.get(*index), tables.get_mut(*index))
                else {
                    continue;
                };
                let known = known.get(&route.name).copied();
                table.push((&route.rule, self.route(route, observed.as_ref(), listener, known)));
            }
        }
        let mut listeners = Vec::new();
        let parts = plans.iter().zip(tables).zip(logs).zip(before).zip(self.ground.ids);
        for ((((plan, routes), log), before), id) in parts {
            if listeners.len() <= *id {
                listeners.resize(id + 1, None);
            }
            if let Some(place) = listeners.get_mut(*id) {
                *place = Some(listener::listener(
                    (plan, service::service(plan, self.plan, self.ground.ids, self.ground.registry)),
                    routes,
                    log,
                    before,
                    self.ground.registry,
                ));
            }
        }
        listeners
    }

    fn known_listener(&self, plan: &ListenerPlan) -> Option<&'a Arc<Listener>> {
        self.known?.listeners.get(&plan.name).map(|(_, listener)| *listener)
    }

    /// Something, if a route's second tries or the time limit of one try go by it.
    fn observed_of(&self, plan: &RoutePlan) -> Option<Arc<Observed>> {
        let Action::Forward(split) = &plan.action else { return None };
        let pools = split.iter().filter_map(|(id, _)| self.pools.get(id.0));
        let own = plan.timeouts.attempt;
        let mut attempts = pools.filter_map(|pool| own.or(pool.settings.timeouts.attempt));
        let learned = attempts.find(|attempt| matches!(attempt, TryTimeout::Learned { .. }));
        let quantile = plan.hedge.map(|hedge| match hedge.after {
            HedgeAfter::Quantile(quantile) => quantile,
            HedgeAfter::Fixed(_) => USUAL_QUANTILE,
        });
        if learned.is_none() && quantile.is_none() {
            return None;
        }
        let quantile = quantile.unwrap_or(USUAL_QUANTILE);
        let known = self.known.and_then(|known| known.observed.get(known.renamed.before(&plan.name)?));
        let same = known.filter(|known| known.hedge_quantile == quantile && known.attempt == learned);
        Some(same.map_or_else(
            || Arc::new(Observed::new(self.ground.workers, quantile, learned)),
            |known| Arc::clone(known),
        ))
    }

    /// Has a route's rate limits begin, those that do not go on.
    fn begin_limits(&self, plan: &RoutePlan) {
        let limits = plan.filters.iter().filter_map(|filter| filter.rate_limit());
        for limit in limits.filter(|limit| !limit.has_begun()) {
            let counts = self.ground.registry.rate_limit(&plan.name, limit.name());
            limit.begin(ambient::now(), ambient::draw(), counts);
        }
    }

    /// The route on a listener, with counters of its own.
    fn route(
        &self,
        plan: &RoutePlan,
        observed: Option<&Arc<Observed>>,
        listener: &ListenerPlan,
        known: Option<&Arc<Route>>,
    ) -> Arc<Route> {
        if let Some(known) = known.filter(|known| self.is_same(plan, observed, known)) {
            return Arc::clone(known);
        }
        let metrics = |pool: Option<&Arc<Pool>>| -> Arc<RouteMetrics> {
            self.ground.registry.route(&RouteLabels {
                listener: listener.name.clone(),
                route: plan.name.clone(),
                pool: pool.map(|pool| pool.settings.name.clone()),
            })
        };
        let mut weight_upto = 0;
        let mut branches = Vec::new();
        for (PoolId(index), weight) in split(plan) {
            weight_upto += u64::from(*weight);
            let (Some(pool), Some(own)) = (self.pools.get(*index), self.plan.pools.get(*index)) else {
                continue;
            };
            let retry = Arc::new(plan.retry.over(&own.retry));
            branches.push(Branch { pool: *index, retry, weight_upto, metrics: metrics(Some(pool)) });
        }
        Arc::new(Route {
            name: plan.name.clone(),
            fingerprint: plan.fingerprint,
            filters: Arc::clone(&plan.filters),
            branches,
            timeouts: plan.timeouts.clone(),
            observed: observed.cloned(),
            hedge: plan.hedge,
            priorities: plan.priorities.clone(),
            deadline_header: plan.deadline_header.clone(),
            answered: metrics(None),
        })
    }

    /// Whether a route is what it was, and its pools are where they were, with the same retries.
    fn is_same(&self, plan: &RoutePlan, observed: Option<&Arc<Observed>>, known: &Route) -> bool {
        let split = split(plan);
        let leads_there = |((PoolId(index), _), branch): (&(PoolId, u32), &Branch)| {
            let before = self.known.and_then(|known| known.snapshot.pools.get(branch.pool));
            let now = self.plan.pools.get(*index);
            let (Some(before), Some(now)) = (before, now) else { return false };
            branch.pool == *index
                && before.settings.name == now.name
                && *branch.retry == plan.retry.over(&now.retry)
        };
        plan.fingerprint == known.fingerprint
            && Arc::ptr_eq(&plan.filters, &known.filters)
            && observed.map(Arc::as_ptr) == known.observed.as_ref().map(Arc::as_ptr)
            && split.len() == known.branches.len()
            && split.iter().zip(&known.branches).all(leads_there)
    }
}

fn by_name(listener: &Arc<Listener>) -> KnownRoutes<'_> {
    listener.routes.targets().iter().map(|route| (&route.name, route)).collect()
}

fn split(plan: &RoutePlan) -> &[(PoolId, u32)] {
    match &plan.action {
        Action::Forward(split) => split,
        Action::Answer => &[],
    }
}

/// Which quantile is learned where no hedge asks for one.
const USUAL_QUANTILE: f64 = 0.99;
