//! `check`: reads a configuration as `run` would and says what it found.

use std::fmt;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use super::{Check, Failure, read};
use crate::config::Plan;
use crate::config::plan::PoolPlan;

/// Prints that the file is valid and what is in it, after what is doubtful about it.
///
/// # Errors
/// When the file has errors, or standard output cannot be written.
pub fn check(args: &Check) -> Result<ExitCode, Failure> {
    let plan = read(&args.config)?;
    writeln!(io::stdout(), "{}", Valid { file: &args.config, plan: &plan }).map_err(Failure::Output)?;
    Ok(ExitCode::SUCCESS)
}

struct Valid<'a> {
    file: &'a Path,
    plan: &'a Plan,
}

impl fmt::Display for Valid<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let endpoints = self.plan.pools.iter().map(|pool| pool.endpoints.len()).sum();
        let others = |pool: &PoolPlan| pool.discovery.dns.len() + usize::from(pool.discovery.file.is_some());
        let others: usize = self.plan.pools.iter().map(others).sum();
        write!(
            f,
            "{} is valid: {}, {}, {}, {}",
            self.file.display(),
            Count(self.plan.listeners.len(), "listener"),
            Count(self.plan.routes.len(), "route"),
            Count(self.plan.pools.len(), "pool"),
            Count(endpoints, "endpoint"),
        )?;
        match others {
            0 => Ok(()),
            // How many endpoints that makes, nobody knows here.
            _ => write!(f, ", {} of others", Count(others, "source")),
        }
    }
}

/// A number of things, by their name in the singular.
struct Count(usize, &'static str);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(n, thing) = self;
        write!(f, "{n} {thing}{}", if *n == 1 { "" } else { "s" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_agree_in_number() {
        let shown = [0, 1, 2].map(|n| Count(n, "pool").to_string());
        assert_eq!(shown, ["0 pools", "1 pool", "2 pools"]);
    }
}
