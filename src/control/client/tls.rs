//! TLS to the admin listener: whom to believe that it is the one. That is who shows a certificate that is
//! known already, or one for the address by an authority that is.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::CertificateDer;

use crate::config::Believed;

/// Believes those who show one of `certificates` itself, or one that they have signed for the address.
#[must_use]
pub fn believing(certificates: Vec<CertificateDer<'static>>) -> Arc<ClientConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(rustls::ALL_VERSIONS);
    let builder = builder.expect("the provider has suites for TLS 1.2 and 1.3");
    let verifier = Arc::new(Believed::known(certificates));
    Arc::new(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
}
