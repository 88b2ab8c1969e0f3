//! What a `udp` listener has of its own: where datagrams go, and what is a flow.

use super::{LIMIT, target};
use crate::config::names::Names;
use crate::config::plan::UdpPlan;
use crate::config::{Cx, proxy_protocol};
use crate::model::options::Options;
use crate::model::settings::FlowSettings;

/// Reads it; `None` when it leads nowhere, which is reported.
pub(super) fn plan(options: &Options<'_>, pools: &Names, cx: &Cx<'_>) -> Option<UdpPlan> {
    let split = target::required(options, pools, cx);
    proxy_protocol::none_of_datagrams(options);
    let default = FlowSettings::default();
    let timeouts = options.section("timeouts");
    let flows = FlowSettings { idle: timeouts.within("idle", LIMIT, default.idle), ..default };
    timeouts.finish();
    Some(UdpPlan { split: split?, flows })
}
