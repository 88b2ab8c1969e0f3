//! `connections`: a table of clients' connections of a running Forebay.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::running::Running;
use super::table::{age, table};
use super::{Failure, show};
use crate::model::json;

/// `forebay connections`.
#[derive(Debug, Args)]
pub struct Connections {
    /// How many to list
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub limit: usize,
    /// Print what the admin listener answers, as JSON
    #[arg(long)]
    pub json: bool,
    /// Of which running Forebay.
    #[command(flatten)]
    pub running: Running,
}

/// Prints a table of connections that are open.
///
/// # Errors
/// When nobody answers.
pub fn list(args: &Connections) -> Result<ExitCode, Failure> {
    let target = format!("/v1/connections?limit={}", args.limit);
    show(args.json, &args.running.admin()?.ask("GET", &target)?, page)
}

fn page(listing: &Value) -> String {
    let shown = json::list(listing, "connections");
    let rows: Vec<_> = std::iter::once(HEAD.map(str::to_owned)).chain(shown.iter().map(row)).collect();
    let mut text = table(&rows);
    let count = |name: &str| json::number::<usize>(listing, name).unwrap_or_default();
    let (more, silent) = (count("open").saturating_sub(shown.len()), count("silent_workers"));
    // Writing to a string does not fail.
    if more > 0 {
        let _ = writeln!(text, "and {more} more: `--limit` lists more of them");
    }
    if silent > 0 {
        let _ = writeln!(text, "workers that did not answer in time, with connections of theirs: {silent}");
    }
    text
}

fn row(shown: &Value) -> [String; 7] {
    let text = |name: &str| json::text(shown, name).unwrap_or("-").to_owned();
    let seconds = |value: &Value| {
        let seconds = value.get("age_seconds").and_then(Value::as_f64).unwrap_or_default();
        // Times are not below zero, and what is too long saturates.
        age(seconds as u64)
    };
    let doing = shown.get("latest").filter(|latest| latest.is_object()).map(|latest| {
        let word = |name: &str| json::text(latest, name).unwrap_or("-");
        let tunnel = latest.get("tunnel").and_then(Value::as_bool) == Some(true);
        let what = if tunnel { "tunnel" } else { "request" };
        format!("{what} for {}: {} to {}/{}", seconds(latest), word("route"), word("pool"), word("endpoint"))
    });
    let passed = shown.get("passed_on").filter(|passed| passed.is_object()).map(|passed| {
        let word = |name: &str| json::text(passed, name).unwrap_or("-");
        let count = |name: &str| json::number::<u64>(passed, name).unwrap_or_default();
        let (received, sent) = (count("received_bytes"), count("sent_bytes"));
        format!("to {}/{}: {received} B in, {sent} B out", word("pool"), word("endpoint"))
    });
    let doing = doing.or(passed);
    let ending = shown.get("ending").and_then(Value::as_bool) == Some(true);
    let doing = doing.unwrap_or_else(|| "idle".to_owned());
    [
        text("listener"),
        text("peer"),
        text("protocol"),
        text("tls_version"),
        seconds(shown),
        json::number::<u64>(shown, "requests").unwrap_or_default().to_string(),
        if ending { format!("{doing}, then it ends") } else { doing },
    ]
}

const HEAD: [&str; 7] = ["LISTENER", "CLIENT", "PROTOCOL", "TLS", "AGE", "REQUESTS", "DOING"];

/// What `connections --help` ends with.
pub(super) const HELP: &str = "\
Examples:
  forebay connections
  forebay connections --limit 10000 --json | jq '.connections[] | select(.latest.tunnel)'";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_connection_is_a_line() {
        let latest =
            json!({ "age_seconds": 2.5, "route": "all", "pool": "app", "endpoint": "a:1", "tunnel": true });
        let connection = json!({
            "listener": "web", "peer": "127.0.0.1:5", "protocol": "http/1", "tls_version": null,
            "age_seconds": 61.0, "requests": 3, "ending": true, "latest": latest,
        });
        let page = page(&json!({ "open": 3, "silent_workers": 1, "connections": [connection] }));
        for part in [
            "web       127.0.0.1:5  http/1    -    1m01s  3         tunnel for 2s: all to app/a:1, then it ends\n",
            "and 2 more",
            "theirs: 1\n",
        ] {
            assert!(page.contains(part), "{part:?} in {page}");
        }
    }
}
