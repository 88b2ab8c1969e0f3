//! What becomes of what listeners accept, with the pools where they are in the snapshot.

use std::num::NonZeroU32;
use std::sync::Arc;

use crate::config::Plan;
use crate::config::plan::{ListenerPlan, PoolId, ServicePlan, SplitPlan, TlsTargetPlan};
use crate::flow;
use crate::model::Name;
use crate::model::settings::FlowSettings;
use crate::observe::metrics::{Registry, StreamLabels, StreamMetrics};
use crate::route::sni::SniTable;
use crate::upstream::Service;
use crate::upstream::service::{Split, StreamBranch, StreamService, TlsService, TlsTarget, UdpService};

/// What `listener` of `plan` does. `ids` are the numbers of the plan's listeners, in their order.
pub(super) fn service(listener: &ListenerPlan, plan: &Plan, ids: &[usize], registry: &Registry) -> Service {
    let labels = |pool: &Name| StreamLabels { listener: listener.name.clone(), pool: pool.clone() };
    let counted = |pool: &Name| registry.stream(&labels(pool));
    match &listener.service {
        ServicePlan::Http => Service::Http,
        ServicePlan::Tcp(own) => Service::Tcp(StreamService {
            split: split(&own.split, plan, &counted),
            timeouts: own.timeouts.clone(),
        }),
        ServicePlan::Tls(own) => {
            let target = |own: &TlsTargetPlan| match own {
                TlsTargetPlan::Pools(own) => Some(TlsTarget::Pools(split(own, plan, &counted))),
                TlsTargetPlan::Listener(place) => ids.get(*place).copied().map(TlsTarget::Listener),
            };
            let rules = own.sni.iter().filter_map(|(rule, own)| Some((rule.clone(), target(own)?)));
            Service::Tls(TlsService {
                sni: SniTable::new(rules.collect()),
                otherwise: own.otherwise.as_ref().and_then(target),
                timeouts: own.timeouts.clone(),
            })
        }
        ServicePlan::Udp(own) => {
            let flows = flows(&own.flows, registry.workers());
            let metrics = registry.datagrams(&listener.name);
            let split = split(&own.split, plan, &|pool| registry.flow(&labels(pool)));
            Service::Udp(UdpService { split, flows, metrics })
        }
    }
}

/// The branches. `counted` says where what takes one to a pool is counted.
fn split(own: &SplitPlan, plan: &Plan, counted: &dyn Fn(&Name) -> Arc<StreamMetrics>) -> Split {
    let mut weight_upto = 0;
    let branches = own.iter().filter_map(|(PoolId(index), weight)| {
        weight_upto += u64::from(*weight);
        let pool = plan.pools.get(*index)?;
        let metrics = counted(&pool.name);
        let (name, retry) = (pool.name.clone(), Arc::new(pool.retry.clone()));
        Some(StreamBranch { pool: *index, name, retry, weight_upto, metrics })
    });
    Split::new(branches.collect())
}

/// The flows of a listener on one of so many workers.
fn flows(own: &FlowSettings, workers: usize) -> flow::Settings {
    let workers = u32::try_from(workers).unwrap_or(u32::MAX).max(1);
    flow::Settings {
        by: if own.by_port { flow::FlowBy::AddressAndPort } else { flow::FlowBy::Address },
        idle: own.idle,
        most: NonZeroU32::new(own.most.div_ceil(workers)).unwrap_or(NonZeroU32::MIN),
        requests: own.requests.and_then(NonZeroU32::new),
        replies: own.replies,
    }
}
