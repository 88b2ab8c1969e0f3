//! `endpoint add`, `endpoint remove` and `endpoint weight`: changes of which endpoints a pool of a running
//! Forebay has.

use std::process::ExitCode;

use clap::Args;
use serde_json::{Map, Value};

use super::running::Running;
use super::{Failure, print};
use crate::control::client::Question;
use crate::model::{json, percent};

/// An endpoint to be, or not to be.
#[derive(Debug, Args)]
pub struct Place {
    /// The pool
    #[arg(value_name = "POOL")]
    pub pool: String,
    /// The endpoint: `IP:PORT` or `unix:/PATH`
    #[arg(value_name = "ADDRESS")]
    pub address: String,
    /// Of which running Forebay.
    #[command(flatten)]
    pub running: Running,
}

/// An endpoint that is to be there.
#[derive(Debug, Args)]
pub struct Add {
    /// Which one.
    #[command(flatten)]
    pub place: Place,
    /// Its share of traffic relative to the others', 1 to 1000 [default: 1]
    #[arg(long, value_name = "N")]
    pub weight: Option<u32>,
    /// Its level: 0 first, to 100 [default: 0]
    #[arg(long, value_name = "N")]
    pub priority: Option<u32>,
    /// The zone it is in
    #[arg(long, value_name = "NAME")]
    pub zone: Option<String>,
}

/// An endpoint that is to have another share.
#[derive(Debug, Args)]
pub struct Weight {
    /// Which one.
    #[command(flatten)]
    pub place: Place,
    /// Its share of traffic relative to the others', 1 to 1000
    #[arg(value_name = "N")]
    pub weight: u32,
}

/// Adds an endpoint, or puts one back.
///
/// # Errors
/// When nobody answers, or the change is refused.
pub fn add(args: &Add) -> Result<ExitCode, Failure> {
    let given = [
        ("address", Some(args.place.address.clone().into())),
        ("weight", args.weight.map(Value::from)),
        ("priority", args.priority.map(Value::from)),
        ("zone", args.zone.clone().map(Value::from)),
    ];
    let target = format!("/v1/pools/{}/endpoints", percent::encode(&args.place.pool));
    args.place.change("POST", &target, given)
}

/// Changes an endpoint's weight.
///
/// # Errors
/// As [`add`].
pub fn weigh(args: &Weight) -> Result<ExitCode, Failure> {
    args.place.change("PATCH", &args.place.path(), [("weight", Some(args.weight.into()))])
}

/// Takes an endpoint out.
///
/// # Errors
/// As [`add`].
pub fn remove(place: &Place) -> Result<ExitCode, Failure> {
    place.change("DELETE", &place.path(), [])
}

impl Place {
    fn path(&self) -> String {
        format!("/v1/pools/{}/endpoints/{}", percent::encode(&self.pool), percent::encode(&self.address))
    }

    /// Asks for a change and prints what came of it.
    fn change<const N: usize>(
        &self,
        method: &str,
        target: &str,
        given: [(&str, Option<Value>); N],
    ) -> Result<ExitCode, Failure> {
        let given = given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        let json = Value::Object(given.collect::<Map<_, _>>()).to_string();
        let json = if N == 0 { "" } else { &json };
        let shown = self.running.admin()?.order(&Question { method, target, json })?;
        let endpoints = json::number::<u64>(&shown, "endpoints").unwrap_or_default();
        let own = shown.get("in_use").filter(|own| !own.is_null());
        let words = match own.and_then(|own| json::number::<u64>(own, "weight")) {
            Some(weight) => format!("has weight {weight}"),
            None => "is out".to_owned(),
        };
        let Self { pool, address, .. } = self;
        let plural = if endpoints == 1 { "" } else { "s" };
        print(&format!("{pool}/{address} {words}; {pool} has {endpoints} endpoint{plural}\n"))
    }
}
