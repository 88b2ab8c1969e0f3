//! `[admin]`: where the admin listener is, and who may see and change things there. Others than the
//! users of this machine may only with a protection that somebody wrote down.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use rustls::RootCertStore;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::CertificateDer;

use super::binds::Binds;
use super::{Cx, tls};
use crate::model::Address;
use crate::model::options::{Fault, FromValue, Given, Options, Value};

/// Where metrics, readiness and all that can be asked of the process are served, and to whom.
#[derive(Debug, Clone)]
pub struct AdminPlan {
    /// The addresses to bind; at least one.
    pub bind: Vec<Address>,
    /// The permissions of the files of Unix sockets; as the umask has it when unset.
    pub mode: Option<u32>,
    /// TLS, for those that are no Unix sockets.
    pub tls: Option<AdminTls>,
    /// Who may see what runs.
    pub read: Protection,
    /// Who may change it. They may see it as well.
    pub write: Protection,
}

/// TLS of the admin listener.
#[derive(Debug, Clone)]
pub struct AdminTls {
    /// For those who serve. Clients may show a certificate where one of them could count.
    pub server: Arc<rustls::ServerConfig>,
    /// The certificates that are shown: who asks on this machine knows the process by them.
    pub shown: Vec<CertificateDer<'static>>,
}

/// What one has to show, any of it, over anything but a Unix socket.
#[derive(Debug, Clone, Default)]
pub struct Protection {
    /// Secrets, each as good as the others.
    pub tokens: Vec<Token>,
    /// Certificates.
    pub clients: Option<Clients>,
}

/// Certificates of clients.
#[derive(Debug, Clone)]
pub struct Clients {
    /// Whether a certificate is good.
    pub verifier: Arc<dyn ClientCertVerifier>,
    /// The DNS names of which it needs one, in lower case; any when empty.
    pub names: Vec<String>,
    roots: Arc<RootCertStore>,
}

/// A secret that is presented as it is (RFC 6750).
#[derive(Clone)]
pub struct Token {
    text: String,
    digest: Vec<u8>,
}

impl AdminPlan {
    /// What cannot change while the process runs.
    #[must_use]
    pub fn place(&self) -> (&[Address], Option<u32>) {
        (&self.bind, self.mode)
    }
}

impl Default for AdminPlan {
    fn default() -> Self {
        Self {
            bind: vec![Address::Inet(SocketAddr::from((Ipv4Addr::LOCALHOST, 9900)))],
            mode: None,
            tls: None,
            read: Protection::default(),
            write: Protection::default(),
        }
    }
}

impl Protection {
    /// Whether anything has to be shown.
    #[must_use]
    pub fn is_set(&self) -> bool {
        !self.tokens.is_empty() || self.clients.is_some()
    }
}

impl Token {
    /// The secret itself.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether `presented` is the secret. Takes the same time whatever it is.
    #[must_use]
    pub fn is(&self, presented: &str) -> bool {
        verify_slices_are_equal(&self.digest, digest(&SHA256, presented.as_bytes()).as_ref()).is_ok()
    }

    fn new(text: &str) -> Result<Self, Fault> {
        let text = text.trim_end_matches(['\r', '\n']);
        let fits = |c: char| c.is_ascii_alphanumeric() || "-._~+/=".contains(c);
        if text.len() < SHORTEST || !text.chars().all(fits) {
            let fault = format!("a token has at least {SHORTEST} letters, digits, and `-._~+/=`");
            return Err(Fault::new(fault).hint("make one with `openssl rand -hex 32`"));
        }
        let digest = digest(&SHA256, text.as_bytes()).as_ref().to_vec();
        Ok(Self { text: text.to_owned(), digest })
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

impl FromValue for Token {
    fn from_value(value: &Value) -> Result<Self, Fault> {
        Self::new(value.text("a token")?)
    }
}

/// Reads `[admin]`.
pub(super) fn admin<'a>(options: Options<'a>, binds: &mut Binds<'a>, cx: &Cx<'_>) -> Option<AdminPlan> {
    let enabled = options.get_or("enabled", true);
    let bound = bind(&options, cx);
    let mode = options.get::<Mode>("mode").map(|mode| mode.0);
    if mode.is_some() && bound.iter().all(|(address, _)| address.inet().is_some()) {
        options.problem("mode", "there is no Unix socket to give it to", None);
    }
    let (read_options, write_options) = (options.section("read"), options.section("write"));
    let encrypted = options.given("certificates");
    let read = protection(&read_options, encrypted.is_some(), cx);
    let write = protection(&write_options, encrypted.is_some(), cx);
    read_options.finish();
    write_options.finish();
    let roots = [&read, &write].into_iter().filter_map(|it| Some(&*it.clients.as_ref()?.roots));
    let tls = encrypted.and_then(|given| tls::admin(&given, roots, cx));
    options.finish();
    if !enabled {
        return None;
    }
    for (address, given) in &bound {
        binds.take(address, given.as_ref(), cx.sink);
        if let (Some(given), false, false) = (given, address.is_local(), read.is_set()) {
            let fault = format!("others can reach {address}, and nothing is asked of them");
            let hint =
                "add `read = { token = \"${FOREBAY_ADMIN_TOKEN}\" }`, or bind to 127.0.0.1 or `unix:/path`";
            given.fault(fault, Some(hint.to_owned()));
        }
    }
    let bind = bound.into_iter().map(|(address, _)| address).collect();
    Some(AdminPlan { bind, mode, tls, read, write })
}

/// The addresses, each with where it is written.
fn bind<'a>(options: &Options<'a>, cx: &Cx<'_>) -> Vec<(Address, Option<Given<'a>>)> {
    let Some(given) = options.given("bind") else {
        return AdminPlan::default().bind.into_iter().map(|address| (address, None)).collect();
    };
    let items = given.items();
    if items.is_empty() {
        given.fault("the admin listener needs an address", Some("`enabled = false` turns it off".to_owned()));
    }
    items.into_iter().filter_map(|item| Some((cx.address(&item)?, Some(item)))).collect()
}

fn protection(options: &Options<'_>, encrypted: bool, cx: &Cx<'_>) -> Protection {
    let mut tokens: Vec<Token> = options.get("token").into_iter().collect();
    tokens.extend(options.given("token_file").and_then(|given| token_in(&given, cx)));
    let names = options.list::<String>("client_names");
    let ca = options.given("client_ca");
    if names.is_some() && ca.is_none() {
        options.missing("client_ca", "`client_names` needs a `client_ca`", None);
    }
    if let Some(ca) = ca.as_ref().filter(|_| !encrypted) {
        let hint = "add `certificates = [{ cert = \"cert.pem\", key = \"key.pem\" }]` to `[admin]`";
        ca.fault("there are no client certificates without TLS", Some(hint.to_owned()));
    }
    let clients = ca.and_then(|ca| {
        let (roots, verifier) = tls::clients(&ca, cx)?;
        let names = names.unwrap_or_default().iter().map(|name| name.to_ascii_lowercase()).collect();
        Some(Clients { verifier, names, roots })
    });
    Protection { tokens, clients }
}

fn token_in(given: &Given<'_>, cx: &Cx<'_>) -> Option<Token> {
    let (_, bytes) = cx.read(given)?;
    let text = String::from_utf8_lossy(&bytes);
    Token::new(&text).map_err(|fault| given.fault(fault.text, fault.hint)).ok()
}

/// The permissions of a file, in octal.
struct Mode(u32);

impl FromValue for Mode {
    fn from_value(value: &Value) -> Result<Self, Fault> {
        let text = value.text("permissions such as \"0600\"")?;
        match u32::from_str_radix(text, 8) {
            Ok(mode) if mode <= 0o777 && text.len() <= 4 => Ok(Self(mode)),
            _ => Err(Fault::new(format_args!("{text:?} is not the permissions of a file"))
                .hint("write them in octal, as in \"0600\"")),
        }
    }
}

/// Characters that a token has at least: 64 bits in hexadecimal.
const SHORTEST: usize = 16;
