//! `reload`: has a running Forebay read its configuration again, and says what came of it.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::running::{Admin, Running};
use super::{Failure, complain, print};
use crate::model::json;

/// `forebay reload`.
#[derive(Debug, Args)]
pub struct Reload {
    /// Of which running Forebay.
    #[command(flatten)]
    pub running: Running,
    /// Print what came of it as JSON
    #[arg(long)]
    pub json: bool,
}

/// Has the configuration read again and prints what came of it; 1 when it is not in force.
///
/// # Errors
/// When nobody answers, or orders are not taken.
pub fn reload(args: &Reload) -> Result<ExitCode, Failure> {
    let admin = args.running.admin()?;
    tell(&admin.have_read("/v1/reload", "")?, &admin, args.json)
}

/// Prints what became of an attempt to replace the configuration; problems go to standard error.
pub(super) fn tell(told: &Value, admin: &Admin, as_json: bool) -> Result<ExitCode, Failure> {
    let code = match json::text(told, "result") {
        Some("replaced" | "unchanged") => ExitCode::SUCCESS,
        Some("failed") => ExitCode::FAILURE,
        _ => return Err(admin.refused(told)),
    };
    if as_json {
        print(&format!("{told}\n"))?;
        return Ok(code);
    }
    complain(json::text(told, "problems").or(json::text(told, "warnings")).unwrap_or_default());
    if code == ExitCode::FAILURE {
        complain("error: the configuration was not replaced, what ran before goes on\n");
    } else {
        print(&words(told))?;
    }
    Ok(code)
}

/// As [`tell`], of what the configuration's file need not say.
pub(super) fn tell_applied(told: &Value, admin: &Admin, as_json: bool) -> Result<ExitCode, Failure> {
    let code = tell(told, admin, as_json)?;
    if !as_json && json::text(told, "result") == Some("replaced") {
        complain(
            "note: the file that Forebay was started with is as it was: unless it says the same, it comes back at the next reload\n",
        );
    }
    Ok(code)
}

/// What became of it when all is well.
fn words(told: &Value) -> String {
    let generation: u64 = json::number(told, "generation").unwrap_or_default();
    if json::text(told, "result") == Some("unchanged") {
        return format!("nothing has changed: generation {generation} is in force\n");
    }
    let mut text = format!("generation {generation} is in force\n");
    for change in json::list(told, "changes").iter().filter_map(Value::as_str) {
        // Writing to a string does not fail.
        let _ = writeln!(text, "  {change}");
    }
    for note in json::list(told, "needs_restart").iter().filter_map(Value::as_str) {
        let _ = writeln!(text, "{note}");
    }
    text
}

/// What `reload --help` ends with.
pub(super) const HELP: &str = "\
Waits until it is done. All of the new configuration is in force then, or nothing has changed.
Exit codes: 0 what is configured is in force, 1 it has problems or cannot run.";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_changed_is_listed() {
        let told = json!({ "result": "unchanged", "generation": 3 });
        assert_eq!(words(&told), "nothing has changed: generation 3 is in force\n");
        let told = json!({
            "result": "replaced", "generation": 4, "changes": ["pool app changed"], "needs_restart": ["`workers` has changed"],
        });
        let wanted = "generation 4 is in force\n  pool app changed\n`workers` has changed\n";
        assert_eq!(words(&told), wanted);
    }
}
