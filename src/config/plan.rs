//! What a configuration means: valid by construction and inert. A route cannot name a missing
//! pool, a pool cannot be empty, a certificate has its key. Nothing here is running yet.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::ServerName;

pub use super::admin::{AdminPlan, AdminTls, Clients, Protection, Token};
pub use super::origin::Origin;
pub use super::tracing::{OtlpPlan, OtlpProtocol};
use crate::balance::{self, FailOpen, HashKey};
use crate::cache;
use crate::discover::{Question, Terms};
use crate::health::check::Rhythm;
use crate::health::detector::Chosen;
use crate::health::pool::Ejection;
use crate::health::probe::Check;
use crate::limit::door::DoorRules;
use crate::limit::ladder::LadderSettings;
use crate::limit::loops::LoopSettings;
use crate::limit::scale::ScaleSettings;
use crate::model::settings::{
    ClientIdentity, ClientLimits, ClientTimeouts, ConnectionLimits, Drain, FlowSettings, HeaderVersion,
    HeadersIn, HeadersOut, Hedge, Limits, Metrics, Overload, Priorities, Retry, RouteRetry, RouteTimeouts,
    SocketOptions, Sticky, StreamTimeouts, Tracing, UpstreamProtocol, UpstreamSocket, UpstreamTimeouts,
};
pub use crate::model::settings::{LogField, LogFormat, LogSample, LogTarget};
use crate::model::{Address, Fingerprint, Name, Target};
use crate::route::Rule;
use crate::route::filter::{Filters, Reply};
use crate::route::sni::SniRule;

/// A whole configuration.
#[derive(Debug)]
pub struct Plan {
    /// What it was made from.
    pub origin: Origin,
    /// Where what is to outlive the process is kept; nowhere when unset.
    pub state_dir: Option<PathBuf>,
    /// Data-plane threads; the cores granted by the cgroup when unset.
    pub workers: Option<NonZeroUsize>,
    /// The admin listener; `None` turns it off.
    pub admin: Option<AdminPlan>,
    /// In the order of the file.
    pub listeners: Vec<ListenerPlan>,
    /// In the order of the file.
    pub routes: Vec<RoutePlan>,
    /// In the order of the file; [`PoolId`] indexes them.
    pub pools: Vec<PoolPlan>,
    /// The process's own log.
    pub log: LogPlan,
    /// How the process ends.
    pub drain: Drain,
    /// How another process takes its place.
    pub upgrade: UpgradePlan,
    /// When the files are read again by themselves.
    pub reload: ReloadPlan,
    /// When the process itself has too much to do.
    pub overload: Overload,
    /// How finely is measured, and how much is shown.
    pub metrics: Metrics,
    /// Which requests are traced, if any.
    pub tracing: Option<TracingPlan>,
    /// Where the process runs, for pools that prefer endpoints nearby.
    pub zone: Option<Name>,
}

/// Which requests are traced, and where to.
#[derive(Debug, Clone, PartialEq)]
pub struct TracingPlan {
    /// Which.
    pub settings: Tracing,
    /// Where to; nowhere when unset.
    pub otlp: Option<OtlpPlan>,
}

/// How another process takes the place of this one.
#[derive(Debug, Clone, PartialEq)]
pub struct UpgradePlan {
    /// The Unix socket over which it asks for the listening sockets; nobody can when unset.
    pub socket: Option<Arc<Path>>,
    /// How long it may take to become ready.
    pub start_timeout: Duration,
    /// How long this one then stays for requests and tunnels under way.
    pub timeout: Duration,
}

impl Default for UpgradePlan {
    fn default() -> Self {
        Self { socket: None, start_timeout: Duration::from_secs(60), timeout: Duration::from_secs(60 * 60) }
    }
}

/// One listener with all its sockets.
#[derive(Debug)]
pub struct ListenerPlan {
    /// Unique among listeners.
    pub name: Name,
    /// Tells it from one in which anything else is written, or in whose files anything else is.
    pub fingerprint: Fingerprint,
    /// The same of its TLS alone: protocol, certificates and keys, versions.
    pub tls_fingerprint: Fingerprint,
    /// At least one address, unless a `tls` listener hands it connections.
    pub bind: Vec<Address>,
    /// What is set of its sockets.
    pub socket: SocketOptions,
    /// What becomes of its connections.
    pub service: ServicePlan,
    /// TLS, for `https` listeners and `tcp` listeners that terminate it: certificates by SNI, ALPN, tickets.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// Time limits towards clients.
    pub timeouts: ClientTimeouts,
    /// What connections begin with before anything else; nothing when unset.
    pub headers: Option<HeadersIn>,
    /// Bounds on what a client may send.
    pub limits: ClientLimits,
    /// Who may connect, and how often.
    pub door: DoorRules,
    /// How endpoints learn who the client is.
    pub identity: ClientIdentity,
    /// Off when unset.
    pub access_log: Option<AccessLogPlan>,
}

/// What becomes of what a listener accepts.
#[derive(Debug, Clone, PartialEq)]
pub enum ServicePlan {
    /// Its requests take routes.
    Http,
    /// Its connections are passed on as they are.
    Tcp(StreamPlan),
    /// Likewise, to pools or listeners that the client's first message chooses.
    Tls(TlsPlan),
    /// Datagrams are passed on.
    Udp(UdpPlan),
}

/// Pools with their weights. Never empty, weights never 0.
pub type SplitPlan = Vec<(PoolId, u32)>;

/// What becomes of the connections of a `tcp` listener.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamPlan {
    /// Where they go.
    pub split: SplitPlan,
    /// Time limits.
    pub timeouts: StreamTimeouts,
}

/// What becomes of the connections of a `tls` listener.
#[derive(Debug, Clone, PartialEq)]
pub struct TlsPlan {
    /// Which go where, in the order of the file.
    pub sni: Vec<(SniRule, TlsTargetPlan)>,
    /// Where those go for which nothing else is said; they are closed when unset.
    pub otherwise: Option<TlsTargetPlan>,
    /// Time limits.
    pub timeouts: StreamTimeouts,
}

/// Where a TLS connection goes.
#[derive(Debug, Clone, PartialEq)]
pub enum TlsTargetPlan {
    /// To an endpoint of one of these, as it is.
    Pools(SplitPlan),
    /// To the listener at this place in [`Plan::listeners`], which ends TLS.
    Listener(usize),
}

/// What becomes of the datagrams of a `udp` listener.
#[derive(Debug, Clone, PartialEq)]
pub struct UdpPlan {
    /// Where they go.
    pub split: SplitPlan,
    /// What is a flow.
    pub flows: FlowSettings,
}

impl TlsPlan {
    fn targets(&self) -> impl Iterator<Item = &TlsTargetPlan> {
        self.sni.iter().map(|(_, target)| target).chain(&self.otherwise)
    }
}

impl TlsTargetPlan {
    fn split(&self) -> Option<&SplitPlan> {
        match self {
            Self::Pools(split) => Some(split),
            Self::Listener(_) => None,
        }
    }
}

impl ServicePlan {
    /// The pools that it leads to.
    #[must_use]
    pub fn pools(&self) -> Vec<PoolId> {
        let splits = match self {
            Self::Http => Vec::new(),
            Self::Tcp(plan) => vec![&plan.split],
            Self::Tls(plan) => plan.targets().filter_map(TlsTargetPlan::split).collect(),
            Self::Udp(plan) => vec![&plan.split],
        };
        splits.into_iter().flatten().map(|(pool, _)| *pool).collect()
    }
}

/// Where and how requests are logged.
#[derive(Debug, Clone, PartialEq)]
pub struct AccessLogPlan {
    /// Text or JSON.
    pub format: LogFormat,
    /// What lines say; all there is (JSON) or the combined format (text) when unset.
    pub fields: Option<Vec<LogField>>,
    /// Which requests are logged; all of them when unset.
    pub sample: Option<LogSample>,
    /// Where lines go.
    pub to: LogTarget,
    /// Lines that may wait to be written; those past it are counted and lost.
    pub queue: usize,
}

impl Default for AccessLogPlan {
    fn default() -> Self {
        Self {
            format: LogFormat::default(),
            fields: None,
            sample: None,
            to: LogTarget::default(),
            queue: 8192,
        }
    }
}

/// The process's own log.
#[derive(Debug, Clone, PartialEq)]
pub struct LogPlan {
    /// A `tracing` filter directive, such as `info` or `forebay=debug`; `FOREBAY_LOG` overrides it.
    pub level: String,
    /// Text or JSON.
    pub format: LogFormat,
}

impl Default for LogPlan {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::default() }
    }
}

/// When the configuration is read again by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReloadPlan {
    /// Whether its files are watched.
    pub watch: bool,
    /// How long they have to be left alone first, so that none is read half-written.
    pub debounce: Duration,
}

impl Default for ReloadPlan {
    fn default() -> Self {
        Self { watch: true, debounce: Duration::from_millis(100) }
    }
}

/// Which pool, as an index into [`Plan::pools`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PoolId(pub usize);

/// One route.
#[derive(Debug)]
pub struct RoutePlan {
    /// As given, or `route-N` by its place in the file, counted from 1.
    pub name: Name,
    /// Tells it from one in which anything else is written.
    pub fingerprint: Fingerprint,
    /// Indexes into [`Plan::listeners`]; never empty.
    pub listeners: Vec<usize>,
    /// Which requests.
    pub rule: Rule,
    /// What is done to requests and responses, in order.
    pub filters: Arc<Filters>,
    /// Where requests go when no filter answers.
    pub action: Action,
    /// Time limits of this route.
    pub timeouts: RouteTimeouts,
    /// What it changes of its pools' retries.
    pub retry: RouteRetry,
    /// Second tries beside the first.
    pub hedge: Option<Hedge>,
    /// Who comes first.
    pub priorities: Priorities,
    /// The field in which clients say how long they wait, in lower case.
    pub deadline_header: Option<String>,
}

/// What a route does with a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Forwards it to a pool, chosen by weight when there are several. Never empty, weights never 0.
    Forward(Vec<(PoolId, u32)>),
    /// Its filters answer (redirect, fixed response); what they let through is not found.
    Answer,
}

/// One pool of endpoints.
#[derive(Debug, Clone)]
pub struct PoolPlan {
    /// Unique among pools.
    pub name: Name,
    /// Tells it from one in which anything else is written, or in whose files anything else is.
    pub fingerprint: Fingerprint,
    /// Those that the configuration names.
    pub endpoints: Vec<EndpointPlan>,
    /// Where it has others from.
    pub discovery: DiscoveryPlan,
    /// How one of them is chosen.
    pub policy: balance::Choice,
    /// What policies that hash bind a request by.
    pub hash_key: HashKey,
    /// The bound on load of policies that hash: a multiple of the fair share, at least 1.
    pub balance_factor: Option<f64>,
    /// Sessions that stay with their endpoint.
    pub sticky: Option<Sticky>,
    /// Active checks.
    pub check: Option<CheckPlan>,
    /// Detectors of outliers, those that are off left out.
    pub detectors: Vec<Chosen>,
    /// Bounds on ejection.
    pub ejection: Ejection,
    /// From a tenth of the weight to all of it, for an endpoint that joins or returns.
    pub slow_start: Duration,
    /// What to do when too few endpoints are available.
    pub fail_open: FailOpen,
    /// HTTP/1.1 or HTTP/2.
    pub protocol: UpstreamProtocol,
    /// TLS towards the endpoints.
    pub tls: Option<UpstreamTls>,
    /// How endpoints are told of clients before anything else; not at all when unset.
    pub headers: Option<HeadersOut>,
    /// What is set of the sockets towards the endpoints, where it is not the default.
    pub socket: Option<Arc<UpstreamSocket>>,
    /// Time limits towards endpoints.
    pub timeouts: UpstreamTimeouts,
    /// Bounds on connections.
    pub connections: ConnectionLimits,
    /// When a request that failed is tried again.
    pub retry: Retry,
    /// Bounds on what goes on at once.
    pub limits: Limits,
    /// What stands in for it when it fails.
    pub degradation: Option<DegradationPlan>,
    /// What adjusts these, and breakers.
    pub loops: LoopSettings,
    /// How many endpoints it should have, for those who start and end them.
    pub scale: Option<ScaleSettings>,
}

/// What stands in for a pool.
#[derive(Debug, Clone)]
pub struct DegradationPlan {
    /// In this order; at least one.
    pub ladder: Vec<RungPlan>,
    /// When requests begin on which rung.
    pub settings: LadderSettings,
}

/// One rung.
#[derive(Debug, Clone)]
pub enum RungPlan {
    /// Another pool, which never leads back to this one.
    Pool(PoolId),
    /// The last good response.
    Stale(cache::Bounds),
    /// The same for everyone.
    Respond(Reply),
}

/// One endpoint as written.
#[derive(Debug, Clone, PartialEq)]
pub struct EndpointPlan {
    /// Where it is.
    pub target: Target,
    /// Its share of traffic relative to its siblings', 1 to 1000.
    pub weight: u32,
    /// The failover level, 0 first; backups come after all that are not.
    pub level: u32,
    /// Where it is.
    pub zone: Option<Name>,
}

/// Where a pool has endpoints from that the configuration does not name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DiscoveryPlan {
    /// What is asked of DNS.
    pub dns: Vec<DnsPlan>,
    /// A list that something else writes.
    pub file: Option<PathBuf>,
    /// Whether what the admin API changes outlives the process.
    pub keep_changes: bool,
}

impl DiscoveryPlan {
    /// Whether endpoints come from anywhere but the configuration, as far as it says.
    #[must_use]
    pub fn finds_any(&self) -> bool {
        !self.dns.is_empty() || self.file.is_some()
    }
}

/// A name of DNS that stands for endpoints.
#[derive(Debug, Clone, PartialEq)]
pub struct DnsPlan {
    /// What is asked.
    pub question: Arc<Question>,
    /// The port of the endpoints, where the answer has none.
    pub port: u16,
    /// Whether the last good answer is given up once the answer is that there is nothing.
    pub drop_when_empty: bool,
    /// What holds for the endpoints, where the answer does not say more.
    pub terms: Terms,
}

/// How a pool's endpoints are checked.
#[derive(Debug, Clone)]
pub struct CheckPlan {
    /// What is asked and how the answer is judged.
    pub check: Check,
    /// When.
    pub rhythm: Rhythm,
    /// The port to ask, if not the endpoint's own.
    pub port: Option<u16>,
    /// The address to ask, if not the endpoint's own.
    pub address: Option<Address>,
    /// Whether the check speaks TLS, as the pool does.
    pub tls: bool,
    /// The form of the PROXY protocol header that a check begins with, as the pool's connections do; none
    /// when unset.
    pub header: Option<HeaderVersion>,
    /// Equal for checks that ask the same: endpoints of several pools are asked once.
    pub identity: String,
}

/// TLS towards endpoints.
#[derive(Debug, Clone)]
pub struct UpstreamTls {
    /// Tells it from one in which anything else is written, or in whose files anything else is.
    pub fingerprint: Fingerprint,
    /// Roots, client certificate and ALPN.
    pub config: Arc<rustls::ClientConfig>,
    /// SNI and the name to verify; the endpoint's own host or address when unset.
    pub server_name: Option<ServerName<'static>>,
}
