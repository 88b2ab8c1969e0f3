//! `proxy_protocol` of listeners and pools: whose word is taken for who a client is, and who is told.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::IpNet;

use super::plan::{ListenerPlan, ServicePlan};
use super::pool::Pools;
use crate::model::options::{OneOf, Options, Sink};
use crate::model::settings::{HeaderValues, HeaderVersion, HeadersIn, HeadersOut};

/// How a listener takes headers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Taken {
    #[default]
    Off,
    Optional,
    Required,
}

impl OneOf for Taken {
    const NOUN: &'static str = "way of taking PROXY protocol headers";
    const WORDS: &'static [(&'static str, Self)] =
        &[("off", Self::Off), ("optional", Self::Optional), ("required", Self::Required)];
}

/// What a listener reads before anything else, if anything, with its time limit.
pub(super) fn incoming(options: &Options<'_>, trusted: &[IpNet], timeout: Duration) -> Option<HeadersIn> {
    let taken = options.get_or("proxy_protocol", Taken::default());
    if taken == Taken::Optional && trusted.is_empty() {
        let hint = "add `trusted_proxies`, or write \"required\" where every client sends a header";
        options.problem(
            "proxy_protocol",
            "nobody is believed: \"optional\" is for peers in `trusted_proxies`",
            Some(hint.into()),
        );
    }
    let required = taken == Taken::Required;
    (taken != Taken::Off).then(|| HeadersIn { required, trusted: trusted.to_vec(), timeout })
}

/// Reports the key where there are no connections.
pub(super) fn none_of_datagrams(options: &Options<'_>) {
    if options.given("proxy_protocol").is_some() {
        let hint = "leave it out: clients are those whom datagrams come from";
        options.problem("proxy_protocol", "udp listeners take no PROXY protocol", Some(hint.into()));
    }
}

/// `timeouts.proxy_protocol` of a listener.
pub(super) fn timeout(timeouts: &Options<'_>) -> Duration {
    timeouts.within("proxy_protocol", TIMEOUT, HeadersIn::TIMEOUT)
}

/// What the endpoints of a pool are told, if anything.
pub(super) fn outgoing(options: &Options<'_>) -> Option<HeadersOut> {
    let version = options.get_or("proxy_protocol", Sent::default());
    let values = options.list::<Value>("proxy_protocol_tlvs");
    if values.as_ref().is_some_and(|values| !values.is_empty()) && version != Sent::V2 {
        let hint = Some("write `proxy_protocol = \"v2\"`, or leave this out".into());
        options.problem(
            "proxy_protocol_tlvs",
            "only version 2 of the PROXY protocol has room for these",
            hint,
        );
    }
    let version = match version {
        Sent::Off => return None,
        Sent::V1 => HeaderVersion::V1,
        Sent::V2 => HeaderVersion::V2,
    };
    let mut told = HeaderValues::default();
    for value in values.unwrap_or_default() {
        *value.place(&mut told) = true;
    }
    Some(HeadersOut { version, told })
}

/// What a pool sends.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Sent {
    #[default]
    Off,
    V1,
    V2,
}

impl OneOf for Sent {
    const NOUN: &'static str = "version of the PROXY protocol";
    const WORDS: &'static [(&'static str, Self)] = &[("off", Self::Off), ("v1", Self::V1), ("v2", Self::V2)];
}

/// What version 2 may tell beside addresses.
#[derive(Clone, Copy, Debug)]
enum Value {
    Sni,
    Alpn,
    UniqueId,
    Tls,
    Crc32c,
}

impl OneOf for Value {
    const NOUN: &'static str = "value of a PROXY protocol header";
    const WORDS: &'static [(&'static str, Self)] = &[
        ("sni", Self::Sni),
        ("alpn", Self::Alpn),
        ("unique_id", Self::UniqueId),
        ("tls", Self::Tls),
        ("crc32c", Self::Crc32c),
    ];
}

impl Value {
    fn place(self, told: &mut HeaderValues) -> &mut bool {
        match self {
            Self::Sni => &mut told.sni,
            Self::Alpn => &mut told.alpn,
            Self::UniqueId => &mut told.unique_id,
            Self::Tls => &mut told.tls,
            Self::Crc32c => &mut told.checksum,
        }
    }
}

/// A header fits into one packet: whoever needs a minute for it is not sending one.
const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(60);
