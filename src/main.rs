//! The `forebay` binary: one match on the command. What the commands do is in `cli` and `demo`.

use std::process::ExitCode;

use clap::Parser;
use forebay::cli::{self, Cli, Command};

/// The request path allocates little but often, on every worker at once: this allocator keeps
/// per-thread free lists and gives memory back.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Run(args) => cli::serve::from_file(&args),
        Command::Proxy(args) => cli::serve::from_arguments(&args),
        Command::Check(args) => cli::check::check(&args),
        Command::Demo(args) => cli::demo(&args),
        Command::Why(args) => cli::why::why(&args),
        Command::Endpoint(args) => cli::endpoint::order(&args),
        Command::Endpoints(args) => cli::endpoint::list(&args),
        Command::Status(args) => cli::status::status(&args),
        Command::Pools(args) => cli::pools::list(&args),
        Command::Connections(args) => cli::connections::list(&args),
        Command::Report(args) => cli::report::report(&args),
        Command::Top(args) => cli::top::top(&args),
        Command::Log(args) => cli::log::log(&args),
        Command::LogLevel(args) => cli::log_level::log_level(&args),
        Command::Simulate(args) => cli::simulate::simulate(&args),
        Command::Upgrade(args) => cli::upgrade::upgrade(&args),
        Command::Reload(args) => cli::reload::reload(&args),
        Command::Plan(args) => cli::plan::plan(&args),
        Command::Apply(args) => cli::apply::apply(&args),
        Command::Config(args) => cli::history::config(&args),
        Command::Healthcheck(args) => cli::healthcheck::ask(&args),
        Command::Completions(args) => cli::completions(args.shell),
    };
    cli::exit_code(outcome)
}
