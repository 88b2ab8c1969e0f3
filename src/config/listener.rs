//! `[[listener]]`: where to listen, in which protocol, and within which bounds.

use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::IpNet;

use super::binds::Binds;
use super::names::Names;
use super::plan::ListenerPlan;
use super::{Cx, access_log, attempt, overload, socket, tls};
use crate::model::options::{OneOf, Options};
use crate::model::settings::{ClientIdentity, ClientLimits, ClientTimeouts, Forwarding, MAX_FIELDS};
use crate::model::units::ByteSize;
use crate::model::{Address, Name};

/// The listeners of the file and how to find them by name.
pub(super) struct Listeners {
    pub(super) names: Names,
    /// As many as in the file, if there is no error.
    pub(super) plans: Vec<ListenerPlan>,
}

/// Reads every `[[listener]]`.
pub(super) fn listeners<'a>(root: &Options<'a>, binds: &mut Binds<'a>, cx: &Cx<'_>) -> Listeners {
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
        plans.extend(listener(options, name, binds, cx));
    }
    Listeners { names, plans }
}

fn listener<'a>(
    options: Options<'a>,
    name: Option<Name>,
    binds: &mut Binds<'a>,
    cx: &Cx<'_>,
) -> Option<ListenerPlan> {
    let mark = cx.files.mark();
    let bind = bind(&options, binds, cx);
    let protocol = options.get_or("protocol", Protocol::Http);
    if protocol.is_later() {
        let fault = "this version has no `tcp`, `tls` and `udp` listeners yet";
        options.problem("protocol", fault, Some("use `http` or `https`".into()));
        return None;
    }
    let tls = tls::server(&options, protocol == Protocol::Https, cx);
    let tls_fingerprint = cx.files.cover(options.fingerprint_of(&TLS_KEYS), mark);
    let socket = socket::listener(&options);
    let timeouts = timeouts(options.section("timeouts"));
    let (limits, identity) = (limits(&options), identity(&options));
    let access_log = options.given("access_log").and_then(|given| access_log::plan(&given, cx));
    let fingerprint = cx.files.cover(options.fingerprint(), mark);
    options.finish();
    Some(ListenerPlan {
        name: name?,
        fingerprint,
        tls_fingerprint,
        bind,
        socket,
        tls,
        timeouts,
        limits,
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
    fn is_later(self) -> bool {
        matches!(self, Self::Tcp | Self::Tls | Self::Udp)
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

fn bind<'a>(options: &Options<'a>, binds: &mut Binds<'a>, cx: &Cx<'_>) -> Vec<Address> {
    let Some(given) = options.required("bind") else {
        return Vec::new();
    };
    let items = given.items();
    if items.is_empty() {
        given.fault("a listener needs an address", Some("write `bind = \"127.0.0.1:8080\"`".into()));
    }
    let mut taken = Vec::new();
    for item in &items {
        let Some(address) = cx.address(item) else { continue };
        binds.take(&address, Some(item), cx.sink);
        taken.push(address);
    }
    taken
}

fn timeouts(options: Options<'_>) -> ClientTimeouts {
    let default = ClientTimeouts::default();
    let timeouts = ClientTimeouts {
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
