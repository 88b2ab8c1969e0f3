//! `[[listener]]`: where to listen, in which protocol, and within which bounds.

mod door;
mod foreign;
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
use super::tls::{Termination, server as server_tls};
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
    // All names first, since a `tls` listener may lead to one that is further down.
    let named: Vec<_> = tables.iter().map(|options| options.required("name")).collect();
    let named = named.iter().enumerate().map(|(index, given)| {
        let given = given.as_ref()?;
        let name = given.read::<Name>()?;
        names.take(&name, index, (given.path(), given.span()), cx.sink);
        Some(name)
    });
    let named: Vec<_> = named.collect();
    let mut among = Among { binds, pools, names: &names, led_to: Vec::new(), unbound: Vec::new() };
    for (index, (options, name)) in tables.into_iter().zip(named).enumerate() {
        plans.extend(listener(options, (index, name), &mut among, cx));
    }
    among.check(&plans, cx);
    Listeners { names, plans }
}

/// What a listener is read among.
struct Among<'a, 'p> {
    binds: &'p mut Binds<'a>,
    pools: &'p Names,
    /// Those of all listeners.
    names: &'p Names,
    /// The places of listeners that `tls` listeners lead to, and where that is written.
    led_to: Vec<(usize, Given<'a>)>,
    /// The places of those that bind nothing.
    unbound: Vec<(usize, Given<'a>)>,
}

impl<'a> Among<'a, '_> {
    /// The place of the listener that `given` names and that is led to.
    fn lead_to(&mut self, given: Given<'a>, cx: &Cx<'_>) -> Option<usize> {
        let place = self.names.find(&given, cx.sink)?;
        self.led_to.push((place, given));
        Some(place)
    }

    /// Reports what only shows when all are read.
    fn check(&self, plans: &[ListenerPlan], cx: &Cx<'_>) {
        for (place, given) in &self.unbound {
            if !self.led_to.iter().any(|(led_to, _)| led_to == place) {
                let hint = "write `bind = \"127.0.0.1:8080\"`";
                given.fault("a listener needs an address", Some(hint.into()));
            }
        }
        // With errors, plans are not at their places.
        if cx.sink.errors() > 0 {
            return;
        }
        for (place, given) in &self.led_to {
            let Some(plan) = plans.get(*place) else { continue };
            if plan.tls.is_none() {
                let hint = "lead to an https listener, or to a tcp listener with `certificates`";
                given.fault(format!("the listener `{}` does not end TLS", plan.name), Some(hint.into()));
            }
        }
    }
}

fn listener<'a>(
    options: Options<'a>,
    (index, name): (usize, Option<Name>),
    among: &mut Among<'a, '_>,
    cx: &Cx<'_>,
) -> Option<ListenerPlan> {
    let mark = cx.files.mark();
    let protocol = options.get_or("protocol", Protocol::Http);
    foreign::report(&options, protocol);
    let bind = bind(&options, (index, protocol), among, cx);
    let tls = server_tls(&options, protocol.termination(), cx);
    let tls_fingerprint = cx.files.cover(options.fingerprint_of(&TLS_KEYS), mark);
    let service = match protocol {
        Protocol::Http | Protocol::Https => Some(ServicePlan::Http),
        Protocol::Tcp => tcp::plan(&options, among.pools, cx).map(ServicePlan::Tcp),
        Protocol::Tls => tls::plan(&options, among, cx).map(ServicePlan::Tls),
        Protocol::Udp => udp::plan(&options, among.pools, cx).map(ServicePlan::Udp),
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

impl Protocol {
    fn termination(self) -> Termination {
        match self {
            Self::Http => Termination::Never("an http listener", Some("set `protocol = \"https\"`")),
            Self::Https => Termination::Http,
            Self::Tcp => Termination::Optional,
            Self::Tls => Termination::Never(
                "a tls listener",
                Some("it passes TLS on; it may lead to an https or tcp `listener` with certificates"),
            ),
            Self::Udp => Termination::Never("a udp listener", None),
        }
    }
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

fn bind<'a>(
    options: &Options<'a>,
    (index, protocol): (usize, Protocol),
    among: &mut Among<'a, '_>,
    cx: &Cx<'_>,
) -> Vec<Address> {
    let Some(given) = options.required("bind") else {
        return Vec::new();
    };
    let items = given.items();
    if items.is_empty() {
        among.unbound.push((index, given));
        return Vec::new();
    }
    let mut taken = Vec::new();
    for item in &items {
        let Some(address) = cx.address(item).and_then(|address| of_protocol(address, protocol, item)) else {
            continue;
        };
        among.binds.take(&address, Some(item), cx.sink);
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
const TLS_KEYS: [&str; 4] = ["protocol", "certificates", "min_tls", "alpn"];
/// What a time limit may be.
const LIMIT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(24 * 60 * 60);
const HEAD: RangeInclusive<ByteSize> = ByteSize(1 << 10)..=ByteSize(1 << 20);
const STREAMS: RangeInclusive<u32> = 1..=65_536;
