//! `healthcheck`: finds out where the admin listener is and has it asked.

use std::process::ExitCode;
use std::time::Duration;

use super::{Failure, Healthcheck};
use crate::control::healthcheck::healthcheck;

/// Asks whether Forebay is ready.
///
/// # Errors
/// When it is not, or nobody answers in time.
pub fn ask(args: &Healthcheck) -> Result<ExitCode, Failure> {
    healthcheck(&args.running.admin()?.0, PATIENCE)?;
    Ok(ExitCode::SUCCESS)
}

/// How long the whole question may take.
const PATIENCE: Duration = Duration::from_secs(2);
