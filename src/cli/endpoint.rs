//! `endpoint` and `endpoints`: orders for endpoints of a running Forebay, and a table of them.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::Value;

use super::change::{self, Add, Place, Weight};
use super::running::{Running, Which, full_name, names, path_of};
use super::table::{brief, of_limit, table};
use super::{Failure, print, show};
use crate::model::{json, units};

/// `forebay endpoint`.
#[derive(Debug, Args)]
pub struct Endpoint {
    /// What to do
    #[command(subcommand)]
    pub order: Order,
}

/// What to do with an endpoint.
#[derive(Debug, Subcommand)]
pub enum Order {
    /// Give it no new requests; those under way may end
    Drain(Lasting),
    /// End a drain
    Undrain(Plain),
    /// Give it no traffic at all, and do not check it
    Disable(Lasting),
    /// End a `disable`
    Enable(Plain),
    /// Add one to a pool, or put back what was removed
    Add(Add),
    /// Give one another share of its pool's traffic
    Weight(Weight),
    /// Take one out of its pool, whatever else names it; requests under way may end
    Remove(Place),
}

/// An order that may end by itself.
#[derive(Debug, Args)]
pub struct Lasting {
    /// After which time it ends by itself, such as `10m` or `1h30m`
    #[arg(long = "for", value_name = "TIME", value_parser = units::duration)]
    pub lasts: Option<Duration>,
    /// For which endpoint.
    #[command(flatten)]
    pub plain: Plain,
}

/// An order and whom it is for.
#[derive(Debug, Args)]
pub struct Plain {
    /// For which endpoint.
    #[command(flatten)]
    pub which: Which,
    /// Of which running Forebay.
    #[command(flatten)]
    pub running: Running,
}

/// `forebay endpoints`.
#[derive(Debug, Args)]
pub struct Endpoints {
    /// Print what the admin listener answers, as JSON
    #[arg(long)]
    pub json: bool,
    /// Of which running Forebay.
    #[command(flatten)]
    pub running: Running,
}

/// Gives the order and prints what came of it.
///
/// # Errors
/// When nobody answers, or there is no such endpoint, or orders are not taken.
pub fn order(args: &Endpoint) -> Result<ExitCode, Failure> {
    let (word, plain, lasts) = match &args.order {
        Order::Drain(Lasting { lasts, plain }) => ("drain", plain, *lasts),
        Order::Undrain(plain) => ("undrain", plain, None),
        Order::Disable(Lasting { lasts, plain }) => ("disable", plain, *lasts),
        Order::Enable(plain) => ("enable", plain, None),
        Order::Add(args) => return change::add(args),
        Order::Weight(args) => return change::weigh(args),
        Order::Remove(place) => return change::remove(place),
    };
    let admin = plain.running.admin()?;
    let shown = admin.find(&plain.which)?;
    let mut target = format!("{}/{word}", path_of(names(&shown)));
    if let Some(lasts) = lasts {
        target.push_str(&format!("?for={}", units::show(lasts)));
    }
    let shown = admin.ask("POST", &target)?;
    let state = json::text(&shown, "state").unwrap_or_default();
    let over = lasts.map(|lasts| format!(", for {}", units::show(lasts))).unwrap_or_default();
    print(&format!("{} is {state}{over}\n", full_name(&shown)))
}

/// Prints a table of all endpoints.
///
/// # Errors
/// When nobody answers.
pub fn list(args: &Endpoints) -> Result<ExitCode, Failure> {
    show(args.json, &args.running.admin()?.ask("GET", "/v1/endpoints")?, |listing| {
        let endpoints = json::list(listing, "endpoints").iter().map(row);
        table(&std::iter::once(HEAD.map(str::to_owned)).chain(endpoints).collect::<Vec<_>>())
    })
}

fn row(shown: &Value) -> [String; 9] {
    let (pool, endpoint) = names(shown);
    let number = |name: &str| json::number::<u64>(shown, name);
    let count = |name: &str| number(name).unwrap_or_default();
    let text = |name: &str| json::text(shown, name).unwrap_or("-").to_owned();
    let last = shown.get("last_event").and_then(|event| json::text(event, "words"));
    let p99 = shown.get("first_byte_seconds").and_then(|times| times.get("p99")).and_then(Value::as_f64);
    [
        pool.to_owned(),
        endpoint.to_owned(),
        text("state"),
        text("since"),
        of_limit(count("in_flight"), number("in_flight_limit")),
        brief(p99),
        count("requests").to_string(),
        (count("failures") + count("server_errors")).to_string(),
        last.unwrap_or("-").to_owned(),
    ]
}

/// What `endpoint --help` ends with.
pub(super) const ORDER_HELP: &str = "\
Examples:
  forebay endpoint drain 127.0.0.1:9001              no new requests until `undrain`
  forebay endpoint drain app/127.0.0.1:9001 --for 10m
  forebay endpoint disable unix:/run/app.sock --pool app
  forebay endpoint enable app/unix:/run/app.sock
  forebay endpoint add app 127.0.0.1:9004 --weight 2
  forebay endpoint weight app 127.0.0.1:9004 5
  forebay endpoint remove app 127.0.0.1:9004

The admin listener takes orders on loopback, over Unix sockets, and with a token of [admin.write].
Orders outlive reloads and upgrades, and no restart. What is added, weighed or removed outlives the
process where the pool says `api = { keep = true }` and there is a `state_dir`.";

/// What `endpoints --help` ends with.
pub(super) const LIST_HELP: &str = "\
Examples:
  forebay endpoints
  forebay endpoints --json | jq '.endpoints[] | select(.in_flight > 0)'
  forebay endpoints --admin unix:/run/forebay/admin.sock

P99 is of the time to the first byte, since the process started.";

const HEAD: [&str; 9] =
    ["POOL", "ENDPOINT", "STATE", "SINCE", "IN FLIGHT", "P99", "REQUESTS", "FAILED", "LAST EVENT"];
