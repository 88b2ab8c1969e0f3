//! `[pool.NAME.dns]`, `[pool.NAME.file]` and `[pool.NAME.api]`: where a pool has endpoints from that the
//! configuration does not name. Asks nobody and reads no list.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use super::endpoints::{PRIORITY, WEIGHT};
use crate::config::Cx;
use crate::config::plan::{DiscoveryPlan, DnsPlan};
use crate::discover::question::TIMEOUT;
use crate::discover::{Question, Record, Terms, Ttl};
use crate::model::address::is_host_name;
use crate::model::options::{Fault, FromValue, OneOf, Options, Value};

/// Reads where else a pool has endpoints from, and whether it has any from there.
pub(super) fn discovery(pool: &Options<'_>, cx: &Cx<'_>) -> (DiscoveryPlan, bool) {
    let dns = pool.tables("dns");
    let file = pool.table("file");
    let api = pool.table("api");
    let discovers = !dns.is_empty() || file.is_some() || api.is_some();
    let plan = DiscoveryPlan {
        dns: dns.into_iter().filter_map(name).collect(),
        file: file.and_then(|options| {
            let path = options.require::<String>("path").map(|path| cx.path(&path));
            options.finish();
            path
        }),
        keep_changes: api.is_some_and(|options| {
            let keep = options.get_or("keep", false);
            options.finish();
            keep
        }),
    };
    (plan, discovers)
}

fn name(options: Options<'_>) -> Option<DnsPlan> {
    let host = options.require::<HostName>("name");
    let record = options.get_or("record", Record::default());
    let default = Ttl::default();
    let ttl = Ttl {
        least: options.within("min_ttl", LIFE, default.least),
        most: options.within("max_ttl", LIFE, default.most),
    };
    if ttl.least > ttl.most {
        let key = if options.given("min_ttl").is_some() { "min_ttl" } else { "max_ttl" };
        options.problem(key, "`min_ttl` is longer than `max_ttl`", None);
    }
    let servers = options.list::<Server>("servers").unwrap_or_default();
    let timeout = options.within("timeout", PATIENCE, TIMEOUT);
    let empty = options.get_or("empty", WhenEmpty::Keep);
    let port = port(&options, record);
    let weight = options.within("weight", WEIGHT, 1);
    if record == Record::Srv && options.given("weight").is_some() {
        options.problem("weight", "SRV records have weights of their own", Some("leave it out".to_owned()));
    }
    let terms = Terms { weight, level: options.within("priority", PRIORITY, 0), zone: options.get("zone") };
    options.finish();
    let servers = servers.into_iter().map(|server| server.0).collect();
    let question = Question { host: host?.0, record, servers, timeout, ttl };
    let drop_when_empty = empty == WhenEmpty::Drop;
    Some(DnsPlan { question: Arc::new(question), port: port?, drop_when_empty, terms })
}

/// The port of the endpoints, which addresses need and SRV records have.
fn port(options: &Options<'_>, record: Record) -> Option<u16> {
    match (record, options.given("port")) {
        (Record::Address, Some(given)) => given.within(1..=u16::MAX),
        (Record::Address, None) => {
            let hint = "write `port = 8080`, or `record = \"srv\"`";
            options.missing("port", "`port` is missing: addresses have none", Some(hint.to_owned()));
            None
        }
        (Record::Srv, Some(given)) => {
            given.fault("SRV records have ports of their own", Some("leave it out".to_owned()));
            None
        }
        (Record::Srv, None) => Some(0),
    }
}

/// What is done with the last good answer when the answer is that there is nothing.
#[derive(Clone, Copy, PartialEq)]
enum WhenEmpty {
    Keep,
    Drop,
}

impl OneOf for WhenEmpty {
    const NOUN: &'static str = "rule for empty answers";
    const WORDS: &'static [(&'static str, Self)] = &[("keep", Self::Keep), ("drop", Self::Drop)];
}

impl OneOf for Record {
    const NOUN: &'static str = "kind of record";
    const WORDS: &'static [(&'static str, Self)] = &[("address", Self::Address), ("srv", Self::Srv)];
}

/// A name to ask for; a dot at its end keeps search domains out.
struct HostName(Arc<str>);

impl FromValue for HostName {
    fn from_value(value: &Value) -> Result<Self, Fault> {
        let text = value.text("a host name")?;
        if is_host_name(text.strip_suffix('.').unwrap_or(text)) {
            return Ok(Self(text.to_ascii_lowercase().into()));
        }
        Err(Fault::new(format_args!("{text:?} is not a host name"))
            .hint("a name without port, such as \"app.internal\""))
    }
}

/// A DNS server, on port 53 unless it says otherwise.
struct Server(SocketAddr);

impl FromValue for Server {
    fn from_value(value: &Value) -> Result<Self, Fault> {
        let text = value.text("the address of a DNS server")?;
        let ip = |text: &str| text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 53));
        match text.parse().or_else(|_| ip(text)) {
            Ok(address) if SocketAddr::port(&address) != 0 => Ok(Self(address)),
            _ => Err(Fault::new(format_args!("{text:?} is not the address of a DNS server"))
                .hint("an IP address with or without port, such as \"10.0.0.53\" or \"127.0.0.1:5353\"")),
        }
    }
}

/// For how long answers are believed. Never 0, or a name would be asked for without pause.
const LIFE: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(24 * 60 * 60);
/// How long an answer is waited for.
const PATIENCE: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(60);
