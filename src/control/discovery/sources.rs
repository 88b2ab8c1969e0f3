//! The sources of one pool: what its plan names, what DNS is asked for on its behalf, its list. Makes of
//! what is known the endpoints that the pool is to use, and shows where they come from.

use std::sync::Arc;
use std::time::SystemTime;

use serde_json::{Value, json};

use super::lists::List;
use super::{Entry, Known, roster};
use crate::ambient;
use crate::config::plan::{EndpointPlan, PoolPlan};
use crate::control::assemble::Located;
use crate::discover::{Changes, Found, Origin, Question, Slot, Terms, Whence};
use crate::model::{Address, Name, Target};
use crate::observe::civil;
use crate::observe::metrics::{DiscoveryMetrics, Registry};

/// Where the endpoints of one pool come from.
#[derive(Debug)]
pub(super) struct Sources {
    /// The pool.
    pub(super) name: Name,
    /// What the plan says.
    slots: Vec<Slot>,
    /// A list that something else writes.
    pub(super) list: Option<List>,
    /// What is in use.
    pub(super) applied: Arc<[Located]>,
    /// Whether that may be out of date.
    pub(super) is_stale: bool,
    /// Whether its endpoints may be Unix sockets.
    pub(super) takes_sockets: bool,
    /// Whether what is changed by hand outlives the process.
    pub(super) keeps_changes: bool,
    /// Only where there is something to be found out.
    pub(super) metrics: Option<Arc<DiscoveryMetrics>>,
}

/// What is known of one source of a pool.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceReading {
    /// What it is.
    pub origin: Origin,
    /// What it names: addresses in the configuration, a name, the path of a file.
    pub what: String,
    /// The word for how it is going with it.
    pub state: &'static str,
    /// How many endpoints it names.
    pub endpoints: usize,
    /// What was wrong when it was last asked or read.
    pub error: Option<String>,
    /// When it was last asked or read with success.
    pub last_success: Option<SystemTime>,
    /// In how many seconds it is asked again.
    pub next_in: Option<f64>,
}

impl Sources {
    /// Those of `pool`, of which nothing was asked or read yet.
    pub(super) fn of(pool: &PoolPlan, registry: &Registry) -> Self {
        let named = pool.endpoints.iter().map(|plan| slot(plan, Origin::Configuration));
        let asked = pool.discovery.dns.iter().map(|dns| Slot {
            origin: Origin::Dns,
            terms: dns.terms.clone(),
            whence: Whence::Asked {
                question: Arc::clone(&dns.question),
                port: dns.port,
                drop_when_empty: dns.drop_when_empty,
            },
        });
        let slots: Vec<Slot> = named.chain(asked).collect();
        let takes_sockets = pool.tls.as_ref().is_none_or(|tls| tls.server_name.is_some());
        let list = pool.discovery.file.as_ref().map(|path| List::new(path.clone(), takes_sockets));
        let finds = list.is_some() || slots.iter().any(|slot| slot.origin != Origin::Configuration);
        Self {
            name: pool.name.clone(),
            slots,
            list,
            applied: [].into(),
            is_stale: true,
            takes_sockets,
            keeps_changes: pool.discovery.keep_changes,
            metrics: finds.then(|| registry.discovery(&pool.name)),
        }
    }

    /// Takes over what was known of the same pool under another plan.
    pub(super) fn follow(&mut self, before: &Self) {
        if let (Some(list), Some(before)) = (&mut self.list, &before.list) {
            list.follow(before);
        }
    }

    /// Reads the list, if there is one.
    pub(super) fn read_list(&mut self) {
        let Some(list) = &mut self.list else { return };
        let read = List::read(list.path());
        list.on_read(read, &self.name, self.metrics.as_deref());
    }

    /// What is to be asked on its behalf.
    pub(super) fn questions(&self) -> impl Iterator<Item = &Arc<Question>> {
        let slots = self.slots.iter().chain(self.list.iter().flat_map(List::slots));
        slots.filter_map(|slot| match &slot.whence {
            Whence::Asked { question, .. } => Some(question),
            Whence::Address(_) => None,
        })
    }

    /// What the sources name, before it is changed by hand.
    pub(super) fn named(&self, known: &Known) -> Vec<Found> {
        let asked = |question: &Question| known.get(question).map(|entry| &entry.asked);
        match &self.list {
            Some(list) => roster::named(&[&*self.slots, list.slots()].concat(), asked),
            None => roster::named(&self.slots, asked),
        }
    }

    /// What is to be used by what is known.
    pub(super) fn located(&self, known: &Known, changes: Option<&Changes>) -> Arc<[Located]> {
        let mut found = self.named(known);
        if let Some(changes) = changes {
            found = roster::changed(found, changes);
        }
        if let Some(metrics) = &self.metrics {
            for origin in Origin::ALL {
                metrics.set_endpoints(origin, found.iter().filter(|one| one.origin == origin).count());
            }
        }
        found.into_iter().map(located).collect()
    }

    /// Every source, in the order in which they count.
    pub(super) fn readings(&self, known: &Known, changes: Option<&Changes>) -> Vec<SourceReading> {
        let literal = self.slots.iter().filter(|slot| matches!(slot.whence, Whence::Address(_))).count();
        let mut readings = Vec::new();
        if literal > 0 {
            readings.push(SourceReading::plain(Origin::Configuration, "endpoints", literal));
        }
        let list = self.list.as_ref();
        let slots = self.slots.iter().chain(list.into_iter().flat_map(List::slots));
        for slot in slots {
            let Whence::Asked { question, .. } = &slot.whence else { continue };
            let entry = known.get(question);
            let endpoints =
                roster::named(std::slice::from_ref(slot), |_| entry.map(|entry| &entry.asked)).len();
            readings.push(asked(question, entry, endpoints));
        }
        readings.extend(list.map(List::reading));
        if let Some(changes) = changes.filter(|changes| !changes.is_empty()) {
            readings.push(SourceReading::plain(Origin::Api, "changes", changes.iter().count()));
        }
        readings
    }
}

impl SourceReading {
    fn plain(origin: Origin, what: &str, endpoints: usize) -> Self {
        let what = what.to_owned();
        Self { origin, what, state: "fixed", endpoints, error: None, last_success: None, next_in: None }
    }

    /// As the admin API shows it.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "source": self.origin.name(),
            "what": self.what,
            "state": self.state,
            "endpoints": self.endpoints,
            "error": self.error,
            "last_success": self.last_success.map(civil::rfc3339),
            "next_in_seconds": self.next_in,
        })
    }
}

fn asked(question: &Question, entry: Option<&Entry>, endpoints: usize) -> SourceReading {
    let next = entry.and_then(|entry| entry.asked.due());
    SourceReading {
        origin: Origin::Dns,
        what: question.host.to_string(),
        state: entry.map(|entry| entry.asked.condition()).unwrap_or_default().name(),
        endpoints,
        error: entry.and_then(|entry| entry.error.clone()),
        last_success: entry.and_then(|entry| entry.last_success),
        next_in: next.map(|due| due.saturating_duration_since(ambient::now()).as_secs_f64()),
    }
}

/// What an endpoint as written names. A host name is asked of the system.
pub(super) fn slot(plan: &EndpointPlan, origin: Origin) -> Slot {
    let EndpointPlan { target, weight, level, zone } = plan;
    let terms = Terms { weight: *weight, level: *level, zone: zone.clone() };
    match target {
        Target::Address(address) => Slot { origin, terms, whence: Whence::Address(address.clone()) },
        Target::Host { name, port } => {
            let question = Arc::new(Question::of_system(name));
            let whence = Whence::Asked { question, port: *port, drop_when_empty: false };
            Slot { origin: Origin::Dns, terms, whence }
        }
    }
}

fn located(found: Found) -> Located {
    let Found { address, host, terms: Terms { weight, level, zone }, .. } = found;
    let target = match (host, &address) {
        (Some(name), Address::Inet(inet)) => Target::Host { name, port: inet.port() },
        _ => Target::Address(address.clone()),
    };
    Located { plan: EndpointPlan { target, weight, level, zone }, address }
}
