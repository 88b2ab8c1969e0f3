//! `log-level`: more or fewer lines in the log of a running Forebay, for a while.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::running::Running;
use super::{Failure, show};
use crate::control::client::Question;
use crate::model::{json as field, units};

/// `forebay log-level`.
#[derive(Debug, Args)]
pub struct LogLevel {
    /// The new level: error, warn, info, debug, trace, off, or targets as in `info,forebay=debug`
    #[arg(value_name = "LEVEL")]
    pub level: Option<String>,
    /// After which time the usual level comes back by itself [default: 10m]
    #[arg(long = "for", value_name = "TIME", value_parser = units::duration, requires = "level")]
    pub lasts: Option<Duration>,
    /// Print what the admin listener answers, as JSON
    #[arg(long)]
    pub json: bool,
    /// Of which running Forebay.
    #[command(flatten)]
    pub running: Running,
}

/// Sets the level where there is one to set, and prints which is in force.
///
/// # Errors
/// When nobody answers, or it is no level, or orders are not taken.
pub fn log_level(args: &LogLevel) -> Result<ExitCode, Failure> {
    let admin = args.running.admin()?;
    let shown = match &args.level {
        None => admin.ask("GET", PATH)?,
        Some(level) => {
            let mut wanted = json!({ "level": level });
            if let (Some(lasts), Value::Object(fields)) = (args.lasts, &mut wanted) {
                fields.insert("for".to_owned(), units::show(lasts).into());
            }
            let question = Question { method: "PUT", target: PATH, json: &wanted.to_string() };
            admin.order(&question)?
        }
    };
    show(args.json, &shown, |shown| {
        let text = |name: &str| field::text(shown, name).unwrap_or_default();
        match field::text(shown, "until") {
            Some(until) => format!("{} until {until}, then {}\n", text("level"), text("usual")),
            None => format!("{}\n", text("level")),
        }
    })
}

const PATH: &str = "/v1/log-level";

/// What `log-level --help` ends with.
pub(super) const HELP: &str = "\
Examples:
  forebay log-level                                   which level is in force
  forebay log-level debug                             for ten minutes
  forebay log-level info,forebay::health=trace --for 1h";
