//! TLS: certificates for listeners, trust for pools.

use std::sync::Arc;

use super::Cx;
use super::plan::UpstreamTls;
use crate::model::options::Options;
use crate::model::settings::UpstreamProtocol;

/// TLS of an `https` listener.
pub(super) fn server(options: &Options<'_>, wanted: bool, _cx: &Cx<'_>) -> Option<Arc<rustls::ServerConfig>> {
    if wanted {
        options.problem("protocol", "not yet", None);
    }
    None
}

/// TLS towards endpoints.
pub(super) fn client(options: Options<'_>, _protocol: UpstreamProtocol, _cx: &Cx<'_>) -> Option<UpstreamTls> {
    options.fault("not yet", None);
    None
}
