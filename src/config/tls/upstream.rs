//! TLS towards a pool's endpoints: whom to trust, what to present, which protocol to ask for.

use std::cell::OnceCell;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{ClientConfig, WebPkiServerVerifier};
use rustls::sign::SingleCertAndKey;
use rustls_pki_types::ServerName;

use super::{Believed, H2, HTTP11, MinTls, PROVIDER, VERSIONS_FIT, pem};
use crate::config::Cx;
use crate::config::plan::{EndpointPlan, UpstreamTls};
use crate::model::options::{Fault, FromValue, Given, Options, Problem, Value};
use crate::model::settings::UpstreamProtocol;
use crate::model::{Address, Fingerprint, Target};

/// The system's root certificates, read at most once per configuration.
#[derive(Default)]
pub(crate) struct Trust(OnceCell<Arc<RootCertStore>>);

/// Reads `[pool.NAME.tls]` of a pool with these `endpoints`.
pub(crate) fn client(
    options: Options<'_>,
    protocol: UpstreamProtocol,
    endpoints: &[EndpointPlan],
    cx: &Cx<'_>,
) -> Option<UpstreamTls> {
    let mark = cx.files.mark();
    let verifier = verifier(&options, cx);
    let client = identity(&options, cx);
    let server_name = server_name(&options, endpoints);
    let written =
        options.fingerprint().and(Fingerprint::of_bytes(protocol_ids(protocol).concat().as_slice()));
    let fingerprint = cx.files.cover(written, mark);
    options.finish();

    let builder = ClientConfig::builder_with_provider(Arc::clone(&PROVIDER))
        .with_protocol_versions(MinTls::default().versions())
        .expect(VERSIONS_FIT)
        .dangerous()
        .with_custom_certificate_verifier(verifier?);
    let mut config = match client? {
        Some(pair) => builder.with_client_cert_resolver(Arc::new(pair)),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = protocol_ids(protocol);
    Some(UpstreamTls { fingerprint, config: Arc::new(config), server_name })
}

/// What is asked for by ALPN.
fn protocol_ids(protocol: UpstreamProtocol) -> Vec<Vec<u8>> {
    match protocol {
        UpstreamProtocol::Http1 => vec![HTTP11.to_vec()],
        UpstreamProtocol::Http2 => vec![H2.to_vec()],
    }
}

fn server_name(options: &Options<'_>, endpoints: &[EndpointPlan]) -> Option<ServerName<'static>> {
    let given = options.given("server_name");
    let unix = |endpoint: &&EndpointPlan| matches!(endpoint.target, Target::Address(Address::Unix(_)));
    if let (None, Some(endpoint)) = (&given, endpoints.iter().find(unix)) {
        let fault = format!("there is no name to expect in the certificate of {}", endpoint.target);
        options.missing("server_name", fault, Some("add `server_name = \"app.example.com\"`".into()));
    }
    given?.read()
}

fn verifier(options: &Options<'_>, cx: &Cx<'_>) -> Option<Arc<dyn ServerCertVerifier>> {
    let (verify, ca) = (options.given("verify"), options.given("ca"));
    if let Some(verify) = verify.filter(|given| given.read() == Some(false)) {
        let fault = "whoever answers at an endpoint's address is believed to be the endpoint";
        let hint = "give its certificate, or that of its authority, as `ca`";
        verify.report(Problem::new(verify.path(), Some(verify.span()), fault).hint(hint).warning());
        if let Some(ca) = ca {
            ca.fault("`ca` has no meaning with `verify = false`", Some("leave one of them out".into()));
        }
        return Some(Arc::new(Believed::Anyone));
    }
    let roots = match ca {
        Some(given) => given_roots(&given, cx)?,
        None => cx.trust.system_roots(options)?,
    };
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&PROVIDER)).build();
    Some(verifier.expect("there is at least one root"))
}

/// The certificates of a file, each a root; at least one.
pub(super) fn given_roots(given: &Given<'_>, cx: &Cx<'_>) -> Option<Arc<RootCertStore>> {
    let mut roots = RootCertStore::empty();
    for certificate in pem::certificates(given, cx)? {
        if roots.add(certificate).is_err() {
            given.fault("a certificate in this file is malformed", None);
            return None;
        }
    }
    Some(Arc::new(roots))
}

impl Trust {
    fn system_roots(&self, options: &Options<'_>) -> Option<Arc<RootCertStore>> {
        let roots = self.0.get_or_init(|| {
            let mut roots = RootCertStore::empty();
            // A system's store may hold certificates that are of no use to us.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            Arc::new(roots)
        });
        if roots.is_empty() {
            let hint = "install the system's `ca-certificates`, or name a file with `ca`";
            options.fault("this system has no root certificates", Some(hint.into()));
            return None;
        }
        Some(Arc::clone(roots))
    }
}

/// The client certificate, if one is wanted; `None` when it is wanted and unusable.
fn identity(options: &Options<'_>, cx: &Cx<'_>) -> Option<Option<SingleCertAndKey>> {
    let (cert, key) = (options.given("client_cert"), options.given("client_key"));
    match (&cert, &key) {
        (None, None) => return Some(None),
        (Some(_), None) => options.missing("client_key", "`client_cert` needs a `client_key`", None),
        (None, Some(_)) => options.missing("client_cert", "`client_key` needs a `client_cert`", None),
        (Some(_), Some(_)) => {}
    }
    pem::pair(cert, key, cx).map(|pair| Some(pair.into()))
}

impl FromValue for ServerName<'static> {
    fn from_value(value: &Value) -> Result<Self, Fault> {
        let text = value.text("a host name")?;
        Self::try_from(text.to_owned()).map_err(|_| Fault::new(format_args!("{text:?} is not a host name")))
    }
}
