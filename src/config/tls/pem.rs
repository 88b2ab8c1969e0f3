//! Certificates and keys out of PEM files, and whether they belong together. Every fault is
//! reported at the key that names the file.

use std::path::Path;
use std::sync::Arc;

use rustls::sign::{CertifiedKey, SigningKey};
use rustls::{Error, InconsistentKeys};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::PROVIDER;
use crate::config::Cx;
use crate::model::options::{Given, Problem};

/// The chain in the file that `cert` names, with the key in the file that `key` names. `None` when
/// either is unusable or they do not belong together, which is reported.
pub(super) fn pair(cert: Option<Given<'_>>, key: Option<Given<'_>>, cx: &Cx<'_>) -> Option<CertifiedKey> {
    // Both files are looked at, whatever is wrong with the other.
    let chain = cert.as_ref().and_then(|given| certificates(given, cx));
    let signer = key.as_ref().and_then(|given| signing_key(given, cx));
    let (cert, key) = (cert?, key?);
    let pair = CertifiedKey::new(chain?, signer?);
    match pair.keys_match() {
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => Some(pair),
        Err(Error::InconsistentKeys(_)) => {
            let problem =
                Problem::new(key.path(), Some(key.span()), "the key does not belong to the certificate");
            let hint = "give the key for which the first certificate of the file was made";
            key.report(problem.see(Some(cert.span()), "the certificate is here").hint(hint));
            None
        }
        Err(_) => {
            cert.fault("the certificate in this file is malformed", None);
            None
        }
    }
}

/// Every certificate in the file that `given` names; at least one.
pub(super) fn certificates(given: &Given<'_>, cx: &Cx<'_>) -> Option<Vec<CertificateDer<'static>>> {
    let (path, bytes) = cx.read(given)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match found {
        Ok(found) if found.is_empty() => {
            let what = if PrivateKeyDer::from_pem_slice(&bytes).is_ok() {
                "it holds a private key: are the files mixed up?"
            } else {
                "a certificate in PEM begins with `-----BEGIN CERTIFICATE-----`"
            };
            given.fault(format!("there is no certificate in {}", path.display()), Some(what.into()));
            None
        }
        Ok(found) => Some(found),
        Err(error) => {
            malformed(given, &path, &error);
            None
        }
    }
}

fn signing_key(given: &Given<'_>, cx: &Cx<'_>) -> Option<Arc<dyn SigningKey>> {
    let (path, bytes) = cx.read(given)?;
    let key = match PrivateKeyDer::from_pem_slice(&bytes) {
        Ok(key) => key,
        Err(pem::Error::NoItemsFound) => {
            given.fault(
                format!("there is no private key in {}", path.display()),
                Some(instead_of_key(&bytes).into()),
            );
            return None;
        }
        Err(error) => {
            malformed(given, &path, &error);
            return None;
        }
    };
    let loaded = PROVIDER.key_provider.load_private_key(key);
    if loaded.is_err() {
        let fault = format!("the private key in {} cannot be used", path.display());
        given.fault(fault, Some("use an RSA (2048 bits or more), ECDSA or Ed25519 key".into()));
    }
    loaded.ok()
}

/// What a file without a private key probably is.
fn instead_of_key(bytes: &[u8]) -> &'static str {
    if memchr::memmem::find(bytes, b"BEGIN ENCRYPTED PRIVATE KEY").is_some() {
        "it is encrypted; decrypt it with `openssl pkey -in FILE -out KEY`"
    } else if CertificateDer::from_pem_slice(bytes).is_ok() {
        "it holds a certificate: are the files mixed up?"
    } else {
        "a private key in PEM begins with `-----BEGIN PRIVATE KEY-----`"
    }
}

fn malformed(given: &Given<'_>, path: &Path, error: &pem::Error) {
    let what = match error {
        pem::Error::MissingSectionEnd { .. } => "a section has no `-----END` line",
        pem::Error::IllegalSectionStart { .. } => "a `-----BEGIN` line is malformed",
        pem::Error::Base64Decode(_) => "what is between two lines is not base64",
        pem::Error::NoItemsFound => "there is nothing in it",
        _ => "it cannot be read",
    };
    given.fault(format!("{} is not well-formed PEM: {what}", path.display()), None);
}
