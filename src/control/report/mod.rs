//! An account of the last minutes for an incident note: what came and what failed, against an objective;
//! how long it took; what happened to endpoints, pools and the configuration, and why. What is known is
//! gathered from the process; how it reads is decided here, without it.

mod budget;
mod gather;
mod happening;
mod markdown;
mod object;
mod sparkline;
mod summary;
mod words;

use std::time::{Duration, SystemTime};

pub use budget::{Budget, Objective, PERIOD};
pub use gather::{Wanted, gather};
pub use happening::{Happening, Kind, Outage, Subject};

/// What is known of some time.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Who tells.
    pub process: Process,
    /// From when on something is known.
    pub from: SystemTime,
    /// Until when.
    pub to: SystemTime,
    /// How much was asked for.
    pub asked: Duration,
    /// What is aimed at.
    pub objective: Objective,
    /// Everything that came.
    pub course: Course,
    /// By route and pool.
    pub routes: Vec<RouteLine>,
    /// By pool.
    pub pools: Vec<PoolLine>,
    /// What happened, the oldest first.
    pub happened: Vec<Happening>,
    /// Endpoints that were without traffic.
    pub outages: Vec<Outage>,
    /// What someone should look at now, each in a sentence.
    pub warnings: Vec<String>,
}

/// The process that is told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its version.
    pub version: String,
    /// Its number.
    pub pid: u32,
    /// When it was started.
    pub started: SystemTime,
    /// Its worker threads.
    pub workers: usize,
    /// The number of the configuration in force.
    pub generation: u64,
    /// The digest of it.
    pub hash: String,
}

/// Requests of some time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// How many ended.
    pub requests: u64,
    /// How many of them were answered with a status of 5xx.
    pub errors: u64,
    /// How long half of them took at most; `None` where nothing was counted.
    pub p50: Option<Duration>,
    /// Nine in ten.
    pub p90: Option<Duration>,
    /// Ninety-nine in a hundred.
    pub p99: Option<Duration>,
}

/// All requests, and how it went over time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Course {
    /// All of them.
    pub whole: Figures,
    /// How long each step is.
    pub step: Duration,
    /// When the first step began, in steps that are over; the oldest first.
    pub steps: Vec<Step>,
    /// The part of their time that workers were busy, 0 to 1, over all steps, where that is known.
    pub busy: Option<f64>,
}

/// One step of a course.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Step {
    /// Requests that ended in it.
    pub requests: u64,
    /// Those that failed.
    pub errors: u64,
    /// What all but one in a hundred took at most.
    pub p99: Option<Duration>,
    /// Requests under way at its end.
    pub in_flight: f64,
    /// Connections of clients at its end.
    pub connections: f64,
    /// The part of their time that workers were busy, 0 to 1, where that is known.
    pub busy: Option<f64>,
}

/// A route, towards one pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteLine {
    /// Its listener, its name, and the pool, if it leads to one; `None` stands for all that are not told of one
    /// by one.
    pub labels: Option<(String, String, Option<String>)>,
    /// Its requests.
    pub figures: Figures,
}

/// A pool.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolLine {
    /// Its name; `None` stands for all that are not told of one by one.
    pub pool: Option<String>,
    /// Its requests.
    pub figures: Figures,
    /// Endpoints that get traffic, and endpoints, at the end.
    pub endpoints: (u64, u64),
    /// How many there should be by how much it was used lately, where that is told.
    pub desired: Option<u32>,
    /// Requests under way of those that could be, 0 to 1 as a rule: over the whole time, and at most.
    pub utilisation: (f64, f64),
    /// How long requests waited for their turn: all but one in a hundred of those that had to.
    pub wait_p99: Option<Duration>,
}

impl Report {
    /// How long the time is that something is known of.
    #[must_use]
    pub fn span(&self) -> Duration {
        self.to.duration_since(self.from).unwrap_or_default()
    }

    /// Availability against the objective.
    #[must_use]
    pub fn budget(&self) -> Budget {
        let Figures { requests, errors, .. } = self.course.whole;
        Budget { objective: self.objective, requests, errors, span: self.span() }
    }

    /// Requests a second over the whole time.
    fn rate(&self) -> f64 {
        self.course.whole.requests as f64 / self.span().as_secs_f64().max(1.0)
    }
}

impl Figures {
    /// The share that failed, 0 where nothing came.
    #[must_use]
    pub fn failing(&self) -> f64 {
        self.errors as f64 / self.requests.max(1) as f64
    }
}

impl Course {
    /// The greatest of what `of` says of a step.
    fn greatest(&self, of: impl Fn(&Step) -> f64) -> f64 {
        self.steps.iter().map(of).fold(0.0, f64::max)
    }

    /// The same as a number a second.
    fn greatest_rate(&self, of: impl Fn(&Step) -> u64) -> f64 {
        self.greatest(|step| of(step) as f64) / self.step.as_secs_f64().max(1e-9)
    }
}

#[cfg(test)]
mod tests;
