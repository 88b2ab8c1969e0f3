//! What a `tls` listener has of its own: where connections go by what their clients ask for.

use super::{LIMIT, target};
use crate::config::names::Names;
use crate::config::plan::TlsPlan;
use crate::config::{Cx, proxy_protocol};
use crate::model::options::Options;
use crate::model::settings::StreamTimeouts;

/// Reads it; `None` when it is unfit, which is reported.
pub(super) fn plan(options: &Options<'_>, pools: &Names, cx: &Cx<'_>) -> Option<TlsPlan> {
    let otherwise = target::target(options, pools, cx);
    let timeouts = timeouts(options.section("timeouts"));
    Some(TlsPlan { otherwise, timeouts })
}

fn timeouts(options: Options<'_>) -> StreamTimeouts {
    let default = StreamTimeouts::default();
    let timeouts = StreamTimeouts {
        proxy_protocol: proxy_protocol::timeout(&options),
        client_hello: options.within("client_hello", LIMIT, default.client_hello),
        idle: options.within("idle", LIMIT, default.idle),
        max_duration: options.given("max_duration").and_then(|given| given.within(LIMIT)),
        ..default
    };
    options.finish();
    timeouts
}
