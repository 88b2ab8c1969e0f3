//! What can become of an attempt to replace the configuration, and how it is told: in the log, as JSON,
//! and as the problem of someone at a terminal. Decides nothing.

use std::borrow::Cow;
use std::error::Error;
use std::fmt::Write as _;
use std::io;

use serde_json::{Value, json};

use super::Attempt;
use crate::control::running::RunError;

/// Who wanted the configuration replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The process began.
    Start,
    /// One of its files changed.
    File,
    /// SIGHUP.
    Signal,
    /// The admin listener, or `forebay reload`.
    Request,
    /// A configuration was sent.
    Apply,
    /// An earlier one was wanted again.
    Rollback,
    /// More requests failed under the one before.
    AutoRollback,
}

impl Cause {
    /// Its name, as logs and the admin listener show it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::File => "file",
            Self::Signal => "signal",
            Self::Request => "request",
            Self::Apply => "apply",
            Self::Rollback => "rollback",
            Self::AutoRollback => "auto_rollback",
        }
    }
}

/// What became of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The new configuration is in force.
    Replaced(Replaced),
    /// It says the same as the one in force.
    Unchanged {
        /// The number of the one in force.
        generation: u64,
    },
    /// It has problems or cannot run here and now, as this text says; what ran before goes on.
    Failed(String),
    /// Nothing was attempted.
    Refused(Refused),
}

/// A configuration that is in force now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replaced {
    /// Its number.
    pub generation: u64,
    /// What is different, in lines.
    pub changes: String,
    /// What of it takes effect only when the process is started again, a line each.
    pub restart: Vec<String>,
    /// Warnings about what is written; empty when there are none.
    pub warnings: String,
}

/// Why nothing was attempted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// What is wrong.
    pub error: Cow<'static, str>,
    /// What to do about it.
    pub hint: Cow<'static, str>,
}

impl Refused {
    /// There is no file.
    #[must_use]
    pub fn no_file() -> Self {
        let hint = "Forebay was started without one: start it with `forebay run -c FILE`";
        Self::new("there is no configuration file to read again", hint)
    }

    /// The process is about to end.
    #[must_use]
    pub fn ending() -> Self {
        Self::new("the process is draining", "the next one reads the file")
    }

    pub(super) fn new(error: impl Into<Cow<'static, str>>, hint: impl Into<Cow<'static, str>>) -> Self {
        Self { error: error.into(), hint: hint.into() }
    }
}

impl Outcome {
    /// Whether what is configured is what runs.
    #[must_use]
    pub fn is_good(&self) -> bool {
        matches!(self, Self::Replaced(_) | Self::Unchanged { .. })
    }

    /// Why not; empty when it is.
    #[must_use]
    pub fn problems(&self) -> String {
        match self {
            Self::Replaced(_) | Self::Unchanged { .. } => String::new(),
            Self::Failed(problems) => problems.clone(),
            Self::Refused(Refused { error, hint }) => format!("error: {error}\nhelp: {hint}\n"),
        }
    }

    /// As the admin listener shows it.
    #[must_use]
    pub fn to_json(&self) -> Value {
        match self {
            Self::Replaced(done) => json!({
                "result": "replaced",
                "generation": done.generation,
                "changes": done.changes.lines().collect::<Vec<_>>(),
                "needs_restart": done.restart,
                "warnings": done.warnings,
            }),
            Self::Unchanged { generation } => json!({ "result": "unchanged", "generation": generation }),
            Self::Failed(problems) => json!({ "result": "failed", "problems": problems }),
            Self::Refused(Refused { error, hint }) => {
                json!({ "result": "refused", "error": error, "hint": hint })
            }
        }
    }
}

/// Why a valid plan does not run, with its causes and what can be done, in the form of a report.
pub(super) fn explain(error: &RunError) -> String {
    let mut text = format!("error: {error}");
    let (mut cause, mut kind) = (error.source(), None);
    while let Some(error) = cause {
        // Writing to a string does not fail.
        let _ = write!(text, ": {error}");
        kind = error.downcast_ref::<io::Error>().map(io::Error::kind).or(kind);
        cause = error.source();
    }
    let remedy = match kind {
        Some(io::ErrorKind::AddrInUse) => "another process listens there: stop it, or bind elsewhere",
        Some(io::ErrorKind::AddrNotAvailable) => "the address is none of this machine's: bind another",
        Some(io::ErrorKind::PermissionDenied) => "let the user that runs forebay do so",
        _ => return text + "\n",
    };
    text + "\nhelp: " + remedy + "\n"
}

/// That what is written under `key` is not what runs.
pub(super) fn after_restart(key: &str) -> String {
    format!("`{key}` has changed, which takes effect when forebay is restarted")
}

/// Logs what became of an attempt; `generation` is in force after it.
pub(super) fn log(attempt: &Attempt, generation: u64) {
    let (cause, took) = (attempt.cause.name(), attempt.took);
    match &attempt.outcome {
        Outcome::Replaced(Replaced { changes, restart, warnings, .. }) => {
            let changes = changes.trim_end();
            tracing::info!(generation, cause, ?took, changes = %format_args!("\n{changes}"), "the configuration was replaced");
            for note in restart {
                tracing::warn!("{note}");
            }
            if !warnings.is_empty() {
                tracing::warn!(warnings = %format_args!("\n{warnings}"), "the configuration has warnings");
            }
        }
        Outcome::Unchanged { .. } => {
            tracing::info!(generation, cause, ?took, "the configuration is the one in force");
        }
        outcome => {
            let problems = outcome.problems();
            tracing::error!(
                generation, cause, ?took, problems = %format_args!("\n{}", problems.trim_end()),
                "the configuration was not replaced, what ran before goes on"
            );
        }
    }
}
