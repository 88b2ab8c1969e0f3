//! What a `tcp` listener has of its own: where its connections go, and how long they may take.

use super::{LIMIT, target};
use crate::config::names::Names;
use crate::config::plan::StreamPlan;
use crate::config::{Cx, proxy_protocol};
use crate::model::options::Options;
use crate::model::settings::StreamTimeouts;

/// Reads it; `None` when it leads nowhere, which is reported.
pub(super) fn plan(options: &Options<'_>, pools: &Names, cx: &Cx<'_>) -> Option<StreamPlan> {
    let split = target::required(options, pools, cx);
    let timeouts = timeouts(options.section("timeouts"));
    Some(StreamPlan { split: split?, timeouts })
}

fn timeouts(options: Options<'_>) -> StreamTimeouts {
    let default = StreamTimeouts::default();
    let timeouts = StreamTimeouts {
        proxy_protocol: proxy_protocol::timeout(&options),
        tls_handshake: options.within("tls_handshake", LIMIT, default.tls_handshake),
        idle: options.within("idle", LIMIT, default.idle),
        max_duration: options.given("max_duration").and_then(|given| given.within(LIMIT)),
        ..default
    };
    options.finish();
    timeouts
}
