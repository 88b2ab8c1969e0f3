//! What a route matches, from the keys of `[[route]]`.

use crate::model::options::Options;
use crate::route::{HostMatch, PathMatch, Rule};

/// Reads which requests a route takes.
pub(super) fn rule(options: &Options<'_>) -> Rule {
    let host = |text: String| match text.strip_prefix("*.") {
        Some(suffix) => HostMatch::Below(suffix.to_ascii_lowercase()),
        None => HostMatch::Exact(text.to_ascii_lowercase()),
    };
    let hosts = options.list("host").unwrap_or_default();
    let exact = options.get("path").map(PathMatch::Exact);
    let prefix = options.get("path_prefix").map(PathMatch::Prefix);
    Rule {
        hosts: hosts.into_iter().map(host).collect(),
        path: exact.or(prefix).unwrap_or_default(),
        methods: options.list("method").unwrap_or_default(),
        ..Rule::default()
    }
}
