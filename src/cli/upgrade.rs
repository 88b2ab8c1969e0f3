//! `upgrade`: asks the running process to start its program anew and waits for what comes of it. Knows
//! nothing of how one process takes the place of another.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::{DEFAULT_CONFIG, Failure, read};
use crate::server::upgrade::ask_to_upgrade;

/// `forebay upgrade`.
#[derive(Debug, Args)]
pub struct Upgrade {
    /// The configuration file that Forebay was started with
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    pub config: PathBuf,
}

/// Has the running process replaced.
///
/// # Errors
/// When there is none, or the new one does not become ready; then the old one goes on.
pub fn upgrade(args: &Upgrade) -> Result<ExitCode, Failure> {
    let settings = read(&args.config)?.upgrade;
    if settings.socket.is_none() {
        return Err(Failure::NoUpgradeSocket);
    }
    let (old, new) = ask_to_upgrade(&settings)?;
    writeln!(io::stdout(), "process {new} serves in the place of process {old}, which drains")
        .map_err(Failure::Output)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) const HELP: &str = "\
The running process starts its program anew, from where it was started and with the same arguments.
The new one gets the listening sockets; once it is ready, the old one finishes what is under way.
When the new one does not become ready, the old one goes on as before.
It needs `[upgrade] socket` in the configuration. SIGUSR2 to the process does the same.
Exit codes: 0 the new process serves, 1 the old one still does.";
