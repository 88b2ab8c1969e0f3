//! `[pool.NAME.health]`: what endpoints are asked, where and how often. What each kind of check has of
//! its own is read where the kind is.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::Cx;
use super::plan::{CheckPlan, EndpointPlan};
use crate::health::check::Rhythm;
use crate::health::probe::{Datagram, KINDS, Kind};
use crate::model::options::{Fault, Given, Options, Problem, backticked};
use crate::model::settings::{HeaderVersion, UpstreamProtocol};
use crate::model::units::Share;
use crate::model::{Address, Target};

/// What a check has from its pool.
pub(super) struct Asked<'a> {
    pub(super) protocol: UpstreamProtocol,
    /// Whether the pool speaks TLS.
    pub(super) tls: bool,
    /// How the pool's endpoints are told of clients, if they are.
    pub(super) headers: Option<HeaderVersion>,
    pub(super) endpoints: &'a [EndpointPlan],
}

/// Reads how the endpoints of a pool are checked; `None` when that is unfit and reported.
pub(super) fn check(options: Options<'_>, asked: &Asked<'_>, cx: &Cx<'_>) -> Option<CheckPlan> {
    let kind = kind(&options);
    let check = kind.and_then(|kind| (kind.read)(&options, asked.protocol));
    foreign_keys(&options, kind);
    let rhythm = rhythm(&options);
    let (port, address) = (port(&options, asked), address(&options, cx));
    if let (Some(_), Some(_)) = (port, &address) {
        options.problem("port", "`address` has a port already", Some("leave one of them out".into()));
    }
    let tls = options.given("tls").and_then(|given| tls(&given, asked)).unwrap_or(asked.tls);
    let is_datagram = kind.is_some_and(|kind| kind.name == Datagram::KIND);
    if is_datagram {
        takes_datagrams(&options, asked, address.as_ref());
    }
    options.finish();
    let (check, tls) = (check?, tls && !is_datagram);
    // Another port or address is probably not one where clients are announced. Datagrams can be by
    // version 2 only.
    let fits = |version: &HeaderVersion| !is_datagram || *version == HeaderVersion::V2;
    let header = asked.headers.filter(|_| port.is_none() && address.is_none()).filter(fits);
    let identity = format!("{check:?} {header:?}");
    Some(CheckPlan { check, rhythm, port, address, tls, header, identity })
}

fn kind(options: &Options<'_>) -> Option<&'static Kind> {
    let names: Vec<_> = KINDS.iter().map(|kind| kind.name).collect();
    let Some(given) = options.given("kind") else {
        let hint = format!("add `kind = \"http\"`; there are {}", backticked(&names));
        options.missing("kind", "it is not said what kind of check this is", Some(hint));
        return None;
    };
    let name = given.read::<String>()?;
    let kind = KINDS.iter().find(|kind| kind.name == name);
    if kind.is_none() {
        let Fault { text, hint } = Fault::unknown("kind of check", &name, &names);
        given.fault(text, hint);
    }
    kind
}

/// Reports keys of other kinds of checks. While the kind is not known, none is foreign.
fn foreign_keys(options: &Options<'_>, kind: Option<&'static Kind>) {
    let Some(kind) = kind else {
        KINDS.iter().flat_map(|kind| kind.keys).for_each(|key| drop(options.given(key)));
        return;
    };
    for (key, _) in options.entries() {
        let mut all = KINDS.iter().flat_map(|kind| kind.keys);
        let Some(known) = all.find(|known| **known == key.name && !kind.keys.contains(known)) else {
            continue;
        };
        let owners: Vec<_> =
            KINDS.iter().filter(|kind| kind.keys.contains(known)).map(|kind| kind.name).collect();
        let fault = format!("`{known}` has no meaning for checks of kind `{}`", kind.name);
        let hint = format!(
            "it is a key of {}; those of `{}` are {}",
            backticked(&owners),
            kind.name,
            backticked(kind.keys)
        );
        options.given(known);
        options.problem(known, fault, Some(hint));
    }
}

fn rhythm(options: &Options<'_>) -> Rhythm {
    let default = Rhythm::default();
    let given_interval = options.given("interval").and_then(|given| given.within(PAUSE));
    let interval = given_interval.unwrap_or(default.interval);
    let timeout = options.given("timeout");
    let limit = timeout.as_ref().and_then(|given| given.within(PAUSE));
    if let (Some(given), Some(limit)) = (timeout, limit.filter(|limit| *limit > interval)) {
        warn_of_long_timeout(&given, limit, interval);
    }
    Rhythm {
        interval,
        fast_interval: options.within("fast_interval", PAUSE, default.fast_interval.min(interval)),
        down_interval: options.within("down_interval", PAUSE, interval),
        jitter: options.get::<Share>("jitter").map_or(default.jitter, Share::fraction),
        timeout: limit.unwrap_or(default.timeout),
        fall: options.within("fall", ROW, default.fall),
        rise: options.within("rise", ROW, default.rise),
    }
}

fn warn_of_long_timeout(given: &Given<'_>, timeout: Duration, interval: Duration) {
    use crate::model::units::show;
    let fault = format!(
        "the timeout of {} is longer than the interval of {}: an endpoint that hangs is checked less often",
        show(timeout),
        show(interval)
    );
    let hint = "give a shorter `timeout` or a longer `interval`";
    given.report(Problem::new(given.path(), Some(given.span()), fault).hint(hint).warning());
}

fn port(options: &Options<'_>, asked: &Asked<'_>) -> Option<u16> {
    let given = options.given("port")?;
    let port = given.within(PORT)?;
    let unix = |endpoint: &&EndpointPlan| matches!(endpoint.target, Target::Address(Address::Unix(_)));
    if let Some(endpoint) = asked.endpoints.iter().find(unix) {
        let fault = format!("the endpoint {} has no port to replace", endpoint.target);
        given.fault(fault, Some("give a whole `address`, or leave it out".into()));
    }
    Some(port)
}

fn address(options: &Options<'_>, cx: &Cx<'_>) -> Option<Address> {
    let given = options.given("address")?;
    match cx.target(&given)? {
        Target::Address(address) => Some(address),
        Target::Host { name, .. } => {
            let hint = "write \"IP:PORT\", \"[IPv6]:PORT\" or \"unix:/path\"";
            given.fault(format!("{name} is a name, and checks need an address"), Some(hint.into()));
            None
        }
    }
}

fn tls(given: &Given<'_>, asked: &Asked<'_>) -> Option<bool> {
    let tls = given.read::<bool>()?;
    if tls && !asked.tls {
        let hint = "add a table `tls` to the pool, or leave this out";
        given.fault("the pool does not speak TLS, and a check does as its pool", Some(hint.into()));
    }
    Some(tls)
}

/// Reports what a check over datagrams cannot ask.
fn takes_datagrams(options: &Options<'_>, asked: &Asked<'_>, address: Option<&Address>) {
    let hint = || Some("checks of kind `udp` ask IP addresses".to_owned());
    match address {
        Some(Address::Unix(path)) => {
            let fault = format!("unix:{} takes no datagrams", path.display());
            options.problem("address", fault, hint());
        }
        Some(_) => {}
        None => {
            let unix =
                |endpoint: &&EndpointPlan| matches!(endpoint.target, Target::Address(Address::Unix(_)));
            if let Some(endpoint) = asked.endpoints.iter().find(unix) {
                options.problem(
                    "kind",
                    format!("the endpoint {} takes no datagrams", endpoint.target),
                    hint(),
                );
            }
        }
    }
    if options.given("tls").and_then(|given| given.read::<bool>()) == Some(true) {
        let hint = "leave it out, or check with kind `tcp`";
        options.problem("tls", "no TLS is spoken over datagrams", Some(hint.into()));
    }
}

/// Pauses and time limits.
const PAUSE: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(24 * 60 * 60);
/// Results in a row.
const ROW: RangeInclusive<u32> = 1..=100;
const PORT: RangeInclusive<u16> = 1..=u16::MAX;
