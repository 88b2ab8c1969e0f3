//! A running Forebay as commands see it: where its admin listener is, and what that answers. Does not
//! care whether the configuration has become invalid since the process started: that says nothing
//! about the process.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::{DEFAULT_CONFIG, Failure, variable};
use crate::config::{self, plan::AdminPlan};
use crate::control::client::{Question, send};
use crate::model::{Address, expand, json, percent};

/// Which running Forebay to ask.
#[derive(Debug, Args)]
pub struct Running {
    /// The configuration file that Forebay was started with
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    pub config: PathBuf,
    /// The admin listener to ask, whatever the file says
    #[arg(long, value_name = "ADDRESS", conflicts_with = "config")]
    pub admin: Option<Address>,
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

impl Running {
    /// Where the admin listener is.
    ///
    /// # Errors
    /// When the configuration turns it off.
    pub fn address(&self) -> Result<Address, Failure> {
        match &self.admin {
            Some(address) => Ok(address.clone()),
            None => admin_of(&self.config),
        }
    }

    /// What it answers to `method` and `target`, as JSON.
    ///
    /// # Errors
    /// When it does not answer, refuses, or answers something else.
    pub fn ask(&self, method: &str, target: &str) -> Result<Value, Failure> {
        let (status, body) = self.send(&Question { method, target, json: "" }, PATIENCE)?;
        if status == 200 {
            return Ok(body);
        }
        Err(self.refused(&body))
    }

    /// What it answers, with the status, as JSON, within `timeout`.
    ///
    /// # Errors
    /// When it does not answer, or answers something else.
    pub fn send(&self, question: &Question<'_>, timeout: Duration) -> Result<(u16, Value), Failure> {
        let address = self.address()?;
        let answer = send(&address, question, timeout)?;
        match serde_json::from_str(&answer.body) {
            Ok(body) => Ok((answer.status, body)),
            Err(_) => Err(Failure::Garbled { address, status: answer.status }),
        }
    }

    /// The failure that `body` is the explanation of.
    #[must_use]
    pub fn refused(&self, body: &Value) -> Failure {
        let part = |name: &str| json::text(body, name).unwrap_or_default().to_owned();
        match self.address() {
            Ok(address) => Failure::Refused { address, error: part("error"), hint: part("hint") },
            Err(failure) => failure,
        }
    }

    /// The endpoint that is meant, as `/endpoints` shows it.
    ///
    /// # Errors
    /// When there is none, or several pools have it.
    pub fn find(&self, which: &Which) -> Result<Value, Failure> {
        let listing = self.ask("GET", "/endpoints")?;
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
pub(super) fn path_of(shown: &Value) -> String {
    let (pool, endpoint) = names(shown);
    format!("/endpoints/{}/{}", percent::encode(pool), percent::encode(endpoint))
}

/// Where the file says that the admin listener is. A file that no longer makes sense is searched
/// for its `admin.bind` only.
pub(super) fn admin_of(file: &Path) -> Result<Address, Failure> {
    match config::load(file, &variable) {
        Ok(plan) => plan.admin.map(|admin| admin.bind).ok_or(Failure::NoAdmin),
        Err(_) => Ok(fs::read_to_string(file).ok().and_then(|text| bind_in(&text)).unwrap_or_else(usual)),
    }
}

fn bind_in(text: &str) -> Option<Address> {
    let table: toml::Table = text.parse().ok()?;
    let written = table.get("admin")?.get("bind")?.as_str()?;
    let expanded = expand::expand(written, &variable).ok()?;
    expanded.as_deref().unwrap_or(written).parse().ok()
}

/// Where the admin listener is unless a file says otherwise.
fn usual() -> Address {
    AdminPlan::default().bind
}

/// How long a question may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How many endpoints are named to those who name none of them.
const MOST_NAMED: usize = 20;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_broken_file_still_names_its_admin_listener() {
        let broken = "wrokers = 1\n[admin]\nbind = \"127.0.0.1:1\"\n";
        assert_eq!(bind_in(broken), Some("127.0.0.1:1".parse().unwrap()));
        assert_eq!(bind_in("[admin\n"), None);
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
