//! A configuration on trial: who is counted meanwhile, and what becomes of it. When it is to be taken back
//! is `health::trial`'s decision.

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use super::Reload;
use crate::ambient;
use crate::health::trial::{Count, Trial, Verdict};
use crate::observe::civil;

/// A configuration that is on trial, or was.
#[derive(Clone, Debug)]
pub struct OnTrial {
    /// Its number.
    pub generation: u64,
    /// The number of the one to go back to.
    pub before: u64,
    /// When it ends at the latest.
    pub until: SystemTime,
    /// How it ended, if it has.
    pub end: Option<TrialEnd>,
}

/// How a trial ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrialEnd {
    /// It stays.
    Kept,
    /// Another one was put in force meanwhile.
    Superseded,
    /// It was taken back, for this reason.
    TakenBack(String),
    /// It was to be taken back, for this reason, and the one before could not be put in force.
    Stuck(String),
}

/// What is on trial, and what was counted before there was anything.
#[derive(Debug, Default)]
pub(super) struct Probation {
    shown: Option<OnTrial>,
    judge: Option<Trial>,
    /// What was counted at these moments, the newest last.
    samples: VecDeque<(Instant, Count)>,
}

/// A configuration whose trial went wrong.
#[derive(Debug)]
pub(super) struct TakenBack {
    /// Its number.
    pub(super) generation: u64,
    /// The number of the one to go back to.
    pub(super) before: u64,
    /// Why.
    pub(super) why: String,
}

impl OnTrial {
    /// As the admin listener shows it.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let (state, reason) = match &self.end {
            None => ("running", None),
            Some(TrialEnd::Kept) => ("kept", None),
            Some(TrialEnd::Superseded) => ("superseded", None),
            Some(TrialEnd::TakenBack(reason)) => ("taken_back", Some(reason)),
            Some(TrialEnd::Stuck(reason)) => ("stuck", Some(reason)),
        };
        json!({
            "generation": self.generation,
            "before": self.before,
            "until": civil::rfc3339(self.until),
            "state": state,
            "reason": reason,
        })
    }
}

impl Probation {
    pub(super) fn shown(&self) -> Option<OnTrial> {
        self.shown.clone()
    }

    /// How long until the next look.
    pub(super) fn pause(&self) -> Duration {
        if self.judge.is_some() { TRIAL_INTERVAL } else { INTERVAL }
    }

    /// A configuration was put in force in the place of another, to be tried for `lasts`, if at all.
    pub(super) fn replaced(
        &mut self,
        (before, generation): (u64, u64),
        lasts: Option<Duration>,
        count: Count,
    ) {
        if self.judge.take().is_some() {
            self.end(TrialEnd::Superseded);
        }
        let Some(lasts) = lasts else { return };
        let now = ambient::now();
        // The oldest sample is up to a minute old; without any, nothing failed before.
        let oldest = self.samples.front().map_or(count, |(_, oldest)| *oldest);
        self.judge = Some(Trial::new(count.since(oldest), count, now, lasts));
        self.shown = Some(OnTrial { generation, before, until: ambient::wall() + lasts, end: None });
    }

    /// Whether the earlier configuration could be put in force again.
    pub(super) fn went_back(&mut self, done: bool) {
        if let (Some(OnTrial { end: Some(end), .. }), false) = (&mut self.shown, done)
            && let TrialEnd::TakenBack(reason) = end
        {
            *end = TrialEnd::Stuck(std::mem::take(reason));
        }
    }

    /// What is to become of the trial now, if there is one.
    fn look(&mut self, now: Instant, count: Count) -> Option<Verdict> {
        let last = self.samples.back();
        if last.is_none_or(|(at, _)| now.saturating_duration_since(*at) >= INTERVAL) {
            self.samples.push_back((now, count));
        }
        while self.samples.len() > SAMPLES {
            self.samples.pop_front();
        }
        let verdict = self.judge.as_ref()?.judge(now, count);
        if verdict != Verdict::Wait {
            self.judge = None;
        }
        Some(verdict)
    }

    fn end(&mut self, end: TrialEnd) {
        if let Some(shown) = &mut self.shown {
            shown.end = Some(end);
        }
    }
}

impl Reload {
    /// Looks at how requests fare; what is to be taken back, if that is due.
    pub(super) fn look_at_trial(&self) -> Option<TakenBack> {
        let count = self.counted();
        let mut state = self.state();
        let verdict = state.probation.look(ambient::now(), count)?;
        let OnTrial { generation, before, .. } = state.probation.shown.clone()?;
        match verdict {
            Verdict::Wait => None,
            Verdict::Keep => {
                state.probation.end(TrialEnd::Kept);
                tracing::info!(generation, "the configuration on trial is kept");
                None
            }
            Verdict::TakeBack { before: rate, since } => {
                let why = format!(
                    "{:.1}% of {} requests failed, and {:.1}% before",
                    since.rate() * 100.0,
                    since.requests,
                    rate * 100.0
                );
                state.probation.end(TrialEnd::TakenBack(why.clone()));
                drop(state);
                tracing::error!(
                    generation,
                    back_to = before,
                    why,
                    "the configuration on trial is taken back"
                );
                self.running.registry().config().rolled_back();
                Some(TakenBack { generation, before, why })
            }
        }
    }

    /// All requests of all routes so far.
    pub(super) fn counted(&self) -> Count {
        let classes = self.running.registry().requests_by_class();
        let [.., failures] = classes;
        Count { requests: classes.iter().sum(), failures }
    }
}

/// How often requests are counted when nothing is on trial.
const INTERVAL: Duration = Duration::from_secs(5);
/// How often when something is.
const TRIAL_INTERVAL: Duration = Duration::from_millis(250);
/// Samples that are kept: a minute's.
const SAMPLES: usize = 13;
