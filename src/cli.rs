//! What can be asked of the program on its command line, and how it answers the shell: 0 when all
//! is well, 1 when something failed or a problem was found, 2 when the arguments make no sense.
//! Knows no configuration keys: those are `config`'s.

pub mod apply;
pub mod change;
pub mod check;
pub mod connections;
pub mod endpoint;
mod failure;
pub mod healthcheck;
pub mod history;
pub mod log;
pub mod log_level;
pub mod plan;
pub mod pools;
pub mod reload;
pub mod report;
pub mod running;
pub mod serve;
pub mod simulate;
pub mod status;
mod table;
pub mod top;
pub mod upgrade;
pub mod why;

use std::io::{self, IsTerminal, Write};
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::{PossibleValue, PossibleValuesParser};
use clap::{Args, CommandFactory, Parser, Subcommand};
use serde_json::Value;

pub use self::failure::Failure;
use crate::config::{self, Plan, Reading, Report};
use crate::{balance, demo};

/// The command line.
#[derive(Debug, Parser)]
#[command(name = "forebay", version, about, long_about = LONG_ABOUT, after_help = EXAMPLES)]
#[command(arg_required_else_help = true, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve what a configuration file says
    #[command(after_help = RUN_HELP)]
    Run(Run),
    /// Proxy HTTP from one address to others, without a file
    #[command(after_help = PROXY_HELP)]
    Proxy(Proxy),
    /// Say whether a configuration file is valid, and name every problem in it
    #[command(after_help = CHECK_HELP)]
    Check(Check),
    /// Show Forebay at work: three origins, a light load and a live table
    #[command(after_help = DEMO_HELP)]
    Demo(Demo),
    /// Say what a running Forebay is doing, and what someone should look at
    #[command(after_help = status::HELP)]
    Status(status::Status),
    /// Watch a running Forebay: requests, errors, latency and states, live
    #[command(after_help = top::HELP)]
    Top(top::Top),
    /// List the pools of a running Forebay
    #[command(after_help = pools::HELP)]
    Pools(pools::Pools),
    /// List the endpoints of a running Forebay
    #[command(after_help = endpoint::LIST_HELP)]
    Endpoints(endpoint::Endpoints),
    /// List clients' connections of a running Forebay
    #[command(after_help = connections::HELP)]
    Connections(connections::Connections),
    /// Say why an endpoint is in its state, or was at some time
    #[command(after_help = why::HELP)]
    Why(why::Why),
    /// Tell what happened in the last minutes, as Markdown for an incident note
    #[command(after_help = report::HELP)]
    Report(report::Report),
    /// Drain, disable, add, weigh or remove an endpoint of a running Forebay
    #[command(after_help = endpoint::ORDER_HELP)]
    Endpoint(endpoint::Endpoint),
    /// Have a running Forebay read its configuration again, and say what came of it
    #[command(after_help = reload::HELP)]
    Reload(reload::Reload),
    /// Show what a configuration file would change of a running Forebay
    #[command(after_help = plan::HELP)]
    Plan(plan::Plan),
    /// Put a configuration file in force, and take it back by itself if that goes badly
    #[command(after_help = apply::HELP)]
    Apply(apply::Apply),
    /// List the configurations that were in force, compare them, go back to one
    #[command(after_help = history::HELP)]
    Config(history::Config),
    /// Replace the binary of a running Forebay, and lose no connection
    #[command(after_help = upgrade::HELP)]
    Upgrade(upgrade::Upgrade),
    /// Follow the requests of a running Forebay, or an access log, and filter them
    #[command(after_help = log::HELP)]
    Log(log::Log),
    /// Show the log level of a running Forebay, or set another one for a while
    #[command(after_help = log_level::HELP)]
    LogLevel(log_level::LogLevel),
    /// Try other thresholds on what was recorded
    #[command(after_help = simulate::HELP)]
    Simulate(simulate::Simulate),
    /// Ask a running Forebay on this machine whether it is ready
    #[command(after_help = HEALTHCHECK_HELP)]
    Healthcheck(Healthcheck),
    /// Print a completion script for a shell
    #[command(after_help = COMPLETIONS_HELP)]
    Completions(Completions),
}

/// `forebay run`.
#[derive(Debug, Args)]
pub struct Run {
    /// The configuration file
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    pub config: PathBuf,
    /// Worker threads [default: the file's `workers`, or one for each core granted]
    #[arg(long, value_name = "N")]
    pub workers: Option<NonZeroUsize>,
}

/// `forebay proxy`.
#[derive(Debug, Args)]
pub struct Proxy {
    /// Where to listen: `IP:PORT`, `[IPv6]:PORT` or `unix:/PATH`; may be given again
    #[arg(long, value_name = "ADDRESS", required = true)]
    pub from: Vec<String>,
    /// Where requests go: `HOST:PORT`, `IP:PORT` or `unix:/PATH`; may be given again
    #[arg(long, value_name = "ENDPOINT", required = true)]
    pub to: Vec<String>,
    /// How an endpoint is chosen
    #[arg(long, value_name = "POLICY", default_value = balance::Choice::default().name())]
    #[arg(value_parser = policies())]
    pub policy: String,
    /// Where metrics and readiness are served [default: 127.0.0.1:9900]
    #[arg(long, value_name = "ADDRESS")]
    pub admin: Option<String>,
    /// Worker threads [default: one for each core granted]
    #[arg(long, value_name = "N")]
    pub workers: Option<NonZeroUsize>,
}

/// `forebay check`.
#[derive(Debug, Args)]
pub struct Check {
    /// The configuration file
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    pub config: PathBuf,
}

/// `forebay demo`.
#[derive(Debug, Args)]
pub struct Demo {
    /// End by itself after so many seconds [default: until Ctrl-C]
    #[arg(long, value_name = "N")]
    pub seconds: Option<NonZeroU64>,
}

impl Demo {
    /// How long to run; until it is interrupted when `None`.
    #[must_use]
    pub fn seconds(&self) -> Option<Duration> {
        self.seconds.map(|n| Duration::from_secs(n.get()))
    }
}

/// `forebay healthcheck`.
#[derive(Debug, Args)]
pub struct Healthcheck {
    /// Which one to ask.
    #[command(flatten)]
    pub running: running::Running,
}

/// `forebay completions`.
#[derive(Debug, Args)]
pub struct Completions {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub shell: clap_complete::Shell,
}

/// Runs the demo.
///
/// # Errors
/// When something of it could not be started or shown.
pub fn demo(args: &Demo) -> Result<ExitCode, Failure> {
    demo::run(args.seconds())?;
    Ok(ExitCode::SUCCESS)
}

/// Prints the completion script for `shell` to standard output.
///
/// # Errors
/// When standard output cannot be written.
pub fn completions(shell: clap_complete::Shell) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "forebay", &mut script);
    io::stdout().write_all(&script).map_err(Failure::Output)?;
    Ok(ExitCode::SUCCESS)
}

/// What the shell is told of `outcome`; a failure is written to standard error first.
#[must_use]
pub fn exit_code(outcome: Result<ExitCode, Failure>) -> ExitCode {
    match outcome {
        Ok(code) => code,
        Err(failure) => {
            complain(&failure.report());
            failure.exit_code()
        }
    }
}

/// What a configuration file means. Warnings go to standard error; errors make it fail.
fn read(file: &Path) -> Result<Plan, Failure> {
    let Reading { plan, report, .. } = config::read(file, &variable);
    match plan {
        Some(plan) => {
            if !report.is_empty() {
                complain(&shown(&report));
            }
            Ok(plan)
        }
        None => Err(Failure::Config(report)),
    }
}

/// A report as it is written to standard error.
fn shown(report: &Report) -> String {
    if takes_colours(&io::stderr()) { report.coloured() } else { report.to_string() }
}

/// Whether `stream` shows colours and its reader wants them (<https://no-color.org>).
fn takes_colours(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Prints what the admin listener told: as it is with `--json`, in words without.
fn show(as_json: bool, told: &Value, words: fn(&Value) -> String) -> Result<ExitCode, Failure> {
    print(&if as_json { format!("{told:#}\n") } else { words(told) })
}

fn print(text: &str) -> Result<ExitCode, Failure> {
    io::stdout().write_all(text.as_bytes()).map_err(Failure::Output)?;
    Ok(ExitCode::SUCCESS)
}

fn complain(text: &str) {
    // Standard error may be closed, and then nobody is left to be told.
    let _ = io::stderr().write_all(text.as_bytes());
}

/// An environment variable, for `${NAME}` in configuration files.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Every policy by its name, with its summary in the help.
fn policies() -> PossibleValuesParser {
    let kinds = balance::KINDS.iter().map(|kind| PossibleValue::new(kind.name).help(kind.summary));
    PossibleValuesParser::new(kinds)
}

/// Where configuration is looked for, relative to the working directory.
pub(crate) const DEFAULT_CONFIG: &str = "config/forebay.toml";

const LONG_ABOUT: &str = "\
Forebay takes HTTP requests and spreads them over the endpoints behind it.
One binary, one TOML file. `forebay demo` shows it at work.";

const EXAMPLES: &str = "\
Examples:
  forebay demo                                                   see it at work
  forebay proxy --from 127.0.0.1:8080 --to 127.0.0.1:9001        no file needed
  forebay check -c forebay.toml && forebay run -c forebay.toml   from a file
  forebay top                                                    watch one that runs
  forebay why 127.0.0.1:9001                                     what happened to an endpoint

Exit codes: 0 all is well, 1 it failed or found a problem, 2 the arguments make no sense.";

const RUN_HELP: &str = "\
Signals:
  SIGTERM, SIGINT   drain: stop accepting, finish what is under way, exit 0
  a second one      end at once
  SIGHUP            read the configuration again, as when one of its files changes
  SIGUSR1           reopen log files
  SIGUSR2           start the program anew to take this process's place; see `forebay upgrade`

`${NAME}` and `${NAME:-default}` in string values are taken from the environment.
FOREBAY_LOG overrides the file's log level, for example FOREBAY_LOG=debug.";

const PROXY_HELP: &str = "\
Examples:
  forebay proxy --from 127.0.0.1:8080 --to 127.0.0.1:9001 --to 127.0.0.1:9002
  forebay proxy --from '[::]:8080' --to unix:/run/app.sock --admin 127.0.0.1:9900";

const CHECK_HELP: &str = "\
It is the same reading that `run` does: files named in the configuration are read too.
Exit codes: 0 the file is valid, 1 it has problems or cannot be read.";

const DEMO_HELP: &str = "\
Everything listens on 127.0.0.1: the proxy on port 8080 and the admin listener on 9900, or on free
ports when these are taken. Without a terminal it prints plain lines. NO_COLOR turns colours off.";

const HEALTHCHECK_HELP: &str = "\
Asks `/readyz` of the admin listener that the file names, or of 127.0.0.1:9900 without a file.
Exit codes: 0 ready, 1 not ready, draining or not there.";

const COMPLETIONS_HELP: &str = "\
Examples:
  source <(forebay completions bash)
  forebay completions zsh > ~/.zfunc/_forebay";

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Command, clap::error::ErrorKind> {
        Cli::try_parse_from(line.split(' ')).map(|cli| cli.command).map_err(|e| e.kind())
    }

    #[test]
    fn the_definition_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_is_not_wrapped_a_second_time() {
        for command in Cli::command().get_subcommands() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            for line in help.lines() {
                assert!(line.chars().count() <= 100, "{}: {line}", command.get_name());
            }
        }
    }

    #[test]
    fn run_looks_in_the_usual_place() {
        let Ok(Command::Run(run)) = parse("forebay run --workers 2") else { panic!("is a run") };
        assert_eq!((run.config, run.workers), (PathBuf::from(DEFAULT_CONFIG), NonZeroUsize::new(2)));
    }

    #[test]
    fn proxy_takes_several_of_each() {
        let line = "forebay proxy --from 127.0.0.1:1 --from [::1]:1 --to app:2 --to unix:/s --policy random";
        let Ok(Command::Proxy(proxy)) = parse(line) else { panic!("is a proxy") };
        assert_eq!((proxy.from.len(), proxy.to.len(), &*proxy.policy), (2, 2, "random"));
    }

    #[test]
    fn every_policy_can_be_named() {
        for kind in balance::KINDS {
            let line = format!("forebay proxy --from 127.0.0.1:1 --to a:2 --policy {}", kind.name);
            let Ok(Command::Proxy(proxy)) = parse(&line) else { panic!("{line}") };
            assert_eq!(proxy.policy, kind.name);
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in [
            "forebay run --workers 0",
            "forebay proxy --from 127.0.0.1:1 --to a:2 --policy best",
            "forebay proxy --from 127.0.0.1:1",
            "forebay demo --seconds 0",
            "forebay healthcheck -c f --admin 127.0.0.1:1",
            "forebay why",
            "forebay why a:1 --at yesterday",
            "forebay endpoint drain",
            "forebay endpoint a:1",
            "forebay endpoint drain a:1 --for soon",
            "forebay endpoint undrain a:1 --for 5m",
            "forebay endpoint add a:1",
            "forebay endpoint weight app a:1",
            "forebay simulate",
            "forebay log-level --for 5m",
            "forebay log-level debug --for soon",
            "forebay top --interval 0s",
            "forebay log --status 9xx",
            "forebay log --no-follow",
            "forebay log --client here",
            "forebay completions tcsh",
            "forebay config",
            "forebay config rollback last",
            "forebay apply --no-wait",
            "forebay apply --auto-rollback soon",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
