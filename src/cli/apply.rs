//! `apply`: puts a configuration file in force, on trial if so wanted, and says what came of it.

use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::plan::Sent;
use super::reload::tell_applied;
use super::running::Admin;
use super::{Failure, complain, print};
use crate::model::{json, units};

/// `forebay apply`.
#[derive(Debug, Args)]
pub struct Apply {
    /// Which file, and which running Forebay.
    #[command(flatten)]
    pub sent: Sent,
    /// Only if this generation is in force
    #[arg(long, value_name = "N")]
    pub if_generation: Option<u64>,
    /// Go back by itself when many more requests fail than before, within this time
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    pub auto_rollback: Option<Duration>,
    /// Do not wait for the end of that time
    #[arg(long, requires = "auto_rollback")]
    pub no_wait: bool,
    /// Print what came of it as JSON
    #[arg(long)]
    pub json: bool,
}

/// Puts the file in force and prints what came of it; 1 when it is not in force in the end.
///
/// # Errors
/// When the file cannot be read, nobody answers, or orders are not taken.
pub fn apply(args: &Apply) -> Result<ExitCode, Failure> {
    let (admin, mut body) = (args.sent.admin()?, args.sent.body()?);
    if let Value::Object(fields) = &mut body {
        fields.insert("if_generation".to_owned(), json!(args.if_generation));
        fields.insert("auto_rollback".to_owned(), json!(args.auto_rollback.map(units::show)));
    }
    let told = admin.have_read("/v1/apply", &body.to_string())?;
    let code = tell_applied(&told, &admin, args.json)?;
    if json::text(&told, "result") != Some("replaced") {
        return Ok(code);
    }
    match (args.auto_rollback, args.no_wait, json::number(&told, "generation")) {
        (Some(lasts), false, Some(generation)) => wait(&admin, generation, lasts, args.json),
        _ => Ok(code),
    }
}

/// Waits until the configuration is kept or taken back.
fn wait(admin: &Admin, generation: u64, lasts: Duration, as_json: bool) -> Result<ExitCode, Failure> {
    let looks = (lasts + GRACE).as_millis() / INTERVAL.as_millis();
    for _ in 0..looks {
        let status = admin.ask("GET", "/v1/config/status")?;
        let trial = status.get("trial").filter(|trial| json::number(trial, "generation") == Some(generation));
        let Some(trial) = trial else { break };
        let reason = json::text(trial, "reason").unwrap_or_default();
        let words = match json::text(trial, "state") {
            Some("running") => {
                thread::sleep(INTERVAL);
                continue;
            }
            Some("kept") => format!("generation {generation} is kept\n"),
            Some("taken_back") => format!("error: generation {generation} was taken back: {reason}\n"),
            Some("superseded") => format!("error: another configuration took the place of {generation}\n"),
            _ => format!("error: generation {generation} was to be taken back and could not be: {reason}\n"),
        };
        if as_json {
            print(&format!("{trial}\n"))?;
        }
        if words.starts_with("error") {
            complain(&words);
            return Ok(ExitCode::FAILURE);
        }
        return if as_json { Ok(ExitCode::SUCCESS) } else { print(&words) };
    }
    complain("error: the end of the trial was not told\n");
    Ok(ExitCode::FAILURE)
}

/// What `apply --help` ends with.
pub(super) const HELP: &str = "\
Examples:
  forebay plan -c next.toml && forebay apply -c next.toml --if-generation 7 --auto-rollback 60s

The file that the running Forebay was started with is not changed: unless it says the same, it
comes back at the next reload. `--auto-rollback` takes the configuration back when, of at least 20
requests, 5 or more fail with 5xx, and these are at least 1% and more than twice the share of the
minute before.
Exit codes: 0 it is in force, and was kept, 1 it has problems, cannot run or was taken back.";

/// How often it is asked whether the trial is over.
const INTERVAL: Duration = Duration::from_millis(250);
/// How much longer than it lasts the end of a trial is waited for.
const GRACE: Duration = Duration::from_secs(15);
