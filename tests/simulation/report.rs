//! What a scenario came to: failures that clients saw, ejections that were due and others, latency,
//! and whether all endpoints have their share again at the end.

use std::time::Duration;

use forebay::health::State;
use forebay::health::journal::{Effect, What};

use crate::pool::{Served, Story};

/// When a fault lasts and whom it befalls.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    pub(crate) from: Duration,
    pub(crate) to: Duration,
    /// The first so many endpoints.
    pub(crate) endpoints: usize,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    pub(crate) requests: usize,
    /// Requests whose clients saw a failure.
    pub(crate) failed: usize,
    /// From the first that failed, whoever saw it, to the last that a client saw before those whom the
    /// fault befell were ejected.
    pub(crate) failing_for: Option<Duration>,
    /// Failures that clients saw of requests that came after the fault was over.
    pub(crate) failed_after: usize,
    /// From the beginning of the fault until all whom it befell get nothing as a rule.
    pub(crate) ejected_after: Option<Duration>,
    /// Ejections of others, or before it began.
    pub(crate) false_ejections: usize,
    /// From the end of the fault to the last recovery.
    pub(crate) recovered_after: Option<Duration>,
    /// 99 in 100 requests of the fault's second half took at most this long, and before the fault.
    pub p99: Duration,
    pub p99_before: Duration,
    /// The least share of the last 10 s that an endpoint had, over the fair one.
    pub(crate) fairness: f64,
    /// Whether it was noticed that all degrade together.
    pub(crate) correlated: bool,
}

pub(crate) fn report(story: &Story, fault: Fault, endpoints: usize, lasts: Duration) -> Report {
    let within = |from: Duration, to: Duration| {
        story.requests.iter().filter(move |served| (from..to).contains(&served.ended))
    };
    let mut report = Report {
        requests: story.requests.len(),
        fairness: fairness(story, endpoints, lasts),
        ..Report::default()
    };
    report.failed = story.requests.iter().filter(|served| served.failed).count();
    let middle = fault.from + (fault.to - fault.from) / 2;
    report.p99 = quantile(within(middle, fault.to).map(|served| served.took).collect(), 0.99);
    report.p99_before =
        quantile(within(Duration::ZERO, fault.from).map(|served| served.took).collect(), 0.99);
    let mut gone = vec![false; fault.endpoints];
    for (at, change) in &story.changes {
        report.correlated |= matches!(change.what, What::CorrelatedFailure { .. });
        let Some(endpoint) = change.endpoint else { continue };
        let leaves =
            matches!(change.what, What::Detected { effect: Effect::Ejected { .. }, .. } | What::WentDown);
        let lingers = fault.to + GRACE;
        if leaves && (endpoint >= fault.endpoints || *at < fault.from || *at > lingers) {
            report.false_ejections += 1;
        }
        if leaves && endpoint < fault.endpoints && !gone[endpoint] {
            gone[endpoint] = true;
            if gone.iter().all(|gone| *gone) {
                report.ejected_after = Some(*at - fault.from.min(*at));
            }
        }
        if change.state == Some(State::Up) && *at >= fault.to && endpoint < fault.endpoints {
            report.recovered_after = Some(*at - fault.to);
        }
    }
    let gone_at = report.ejected_after.map_or(fault.to, |after| fault.from + after + GRACE);
    let while_there = |served: &&Served| (fault.from..gone_at).contains(&served.came());
    let bad = story.requests.iter().filter(while_there).filter(|served| served.failed || served.tries > 1);
    if let Some(first) = bad.clone().map(Served::came).min() {
        let last = bad.filter(|served| served.failed).map(Served::came).max().unwrap_or(first);
        report.failing_for = Some(last - first);
    }
    let came_after = |served: &&Served| served.came() > fault.to;
    report.failed_after = story.requests.iter().filter(came_after).filter(|served| served.failed).count();
    report
}

impl Report {
    /// What was worst, of several.
    pub(crate) fn worst(reports: &[Self]) -> Self {
        let most = |value: fn(&Self) -> Option<Duration>| {
            let all: Vec<_> = reports.iter().map(value).collect();
            if all.iter().any(Option::is_none) { None } else { all.into_iter().flatten().max() }
        };
        Self {
            requests: reports.iter().map(|report| report.requests).sum::<usize>() / reports.len(),
            failed: reports.iter().map(|report| report.failed).max().unwrap_or_default(),
            failed_after: reports.iter().map(|report| report.failed_after).max().unwrap_or_default(),
            failing_for: reports.iter().filter_map(|report| report.failing_for).max(),
            ejected_after: most(|report| report.ejected_after),
            false_ejections: reports.iter().map(|report| report.false_ejections).max().unwrap_or_default(),
            recovered_after: reports.iter().filter_map(|report| report.recovered_after).max(),
            p99: reports.iter().map(|report| report.p99).max().unwrap_or_default(),
            p99_before: reports.iter().map(|report| report.p99_before).max().unwrap_or_default(),
            fairness: reports.iter().map(|report| report.fairness).fold(f64::INFINITY, f64::min),
            correlated: reports.iter().any(|report| report.correlated),
        }
    }

    /// A row of the table.
    pub(crate) fn row(&self, scenario: &str, policy: &str) -> String {
        let time = |time: Option<Duration>| match time {
            Some(time) => format!("{:.1} s", time.as_secs_f64()),
            None => "–".to_owned(),
        };
        format!(
            "| {scenario} | {policy} | {} | {} | {} | {} | {} | {} | {:.0} ms | {:.2} |",
            self.requests,
            self.failed,
            time(self.failing_for),
            time(self.ejected_after),
            self.false_ejections,
            time(self.recovered_after),
            self.p99.as_secs_f64() * 1e3,
            self.fairness
        )
    }
}

pub(crate) const HEAD: &str = "| fault | policy | requests | failed | failing for | ejected after | false ejections | \
     recovered after | p99 | least share |\n|---|---|---|---|---|---|---|---|---|---|";

/// For requests that were under way.
const GRACE: Duration = Duration::from_millis(500);

fn fairness(story: &Story, endpoints: usize, lasts: Duration) -> f64 {
    let mut counts = vec![0_usize; endpoints];
    let late = story.requests.iter().filter(|served| served.ended + Duration::from_secs(10) > lasts);
    late.filter_map(|served| served.endpoint).for_each(|endpoint| counts[endpoint] += 1);
    let all: usize = counts.iter().sum();
    counts.iter().min().map_or(0.0, |least| (*least * endpoints) as f64 / all.max(1) as f64)
}

fn quantile(mut times: Vec<Duration>, q: f64) -> Duration {
    times.sort_unstable();
    times.get((times.len() as f64 * q) as usize).copied().unwrap_or_default()
}
