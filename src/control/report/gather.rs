//! What a report needs to know, gathered from the running process: its history, its journal, and the
//! configurations that were in force. Decides only what of it belongs to the time that is told of.

use std::time::{Duration, SystemTime};

use super::happening::{happenings, outages};
use super::{
    Course, Figures, Happening, Kind, Objective, PoolLine, Process, Report, RouteLine, Step, Subject,
};
use crate::control::history::{PoolSample, ProcessSample, Series, Traffic, Window};
use crate::control::reload::{Cause, Generation, Outcome, Reload, Status};
use crate::control::running::Running;
use crate::model::Name;
use crate::observe::metrics::RouteLabels;

/// Of what is to be told, and what else is known of it.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// How far back.
    pub last: Duration,
    /// What is aimed at.
    pub objective: Objective,
    /// When the process was started.
    pub started: SystemTime,
    /// What someone should look at now.
    pub warnings: Vec<String>,
}

/// The report on what is `running`. Copies the history and the journal: not for a thread that others wait
/// for.
#[must_use]
pub fn gather(running: &Running, reload: Option<&Reload>, wanted: Wanted) -> Report {
    let Wanted { last, objective, started, warnings } = wanted;
    let Window { now, process, routes, pools } = running.history().window(last);
    let from = now.checked_sub(last).unwrap_or(SystemTime::UNIX_EPOCH).max(started);
    let (plan, generation) = running.plan();
    let entries = running.health().record().entries();
    let mut happened = happenings(entries.iter().map(AsRef::as_ref), from);
    happened.extend(configurations(reload, from));
    happened.extend(start(started, generation).filter(|own| own.at >= from));
    happened.sort_by_key(|own| own.at);
    Report {
        process: Process {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            started,
            workers: running.workers(),
            generation,
            hash: plan.origin.fingerprint.to_string(),
        },
        from,
        to: now,
        asked: last,
        objective,
        course: course(&process),
        routes: routes.iter().map(|(labels, series)| route(labels.as_ref(), series)).collect(),
        pools: pools.iter().map(|(name, series)| pool(name.as_ref(), series, running)).collect(),
        outages: outages(entries.iter().map(AsRef::as_ref), (from, now)),
        happened,
        warnings,
    }
}

fn start(at: SystemTime, generation: u64) -> impl Iterator<Item = Happening> {
    let words = format!("the process was started; generation {generation} is in force now");
    std::iter::once(Happening::once(at, Kind::Start, Subject::Process, words))
}

/// Configurations that were put in force, and the last attempt if it failed.
fn configurations(reload: Option<&Reload>, from: SystemTime) -> Vec<Happening> {
    let Some(reload) = reload else { return Vec::new() };
    let told = |at, kind, words| Happening::once(at, kind, Subject::Process, words);
    let all = reload.history().all();
    let since = all.iter().filter(|own| own.at >= from && own.cause != Cause::Start.name());
    let mut happened: Vec<_> = since.map(|own| told(own.at, Kind::Reload, replaced(own))).collect();
    let Status { last, generation, .. } = reload.status();
    if let Some(last) = last.filter(|last| last.at >= from && !last.outcome.is_good()) {
        happened.push(told(last.at, Kind::FailedReload, refused(&last.outcome, generation)));
    }
    happened
}

/// What a configuration changed, in a line.
fn replaced(own: &Generation) -> String {
    // Neither what a change consists of nor what was warned of counts.
    let changes: Vec<_> = own.changes.lines().filter(|line| !line.starts_with([' ', '!'])).collect();
    let first = changes.first().copied().unwrap_or("nothing that matters here");
    let more = match changes.len() {
        0 | 1 => String::new(),
        n => format!(" and {} more", n - 1),
    };
    let taken = own.taken_back.as_ref().map(|why| format!("; it was taken back: {why}")).unwrap_or_default();
    let cause = own.cause.replace('_', " ");
    format!("generation {} in force ({cause}): {first}{more}{taken}", own.number)
}

/// Why a configuration was not put in force, in a line.
fn refused(outcome: &Outcome, generation: u64) -> String {
    let problems = outcome.problems();
    let first = problems.lines().next().unwrap_or_default().trim_start_matches("error: ");
    let more = problems.lines().filter(|line| line.starts_with("error: ")).count().saturating_sub(1);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("generation {generation} goes on: {first}{more}")
}

fn course(series: &Series<ProcessSample>) -> Course {
    let step = |sample: &ProcessSample| Step {
        requests: sample.traffic.requests,
        errors: sample.traffic.errors,
        p99: sample.traffic.times.quantile(0.99),
        in_flight: sample.in_flight,
        connections: sample.connections,
        busy: sample.busy_ratio,
    };
    let busy: Vec<f64> = series.samples.iter().filter_map(|sample| sample.busy_ratio).collect();
    Course {
        whole: figures(&series.traffic()),
        step: series.step,
        steps: series.samples.iter().map(step).collect(),
        busy: (!busy.is_empty()).then(|| busy.iter().sum::<f64>() / busy.len() as f64),
    }
}

fn route(labels: Option<&RouteLabels>, series: &Series<Traffic>) -> RouteLine {
    let names = |labels: &RouteLabels| {
        let own = |name: &Name| name.as_str().to_owned();
        (own(&labels.listener), own(&labels.route), labels.pool.as_ref().map(own))
    };
    RouteLine { labels: labels.map(names), figures: figures(&series.traffic()) }
}

fn pool(name: Option<&Name>, series: &Series<PoolSample>, running: &Running) -> PoolLine {
    let scale = name.and_then(|name| running.scaling().signals(name)?.scale);
    // A step without a look has no endpoints.
    let looks: Vec<_> =
        series.samples.iter().chain([&series.open]).filter(|sample| sample.total > 0).collect();
    let mean = looks.iter().map(|sample| sample.utilisation()).sum::<f64>() / looks.len().max(1) as f64;
    let mut waits = series.open.waits.clone();
    series.samples.iter().for_each(|sample| waits.add(&sample.waits));
    PoolLine {
        pool: name.map(|name| name.as_str().to_owned()),
        figures: figures(&series.traffic()),
        desired: scale.map(|(_, scale)| scale.desired),
        endpoints: looks.last().map_or((0, 0), |sample| (sample.available, sample.total)),
        utilisation: (mean, looks.iter().map(|sample| sample.utilisation()).fold(0.0, f64::max)),
        wait_p99: waits.quantile(0.99),
    }
}

fn figures(traffic: &Traffic) -> Figures {
    let Traffic { requests, errors, times } = traffic;
    let [p50, p90, p99] = [0.5, 0.9, 0.99].map(|q| times.quantile(q));
    Figures { requests: *requests, errors: *errors, p50, p90, p99 }
}
