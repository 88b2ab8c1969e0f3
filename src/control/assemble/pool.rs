//! Pools and their endpoints. One that is configured as before, with the same endpoints, is the very
//! same; of one that is not, everything is kept that was counted, learned or queued under its name.

use std::collections::HashMap;
use std::sync::Arc;

use rustls_pki_types::ServerName;
use tokio::sync::Notify;
use twox_hash::XxHash3_64;

use super::{AssembleError, Ground, KnownPool, Located};
use crate::ambient;
use crate::balance::{Gauge, Member};
use crate::cache::Store;
use crate::config::Plan;
use crate::config::plan::{DegradationPlan, EndpointPlan, PoolId, PoolPlan, RungPlan, UpstreamTls};
use crate::control::health::Watch;
use crate::health::pool::HealthSettings;
use crate::limit::loops::Scope;
use crate::model::{Address, Name, Target};
use crate::net::connect::Dial;
use crate::net::options;
use crate::observe::metrics::Registry;
use crate::observe::tally::Tally;
use crate::upstream::endpoint::ShownState;
use crate::upstream::fallbacks::Rung;
use crate::upstream::places::{self, Places};
use crate::upstream::pool::{Alarm, PoolSettings};
use crate::upstream::{Endpoint, Fallbacks, Guard, Pool, Valve};

/// What pools and endpoints are made with.
pub(super) struct Making<'a> {
    plan: &'a Plan,
    registry: &'a Registry,
    workers: usize,
    notify: &'a Arc<Notify>,
}

/// A pool of which nothing can fail any more.
pub(super) enum Ready<'a> {
    /// The one that is there.
    Same(&'a Arc<Pool>),
    /// Another, in the place of one of the same name, if there is one; how its endpoints are connected to,
    /// in their order.
    Other(Option<&'a Arc<Pool>>, Vec<Dial>),
}

/// What goes on under the name of a pool, whatever else changes of it.
struct Standing {
    alarm: Arc<Alarm>,
    places: places::Shared,
    guard: Arc<Guard>,
}

impl<'a> Making<'a> {
    pub(super) fn new(plan: &'a Plan, ground: &Ground<'a>) -> Self {
        Self { plan, registry: ground.registry, workers: ground.workers, notify: ground.notify }
    }

    /// Decides what becomes of a pool, and finds out whether it can.
    pub(super) fn ready<'k>(
        &self,
        plan: &PoolPlan,
        located: &Arc<[Located]>,
        known: Option<&KnownPool<'k>>,
    ) -> Result<Ready<'k>, AssembleError> {
        if let Some(known) = known.filter(|known| self.is_same(plan, located, known)) {
            return Ok(Ready::Same(known.pool));
        }
        if let Some(socket) = &plan.socket {
            let refused = |source| AssembleError::Socket { pool: plan.name.clone(), source };
            options::try_out(socket).map_err(refused)?;
        }
        let dials = located.iter().map(|endpoint| dial(plan, endpoint));
        Ok(Ready::Other(known.map(|known| known.pool), dials.collect::<Result<_, _>>()?))
    }

    /// Whether a pool is what it was. Where it is near to us matters only to those that say where they are.
    fn is_same(&self, plan: &PoolPlan, located: &Arc<[Located]>, known: &KnownPool<'_>) -> bool {
        let zoned = || located.iter().any(|endpoint| endpoint.plan.zone.is_some());
        let tls = |plan: &PoolPlan| plan.tls.as_ref().map(|tls| tls.fingerprint);
        plan.fingerprint == known.plan.fingerprint
            // Which may go by where the pool is used.
            && plan.limits == known.plan.limits
            && tls(plan) == tls(known.plan)
            && (Arc::ptr_eq(located, known.located) || located == known.located)
            && (self.plan.zone.as_ref() == known.zone || !zoned())
    }

    /// Makes the pool. Of one that was there, limits and weights change at once.
    pub(super) fn pool(&self, plan: &PoolPlan, located: &[Located], ready: Ready<'_>) -> Arc<Pool> {
        let (before, dials) = match ready {
            Ready::Same(pool) => return Arc::clone(pool),
            Ready::Other(before, dials) => (before, dials),
        };
        let standing = self.standing(plan, before);
        let mut known: HashMap<&str, Vec<&Arc<Endpoint>>> = HashMap::new();
        for endpoint in before.iter().flat_map(|before| before.endpoints.iter().rev()) {
            known.entry(&endpoint.name).or_default().push(endpoint);
        }
        let endpoints = located.iter().zip(dials).map(|(Located { plan: own, address }, dial)| {
            let name = address.to_string();
            // Where two have one address, the second is not the first.
            match known.get_mut(&*name).and_then(Vec::pop) {
                Some(known) => adjusted(known, own.weight, dial, plan),
                None => self.endpoint((plan, own), name, dial, &standing),
            }
        });
        let endpoints = endpoints.collect();
        if let Some(before) = before {
            adjust(before, plan);
        }
        let settings = self.settings(plan, before);
        let Standing { alarm, places, guard } = standing;
        Arc::new(Pool::new(settings, endpoints, alarm, guard, places))
    }

    /// What the control plane is to know of a pool.
    pub(super) fn watch(&self, plan: &PoolPlan, located: &[Located], pool: &Arc<Pool>) -> Watch {
        Watch {
            pool: Arc::clone(pool),
            members: located.iter().map(|endpoint| self.member(&endpoint.plan)).collect(),
            health: HealthSettings {
                checks: plan.check.as_ref().map(|check| check.rhythm.clone()),
                detectors: plan.detectors.clone(),
                ejection: plan.ejection.clone(),
                slow_start: plan.slow_start,
            },
            check: plan.check.clone(),
            fail_open: plan.fail_open,
            loops: plan.loops.clone(),
            scale: plan.scale.clone(),
            ladder: plan.degradation.as_ref().map(|degradation| degradation.settings.clone()),
        }
    }

    fn standing(&self, plan: &PoolPlan, before: Option<&Arc<Pool>>) -> Standing {
        if let Some(before) = before {
            return Standing {
                alarm: Arc::clone(&before.alarm),
                places: before.places.clone(),
                guard: Arc::clone(&before.guard),
            };
        }
        let places = places::Shared::new(&plan.limits);
        let metrics = self.registry.pool(&plan.name);
        let guard = Arc::new(Guard::new(&plan.limits, metrics, Arc::clone(places.line())));
        Standing { alarm: Alarm::new(Arc::clone(self.notify)), places, guard }
    }

    fn settings(&self, plan: &PoolPlan, before: Option<&Arc<Pool>>) -> PoolSettings {
        let before = before.and_then(|before| before.settings.fallbacks.as_ref());
        let fallbacks = plan.degradation.as_ref();
        PoolSettings {
            name: plan.name.clone(),
            fingerprint: plan.fingerprint,
            policy: plan.policy,
            hash_key: plan.hash_key.clone(),
            balance_factor: plan.balance_factor,
            sticky: plan.sticky.clone(),
            protocol: plan.protocol,
            headers: plan.headers,
            timeouts: plan.timeouts.clone(),
            connections: plan.connections.clone(),
            limits: plan.limits.clone(),
            fallbacks: fallbacks.map(|degradation| self.fallbacks(&plan.name, degradation, before)),
            endpoint_breakers: matches!(plan.loops.breaker, Some((Scope::Endpoint, _))),
        }
    }

    /// What stands in for a pool, by the names by which metrics and clients know it. Kept responses stay
    /// where as much may be kept for as long.
    fn fallbacks(&self, pool: &Name, plan: &DegradationPlan, before: Option<&Fallbacks>) -> Fallbacks {
        let (mut rungs, mut names) = (Vec::new(), Vec::new());
        for rung in &plan.ladder {
            let (rung, name) = match rung {
                RungPlan::Pool(PoolId(index)) => {
                    let Some(other) = self.plan.pools.get(*index) else { continue };
                    (Rung::Pool(other.name.clone()), format!("pool={}", other.name))
                }
                RungPlan::Stale(bounds) => {
                    let known = before.and_then(Fallbacks::store).filter(|store| store.bounds() == bounds);
                    let store = known.cloned();
                    let store = store.unwrap_or_else(|| Arc::new(Store::new(bounds.clone(), ambient::now())));
                    (Rung::Stale(store), "stale".to_owned())
                }
                RungPlan::Respond(reply) => (Rung::Respond(reply.clone()), "fixed".to_owned()),
            };
            rungs.push(rung);
            names.push(name);
        }
        Fallbacks::new(rungs, plan.settings.trials, self.registry.ladder(pool, names), before)
    }

    /// What bands see of an endpoint. Without a zone of our own, or of its own, it is nearby.
    fn member(&self, plan: &EndpointPlan) -> Member {
        let near = match (&self.plan.zone, &plan.zone) {
            (Some(ours), Some(its)) => ours == its,
            _ => true,
        };
        Member { level: plan.level, near, weight: plan.weight }
    }

    /// An endpoint that was not there before.
    fn endpoint(
        &self,
        (pool, plan): (&PoolPlan, &EndpointPlan),
        name: String,
        dial: Dial,
        standing: &Standing,
    ) -> Arc<Endpoint> {
        let gauge = Arc::new(Gauge::new(plan.weight, ambient::now()));
        let metrics = self.registry.endpoint(&pool.name, &name, &gauge);
        let identity = XxHash3_64::oneshot(name.as_bytes());
        let sticky_id = XxHash3_64::oneshot_with_seed(identity, pool.name.as_str().as_bytes());
        Arc::new(Endpoint {
            name,
            identity,
            sticky_id: format!("{sticky_id:016x}").into(),
            dial: Arc::new(dial),
            gauge,
            metrics,
            tally: Arc::new(Tally::new(self.workers)),
            alarm: Arc::clone(&standing.alarm),
            places: Arc::new(Places::new(&pool.limits, &standing.places)),
            breaker: Arc::new(Valve::default()),
            shown: Arc::new(ShownState::default()),
        })
    }
}

/// An endpoint that was there before, with the limits and the weight that it has now.
fn adjusted(known: &Arc<Endpoint>, weight: u32, dial: Dial, pool: &PoolPlan) -> Arc<Endpoint> {
    if known.gauge.base_weight() != weight {
        known.gauge.set_weight(weight);
    }
    known.places.adjust(&pool.limits);
    if is_same_dial(&known.dial, &dial) { Arc::clone(known) } else { Arc::new(known.redialled(dial)) }
}

fn is_same_dial(one: &Dial, other: &Dial) -> bool {
    one.address == other.address
        && one.socket == other.socket
        && match (&one.tls, &other.tls) {
            (None, None) => true,
            (Some((config, name)), Some((other, other_name))) => {
                Arc::ptr_eq(config, other) && name == other_name
            }
            _ => false,
        }
}

/// Has what stands before a pool go by `plan` from now on. What loops decide is adopted elsewhere.
fn adjust(before: &Pool, plan: &PoolPlan) {
    let adaptive = plan.loops.adaptive.as_ref().is_some_and(|settings| settings.enforced);
    before.guard.adjust(&plan.limits, adaptive);
    before.places.adjust(&plan.limits);
    // There may be more room than those saw who wait for some.
    before.places.line().changed();
}

fn dial(pool: &PoolPlan, endpoint: &Located) -> Result<Dial, AssembleError> {
    let tls = match &pool.tls {
        Some(tls) => Some((Arc::clone(&tls.config), server_name(tls, &endpoint.plan.target, &pool.name)?)),
        None => None,
    };
    Ok(Dial { address: endpoint.address.clone(), tls, socket: pool.socket.clone() })
}

fn server_name(
    tls: &UpstreamTls,
    target: &Target,
    pool: &Name,
) -> Result<ServerName<'static>, AssembleError> {
    if let Some(name) = &tls.server_name {
        return Ok(name.clone());
    }
    let own = match target {
        Target::Address(Address::Inet(address) | Address::Udp(address)) => {
            Some(ServerName::from(address.ip()))
        }
        Target::Address(Address::Unix(_)) => None,
        Target::Host { name, .. } => ServerName::try_from(name.to_string()).ok(),
    };
    own.ok_or_else(|| AssembleError::ServerName { target: target.to_string(), pool: pool.clone() })
}
