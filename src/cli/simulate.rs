//! `simulate`: runs recorded intervals through the thresholds of a configuration and prints what would
//! have been done, beside what was.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

use clap::Args;

use super::{DEFAULT_CONFIG, Failure, complain, read};
use crate::ambient;
use crate::config::plan::PoolPlan;
use crate::control::health::intervals::{Interval, Members};
use crate::control::health::recording::{self, Recording, Told};
use crate::control::health::replay::{Happened, Replayed, replay};
use crate::health::journal::{Effect, Event, What};
use crate::health::pool::HealthSettings;
use crate::model::json;
use crate::observe::civil;

/// `forebay simulate`.
#[derive(Debug, Args)]
pub struct Simulate {
    /// What was recorded: the admin listener's `/v1/recording`
    #[arg(long, value_name = "FILE")]
    pub journal: PathBuf,
    /// The configuration with the thresholds to try
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    pub config: PathBuf,
}

/// Prints the ejections that would have been, and those that were.
///
/// # Errors
/// When a file cannot be read, or the configuration has none of the recorded pools.
pub fn simulate(args: &Simulate) -> Result<ExitCode, Failure> {
    let plan = read(&args.config)?;
    let file = args.journal.display().to_string();
    let text = std::fs::read_to_string(&args.journal)
        .map_err(|source| Failure::Journal { file: file.clone(), source })?;
    let recording = recording::read(&text).map_err(|source| Failure::Recording { file, source })?;
    let mut report = String::new();
    let mut known = false;
    for members in latest(&recording) {
        match plan.pools.iter().find(|pool| pool.name == members.pool) {
            Some(pool) => {
                known = true;
                let replayed = replay(&recording, &pool.name, &settings(pool), ambient::now());
                Compared { members, recording: &recording, replayed }.tell(&mut report);
            }
            None => complain(&format!(
                "warning: pool {} was recorded, but the configuration has no pool of this name\n",
                members.pool
            )),
        }
    }
    if !known {
        return Err(Failure::NothingToSimulate);
    }
    io::stdout().write_all(report.as_bytes()).map_err(Failure::Output)?;
    Ok(ExitCode::SUCCESS)
}

/// Each pool that was recorded, as it was at last.
fn latest(recording: &Recording) -> Vec<&Members> {
    let pools = recording.pools.iter();
    let known = |at: usize, pool: &Members| recording.pools.iter().skip(at + 1).any(|p| p.pool == pool.pool);
    pools.enumerate().filter(|(at, pool)| !known(*at, pool)).map(|(_, pool)| pool).collect()
}

/// What a pool's endpoints would be judged by; checks are not part of it.
fn settings(pool: &PoolPlan) -> HealthSettings {
    HealthSettings {
        checks: None,
        detectors: pool.detectors.clone(),
        ejection: pool.ejection.clone(),
        slow_start: pool.slow_start,
    }
}

/// What would have been done in a pool, and what was.
struct Compared<'a> {
    members: &'a Members,
    recording: &'a Recording,
    replayed: Replayed,
}

impl Compared<'_> {
    fn tell(&self, report: &mut String) {
        let pool = &self.members.pool;
        let pools = &self.recording.pools;
        let of = |interval: &Interval| usize::try_from(interval.pool).ok().and_then(|pool| pools.get(pool));
        let own = |interval: &&Interval| of(interval).is_some_and(|members| members.pool == *pool);
        let intervals: Vec<_> = self.recording.intervals.iter().filter(own).collect();
        // Writing to a string does not fail.
        let _ = write!(report, "pool {pool}: {} endpoints, ", self.members.endpoints.len());
        match (intervals.first(), intervals.last()) {
            (Some(first), Some(last)) => {
                let (from, to) = (civil::rfc3339(first.at), civil::rfc3339(last.at));
                let _ = writeln!(report, "{} intervals from {from} to {to}", intervals.len());
            }
            _ => {
                let _ = writeln!(report, "no traffic was recorded");
                return;
            }
        }
        let acted: Vec<_> = self.replayed.iter().filter(|happened| acts(&happened.event)).collect();
        let _ =
            writeln!(report, "  with these thresholds, {}", times(acted.len(), "would have been enforced"));
        for Happened { at, endpoint, event } in acted {
            line(report, *at, endpoint.as_deref().unwrap_or("(pool)"), &event.words());
        }
        let found = self.replayed.iter().map(|happened| &happened.event);
        let left = found.filter(|event| is_found(event) && !acts(event)).count();
        if left > 0 {
            let _ = writeln!(report, "  {}", times(left, "would have been found and not enforced"));
        }
        let then: Vec<_> = self.recording.entries.iter().filter(|entry| self.was_enforced(entry)).collect();
        let _ = writeln!(report, "  at the time, {}", times(then.len(), "was enforced"));
        for entry in then {
            line(report, entry.at, entry.endpoint.as_deref().unwrap_or("(pool)"), entry.words());
        }
    }

    fn was_enforced(&self, entry: &Told) -> bool {
        let acted = json::text(&entry.object, "effect").is_some_and(|effect| ENFORCED.contains(&effect))
            || json::text(&entry.object, "event") == Some(TRIAL_FAILED);
        entry.pool == self.members.pool.as_str() && acted
    }
}

fn line(report: &mut String, at: SystemTime, endpoint: &str, words: &str) {
    let _ = writeln!(report, "    {}  {endpoint}  {words}", civil::rfc3339(at));
}

/// So many findings, and what became of them.
fn times(count: usize, what: &str) -> String {
    match count {
        0 => format!("nothing {what}"),
        1 => format!("one finding {what}"),
        _ => format!("{count} findings {}", what.replacen("was ", "were ", 1)),
    }
}

fn is_found(event: &Event) -> bool {
    matches!(event.what, What::Detected { .. })
}

/// Whether something was done about what was found.
fn acts(event: &Event) -> bool {
    match &event.what {
        What::Detected { effect, .. } => matches!(effect, Effect::Ejected { .. } | Effect::Degraded),
        What::TrialFailed { .. } => true,
        _ => false,
    }
}

/// The names of effects, as the journal has them, that change something.
const ENFORCED: [&str; 2] = ["ejected", "degraded"];
/// The name of the event that ejects without a detector.
const TRIAL_FAILED: &str = "trial_failed";

/// What `simulate --help` ends with.
pub(super) const HELP: &str = "\
Examples:
  curl -s http://127.0.0.1:9900/v1/recording > journal
  forebay simulate --journal journal -c stricter.toml

A journal has the last 32,768 intervals in which something happened at an endpoint: half an hour of
three busy endpoints. Only live traffic is judged again; checks are not. What an endpoint would have
done with traffic that it did not get, because it was ejected at the time, is not known.
Exit codes: 0 it was run, 1 a file cannot be read or has none of the pools.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_agree_in_number() {
        let said = [0, 1, 2].map(|count| times(count, "was enforced"));
        assert_eq!(said, ["nothing was enforced", "one finding was enforced", "2 findings were enforced"]);
    }
}
