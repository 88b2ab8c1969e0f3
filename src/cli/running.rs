//! A running Forebay as commands see it: where its admin listener is, and what that answers. Does not
//! care whether the configuration has become invalid since the process started: that says nothing
//! about the process.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::Value;

use super::{DEFAULT_CONFIG, Failure, variable};
use crate::config::{self, plan::AdminPlan};
use crate::control::client::tls::believing;
use crate::control::client::{Answer, Destination, Question, follow, send};
use crate::model::{Address, json, percent};

/// Which running Forebay to ask.
#[derive(Debug, Args)]
pub struct Running {
    /// The configuration file that Forebay was started with
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT_CONFIG, conflicts_with = "admin")]
    pub config: PathBuf,
    /// Where it is otherwise.
    #[command(flatten)]
    pub access: Access,
}

/// How to ask a running Forebay, where that is not to be as its configuration file has it.
#[derive(Debug, Args)]
pub struct Access {
    /// The admin listener to ask [default: the one that the file names]
    #[arg(long, value_name = "ADDRESS")]
    pub admin: Option<Address>,
    /// A file with the token to show there [default: FOREBAY_ADMIN_TOKEN, or the configured one]
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Use TLS, and believe who shows a certificate in this file, or one signed by it [default: as configured]
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
}

/// An endpoint as it is named on the command line.
#[derive(Debug, Args)]
pub struct Which {
    /// The endpoint: `ADDRESS`, or `POOL/ADDRESS` when several pools have it
    #[arg(value_name = "ENDPOINT")]
    pub endpoint: String,
    /// Its pool
    #[arg(long, value_name = "POOL")]
    pub pool: Option<String>,
}

/// The admin listener of a running Forebay. Finding it takes files to be read, so it is found once for all
/// that is asked.
#[derive(Debug)]
pub struct Admin(pub Destination);

impl Running {
    /// Finds the admin listener.
    ///
    /// # Errors
    /// When the configuration turns it off, or a file cannot be read.
    pub fn admin(&self) -> Result<Admin, Failure> {
        self.access.admin(&self.config)
    }
}

impl Access {
    /// Finds the admin listener of what was started with the configuration `file`.
    ///
    /// # Errors
    /// As [`Running::admin`].
    pub fn admin(&self, file: &Path) -> Result<Admin, Failure> {
        let mut to = match &self.admin {
            Some(address) => address.clone().into(),
            None => admin_of(file)?,
        };
        let given = variable(TOKEN).filter(|token| !token.is_empty());
        if let Some(file) = &self.token_file {
            to.token = Some(read(file)?.trim().to_owned());
        } else if given.is_some() {
            to.token = given;
        }
        if let Some(file) = &self.ca {
            let text = read(file)?;
            let certificates = CertificateDer::pem_slice_iter(text.as_bytes());
            to.tls = Some(believing(certificates.filter_map(Result::ok).collect()));
        }
        Ok(Admin(to))
    }
}

impl Admin {
    /// What it answers to `method` and `target`, as JSON.
    ///
    /// # Errors
    /// When it does not answer, refuses, or answers something else.
    pub fn ask(&self, method: &str, target: &str) -> Result<Value, Failure> {
        self.order(&Question { method, target, json: "" })
    }

    /// As [`Self::ask`], of what has a body.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub fn order(&self, question: &Question<'_>) -> Result<Value, Failure> {
        let answer = self.send(question, PATIENCE)?;
        let body = self.parsed(&answer)?;
        if answer.status == 200 { Ok(body) } else { Err(self.refused(&body)) }
    }

    /// What becomes of a configuration, as JSON, whatever it is: `target` has one read.
    ///
    /// # Errors
    /// When it does not answer, or answers something else.
    pub fn have_read(&self, target: &str, json: &str) -> Result<Value, Failure> {
        let answer = self.send(&Question { method: "POST", target, json }, READING)?;
        self.parsed(&answer)
    }

    /// The page at `target` as it is.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn page(&self, target: &str) -> Result<String, Failure> {
        Ok(self.send(&Question { method: "GET", target, json: "" }, PATIENCE)?.body)
    }

    /// The page at `target`, which is text.
    ///
    /// # Errors
    /// When it does not answer, or refuses.
    pub fn read(&self, target: &str) -> Result<String, Failure> {
        let answer = self.send(&Question { method: "GET", target, json: "" }, PATIENCE)?;
        if answer.status == 200 { Ok(answer.body) } else { Err(self.refused(&self.parsed(&answer)?)) }
    }

    /// The failure that `body` is the explanation of.
    #[must_use]
    pub fn refused(&self, body: &Value) -> Failure {
        let part = |name: &str| json::text(body, name).unwrap_or_default().to_owned();
        Failure::Refused { address: self.0.address.clone(), error: part("error"), hint: part("hint") }
    }

    /// Has `tell` hear every line of the page at `target`, which goes on, until it says that it is enough or
    /// the page ends.
    ///
    /// # Errors
    /// When it does not answer, refuses, or falls silent.
    pub fn follow(&self, target: &str, tell: impl FnMut(&str) -> bool) -> Result<(), Failure> {
        let answer = follow(&self.0, target, QUIET, tell)?;
        if answer.status == 200 { Ok(()) } else { Err(self.refused(&self.parsed(&answer)?)) }
    }

    fn send(&self, question: &Question<'_>, timeout: Duration) -> Result<Answer, Failure> {
        Ok(send(&self.0, question, timeout)?)
    }

    fn parsed(&self, answer: &Answer) -> Result<Value, Failure> {
        let garbled = |_| Failure::Garbled { address: self.0.address.clone(), status: answer.status };
        serde_json::from_str(&answer.body).map_err(garbled)
    }

    /// The endpoint that is meant, as `/v1/endpoints` shows it.
    ///
    /// # Errors
    /// When there is none, or several pools have it.
    pub fn find(&self, which: &Which) -> Result<Value, Failure> {
        let listing = self.ask("GET", "/v1/endpoints")?;
        let endpoints = json::list(&listing, "endpoints");
        which.among(endpoints).cloned()
    }
}

impl Which {
    fn among<'a>(&self, endpoints: &'a [Value]) -> Result<&'a Value, Failure> {
        let fits = |shown: &&Value| {
            let (pool, endpoint) = names(shown);
            let own = self.pool.as_deref().is_none_or(|wanted| wanted == pool);
            let named = self.endpoint == endpoint
                || self.endpoint.strip_prefix(pool).and_then(|rest| rest.strip_prefix('/')) == Some(endpoint);
            own && named
        };
        let mut fitting = endpoints.iter().filter(fits);
        match (fitting.next(), fitting.next()) {
            (Some(one), None) => Ok(one),
            (Some(_), Some(_)) => {
                let pools = endpoints.iter().filter(fits).map(|shown| names(shown).0);
                Err(Failure::Ambiguous {
                    endpoint: self.endpoint.clone(),
                    pools: pools.collect::<Vec<_>>().join(", "),
                })
            }
            (None, _) => {
                let known = endpoints.iter().take(MOST_NAMED).map(full_name);
                Err(Failure::NoEndpoint {
                    endpoint: self.pool.iter().chain([&self.endpoint]).cloned().collect::<Vec<_>>().join("/"),
                    known: known.collect::<Vec<_>>().join(", "),
                })
            }
        }
    }
}

/// An endpoint's pool and address, as the admin listener shows them.
pub(super) fn names(shown: &Value) -> (&str, &str) {
    (json::text(shown, "pool").unwrap_or_default(), json::text(shown, "endpoint").unwrap_or_default())
}

/// `pool/address`.
pub(super) fn full_name(shown: &Value) -> String {
    let (pool, endpoint) = names(shown);
    format!("{pool}/{endpoint}")
}

/// The path of an endpoint's page.
pub(super) fn path_of((pool, endpoint): (&str, &str)) -> String {
    format!("/v1/endpoints/{}/{}", percent::encode(pool), percent::encode(endpoint))
}

/// Where the file says that the admin listener is, and what it wants to be shown.
fn admin_of(file: &Path) -> Result<Destination, Failure> {
    config::read_admin(file, &variable).as_ref().map(nearest).ok_or(Failure::NoAdmin)
}

/// The address of several that asks for least: a Unix socket, then loopback, then any.
fn nearest(plan: &AdminPlan) -> Destination {
    let far = |address: &&Address| (address.inet().is_some(), !address.is_local());
    let address = plan.bind.iter().min_by_key(far).cloned();
    let address = address.unwrap_or_else(|| Address::Inet(([127, 0, 0, 1], 9900).into()));
    // Who may write may read.
    let token = plan.write.tokens.first().or_else(|| plan.read.tokens.first());
    let token = token.filter(|_| address.inet().is_some()).map(|token| token.text().to_owned());
    let tls = plan.tls.as_ref().map(|tls| believing(tls.shown.clone()));
    Destination { address, token, tls }
}

fn read(file: &Path) -> Result<String, Failure> {
    fs::read_to_string(file).map_err(|source| Failure::File { file: file.display().to_string(), source })
}

/// The environment variable with the secret to show.
const TOKEN: &str = "FOREBAY_ADMIN_TOKEN";

/// How long a question may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a page that goes on may say nothing.
const QUIET: Duration = Duration::from_secs(45);

/// How long one may take that has a configuration read, names to be resolved included.
const READING: Duration = Duration::from_secs(30);

/// How many endpoints are named to those who name none of them.
const MOST_NAMED: usize = 20;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_unix_socket_is_asked_before_an_address() {
        let plan = |binds: &[&str]| AdminPlan {
            bind: binds.iter().map(|bind| bind.parse().unwrap()).collect(),
            ..AdminPlan::default()
        };
        for (binds, asked) in [
            (&["0.0.0.0:1", "127.0.0.1:1", "unix:/s"][..], "unix:/s"),
            (&["0.0.0.0:1", "127.0.0.1:1"], "127.0.0.1:1"),
            (&["0.0.0.0:1"], "0.0.0.0:1"),
        ] {
            assert_eq!(nearest(&plan(binds)).address.to_string(), asked);
        }
    }

    #[test]
    fn an_endpoint_is_named_by_its_address_where_that_is_enough() {
        let endpoints = [("app", "127.0.0.1:1"), ("api", "127.0.0.1:1"), ("api", "unix:/s")]
            .map(|(pool, endpoint)| json!({ "pool": pool, "endpoint": endpoint }));
        let found = |endpoint: &str, pool: Option<&str>| {
            let which = Which { endpoint: endpoint.to_owned(), pool: pool.map(str::to_owned) };
            which.among(&endpoints).map(full_name).map_err(|failure| failure.report())
        };
        assert_eq!(found("unix:/s", None).unwrap(), "api/unix:/s");
        assert_eq!(found("api/unix:/s", None).unwrap(), "api/unix:/s");
        assert_eq!(found("api/127.0.0.1:1", None).unwrap(), "api/127.0.0.1:1");
        assert_eq!(found("127.0.0.1:1", Some("app")).unwrap(), "app/127.0.0.1:1");
        let error = found("127.0.0.1:1", None).unwrap_err();
        assert!(error.contains("app, api") && error.contains("--pool"), "{error}");
        let error = found("127.0.0.1:2", Some("app")).unwrap_err();
        assert!(error.contains("app/127.0.0.1:2") && error.contains("app/127.0.0.1:1"), "{error}");
    }
}
