//! TLS that a listener ends: its certificates, versions, protocols and resumption.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ServerSessionMemoryCache, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::DnsName;
use webpki::EndEntityCert;

use super::sni::Certificates;
use super::upstream::given_roots;
use super::{H2, HTTP11, MinTls, PROVIDER, VERSIONS_FIT, pem};
use crate::config::Cx;
use crate::config::plan::AdminTls;
use crate::model::options::{Fault, FromValue, Given, Options, Problem, Value};
use crate::route::sni::Protocol;

/// Whether a listener ends its clients' TLS.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Termination {
    /// It does, and HTTP is what is spoken over it.
    Http,
    /// It does if it has certificates, and knows nothing of what is spoken.
    Optional,
    /// It does not; this is what it is, and what to do for TLS.
    Never(&'static str, Option<&'static str>),
}

/// Reads the TLS keys of a listener, which only one may have that ends TLS.
pub(crate) fn server(options: &Options<'_>, of: Termination, cx: &Cx<'_>) -> Option<Arc<ServerConfig>> {
    let min_tls = options.get::<MinTls>("min_tls");
    let certificates = options.given("certificates");
    let alpn = alpn(options, of, certificates.is_some());
    match (of, &certificates) {
        (Termination::Never(what, hint), _) if min_tls.is_some() => {
            options.problem("min_tls", format!("{what} has no TLS of its own"), hint.map(str::to_owned));
        }
        (Termination::Optional, None) if min_tls.is_some() => {
            options.problem("min_tls", NO_TLS, Some("add `certificates`, or leave it out".into()));
        }
        _ => {}
    }
    match (of, certificates) {
        (Termination::Http | Termination::Optional, Some(given)) => {
            let certificates = read(&given, cx)?;
            Some(Arc::new(config(certificates, min_tls.unwrap_or_default(), alpn)))
        }
        (Termination::Http, None) => {
            let hint = "add `certificates = [{ cert = \"cert.pem\", key = \"key.pem\" }]`";
            options.missing("certificates", "an https listener needs certificates", Some(hint.into()));
            None
        }
        (Termination::Never(what, hint), Some(given)) => {
            given.fault(format!("{what} has no certificates"), hint.map(str::to_owned));
            None
        }
        (Termination::Optional | Termination::Never(..), None) => None,
    }
}

/// The protocols to agree on, the favourite first.
fn alpn(options: &Options<'_>, of: Termination, ends_tls: bool) -> Vec<Vec<u8>> {
    if matches!(of, Termination::Http) {
        return vec![H2.to_vec(), HTTP11.to_vec()];
    }
    // Of other listeners it is an unknown key.
    if !matches!(of, Termination::Optional) || options.given("alpn").is_none() {
        return Vec::new();
    }
    if !ends_tls {
        options.problem("alpn", NO_TLS, Some("add `certificates`, or leave it out".into()));
    }
    let protocols = options.list::<Protocol>("alpn").unwrap_or_default();
    protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect()
}

/// TLS of the admin listener. Clients may show a certificate of one of these authorities.
pub(crate) fn admin<'r>(
    given: &Given<'_>,
    roots: impl Iterator<Item = &'r RootCertStore>,
    cx: &Cx<'_>,
) -> Option<AdminTls> {
    let certificates = read(given, cx)?;
    let shown = certificates.leaves().cloned().collect();
    let mut all = RootCertStore::empty();
    roots.for_each(|roots| all.roots.extend(roots.roots.iter().cloned()));
    let builder = ServerConfig::builder_with_provider(Arc::clone(&PROVIDER))
        .with_protocol_versions(MinTls::default().versions())
        .expect(VERSIONS_FIT);
    let builder = if all.is_empty() {
        builder.with_no_client_auth()
    } else {
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(all), Arc::clone(&PROVIDER))
            .allow_unauthenticated();
        builder.with_client_cert_verifier(verifier.build().expect(ROOTS_ARE_THERE))
    };
    let mut server = builder.with_cert_resolver(Arc::new(certificates));
    server.alpn_protocols = vec![HTTP11.to_vec()];
    Some(AdminTls { server: Arc::new(server), shown })
}

/// The authorities in the file that `given` names, and who verifies certificates of theirs.
pub(crate) fn clients(
    given: &Given<'_>,
    cx: &Cx<'_>,
) -> Option<(Arc<RootCertStore>, Arc<dyn ClientCertVerifier>)> {
    let roots = given_roots(given, cx)?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&PROVIDER));
    Some((roots, verifier.build().expect(ROOTS_ARE_THERE)))
}

fn config(certificates: Certificates, min_tls: MinTls, alpn: Vec<Vec<u8>>) -> ServerConfig {
    let mut config = ServerConfig::builder_with_provider(Arc::clone(&PROVIDER))
        .with_protocol_versions(min_tls.versions())
        .expect(VERSIONS_FIT)
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(certificates));
    config.alpn_protocols = alpn;
    config.session_storage = ServerSessionMemoryCache::new(SESSIONS);
    // Without randomness for ticket keys there is none for handshakes either; these will say so.
    if let Ok(ticketer) = Ticketer::new() {
        config.ticketer = ticketer;
    }
    config
}

/// `[{ cert = "cert.pem", key = "key.pem", names = ["example.com"] }]`
fn read(given: &Given<'_>, cx: &Cx<'_>) -> Option<Certificates> {
    let items = given.items();
    if items.is_empty() {
        given.fault("an https listener needs certificates", None);
    }
    let read: Vec<_> = items.iter().map(|item| certificate(item, cx)).collect();
    for (item, found) in items.iter().zip(&read).skip(1) {
        if found.as_ref().is_some_and(|(_, names)| names.is_empty()) {
            let fault = "no client is shown this certificate: it has no DNS name";
            let problem = Problem::new(item.path(), Some(item.span()), fault).warning();
            item.report(problem.hint("say for which names it is, as in `names = [\"www.example.com\"]`"));
        }
    }
    // One that is unusable is reported; the others alone would be another configuration.
    read.into_iter().collect::<Option<Vec<_>>>().filter(|all| !all.is_empty()).map(Certificates::new)
}

fn certificate(given: &Given<'_>, cx: &Cx<'_>) -> Option<(CertifiedKey, Vec<String>)> {
    let options = given.table()?;
    let pair = pem::pair(options.required("cert"), options.required("key"), cx);
    let names = options.list::<CertificateName>("names");
    options.finish();
    let pair = pair?;
    let names = names.map(|names| names.into_iter().map(|name| name.0).collect());
    let names = names.unwrap_or_else(|| own_names(&pair));
    Some((pair, names))
}

/// The DNS names in the certificate itself, in lower case.
fn own_names(pair: &CertifiedKey) -> Vec<String> {
    let Some(certificate) = pair.cert.first().and_then(|der| EndEntityCert::try_from(der).ok()) else {
        return Vec::new();
    };
    certificate.valid_dns_names().map(str::to_ascii_lowercase).collect()
}

/// A name for which a certificate is shown: a DNS name, or `*.` and a DNS name.
struct CertificateName(String);

impl FromValue for CertificateName {
    fn from_value(value: &Value) -> Result<Self, Fault> {
        let text = value.text("a DNS name")?;
        let plain = text.strip_prefix("*.").unwrap_or(text);
        match DnsName::try_from(plain) {
            Ok(_) => Ok(Self(text.to_ascii_lowercase())),
            Err(_) => Err(Fault::new(format_args!("{text:?} is not a DNS name"))
                .hint("write it as \"www.example.com\" or \"*.example.com\"")),
        }
    }
}

const NO_TLS: &str = "without certificates the listener has no TLS";
/// Why making a verifier cannot fail.
const ROOTS_ARE_THERE: &str = "there is at least one root, and no list of what was revoked";
/// Sessions to remember for clients that take no tickets (TLS 1.2 only).
const SESSIONS: usize = 4096;
