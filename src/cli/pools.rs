//! `pools`: a table of the pools of a running Forebay.

use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::running::Running;
use super::table::{of_limit, table};
use super::{Failure, show};
use crate::model::json;

/// `forebay pools`.
#[derive(Debug, Args)]
pub struct Pools {
    /// Print what the admin listener answers, as JSON
    #[arg(long)]
    pub json: bool,
    /// Of which running Forebay.
    #[command(flatten)]
    pub running: Running,
}

/// Prints a table of all pools.
///
/// # Errors
/// When nobody answers.
pub fn list(args: &Pools) -> Result<ExitCode, Failure> {
    let listing = args.running.admin()?.ask("GET", "/v1/pools")?;
    show(args.json, &listing, |listing| rows(json::list(listing, "pools")))
}

/// Pools in columns.
pub(super) fn rows(pools: &[Value]) -> String {
    let rows: Vec<_> = std::iter::once(HEAD.map(str::to_owned)).chain(pools.iter().map(row)).collect();
    table(&rows)
}

fn row(pool: &Value) -> [String; 9] {
    let number = |name: &str| json::number::<u64>(pool, name);
    let count = |name: &str| number(name).unwrap_or_default();
    let text = |name: &str| json::text(pool, name).unwrap_or("-").to_owned();
    [
        text("pool"),
        text("policy"),
        of_limit(count("available"), number("total")),
        of_limit(count("in_flight"), number("in_flight_limit")),
        count("waiting").to_string(),
        text("breaker"),
        pool.get("rung").and_then(|rung| json::text(rung, "name")).unwrap_or("-").to_owned(),
        count("requests").to_string(),
        (count("failures") + count("server_errors")).to_string(),
    ]
}

const HEAD: [&str; 9] =
    ["POOL", "POLICY", "HEALTHY", "IN FLIGHT", "WAITING", "BREAKER", "ANSWERS", "REQUESTS", "FAILED"];

/// What `pools --help` ends with.
pub(super) const HELP: &str = "\
Examples:
  forebay pools
  forebay pools --json | jq '.pools[] | {pool, available, total}'

HEALTHY counts the endpoints that get traffic; ANSWERS is `own`, or what stands in for the pool.";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pool_is_a_line() {
        let pool = json!({
            "pool": "app", "policy": "p2c", "available": 1, "total": 2, "in_flight": 3, "in_flight_limit": 9,
            "waiting": 0, "breaker": "open", "rung": { "number": 1, "name": "stale" },
            "requests": 10, "failures": 1, "server_errors": 2,
        });
        let text = rows(&[pool]);
        let line = text.lines().nth(1).unwrap();
        let words: Vec<_> = line.split_whitespace().collect();
        assert_eq!(words, ["app", "p2c", "1/2", "3/9", "0", "open", "stale", "10", "3"]);
    }
}
