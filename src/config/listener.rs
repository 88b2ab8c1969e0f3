//! `[[listener]]`: where to listen, in which protocol, and within which bounds.

mod door;
mod target;
mod tcp;
mod tls;
mod udp;

use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::IpNet;

use super::binds::Binds;
use super::names::Names;
use super::plan::{ListenerPlan, ServicePlan};
use super::tls::server as server_tls;
use super::{Cx, access_log, attempt, overload, proxy_protocol, socket};
use crate::model::options::{Given, OneOf, Options};
use crate::model::settings::{ClientIdentity, ClientLimits, ClientTimeouts, Forwarding, MAX_FIELDS};
use crate::model::units::ByteSize;
use crate::model::{Address, Name};

/// The listeners of the file and how to find them by name.
pub(super) struct Listeners {
    pub(super) names: Names,
    /// As many as in the file, if there is no error.
    pub(super) plans: Vec<ListenerPlan>,
}

impl Listeners {
    /// The places of those whose requests take routes.
    pub(super) fn with_routes(&self) -> impl Iterator<Item = usize> {
        let http =
            |(index, plan): (usize, &ListenerPlan)| (plan.service == ServicePlan::Http).then_some(index);
        self.plans.iter().enumerate().filter_map(http)
    }

    /// Whether there are listeners, and none that takes routes.
    pub(super) fn are_without_routes(&self) -> bool {
        !self.plans.is_empty() && self.with_routes().next().is_none()
    }
}

/// Reads every `[[listener]]`.
pub(super) fn listeners<'a>(
    root: &Options<'a>,
    binds: &mut Binds<'a>,
    pools: &Names,
    cx: &Cx<'_>,
) -> Listeners {
    let mut names = Names::of("listener");
    let mut plans = Vec::new();
    let tables = root.tables("listener");
    if tables.is_empty() {
        let hint = "add `[[listener]]` with `name = \"web\"` and `bind = \"127.0.0.1:8080\"`";
        root.missing("listener", "there is no listener", Some(hint.into()));
    }
    for (index, options) in tables.into_iter().enumerate() {
        let name = options.required("name").and_then(|given| {
            let name = given.read::<Name>()?;
            names.take(&name, index, (given.path(), given.span()), cx.sink);
            Some(name)
        });
        plans.extend(listener(options, name, (binds, pools), cx));
    }
    Listeners { names, plans }
}

fn listener<'a>(
    options: Options<'a>,
    name: Option<Name>,
    (binds, pools): (&mut Binds<'a>, &Names),
    cx: &Cx<'_>,
) -> Option<ListenerPlan> {
    let mark = cx.files.mark();
    let protocol = options.get_or("protocol", Protocol::Http);
    let bind = bind(&options, protocol, binds, cx);
    let tls = server_tls(&options, protocol == Protocol::Https, cx);
    let tls_fingerprint = cx.files.cover(options.fingerprint_of(&TLS_KEYS), mark);
    let service = match protocol {
        Protocol::Http | Protocol::Https => Some(ServicePlan::Http),
        Protocol::Tcp => tcp::plan(&options, pools, cx).map(ServicePlan::Tcp),
        Protocol::Tls => tls::plan(&options, pools, cx).map(ServicePlan::Tls),
        Protocol::Udp => udp::plan(&options, pools, cx).map(ServicePlan::Udp),
    };
    let socket = socket::listener(&options);
    let timeouts = match protocol {
        Protocol::Http | Protocol::Https => timeouts(options.section("timeouts")),
        Protocol::Tcp | Protocol::Tls | Protocol::Udp => ClientTimeouts::default(),
    };
    let door = door::rules(&options);
    let (limits, identity) = (limits(&options), identity(&options));
    let limit = match &service {
        Some(ServicePlan::Http) => Some(timeouts.proxy_protocol),
        Some(ServicePlan::Tcp(plan)) => Some(plan.timeouts.proxy_protocol),
        Some(ServicePlan::Tls(plan)) => Some(plan.timeouts.proxy_protocol),
        Some(ServicePlan::Udp(_)) | None => None,
    };
    let headers =
        limit.and_then(|limit| proxy_protocol::incoming(&options, &identity.trusted_proxies, limit));
    let access_log = options.given("access_log").and_then(|given| access_log::plan(&given, cx));
    let fingerprint = cx.files.cover(options.fingerprint(), mark);
    options.finish();
    Some(ListenerPlan {
        name: name?,
        fingerprint,
        tls_fingerprint,
        bind,
        socket,
        service: service?,
        tls,
        timeouts,
        headers,
        limits,
        door,
        identity,
        access_log,
    })
}

/// What a listener speaks.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Protocol {
    Http,
    Https,
    Tcp,
    Tls,
    Udp,
}

impl OneOf for Protocol {
    const NOUN: &'static str = "listener protocol";
    const WORDS: &'static [(&'static str, Self)] = &[
        ("http", Self::Http),
        ("https", Self::Https),
        ("tcp", Self::Tcp),
        ("tls", Self::Tls),
        ("udp", Self::Udp),
    ];
}

fn bind<'a>(options: &Options<'a>, protocol: Protocol, binds: &mut Binds<'a>, cx: &Cx<'_>) -> Vec<Address> {
    let Some(given) = options.required("bind") else {
        return Vec::new();
    };
    let items = given.items();
    if items.is_empty() {
        given.fault("a listener needs an address", Some("write `bind = \"127.0.0.1:8080\"`".into()));
    }
    let mut taken = Vec::new();
    for item in &items {
        let Some(address) = cx.address(item).and_then(|address| of_protocol(address, protocol, item)) else {
            continue;
        };
        binds.take(&address, Some(item), cx.sink);
        taken.push(address);
    }
    taken
}

/// The address as the protocol has it: datagrams have ports of their own, and no Unix sockets.
fn of_protocol(address: Address, protocol: Protocol, given: &Given<'_>) -> Option<Address> {
    match (address, protocol) {
        (Address::Inet(address), Protocol::Udp) => Some(Address::Udp(address)),
        (Address::Unix(_), Protocol::Udp) => {
            given.fault("a udp listener has no Unix socket", Some("write it as \"127.0.0.1:53\"".into()));
            None
        }
        (address, _) => Some(address),
    }
}

fn timeouts(options: Options<'_>) -> ClientTimeouts {
    let default = ClientTimeouts::default();
    let timeouts = ClientTimeouts {
        proxy_protocol: proxy_protocol::timeout(&options),
        tls_handshake: options.within("tls_handshake", LIMIT, default.tls_handshake),
        header: options.within("header", LIMIT, default.header),
        idle: options.within("idle", LIMIT, default.idle),
        keep_alive: options.within("keep_alive", LIMIT, default.keep_alive),
        min_rate: attempt::min_rate(&options),
    };
    options.finish();
    timeouts
}

fn limits(options: &Options<'_>) -> ClientLimits {
    let default = ClientLimits::default();
    let head = options.given("max_head").and_then(|given| given.within(HEAD));
    ClientLimits {
        head_bytes: head.and_then(|size| size.0.try_into().ok()).unwrap_or(default.head_bytes),
        fields: options.within("max_fields", 1..=MAX_FIELDS, default.fields),
        concurrent_streams: options.within("max_concurrent_streams", STREAMS, default.concurrent_streams),
        connections: overload::connections(options),
    }
}

impl OneOf for Forwarding {
    const NOUN: &'static str = "way of forwarding";
    const WORDS: &'static [(&'static str, Self)] =
        &[("append", Self::Append), ("replace", Self::Replace), ("off", Self::Off)];
}

fn identity(options: &Options<'_>) -> ClientIdentity {
    let default = ClientIdentity::default();
    ClientIdentity {
        x_forwarded: options.get_or("x_forwarded", default.x_forwarded),
        forwarded: options.get_or("forwarded", default.forwarded),
        trusted_proxies: options.list::<IpNet>("trusted_proxies").unwrap_or(default.trusted_proxies),
        request_id: options.get_or("request_id", default.request_id),
        via: options.get_or("via", default.via),
    }
}

/// The keys of which `tls::server` makes what a listener needs for TLS.
const TLS_KEYS: [&str; 3] = ["protocol", "certificates", "min_tls"];
/// What a time limit may be.
const LIMIT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(24 * 60 * 60);
const HEAD: RangeInclusive<ByteSize> = ByteSize(1 << 10)..=ByteSize(1 << 20);
const STREAMS: RangeInclusive<u32> = 1..=65_536;
