//! Whom to believe that they are who was asked for, where that is not up to authorities alone. That they
//! have the key of the certificate that they show is asked of everyone.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::PROVIDER;

/// Who is believed.
#[derive(Debug)]
pub enum Believed {
    /// Whoever answers.
    Anyone,
    /// Who shows one of these certificates itself, or one that an authority vouches for.
    Known {
        /// These, as they are.
        certificates: Vec<CertificateDer<'static>>,
        /// Those of them that may vouch for others; `None` when there is none.
        authority: Option<Arc<WebPkiServerVerifier>>,
    },
}

impl Believed {
    /// Those who show one of `certificates`, or one that it has signed for the name.
    #[must_use]
    pub fn known(certificates: Vec<CertificateDer<'static>>) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(certificates.iter().cloned());
        let authority =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&PROVIDER)).build();
        Self::Known { certificates, authority: authority.ok() }
    }
}

impl ServerCertVerifier for Believed {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self {
            Self::Anyone => Ok(ServerCertVerified::assertion()),
            Self::Known { certificates, .. } if certificates.iter().any(|known| **known == **end_entity) => {
                Ok(ServerCertVerified::assertion())
            }
            Self::Known { authority: Some(authority), .. } => {
                authority.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            }
            Self::Known { authority: None, .. } => {
                Err(Error::InvalidCertificate(CertificateError::UnknownIssuer))
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &PROVIDER.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &PROVIDER.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        PROVIDER.signature_verification_algorithms.supported_schemes()
    }
}
