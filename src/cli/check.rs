//! `check`: reads a configuration as `run` would and says what it found, and what it means for metrics.

use std::fmt;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::ExitCode;

use super::{Check, Failure, complain, read};
use crate::config::Plan;
use crate::config::plan::PoolPlan;
use crate::control::series;
use crate::observe::metrics::{Expected, expected};
use crate::server::granted_cores;

/// Prints that the file is valid and what is in it, after what is doubtful about it.
///
/// # Errors
/// When the file has errors, or standard output cannot be written.
pub fn check(args: &Check) -> Result<ExitCode, Failure> {
    let plan = read(&args.config)?;
    let workers = plan.workers.map_or_else(granted_cores, NonZeroUsize::get);
    let series = Series {
        expected: expected(&series::shape_as_written(&plan, workers), &plan.metrics),
        most: plan.metrics.max_series,
        finds: sources(&plan) > 0,
    };
    writeln!(io::stdout(), "{}\n{series}", Valid { file: &args.config, plan: &plan })
        .map_err(Failure::Output)?;
    if series.expected.fixed > series.most {
        complain(&series.warning());
    }
    Ok(ExitCode::SUCCESS)
}

struct Valid<'a> {
    file: &'a Path,
    plan: &'a Plan,
}

impl fmt::Display for Valid<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let endpoints = self.plan.pools.iter().map(|pool| pool.endpoints.len()).sum();
        write!(
            f,
            "{} is valid: {}, {}, {}, {}",
            self.file.display(),
            Count(self.plan.listeners.len(), "listener"),
            Count(self.plan.routes.len(), "route"),
            Count(self.plan.pools.len(), "pool"),
            Count(endpoints, "endpoint"),
        )?;
        match sources(self.plan) {
            0 => Ok(()),
            // How many endpoints that makes, nobody knows here.
            others => write!(f, ", {} of others", Count(others, "source")),
        }
    }
}

/// Where endpoints come from besides the configuration.
fn sources(plan: &Plan) -> usize {
    let of = |pool: &PoolPlan| pool.discovery.dns.len() + usize::from(pool.discovery.file.is_some());
    plan.pools.iter().map(of).sum()
}

/// The series of a scrape.
struct Series {
    expected: Expected,
    /// `metrics.max_series`.
    most: usize,
    /// Whether there are endpoints that the configuration does not name.
    finds: bool,
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Expected { all, each, shown, folded, .. } = self.expected;
        write!(f, "metrics: {} to expect", Count(all, "series"))?;
        if self.finds {
            write!(f, ", and {each} more for each endpoint that is found")?;
        }
        match folded {
            0 => write!(f, "; {} at most (metrics.max_series)", self.most),
            _ => write!(
                f,
                ", more than {} (metrics.max_series): {} by themselves, {folded} together as \"other\"",
                self.most,
                Count(shown, "endpoint"),
            ),
        }
    }
}

impl Series {
    fn warning(&self) -> String {
        let Self { expected: Expected { fixed, .. }, most, .. } = self;
        format!(
            "warning: metrics.max_series = {most} does not hold what is shown of listeners, routes and pools: \
             {fixed} series\n"
        )
    }
}

/// A number of things, by their name in the singular.
struct Count(usize, &'static str);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(n, thing) = self;
        let plural = if *n == 1 || thing.ends_with('s') { "" } else { "s" };
        write!(f, "{n} {thing}{plural}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_told_with_what_becomes_of_them() {
        let expected = Expected { all: 560, fixed: 60, each: 50, shown: 10, folded: 0 };
        let series = Series { expected, most: 1000, finds: false };
        assert_eq!(series.to_string(), "metrics: 560 series to expect; 1000 at most (metrics.max_series)");
        let expected = Expected { all: 5060, fixed: 60, each: 50, shown: 18, folded: 82 };
        let series = Series { expected, most: 1000, finds: true };
        let words = "metrics: 5060 series to expect, and 50 more for each endpoint that is found, more than 1000 \
                     (metrics.max_series): 18 endpoints by themselves, 82 together as \"other\"";
        assert_eq!(series.to_string(), words);
        assert!(series.warning().contains("max_series = 1000 does not hold"), "{}", series.warning());
    }

    #[test]
    fn counts_agree_in_number() {
        let shown = [0, 1, 2].map(|n| Count(n, "pool").to_string());
        assert_eq!(shown, ["0 pools", "1 pool", "2 pools"]);
    }
}
