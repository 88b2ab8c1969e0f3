//! Asking DNS: the system's resolvers and file of hosts, or servers by their address. An answer counts as
//! it is, nothing is remembered here; one that is too big for a datagram is fetched over TCP. The number of
//! records has no cap but the 64 KiB that a message of DNS has.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Display;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::rdata::SRV;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{Hosts, TokioResolver, system_conf};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::discover::question::{Family, Silent};
use crate::discover::service::sightings;
use crate::discover::{Outcome, Question, Record, Service, Sighting};

/// What came of asking, and why if it was not an answer.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) outcome: Outcome,
    pub(super) error: Option<String>,
}

/// Whom to ask. Belongs to one runtime: connections to servers live on it.
#[derive(Default)]
pub(super) struct Resolvers {
    named: HashMap<(Arc<[SocketAddr]>, Duration), Resolver>,
    system: Option<System>,
}

/// Whom one question goes to.
#[derive(Clone)]
pub(super) struct Resolver {
    /// Why not, where the system's configuration cannot be used.
    servers: Result<TokioResolver, Arc<str>>,
    /// The file of hosts, which comes first.
    hosts: Option<Arc<Hosts>>,
}

/// The system's resolver, as long as its files stay as they are.
struct System {
    stamps: [Option<(SystemTime, u64)>; 2],
    by_timeout: HashMap<Duration, Resolver>,
}

impl Resolvers {
    /// Whom to ask this. The system's files are read again when they have changed.
    pub(super) fn of(&mut self, question: &Question) -> Resolver {
        if !question.servers.is_empty() {
            let key = (Arc::clone(&question.servers), question.timeout);
            return self.named.entry(key).or_insert_with(|| named(question)).clone();
        }
        let stamps = [RESOLV_CONF, HOSTS].map(stamp);
        let system = self.system.take().filter(|system| system.stamps == stamps);
        let system =
            self.system.insert(system.unwrap_or_else(|| System { stamps, by_timeout: HashMap::new() }));
        system.by_timeout.entry(question.timeout).or_insert_with(|| of_system(question.timeout)).clone()
    }
}

/// What changes with a file.
fn stamp(path: &str) -> Option<(SystemTime, u64)> {
    let about = fs::metadata(path).ok()?;
    Some((about.modified().ok()?, about.len()))
}

fn named(question: &Question) -> Resolver {
    let servers = question.servers.iter().map(|server| {
        let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
            connection.port = server.port();
            connection
        });
        NameServerConfig::new(server.ip(), true, connections.into())
    });
    let config = ResolverConfig::from_parts(None, Vec::new(), servers.collect());
    Resolver { servers: build(config, ResolverOpts::default(), question.timeout), hosts: None }
}

fn of_system(patience: Duration) -> Resolver {
    let servers = match system_conf::read_system_conf() {
        Ok((config, options)) => build(config, options, patience),
        Err(error) => Err(format!("cannot use {RESOLV_CONF}: {error}").into()),
    };
    Resolver { servers, hosts: Some(Arc::new(Hosts::from_system().unwrap_or_default())) }
}

fn build(
    config: ResolverConfig,
    mut options: ResolverOpts,
    patience: Duration,
) -> Result<TokioResolver, Arc<str>> {
    // Answers live as long as the rules of discovery say, not here.
    options.cache_size = 0;
    options.use_hosts_file = ResolveHosts::Never;
    // A datagram may get lost: there is to be time for another.
    options.timeout = options.timeout.min(patience / 2);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    *builder.options_mut() = options;
    builder.build().map_err(|error| error.to_string().into())
}

impl Resolver {
    /// The answer, if nobody has to be asked for it.
    pub(super) fn at_hand(&self, question: &Question) -> Option<Outcome> {
        let hosts = self.hosts.as_ref().filter(|_| question.record == Record::Address)?;
        let name = Name::from_ascii(&question.host).ok()?;
        let kinds = [RecordType::A, RecordType::AAAA].into_iter();
        let found = kinds.filter_map(|kind| hosts.lookup_static_host(&Query::query(name.clone(), kind)));
        let mut addresses: Vec<IpAddr> = found.flat_map(|lookup| addresses(&lookup)).collect();
        if addresses.is_empty() && is_localhost(&question.host) {
            addresses = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        }
        let answer = Outcome::Answered {
            seen: seen(&question.host, &addresses),
            ttl: HOSTS_TTL,
            silent: Silent::Nobody,
        };
        (!addresses.is_empty()).then_some(answer)
    }

    /// Asks. Takes twice the question's `timeout` at most, for targets of SRV records may have to be asked for.
    pub(super) async fn ask(&self, question: &Question) -> Heard {
        if let Some(outcome) = self.at_hand(question) {
            return Heard { outcome, error: None };
        }
        let resolver = match &self.servers {
            Ok(resolver) => resolver,
            Err(error) => return Heard::failed(error),
        };
        match question.record {
            Record::Address => {
                addresses_of(resolver, &question.host, question.timeout).await.heard(&question.host)
            }
            Record::Srv => services(resolver, question).await,
        }
    }
}

impl Heard {
    fn failed(error: impl Display) -> Self {
        Self { outcome: Outcome::Failed, error: Some(error.to_string()) }
    }

    fn empty(host: &str) -> Self {
        Self { outcome: Outcome::Empty, error: Some(format!("{host} has no such records")) }
    }
}

/// What came of asking for the addresses of a name.
struct Found {
    addresses: Vec<IpAddr>,
    ttl: Duration,
    silent: Option<Family>,
    /// Of the family that is silent, or the first of both.
    error: Option<String>,
}

impl Found {
    fn heard(self, host: &Arc<str>) -> Heard {
        match (self.addresses.is_empty(), self.error) {
            (false, error) => {
                let silent = self.silent.map_or(Silent::Nobody, Silent::Family);
                Heard {
                    outcome: Outcome::Answered { seen: seen(host, &self.addresses), ttl: self.ttl, silent },
                    error,
                }
            }
            (true, Some(error)) => Heard::failed(error),
            (true, None) => Heard::empty(host),
        }
    }
}

/// Asks for both families at once.
async fn addresses_of(resolver: &TokioResolver, host: &str, patience: Duration) -> Found {
    let of = async |kind| {
        timeout(patience, lookup(resolver, host, kind)).await.unwrap_or_else(|_| Err(TOO_LATE.to_owned()))
    };
    let (v4, v6) = tokio::join!(of(RecordType::A), of(RecordType::AAAA));
    let mut found = Found { addresses: Vec::new(), ttl: Duration::MAX, silent: None, error: None };
    for (family, result) in [(Family::V4, v4), (Family::V6, v6)] {
        match result {
            Ok(Some(lookup)) => {
                found.addresses.extend(addresses(&lookup));
                found.ttl = found.ttl.min(ttl(&lookup));
            }
            Ok(None) => {}
            Err(error) => {
                found.silent = Some(family);
                found.error.get_or_insert(error);
            }
        }
    }
    found
}

/// The records of a name; `None` when there are none.
async fn lookup(resolver: &TokioResolver, host: &str, kind: RecordType) -> Result<Option<Lookup>, String> {
    let name = Name::from_ascii(host).map_err(|error| error.to_string())?;
    match resolver.lookup(name, kind).await {
        Ok(lookup) => Ok(Some(lookup)),
        Err(error) if error.is_no_records_found() => Ok(None),
        Err(NetError::Timeout) => Err(TOO_LATE.to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

async fn services(resolver: &TokioResolver, question: &Question) -> Heard {
    let host = &question.host;
    let lookup = match timeout(question.timeout, lookup(resolver, host, RecordType::SRV)).await {
        Ok(Ok(Some(lookup))) => lookup,
        Ok(Ok(None)) => return Heard::empty(host),
        Ok(Err(error)) => return Heard::failed(error),
        Err(_) => return Heard::failed(TOO_LATE),
    };
    let records = lookup.answers().iter().filter_map(|record| match &record.data {
        RData::SRV(srv) if !srv.target.is_root() => Some(srv),
        _ => None,
    });
    let records: Vec<&SRV> = records.collect();
    let targets = targets(resolver, &lookup, &records, question.timeout).await;
    let services: Vec<_> = records.iter().filter_map(|srv| service(srv, &targets)).collect();
    let seen = sightings(&services);
    let failed = targets.iter().find_map(|(target, found)| Some((target, found.error.as_ref()?)));
    let error = failed.map(|(target, error)| format!("{}: {error}", plain(target)));
    match (seen.is_empty(), error) {
        (true, Some(error)) => Heard::failed(error),
        (true, None) => Heard::empty(host),
        (false, error) => {
            let silent =
                targets.iter().filter(|(_, found)| found.error.is_some() && found.addresses.is_empty());
            let silent = Silent::Hosts(silent.map(|(target, _)| plain(target)).collect());
            let ttl = targets.values().map(|found| found.ttl).fold(ttl(&lookup), Duration::min);
            Heard { outcome: Outcome::Answered { seen, ttl, silent }, error }
        }
    }
}

fn service(srv: &SRV, targets: &BTreeMap<Name, Found>) -> Option<Service> {
    let addresses = targets.get(&srv.target)?.addresses.clone();
    let SRV { priority, weight, port, .. } = *srv;
    Some(Service { priority, weight, port, target: plain(&srv.target), addresses })
}

/// The addresses of all targets: those that came along with the answer, and those that have to be asked for.
async fn targets(
    resolver: &TokioResolver,
    lookup: &Lookup,
    records: &[&SRV],
    patience: Duration,
) -> BTreeMap<Name, Found> {
    let mut targets = BTreeMap::new();
    for record in lookup.additionals() {
        let Some(address) = record.data.ip_addr() else { continue };
        let new = || Found { addresses: Vec::new(), ttl: Duration::MAX, silent: None, error: None };
        let found = targets.entry(record.name.clone()).or_insert_with(new);
        found.addresses.push(address);
        found.ttl = found.ttl.min(Duration::from_secs(record.ttl.into()));
    }
    let mut asking = JoinSet::new();
    let mut left: Vec<Name> = records.iter().map(|srv| srv.target.clone()).collect();
    left.sort();
    left.dedup();
    for target in left.into_iter().filter(|target| !targets.contains_key(target)) {
        let resolver = resolver.clone();
        asking.spawn(async move {
            let found = addresses_of(&resolver, &target.to_ascii(), patience).await;
            (target, found)
        });
    }
    while let Some(asked) = asking.join_next().await {
        targets.extend(asked.ok());
    }
    targets
}

fn addresses(lookup: &Lookup) -> impl Iterator<Item = IpAddr> + use<> {
    let found: Vec<_> = lookup.answers().iter().filter_map(|record| record.data.ip_addr()).collect();
    found.into_iter()
}

/// The least time to live of what was answered, aliases included.
fn ttl(lookup: &Lookup) -> Duration {
    let least = lookup.answers().iter().map(|record| record.ttl).min();
    Duration::from_secs(least.unwrap_or(0).into())
}

fn seen(host: &Arc<str>, addresses: &[IpAddr]) -> Vec<Sighting> {
    let host: Arc<str> = match host.strip_suffix('.') {
        Some(plain) => plain.into(),
        None => Arc::clone(host),
    };
    let mut seen: Vec<_> = addresses.iter().map(|address| Sighting::of(&host, *address)).collect();
    seen.sort();
    seen.dedup();
    seen
}

/// As text, in lower case and without the dot at its end.
fn plain(name: &Name) -> Arc<str> {
    let text = name.to_ascii().to_ascii_lowercase();
    text.strip_suffix('.').unwrap_or(&text).into()
}

/// RFC 6761 §6.3: such names are this machine, and nobody is asked for them.
fn is_localhost(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    host == "localhost" || host.ends_with(".localhost")
}

const TOO_LATE: &str = "no answer in time";
const RESOLV_CONF: &str = "/etc/resolv.conf";
const HOSTS: &str = "/etc/hosts";
/// After which time the file of hosts is looked into again.
const HOSTS_TTL: Duration = Duration::from_secs(5);
