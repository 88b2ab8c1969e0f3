//! Detectors of outliers: each looks at what happened at a pool's endpoints and names those that it
//! finds wanting, with its reasons. Pure; whether a finding is enforced is decided elsewhere. To add
//! one: one file, and one line in [`KINDS`].

mod chance;
mod consecutive;
mod failure_rate;
mod latency;
mod success_rate;
#[cfg(test)]
mod tests;
mod unresponsive;
mod window;
mod words;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Sample;
use crate::model::options::Options;

/// Finds outliers in one pool.
pub trait Detector: fmt::Debug + Send {
    /// Takes what happened since the last call at each endpoint that is seen, and names those that
    /// are outliers at `now`, each time as long as they are. Called several times a second, at
    /// irregular intervals; where nothing happened need not be seen.
    fn judge(&mut self, seen: &[Seen<'_>], now: Instant) -> Vec<Finding>;

    /// Forgets what it knows of the endpoint, which begins anew.
    fn forget(&mut self, endpoint: usize);

    /// The endpoints are others from now on: at each place the one that had the index that `from`
    /// says, or a new one.
    fn renumber(&mut self, from: &[Option<usize>]);
}

/// One endpoint, as a detector sees it.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// Its index in the pool.
    pub endpoint: usize,
    /// Endpoints are compared within their failover level.
    pub level: u32,
    /// Whether it may get traffic as a rule, if only a part of its weight, so that others may be
    /// compared with it. Findings about others have no effect.
    pub serving: bool,
    /// What happened there.
    pub sample: &'a Sample,
}

/// An outlier.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// Its index in the pool.
    pub endpoint: usize,
    /// How bad it is.
    pub severity: Severity,
    /// Why.
    pub evidence: Evidence,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It should get a tenth of its weight.
    Degrade,
    /// It should get no traffic.
    Eject,
}

/// The inputs of a finding.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evidence {
    /// In words: the value, the threshold, the others' values. Without the endpoint's name.
    pub words: String,
    /// The same as numbers, by names that end in their unit (`_seconds`, `_share`) or count things.
    pub values: Vec<(&'static str, f64)>,
}

/// What is done about a detector's findings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// They are acted upon.
    Enforce,
    /// They are counted and recorded.
    Observe,
    /// There are none.
    Off,
}

/// A kind of detector: its row in [`KINDS`].
#[derive(Debug)]
pub struct Kind {
    /// The name in the configuration, in metrics and in the journal.
    pub name: &'static str,
    /// One line for help and reference.
    pub summary: &'static str,
    /// What is done about its findings unless the configuration says otherwise.
    pub mode: Mode,
    /// The option that a bare number in the configuration stands for.
    pub shorthand: Option<&'static str>,
    /// Reads its own options; all have defaults. The table may be empty.
    pub read: fn(&Options<'_>) -> Make,
}

/// Makes a detector for a pool.
#[derive(Clone)]
pub struct Make(Arc<dyn Fn() -> Box<dyn Detector> + Send + Sync>);

/// A detector chosen for a pool.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// What it is.
    pub kind: &'static Kind,
    /// What is done about its findings.
    pub mode: Mode,
    /// How it is made.
    pub make: Make,
}

/// Every detector there is.
pub const KINDS: &[Kind] = &[
    consecutive::FAILURES,
    consecutive::CONNECT_FAILURES,
    failure_rate::KIND,
    success_rate::KIND,
    latency::KIND,
    unresponsive::KIND,
];

impl Make {
    /// What makes detectors by `make`.
    pub fn new<D: Detector + 'static>(make: impl Fn() -> D + Send + Sync + 'static) -> Self {
        Self(Arc::new(move || Box::new(make())))
    }

    /// Makes one.
    #[must_use]
    pub fn make(&self) -> Box<dyn Detector> {
        (self.0)()
    }
}

impl fmt::Debug for Make {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.make().fmt(f)
    }
}

/// What is known of each endpoint, after these have changed as [`Detector::renumber`] says.
fn renumbered<T: Default>(known: &mut Vec<T>, from: &[Option<usize>]) {
    let mut before = std::mem::take(known);
    let at = |from: &Option<usize>| from.and_then(|from| before.get_mut(from)).map(std::mem::take);
    known.extend(from.iter().map(at).map(Option::unwrap_or_default));
}

/// Bounds on the windows of the configuration.
const SHORTEST_WINDOW: Duration = Duration::from_secs(1);
const LONGEST_WINDOW: Duration = Duration::from_secs(600);
