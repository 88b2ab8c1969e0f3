//! What is known of the configuration in force, and of the last attempt to replace it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use serde_json::{Value, json};

use super::{Attempt, Cause, OnTrial, Reload};
use crate::model::Fingerprint;
use crate::observe::civil;

/// The configuration in force, and what became of the last attempt to replace it.
#[derive(Clone, Debug)]
pub struct Status {
    /// The number of the configuration in force.
    pub generation: u64,
    /// Its digest.
    pub hash: Fingerprint,
    /// The file that is read again, if there is one.
    pub file: Option<PathBuf>,
    /// When it was put in force.
    pub loaded_at: SystemTime,
    /// Why.
    pub cause: Cause,
    /// The last attempt since the start.
    pub last: Option<Arc<Attempt>>,
    /// The last configuration that was on trial since the start, or is.
    pub trial: Option<OnTrial>,
}

impl Reload {
    /// What is in force, and what became of the last attempt to replace it.
    #[must_use]
    pub fn status(&self) -> Status {
        let (plan, generation) = self.running.plan();
        let state = self.state();
        Status {
            generation,
            hash: plan.origin.fingerprint,
            file: self.source.file.clone(),
            loaded_at: state.loaded_at,
            cause: state.cause,
            last: state.last.clone(),
            trial: state.probation.shown(),
        }
    }
}

impl Status {
    /// Whether the last attempt failed, so that what runs is not what is configured.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.last.as_ref().is_some_and(|last| !last.outcome.is_good())
    }

    /// As the admin listener shows it.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let last = self.last.as_ref().map(|last| {
            json!({
                "at": civil::rfc3339(last.at),
                "cause": last.cause.name(),
                "ok": last.outcome.is_good(),
                "problems": last.outcome.problems(),
                "took_seconds": last.took.as_secs_f64(),
            })
        });
        json!({
            "generation": self.generation,
            "hash": self.hash.to_string(),
            "file": self.file,
            "loaded_at": civil::rfc3339(self.loaded_at),
            "cause": self.cause.name(),
            "last_reload": last,
            "trial": self.trial.as_ref().map(OnTrial::to_json),
        })
    }
}
