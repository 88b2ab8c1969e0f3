//! `status`: what a running Forebay is doing, on one page.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::running::Running;
use super::table::{age, of_limit, table};
use super::{Failure, pools, show};
use crate::model::json;

/// `forebay status`.
#[derive(Debug, Args)]
pub struct Status {
    /// Print what the admin listener answers, as JSON
    #[arg(long)]
    pub json: bool,
    /// Of which running Forebay.
    #[command(flatten)]
    pub running: Running,
}

/// Prints the state of the process, its listeners, its pools, and what someone should look at.
///
/// # Errors
/// When nobody answers.
pub fn status(args: &Status) -> Result<ExitCode, Failure> {
    show(args.json, &args.running.admin()?.ask("GET", "/v1/status")?, page)
}

/// The page in words.
fn page(status: &Value) -> String {
    let mut text = heading(status);
    let count = |name: &str| json::number::<u64>(status, name);
    let connections = of_limit(count("connections").unwrap_or_default(), count("max_connections"));
    // Writing to a string does not fail.
    let _ = writeln!(text, "connections: {connections}, workers: {}", count("workers").unwrap_or_default());
    let head = ["LISTENER", "PROTOCOL", "CONNECTIONS", "ADDRESSES"].map(str::to_owned);
    let listeners: Vec<_> =
        std::iter::once(head).chain(json::list(status, "listeners").iter().map(listener)).collect();
    text.push('\n');
    text.push_str(&table(&listeners));
    text.push('\n');
    text.push_str(&pools::rows(json::list(status, "pools")));
    let warnings = json::list(status, "warnings").iter().filter_map(Value::as_str);
    for (index, warning) in warnings.enumerate() {
        let _ = writeln!(text, "{}warning: {warning}", if index == 0 { "\n" } else { "" });
    }
    text
}

/// What runs, and which configuration.
fn heading(status: &Value) -> String {
    let text = |name: &str| json::text(status, name).unwrap_or("-");
    let count = |name: &str| json::number::<u64>(status, name).unwrap_or_default();
    let hash: String = text("config_hash").chars().take(SHORT).collect();
    let (up, generation) = (age(count("up_seconds")), count("generation"));
    let mut heading = format!(
        "{} {} is {}, for {up}, as process {}\nconfiguration: generation {generation}, hash {hash}\n",
        text("name"),
        text("version"),
        text("phase"),
        count("pid"),
    );
    let last = status.get("reload").and_then(|reload| reload.get("last_reload"));
    if let Some(last) = last.filter(|last| last.is_object()) {
        let good = last.get("ok").and_then(Value::as_bool) == Some(true);
        let (word, at) = (if good { "succeeded" } else { "failed" }, json::text(last, "at").unwrap_or("-"));
        // Writing to a string does not fail.
        let _ = writeln!(heading, "last reload: {word}, at {at}");
    }
    heading
}

fn listener(shown: &Value) -> [String; 4] {
    let text = |name: &str| json::text(shown, name).unwrap_or("-").to_owned();
    let count = |name: &str| json::number::<u64>(shown, name);
    let addresses = json::list(shown, "addresses").iter().filter_map(Value::as_str);
    [
        text("listener"),
        text("protocol"),
        of_limit(count("connections").unwrap_or_default(), count("max_connections")),
        addresses.collect::<Vec<_>>().join(" "),
    ]
}

/// Digits of a hash that tell enough.
const SHORT: usize = 12;

/// What `status --help` ends with.
pub(super) const HELP: &str = "\
Examples:
  forebay status
  forebay status --json | jq -r '.warnings[]'
  forebay status --admin 10.0.0.7:9900 --ca admin.pem --token-file read.token";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_page_says_what_runs_and_what_is_wrong() {
        let status = json!({
            "name": "forebay", "version": "0.1.0", "pid": 7, "phase": "ready", "up_seconds": 65, "workers": 2,
            "generation": 3, "config_hash": "0123456789abcdef", "connections": 4, "max_connections": 10,
            "listeners": [{ "listener": "web", "protocol": "http", "connections": 4, "max_connections": null,
                "addresses": ["127.0.0.1:80", "[::1]:80"] }],
            "reload": { "last_reload": { "ok": false, "at": "2026-01-01T00:00:00.000Z" } },
            "pools": [], "warnings": ["pool app: its breaker is open"],
        });
        let page = page(&status);
        for part in [
            "forebay 0.1.0 is ready, for 1m05s, as process 7\n",
            "generation 3, hash 0123456789ab\n",
            "last reload: failed, at 2026-01-01T00:00:00.000Z\n",
            "connections: 4/10, workers: 2\n",
            "web       http      4            127.0.0.1:80 [::1]:80\n",
            "\nwarning: pool app: its breaker is open\n",
        ] {
            assert!(page.contains(part), "{part:?} in {page}");
        }
    }
}
