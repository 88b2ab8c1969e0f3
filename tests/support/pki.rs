//! Certificates for a test: an authority, whatever it signs, and TLS settings that trust it.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;

/// An authority with a folder for what it signs. Its own certificate is `ca.pem`.
pub(crate) struct Pki {
    folder: TempDir,
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl Pki {
    /// A new authority.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let mut params = CertificateParams::new(Vec::new()).expect("no names are fine");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "an authority");
        let key = KeyPair::generate().expect("there is randomness");
        let authority = CertifiedIssuer::self_signed(params, key).expect("an authority signs itself");
        fs::write(folder.path().join("ca.pem"), authority.pem()).expect("the folder takes a file");
        Self { folder, authority }
    }

    /// Writes `FILE.pem` and `FILE.key`: a certificate for `names`, which may be IP addresses.
    pub(crate) fn issue(&self, file: &str, names: &[&str]) -> &Self {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let params = CertificateParams::new(names).expect("the names are names");
        let key = KeyPair::generate().expect("there is randomness");
        let certificate = params.signed_by(&key, &self.authority).expect("the authority signs");
        for (end, text) in [("pem", certificate.pem()), ("key", key.serialize_pem())] {
            fs::write(self.path().join(format!("{file}.{end}")), text).expect("the folder takes a file");
        }
        self
    }

    /// The folder.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The certificate that was written as `FILE.pem`.
    pub(crate) fn certificate(&self, file: &str) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(self.path().join(format!("{file}.pem"))).expect("it was issued")
    }

    /// The authority as the only one to trust.
    pub(crate) fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.der().clone()).expect("an authority is a root");
        Arc::new(roots)
    }

    /// A client that trusts the authority.
    pub(crate) fn client(
        &self,
        alpn: &[&str],
        versions: &[&'static SupportedProtocolVersion],
    ) -> ClientConfig {
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .expect("the versions fit")
            .with_root_certificates(self.roots())
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        config
    }

    /// A server that shows `FILE.pem`; it may insist on a client certificate of the authority.
    pub(crate) fn server(&self, file: &str, alpn: &[&str], asks_client: bool) -> Arc<ServerConfig> {
        let key =
            PrivateKeyDer::from_pem_file(self.path().join(format!("{file}.key"))).expect("it was issued");
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("the versions fit");
        let builder = if asks_client {
            let verifier = WebPkiClientVerifier::builder_with_provider(self.roots(), provider()).build();
            builder.with_client_cert_verifier(verifier.expect("there is a root"))
        } else {
            builder.with_no_client_auth()
        };
        let config = builder.with_single_cert(vec![self.certificate(file)], key);
        let mut config = config.expect("the key is the certificate's");
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
