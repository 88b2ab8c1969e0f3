//! What one scrape shows of endpoints: those with series of their own, and per pool all others together,
//! as `endpoint="other"`. What was counted of others that are gone stays in the sum, so that no counter
//! of `other` goes down. Every endpoint keeps its own handles, whichever way it is shown.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::endpoint::{EndpointLabels, EndpointMetrics};
use super::health::{EndpointHealth, HealthCounts};
use super::histogram::Bounds;
use super::loops::{BreakerLabels, BreakerMetrics};
use super::{Kept, Registry, Reviewed};
use crate::model::Name;

/// What was counted of others that are gone, by pool. Locked by a scrape from the look at who is there to
/// the end of the sum, so that another one misses nobody who goes meanwhile.
#[derive(Debug, Default)]
pub(super) struct Gone(Mutex<BTreeMap<Name, Other>>);

/// What was counted of the others of one pool.
#[derive(Debug)]
struct Other {
    metrics: EndpointMetrics,
    health: HealthCounts,
    /// How often their breakers opened; `None` without any.
    opened: Option<u64>,
}

/// What one scrape shows of endpoints and breakers.
pub(super) struct View {
    endpoints: Vec<(EndpointLabels, Arc<EndpointMetrics>)>,
    health: Vec<(EndpointLabels, Arc<EndpointHealth>)>,
    breakers: Vec<(BreakerLabels, Arc<BreakerMetrics>)>,
    /// The others together, by pool.
    together: Vec<(EndpointLabels, BreakerLabels, Other)>,
    /// The same each by itself.
    others: Others,
}

/// Handles of endpoints that are shown together.
struct Others {
    endpoints: Vec<(EndpointLabels, Arc<EndpointMetrics>)>,
    health: Vec<(EndpointLabels, Arc<EndpointHealth>)>,
    breakers: Vec<(BreakerLabels, Arc<BreakerMetrics>)>,
}

impl Registry {
    /// All endpoints there are, as they are to be shown.
    pub(super) fn view_endpoints(&self) -> View {
        let mut gone = self.gone.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (endpoints, other_endpoints, gone_endpoints) = split(&self.endpoints, EndpointMetrics::is_own);
        let (health, other_health, gone_health) = split(&self.endpoint_health, EndpointHealth::is_own);
        let (breakers, other_breakers, gone_breakers) = split(&self.breakers, BreakerMetrics::is_own);
        self.seats.tidy();
        let pools = self.pools.all();
        gone.retain(|pool, _| pools.iter().any(|(name, _)| name == pool));
        let left = Others { endpoints: gone_endpoints, health: gone_health, breakers: gone_breakers };
        left.add_to(&mut gone, &self.bounds);
        let mut sums = BTreeMap::new();
        for (pool, gone) in gone.iter() {
            Other::of(pool, &mut sums, &self.bounds).add(gone);
        }
        drop(gone);
        let others = Others { endpoints: other_endpoints, health: other_health, breakers: other_breakers };
        others.add_to(&mut sums, &self.bounds);
        let together = sums.into_iter().map(|(pool, sum)| {
            let endpoint = EndpointLabels { pool: pool.clone(), endpoint: OTHER.to_owned() };
            (endpoint, BreakerLabels { pool, endpoint: Some(OTHER.to_owned()) }, sum)
        });
        View { endpoints, health, breakers, together: together.collect(), others }
    }
}

impl View {
    /// Endpoints with what was measured of their requests.
    pub(super) fn endpoints(&self) -> impl Iterator<Item = (&EndpointLabels, &EndpointMetrics)> + Clone {
        let own = self.endpoints.iter().map(|(labels, metrics)| (labels, &**metrics));
        own.chain(self.together.iter().map(|(labels, _, other)| (labels, &other.metrics)))
    }

    /// Endpoints with series of their own, with their health.
    pub(super) fn health(&self) -> impl Iterator<Item = (&EndpointLabels, &EndpointHealth)> + Clone {
        self.health.iter().map(|(labels, health)| (labels, &**health))
    }

    /// What can be added up of the health of the others.
    pub(super) fn other_health(&self) -> impl Iterator<Item = (&EndpointLabels, HealthCounts)> + Clone {
        self.together.iter().map(|(labels, _, other)| (labels, other.health))
    }

    /// The health of all endpoints, however they are shown.
    pub(super) fn all_health(&self) -> impl Iterator<Item = (&EndpointLabels, &EndpointHealth)> + Clone {
        self.health().chain(self.others.health.iter().map(|(labels, health)| (labels, &**health)))
    }

    /// Breakers with series of their own.
    pub(super) fn breakers(&self) -> impl Iterator<Item = (&BreakerLabels, &BreakerMetrics)> + Clone {
        self.breakers.iter().map(|(labels, breaker)| (labels, &**breaker))
    }

    /// How often the breakers of the others opened.
    pub(super) fn other_breakers(&self) -> impl Iterator<Item = (&BreakerLabels, u64)> + Clone {
        self.together.iter().filter_map(|(_, labels, other)| Some((labels, other.opened?)))
    }

    /// How many handles of the others there are: of endpoints, of their health, of their breakers.
    pub(super) fn folded(&self) -> [usize; 3] {
        let Others { endpoints, health, breakers } = &self.others;
        [endpoints.len(), health.len(), breakers.len()]
    }
}

impl Others {
    /// Adds what was counted of each to the sum over its pool.
    fn add_to(&self, sums: &mut BTreeMap<Name, Other>, bounds: &Arc<Bounds>) {
        for (of, metrics) in &self.endpoints {
            Other::of(&of.pool, sums, bounds).metrics.absorb(metrics);
        }
        for (of, health) in &self.health {
            Other::of(&of.pool, sums, bounds).health.add(health.counts());
        }
        for (of, breaker) in &self.breakers {
            *Other::of(&of.pool, sums, bounds).opened.get_or_insert(0) += breaker.opened();
        }
    }
}

impl Other {
    /// The sum over a pool, which begins at nothing.
    fn of<'a>(pool: &Name, sums: &'a mut BTreeMap<Name, Self>, bounds: &Arc<Bounds>) -> &'a mut Self {
        sums.entry(pool.clone()).or_insert_with(|| Self {
            metrics: EndpointMetrics::sum(bounds),
            health: HealthCounts::default(),
            opened: None,
        })
    }

    fn add(&mut self, other: &Self) {
        self.metrics.absorb(&other.metrics);
        self.health.add(other.health);
        self.opened = self.opened.or(other.opened.map(|_| 0)).map(|n| n + other.opened.unwrap_or(0));
    }
}

/// Those of `kept` that are shown by themselves, those that are not, and those of the latter that are gone.
#[expect(clippy::type_complexity, reason = "three of the same, to be taken apart at once")]
fn split<K: Ord + Clone, M>(
    kept: &Kept<K, M>,
    is_own: fn(&M) -> bool,
) -> (Vec<(K, Arc<M>)>, Vec<(K, Arc<M>)>, Vec<(K, Arc<M>)>) {
    let Reviewed { shown, mut forgotten } = kept.review_all();
    let (own, others) = shown.into_iter().partition(|(_, metrics)| is_own(metrics));
    forgotten.retain(|(_, metrics)| !is_own(metrics));
    (own, others, forgotten)
}

/// The label `endpoint` of those that are shown together. No address is written like this.
const OTHER: &str = "other";
