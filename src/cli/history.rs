//! `config`: the configurations that were in force, what they changed, and the way back to one of them.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::Value;

use super::plan::painted;
use super::reload::tell_applied;
use super::running::Running;
use super::{Failure, show};
use crate::model::json;

/// `forebay config`.
#[derive(Debug, Args)]
pub struct Config {
    /// What to do
    #[command(subcommand)]
    pub what: What,
}

/// What to do with configurations.
#[derive(Debug, Subcommand)]
pub enum What {
    /// List those that were in force
    History(Plain),
    /// Show what one of them changed of another
    Diff(Diff),
    /// Have one of them in force again
    Rollback(Rollback),
}

/// Of which running Forebay, and how it is printed.
#[derive(Debug, Args)]
pub struct Plain {
    /// Of which running Forebay.
    #[command(flatten)]
    pub running: Running,
    /// Print it as JSON
    #[arg(long)]
    pub json: bool,
}

/// `forebay config diff`.
#[derive(Debug, Args)]
pub struct Diff {
    /// The one before [default: the one before the other]
    #[arg(value_name = "A")]
    pub from: Option<u64>,
    /// The one after [default: the one in force]
    #[arg(value_name = "B")]
    pub to: Option<u64>,
    /// How.
    #[command(flatten)]
    pub plain: Plain,
}

/// `forebay config rollback`.
#[derive(Debug, Args)]
pub struct Rollback {
    /// Which one [default: the one before the one in force]
    #[arg(value_name = "N")]
    pub to: Option<u64>,
    /// How.
    #[command(flatten)]
    pub plain: Plain,
}

/// Does it and prints what there is to see.
///
/// # Errors
/// When nobody answers, there is no such configuration, or orders are not taken.
pub fn config(args: &Config) -> Result<ExitCode, Failure> {
    match &args.what {
        What::History(plain) => {
            show(plain.json, &plain.running.admin()?.ask("GET", "/v1/config/history")?, table)
        }
        What::Diff(Diff { from, to, plain }) => {
            let pairs = [("from", from), ("to", to)];
            let query: Vec<_> =
                pairs.iter().filter_map(|(name, n)| n.map(|n| format!("{name}={n}"))).collect();
            let target = format!("/v1/config/diff?{}", query.join("&"));
            show(plain.json, &plain.running.admin()?.ask("GET", &target)?, |told| painted(told).to_owned())
        }
        What::Rollback(Rollback { to, plain }) => {
            let query = to.map(|to| format!("?to={to}")).unwrap_or_default();
            let admin = plain.running.admin()?;
            let told = admin.have_read(&format!("/v1/config/rollback{query}"), "")?;
            tell_applied(&told, &admin, plain.json)
        }
    }
}

/// A line for each, the newest first, with the first of its changes: neither what that consists of nor
/// what was warned of counts.
fn table(told: &Value) -> String {
    let now: Option<u64> = json::number(told, "in_force");
    let mut text = HEAD.to_owned();
    for own in json::list(told, "generations").iter().rev() {
        let number: u64 = json::number(own, "generation").unwrap_or_default();
        let mark = if now == Some(number) { "*" } else { " " };
        let field = |name: &str| json::text(own, name).unwrap_or("-");
        let hash = field("hash").get(..8).unwrap_or_default();
        let lines = json::list(own, "changes").iter().filter_map(Value::as_str);
        let changes: Vec<_> = lines.filter(|line| !line.starts_with([' ', '!'])).collect();
        let first = changes.first().copied().unwrap_or_default();
        let more = match changes.len() {
            0 | 1 => String::new(),
            n => format!(" and {} more", n - 1),
        };
        let taken =
            json::text(own, "taken_back").map(|why| format!("; taken back: {why}")).unwrap_or_default();
        let (at, cause) = (field("at"), field("cause"));
        let line = format!("{mark} {number:>6}  {at}  {hash}  {cause:<13}  {first}{more}{taken}");
        // Writing to a string does not fail.
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

/// What `config --help` ends with.
pub(super) const HELP: &str = "\
Examples:
  forebay config history                the last 20, the one in force with a `*`
  forebay config diff                   what the last change was
  forebay config diff 3 7
  forebay config rollback               to the one before
  forebay config rollback 3

A rollback makes a new generation. The file that Forebay was started with is not changed: unless it
says the same, it comes back at the next reload. With `state_dir` the history outlives the process.";

const HEAD: &str = "  NUMBER  SINCE                     HASH      CAUSE          CHANGES\n";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_newest_comes_first_and_the_one_in_force_is_marked() {
        let own = |number: u64, changes: &[&str], taken_back: Option<&str>| {
            json!({
                "generation": number, "hash": "0123456789abcdef", "at": "2026-01-01T00:00:00Z",
                "cause": "file", "changes": changes, "taken_back": taken_back,
            })
        };
        let generations = [
            own(1, &[], None),
            own(2, &["~ pool a", "    + a:1", "+ pool b", "! pool.a: x"], Some("5% failed")),
        ];
        let told = json!({ "in_force": 1, "generations": generations });
        assert_eq!(
            table(&told),
            "  NUMBER  SINCE                     HASH      CAUSE          CHANGES\n       2  2026-01-01T00:00:00Z  01234567  file           ~ pool a and 1 more; taken back: 5% failed\n\
             *      1  2026-01-01T00:00:00Z  01234567  file\n"
        );
    }
}
