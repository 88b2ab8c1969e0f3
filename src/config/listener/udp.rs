//! What a `udp` listener has of its own: where datagrams go, and what is a flow.

use std::ops::RangeInclusive;

use super::{LIMIT, target};
use crate::config::names::Names;
use crate::config::plan::UdpPlan;
use crate::config::{Cx, proxy_protocol};
use crate::model::options::{OneOf, Options};
use crate::model::settings::FlowSettings;

/// Reads it; `None` when it leads nowhere, which is reported.
pub(super) fn plan(options: &Options<'_>, pools: &Names, cx: &Cx<'_>) -> Option<UdpPlan> {
    let split = target::required(options, pools, cx);
    proxy_protocol::none_of_datagrams(options);
    let default = FlowSettings::default();
    let timeouts = options.section("timeouts");
    let idle = timeouts.within("idle", LIMIT, default.idle);
    timeouts.finish();
    let packets = options.section("packets");
    let count = |key, range| packets.given(key).and_then(|given| given.within(range));
    let flows = FlowSettings {
        by_port: options.get_or("flow_by", FlowBy::AddressAndPort) == FlowBy::AddressAndPort,
        idle,
        most: options.within("max_flows", MOST, default.most),
        requests: count("requests", REQUESTS),
        replies: count("replies", REPLIES),
    };
    packets.finish();
    if let Some(given) = options.given("max_connections") {
        given.fault("a udp listener has no connections", Some("bound its flows by `max_flows`".into()));
    }
    Some(UdpPlan { split: split?, flows })
}

/// What tells flows apart.
#[derive(Clone, Copy, PartialEq)]
enum FlowBy {
    AddressAndPort,
    Address,
}

impl OneOf for FlowBy {
    const NOUN: &'static str = "way to tell flows apart";
    const WORDS: &'static [(&'static str, Self)] =
        &[("address_and_port", Self::AddressAndPort), ("address", Self::Address)];
}

/// Each flow has a socket of its own.
const MOST: RangeInclusive<u32> = 1..=4_000_000;
/// 0 would be a listener that takes nothing.
const REQUESTS: RangeInclusive<u32> = 1..=u32::MAX;
/// 0 for what nobody answers.
const REPLIES: RangeInclusive<u32> = 0..=u32::MAX;
