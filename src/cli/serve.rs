//! `run` and `proxy`: two ways to a plan, one way to serve it. Knows nothing of how serving works.

use std::process::ExitCode;

use super::{Failure, Proxy, Run, read, variable};
use crate::config::{self, Plan, Quick};
use crate::control::reload::Source;
use crate::observe;
use crate::server::handover::Arrival;
use crate::server::{Options, Server, Signals, StartError};

/// Serves what a file says, until a signal ends it.
///
/// # Errors
/// When the file has problems, or what it says cannot be bound.
pub fn from_file(args: &Run) -> Result<ExitCode, Failure> {
    let plan = read(&args.config)?;
    let source = Source { file: Some(args.config.clone()), env: variable };
    until_signal(plan, Options { workers: args.workers, source })
}

/// Serves what the arguments say, until a signal ends it.
///
/// # Errors
/// When an address is malformed or cannot be bound.
pub fn from_arguments(args: &Proxy) -> Result<ExitCode, Failure> {
    let asked =
        Quick { from: &args.from, to: &args.to, policy: Some(&args.policy), admin: args.admin.as_deref() };
    let plan = config::quick(asked).map_err(Failure::Arguments)?;
    let source = Source { file: None, env: variable };
    until_signal(plan, Options { workers: args.workers, source })
}

fn until_signal(plan: Plan, options: Options) -> Result<ExitCode, Failure> {
    observe::log::init(&plan.log.level, plan.log.format)?;
    observe::panics::tell_once();
    let arrival = Arrival::receive(&plan.upgrade).map_err(StartError::Handover)?;
    let signals = Signals::catch().map_err(StartError::Thread)?;
    let server = Server::start_with(plan, options, arrival)?;
    server.run_until_signal(signals);
    Ok(ExitCode::SUCCESS)
}
