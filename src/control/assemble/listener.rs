//! Listeners and their access logs. A log whose options are the same goes on, with its file and its
//! thread; so does the count of a listener's connections.

use std::sync::Arc;

use super::{AssembleError, Ground, Known};
use crate::ambient;
use crate::config::Plan;
use crate::config::plan::ListenerPlan;
use crate::limit::door::Door;
use crate::observe::access_log::{AccessLog, Options};
use crate::observe::metrics::Registry;
use crate::route::{Rule, Table};
use crate::upstream::{Listener, Route, Service};

/// The access logs of the plan's listeners, in their order.
///
/// # Errors
/// When one cannot be opened. Those that were opened before it are closed again.
pub(super) fn logs(
    plan: &Plan,
    ground: &Ground<'_>,
    known: Option<&Known<'_>>,
) -> Result<Vec<Option<Arc<AccessLog>>>, AssembleError> {
    let log = |plan: &ListenerPlan| {
        let Some(log) = &plan.access_log else { return Ok(None) };
        let known = known.and_then(|known| known.listeners.get(&plan.name));
        let same = known.filter(|(before, _)| before.access_log.as_ref() == Some(log));
        if let Some(open) = same.and_then(|(_, listener)| listener.access_log.clone()) {
            return Ok(Some(open));
        }
        let opened = AccessLog::open(Options {
            format: log.format,
            fields: log.fields.clone(),
            sample: log.sample,
            to: log.to.clone(),
            queue: log.queue,
            workers: ground.workers,
            lines: Arc::clone(ground.registry.listener(&plan.name).log_lines()),
        });
        let failed = |source| AssembleError::AccessLog { listener: plan.name.clone(), source };
        opened.map(Arc::new).map(Some).map_err(failed)
    };
    plan.listeners.iter().map(log).collect()
}

/// The listener, which is the one before if nothing of it and of its routes has changed.
pub(super) fn listener(
    (plan, service): (&ListenerPlan, Service),
    routes: Vec<(&Rule, Arc<Route>)>,
    access_log: Option<Arc<AccessLog>>,
    before: Option<&Arc<Listener>>,
    registry: &Registry,
) -> Arc<Listener> {
    if let Some(before) = before.filter(|before| before.service == service && is_same(plan, &routes, before))
    {
        return Arc::clone(before);
    }
    Arc::new(Listener {
        name: plan.name.clone(),
        fingerprint: plan.fingerprint,
        service,
        tls: plan.tls.clone(),
        routes: Table::new(routes.into_iter().map(|(rule, route)| (rule.clone(), route)).collect()),
        timeouts: plan.timeouts.clone(),
        headers: plan.headers.clone(),
        limits: plan.limits.clone(),
        door: door(plan, before),
        identity: plan.identity.clone(),
        metrics: before.map_or_else(|| registry.listener(&plan.name), |before| Arc::clone(&before.metrics)),
        access_log,
        connections: before.map(|before| Arc::clone(&before.connections)).unwrap_or_default(),
    })
}

/// The door, with what was counted if nothing else is asked.
fn door(plan: &ListenerPlan, before: Option<&Arc<Listener>>) -> Arc<Door> {
    let same = before.map(|before| &before.door).filter(|door| *door.rules() == plan.door);
    let new = || Arc::new(Door::new(plan.door.clone(), ambient::now(), ambient::draw()));
    same.map_or_else(new, Arc::clone)
}

fn is_same(plan: &ListenerPlan, routes: &[(&Rule, Arc<Route>)], before: &Listener) -> bool {
    let tls = match (&plan.tls, &before.tls) {
        (Some(own), Some(before)) => Arc::ptr_eq(own, before),
        (None, None) => true,
        _ => false,
    };
    let known = before.routes.targets();
    plan.fingerprint == before.fingerprint
        && tls
        && routes.len() == known.len()
        && routes.iter().zip(known).all(|((_, own), known)| Arc::ptr_eq(own, known))
}
