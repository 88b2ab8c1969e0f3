//! `report`: prints the account of the last minutes that a running Forebay gives of itself.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::running::Running;
use super::{Failure, print};
use crate::control::report::Objective;
use crate::model::{percent, units};

/// `forebay report`.
#[derive(Debug, Args)]
pub struct Report {
    /// How far back, from 1s to 1h
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = units::duration)]
    pub last: Duration,
    /// The share of requests that is to be answered well
    #[arg(long, value_name = "SHARE", default_value_t = Objective::default())]
    pub slo: Objective,
    /// What is printed
    #[arg(long, value_enum, default_value_t = Format::Markdown)]
    pub format: Format,
    /// Of which running Forebay.
    #[command(flatten)]
    pub running: Running,
}

/// How a report is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people: to be pasted into a note
    Markdown,
    /// For programs
    Json,
}

/// Prints the report.
///
/// # Errors
/// When nobody answers, or it refuses: the time is longer than what is kept.
pub fn report(args: &Report) -> Result<ExitCode, Failure> {
    let (last, slo) = (units::show(args.last), percent::encode(&args.slo.to_string()));
    let admin = args.running.admin()?;
    match args.format {
        Format::Markdown => print(&admin.read(&format!("/v1/report?last={last}&slo={slo}"))?),
        Format::Json => {
            let told = admin.ask("GET", &format!("/v1/report.json?last={last}&slo={slo}"))?;
            print(&format!("{told:#}\n"))
        }
    }
}

/// What `report --help` ends with.
pub(super) const HELP: &str = "\
Examples:
  forebay report                           the last ten minutes
  forebay report --last 1h --slo 99.95%
  forebay report --last 30m > incident.md
  forebay report --format json | jq .budget.burn_rate

It tells what came and what failed, how much of the error budget that used, how long requests
took, what happened to endpoints, pools and the configuration and why, and which routes were slow
or failed.
The process keeps what it needs for that in memory, for an hour: nothing has to be set up.";
