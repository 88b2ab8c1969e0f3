//! What becomes of what a listener accepts, where that is not looked into: pools by weight.

use std::sync::Arc;

use crate::flow::Settings;
use crate::model::Name;
use crate::model::settings::{Retry, StreamTimeouts};
use crate::observe::metrics::{DatagramMetrics, StreamMetrics};
use crate::route::sni::SniTable;

/// What becomes of what a listener accepts.
#[derive(Debug, PartialEq)]
pub enum Service {
    /// Its requests take routes.
    Http,
    /// Its connections are passed on as they are.
    Tcp(StreamService),
    /// Likewise, to pools or listeners that the client's first message chooses.
    Tls(TlsService),
    /// Datagrams are passed on.
    Udp(UdpService),
}

/// What becomes of the connections of a `tcp` listener.
#[derive(Debug, PartialEq)]
pub struct StreamService {
    /// Where they go.
    pub split: Split,
    /// Time limits.
    pub timeouts: StreamTimeouts,
}

/// What becomes of the connections of a `tls` listener.
#[derive(Debug, PartialEq)]
pub struct TlsService {
    /// Which go where.
    pub sni: SniTable<TlsTarget>,
    /// Where those go for which nothing else is said; they are closed when unset.
    pub otherwise: Option<TlsTarget>,
    /// Time limits.
    pub timeouts: StreamTimeouts,
}

/// Where a TLS connection goes.
#[derive(Debug, PartialEq)]
pub enum TlsTarget {
    /// To an endpoint, as it is.
    Pools(Split),
    /// To the listener with this number, which ends TLS.
    Listener(usize),
}

/// What becomes of the datagrams of a `udp` listener.
#[derive(Debug)]
pub struct UdpService {
    /// Where they go.
    pub split: Split,
    /// What is a flow, and how many of them a worker may have.
    pub flows: Settings,
    /// What is counted.
    pub metrics: Arc<DatagramMetrics>,
}

impl PartialEq for UdpService {
    /// Whether the same becomes of them; a listener's counters are always the same ones.
    fn eq(&self, other: &Self) -> bool {
        self.split == other.split && self.flows == other.flows
    }
}

/// Pools with their weights.
#[derive(Debug, PartialEq)]
pub struct Split(Vec<StreamBranch>);

/// One of the pools.
#[derive(Debug)]
pub struct StreamBranch {
    /// Index into [`super::Snapshot::pools`].
    pub pool: usize,
    /// The name of that pool.
    pub name: Name,
    /// When a connection that failed is tried again.
    pub retry: Arc<Retry>,
    /// This branch's weight and those of the branches before it, added up.
    pub weight_upto: u64,
    /// What is counted of connections or flows that take this branch.
    pub metrics: Arc<StreamMetrics>,
}

impl PartialEq for StreamBranch {
    /// Whether it leads to the same pool in the same way, and is counted where the other is.
    fn eq(&self, other: &Self) -> bool {
        self.pool == other.pool
            && self.name == other.name
            && self.retry == other.retry
            && self.weight_upto == other.weight_upto
            && Arc::ptr_eq(&self.metrics, &other.metrics)
    }
}

impl Split {
    /// These branches, of which there is at least one.
    #[must_use]
    pub fn new(branches: Vec<StreamBranch>) -> Self {
        Self(branches)
    }

    /// The branch for a uniformly distributed `draw`.
    #[must_use]
    pub fn branch(&self, draw: u64) -> Option<&StreamBranch> {
        match self.0.as_slice() {
            [only] => Some(only),
            branches => {
                let point = draw.checked_rem(branches.last()?.weight_upto)?;
                branches.iter().find(|branch| point < branch.weight_upto)
            }
        }
    }
}
