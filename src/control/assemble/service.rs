//! What becomes of what listeners accept, with the pools where they are in the snapshot.

use std::sync::Arc;

use crate::config::Plan;
use crate::config::plan::{PoolId, ServicePlan, SplitPlan};
use crate::upstream::Service;
use crate::upstream::service::{Split, StreamBranch, StreamService, TlsService, UdpService};

/// What a listener of `plan` does.
pub(super) fn service(own: &ServicePlan, plan: &Plan) -> Service {
    match own {
        ServicePlan::Http => Service::Http,
        ServicePlan::Tcp(own) => {
            Service::Tcp(StreamService { split: split(&own.split, plan), timeouts: own.timeouts.clone() })
        }
        ServicePlan::Tls(own) => Service::Tls(TlsService {
            otherwise: own.otherwise.as_ref().map(|own| split(own, plan)),
            timeouts: own.timeouts.clone(),
        }),
        ServicePlan::Udp(own) => {
            Service::Udp(UdpService { split: split(&own.split, plan), flows: own.flows.clone() })
        }
    }
}

fn split(own: &SplitPlan, plan: &Plan) -> Split {
    let mut weight_upto = 0;
    let branches = own.iter().filter_map(|(PoolId(index), weight)| {
        weight_upto += u64::from(*weight);
        let retry = Arc::new(plan.pools.get(*index)?.retry.clone());
        Some(StreamBranch { pool: *index, retry, weight_upto })
    });
    Split::new(branches.collect())
}
