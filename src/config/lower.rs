//! The whole file, from what was written to what it means: its sections in order, then what only
//! shows when they are seen together.

use std::collections::HashSet;
use std::num::NonZeroUsize;

use super::binds::Binds;
use super::plan::{Action, ListenerPlan, Origin, Plan, PoolPlan, RoutePlan, RungPlan};
use super::{Cx, admin, listener, metrics, overload, pool, process, route, tracing, unread};
use crate::model::options::{Key, Options, Value};

/// Makes the plan; `None` when there is an error, which is then reported.
pub(super) fn lower(entries: &[(Key, Value)], cx: &Cx<'_>) -> Option<Plan> {
    let root = Options::root(entries, cx.sink);
    // It is read already.
    let _ = root.given("include");
    let workers = root.given("workers").and_then(|given| given.within(1..=MAX_WORKERS));
    let zone = root.get("zone");
    let state_dir = root.get::<String>("state_dir").map(|dir| cx.path(&dir));
    let log = process::log(root.section("log"));
    let drain = process::drain(root.section("drain"));
    let upgrade = process::upgrade(root.section("upgrade"), cx);
    let reload = process::reload(root.section("reload"));
    let overload = overload::overload(root.section("overload"));
    let metrics = metrics::metrics(root.section("metrics"));
    let tracing = tracing::tracing(&root, cx);

    let mut binds = Binds::default();
    let mut pools = pool::pools(root.section("pool"), cx);
    let listeners = listener::listeners(&root, &mut binds, &pools.names, cx);
    let admin = admin::admin(root.section("admin"), &mut binds, cx);
    if let (None, Some(pool)) = (&state_dir, pools.plans.iter().find(|pool| pool.discovery.keep_changes)) {
        let fault = format!("`state_dir` is missing, and pool {} is to keep changes there", pool.name);
        let hint = "write `state_dir = \"/var/lib/forebay\"`, or leave `api.keep` out";
        root.missing("state_dir", fault, Some(hint.to_owned()));
    }
    let routes = route::routes(&root, &listeners, &pools.names, cx);
    if cx.sink.errors() == 0 {
        unread::report(&root, &listeners.plans, &routes, &pools.plans);
    }
    root.finish();
    pools.widen(&used_pools(&[], &routes, &pools.plans));

    if cx.sink.errors() > 0 {
        return None;
    }
    pools.names.warn_of_unused(&used_pools(&listeners.plans, &routes, &pools.plans), cx.sink);
    Some(Plan {
        origin: Origin::default(),
        state_dir,
        workers: workers.and_then(NonZeroUsize::new),
        admin,
        listeners: listeners.plans,
        routes,
        pools: pools.plans,
        log,
        drain,
        upgrade,
        reload,
        overload,
        metrics,
        tracing,
        zone,
    })
}

/// The pools that listeners and routes lead to, and those that stand in for them.
pub(super) fn used_pools(
    listeners: &[ListenerPlan],
    routes: &[RoutePlan],
    pools: &[PoolPlan],
) -> HashSet<usize> {
    let of = |route: &RoutePlan| match &route.action {
        Action::Forward(split) => split.iter().map(|(pool, _)| pool.0).collect(),
        Action::Answer => Vec::new(),
    };
    let passed_on = listeners.iter().flat_map(|listener| listener.service.pools()).map(|pool| pool.0);
    let mut used: HashSet<usize> = routes.iter().flat_map(of).chain(passed_on).collect();
    let mut next: Vec<usize> = used.iter().copied().collect();
    while let Some(pool) = next.pop() {
        let rungs = pools.get(pool).and_then(|pool| pool.degradation.as_ref());
        let rungs = rungs.map_or(&[][..], |degradation| &degradation.ladder);
        let stand_ins = rungs.iter().filter_map(|rung| match rung {
            RungPlan::Pool(id) => Some(id.0),
            RungPlan::Stale(_) | RungPlan::Respond(_) => None,
        });
        next.extend(stand_ins.filter(|id| used.insert(*id)));
    }
    used
}

/// The greatest number of workers: beyond it someone has mistaken it for connections.
const MAX_WORKERS: usize = 1024;
