//! Keys that one protocol has and another has not: named with what to do instead, since whoever wrote
//! them meant something.

use super::Protocol;
use crate::model::options::Options;

/// Reports the keys that listeners of this protocol have no use for.
pub(super) fn report(options: &Options<'_>, protocol: Protocol) {
    if matches!(protocol, Protocol::Http | Protocol::Https) {
        for key in PASSING {
            if let Some(given) = options.given(key) {
                let hint = format!("add `[[route]]` with its `{key}`, or write `protocol = \"tcp\"`");
                given.fault(format!("`{key}` is for tcp, tls and udp listeners"), Some(hint));
            }
        }
        return;
    }
    for key in HTTP {
        if let Some(given) = options.given(key) {
            let hint = "leave it out: what is passed on as it is, is not looked into";
            given.fault(format!("`{key}` is for http and https listeners"), Some(hint.into()));
        }
    }
}

/// Reports time limits that only HTTP has.
pub(super) fn report_timeouts(timeouts: &Options<'_>) {
    for (key, instead) in HTTP_TIMEOUTS {
        if let Some(given) = timeouts.given(key) {
            let hint = format!("`{instead}` is the limit that there is here");
            given.fault(format!("`{key}` is for http and https listeners"), Some(hint));
        }
    }
}

/// Where to pass on to, without routes.
const PASSING: [&str; 2] = ["pool", "split"];
const HTTP: [&str; 7] =
    ["max_head", "max_fields", "max_concurrent_streams", "x_forwarded", "forwarded", "request_id", "via"];
const HTTP_TIMEOUTS: [(&str, &str); 3] =
    [("header", "max_duration"), ("keep_alive", "idle"), ("min_rate", "idle")];
