//! Reloading: what is configured is read again, off the control thread, and put in force or not at all.
//! One attempt at a time, whoever asks; what became of the last one is kept for those who ask later.
//! Does not know how a plan is put in force: that is `running`'s.

mod changes;
mod outcome;
mod watch;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::{Notify, mpsc, oneshot};

pub use outcome::{Cause, Outcome, Refused, Replaced};

use super::admin::{Phase, Readiness};
use super::running::{self, Running};
use crate::ambient;
use crate::config::plan::Origin;
use crate::config::{self, Reading};
use crate::model::Fingerprint;
use crate::observe::metrics::ReloadResult;
use crate::observe::panics::{Place, catching};

/// Where the configuration comes from.
#[derive(Clone, Debug)]
pub struct Source {
    /// The file that is read again; none when there was none.
    pub file: Option<PathBuf>,
    /// Values for `${NAME}`.
    pub env: fn(&str) -> Option<String>,
}

impl Default for Source {
    fn default() -> Self {
        Self { file: None, env: |_| None }
    }
}

/// The one who reloads, for those who ask for it.
#[derive(Debug)]
pub struct Reload {
    running: Arc<Running>,
    readiness: Arc<Readiness>,
    source: Source,
    orders: mpsc::Sender<Order>,
    state: Mutex<State>,
    /// Told after every attempt.
    attempted: Notify,
}

/// What was asked for and is not done yet. Belongs to the control thread.
#[derive(Debug)]
pub struct Orders(mpsc::Receiver<Order>);

/// What is known of the configuration in force, and of the last attempt to replace it.
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
    pub last: Option<Attempt>,
}

/// An attempt to replace the configuration.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// When it ended.
    pub at: SystemTime,
    /// Who wanted it.
    pub cause: Cause,
    /// What became of it.
    pub outcome: Outcome,
    /// How long it took.
    pub took: Duration,
}

#[derive(Debug)]
struct State {
    loaded_at: SystemTime,
    cause: Cause,
    last: Option<Attempt>,
    /// What was found where the configuration comes from, when it was last read.
    seen: Fingerprint,
    /// The files and folders that were looked at then.
    looked_at: BTreeSet<PathBuf>,
}

#[derive(Debug)]
struct Order {
    cause: Cause,
    reply: Option<oneshot::Sender<Outcome>>,
}

impl Reload {
    /// The reloading of what runs, as it was read from `source`.
    #[must_use]
    pub fn new(running: Arc<Running>, readiness: Arc<Readiness>, source: Source) -> (Arc<Self>, Orders) {
        let (plan, _) = running.plan();
        let now = ambient::wall();
        running.registry().config().succeeded(&plan.origin.fingerprint.to_string(), now);
        let (orders, inbox) = mpsc::channel(WAITING);
        let Origin { fingerprint, files, folders, .. } = &plan.origin;
        let state = State {
            loaded_at: now,
            cause: Cause::Start,
            last: None,
            seen: *fingerprint,
            looked_at: files.iter().chain(folders).cloned().collect(),
        };
        let reload =
            Self { running, readiness, source, orders, state: Mutex::new(state), attempted: Notify::new() };
        (Arc::new(reload), Orders(inbox))
    }

    /// Reads the configuration again and has it in force, or says why not. Goes on when the caller stops
    /// waiting.
    pub async fn reload(&self, cause: Cause) -> Outcome {
        let (reply, answer) = oneshot::channel();
        let sent = self.orders.send(Order { cause, reply: Some(reply) }).await;
        match (sent, answer.await) {
            (Ok(()), Ok(outcome)) => outcome,
            _ => Outcome::Refused(Refused::ending()),
        }
    }

    /// As [`Self::reload`], for those who do not wait.
    pub fn request(&self, cause: Cause) {
        // Those that wait already will read what is there now.
        let _ = self.orders.try_send(Order { cause, reply: None });
    }

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
        }
    }

    /// Does what is asked for, one after the other; does not end.
    pub async fn run(self: &Arc<Self>, orders: &mut Orders) {
        while let Some(Order { cause, reply }) = orders.0.recv().await {
            let reload = Arc::clone(self);
            let attempt = move || catching(Place::Control, || reload.attempt(cause));
            let outcome = match tokio::task::spawn_blocking(attempt).await {
                Ok(Ok(outcome)) => outcome,
                Ok(Err(panic)) => self.note_panic(cause, &panic.to_string()),
                Err(_) => Outcome::Refused(Refused::ending()),
            };
            self.attempted.notify_one();
            if let Some(reply) = reply {
                // Who asked may have left.
                let _ = reply.send(outcome);
            }
        }
    }

    /// Has a reload begin whenever the files have changed; does not end.
    pub async fn watch(self: &Arc<Self>) {
        watch::run(self).await;
    }

    fn attempt(&self, cause: Cause) -> Outcome {
        let began = ambient::now();
        let outcome = match self.refused() {
            Some(refused) => Outcome::Refused(refused),
            None => self.read().map_or(Outcome::Refused(Refused::no_file()), |reading| {
                self.state().saw(&reading);
                self.put(reading, cause)
            }),
        };
        let took = ambient::now().saturating_duration_since(began);
        self.note(Attempt { at: ambient::wall(), cause, took, outcome: outcome.clone() });
        outcome
    }

    /// What keeps everything from being replaced now.
    fn refused(&self) -> Option<Refused> {
        (self.readiness.phase() == Phase::Draining).then_some(Refused::ending())
    }

    /// What the configuration's file says now; `None` when there is none.
    fn read(&self) -> Option<Reading> {
        self.source.file.as_deref().map(|file| config::read(file, &self.source.env))
    }

    fn put(&self, reading: Reading, cause: Cause) -> Outcome {
        let Reading { plan, report, .. } = reading;
        let Some(plan) = plan else { return Outcome::Failed(report.to_string()) };
        let (before, generation) = self.running.plan();
        let warnings = if report.is_empty() { String::new() } else { report.to_string() };
        if plan.origin.fingerprint == before.origin.fingerprint {
            return Outcome::Unchanged { generation };
        }
        let (changes, restart) = (changes::changes(&before, &plan), changes::needs_restart(&before, &plan));
        match self.running.replace(plan) {
            Ok(running::Replaced { generation, .. }) => {
                let mut state = self.state();
                (state.loaded_at, state.cause) = (ambient::wall(), cause);
                Outcome::Replaced(Replaced { generation, changes, restart, warnings })
            }
            Err(error) => Outcome::Failed(outcome::explain(&error)),
        }
    }

    /// Keeps, counts and logs what became of an attempt.
    fn note(&self, attempt: Attempt) {
        let (plan, generation) = self.running.plan();
        let metrics = self.running.registry().config();
        let hash = plan.origin.fingerprint.to_string();
        let result = match &attempt.outcome {
            Outcome::Replaced(_) => Some(ReloadResult::Replaced),
            Outcome::Unchanged { .. } => Some(ReloadResult::Unchanged),
            Outcome::Failed(_) => Some(ReloadResult::Failed),
            Outcome::Refused(_) => None,
        };
        if let Some(result) = result {
            metrics.ended(result, attempt.took);
            if result != ReloadResult::Failed {
                metrics.succeeded(&hash, attempt.at);
            }
        }
        outcome::log(&attempt, generation);
        if result.is_some() {
            self.state().last = Some(attempt);
        }
    }

    /// A mistake in this program must not pass for a good reload.
    fn note_panic(&self, cause: Cause, panic: &str) -> Outcome {
        let outcome = Outcome::Failed(format!("error: a panic ended the reload: {panic}\n"));
        let took = Duration::ZERO;
        self.note(Attempt { at: ambient::wall(), cause, took, outcome: outcome.clone() });
        outcome
    }

    /// The files and folders to watch.
    fn files(&self) -> Vec<PathBuf> {
        self.state().looked_at.iter().cloned().collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn saw(&mut self, reading: &Reading) {
        self.seen = seen(reading);
        // What is bad may have been read half-way only.
        if reading.plan.is_some() {
            self.looked_at.clear();
        }
        self.looked_at.extend(reading.files.iter().chain(&reading.folders).cloned());
    }
}

/// Tells what was read from what is read at another time: the plan's digest, or the problems'.
fn seen(reading: &Reading) -> Fingerprint {
    match &reading.plan {
        Some(plan) => plan.origin.fingerprint,
        None => Fingerprint::of_bytes(reading.report.to_string().as_bytes()),
    }
}

/// Attempts that may wait for the one under way.
const WAITING: usize = 16;
