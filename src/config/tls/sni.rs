//! Which certificate a client is shown: by the name that it asks for, exact before wildcard, and
//! by the signatures that it understands. Names are compared only, never resolved.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::CertificateDer;

/// The certificates of one listener.
pub(super) struct Certificates {
    /// In the order of the file: the first is the default.
    all: Vec<Arc<CertifiedKey>>,
    /// Exact names, and wildcards as `*.example.com`, in lower case.
    by_name: HashMap<Box<str>, Vec<Arc<CertifiedKey>>>,
}

impl Certificates {
    /// Arranges certificates with the names for which each is shown.
    pub(super) fn new(certificates: Vec<(CertifiedKey, Vec<String>)>) -> Self {
        let mut all = Vec::new();
        let mut by_name: HashMap<Box<str>, Vec<_>> = HashMap::new();
        for (certificate, names) in certificates {
            let certificate = Arc::new(certificate);
            for name in names {
                by_name.entry(name.into()).or_default().push(Arc::clone(&certificate));
            }
            all.push(certificate);
        }
        Self { all, by_name }
    }

    /// What each shows of itself, without those who signed it.
    pub(super) fn leaves(&self) -> impl Iterator<Item = &CertificateDer<'static>> {
        self.all.iter().filter_map(|pair| pair.cert.first())
    }

    /// Those for `name`, in lower case; all when there is none for it, or no name.
    pub(super) fn named(&self, name: Option<&str>) -> &[Arc<CertifiedKey>] {
        let found = name.and_then(|name| self.by_name.get(name).or_else(|| self.wildcard(name)));
        found.unwrap_or(&self.all)
    }

    /// A wildcard stands for one label (RFC 9525 §6.3).
    fn wildcard(&self, name: &str) -> Option<&Vec<Arc<CertifiedKey>>> {
        let (_, parent) = name.split_once('.')?;
        self.by_name.get(format!("*.{parent}").as_str())
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = self.named(hello.server_name());
        let fits = |it: &&Arc<CertifiedKey>| it.key.choose_scheme(hello.signature_schemes()).is_some();
        named.iter().find(fits).or_else(|| named.first()).map(Arc::clone)
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names: Vec<_> = self.by_name.keys().collect();
        names.sort();
        f.debug_struct("Certificates").field("count", &self.all.len()).field("names", &names).finish()
    }
}
