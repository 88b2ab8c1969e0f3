//! Reloading: what is configured is read again, off the control thread, and put in force or not at all.
//! One attempt at a time, whoever asks; what became of the last one is kept for those who ask later, and a
//! configuration may be on trial. Does not know how a plan is put in force: that is `running`'s.

mod history;
mod outcome;
mod preview;
mod status;
mod trial;
mod watch;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

pub use history::{Generation, History};
pub use outcome::{Cause, Outcome, Refused, Replaced};
pub use preview::Preview;
pub use status::Status;
pub use trial::{OnTrial, TrialEnd};
use trial::{Probation, TakenBack};

use super::admin::{Phase, Readiness};
use super::priority::give_way;
use super::running::{self, Running};
use crate::ambient;
use crate::config::diff::diff;
use crate::config::plan::Origin;
use crate::config::{self, Plan, Reading};
use crate::model::Fingerprint;
use crate::observe::log;
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
    history: History,
    orders: mpsc::Sender<Order>,
    state: Mutex<State>,
    /// Told after every attempt.
    attempted: Notify,
}

/// What was asked for and is not done yet. Belongs to the control thread.
#[derive(Debug)]
pub struct Orders(mpsc::Receiver<Order>);

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
    last: Option<Arc<Attempt>>,
    /// What was found where the configuration comes from, when it was last read.
    seen: Fingerprint,
    /// The files and folders that were looked at then.
    looked_at: BTreeSet<PathBuf>,
    probation: Probation,
}

#[derive(Debug)]
struct Order {
    wish: Wish,
    reply: Option<oneshot::Sender<Outcome>>,
}

/// What is to be put in force.
#[derive(Clone, Debug)]
enum Wish {
    /// What the file says.
    Read(Cause),
    /// What was sent.
    Apply(Application),
    /// What was in force once: the one with this number.
    GoBack(u64, Cause),
}

/// A configuration that was sent.
#[derive(Clone, Debug)]
pub struct Application {
    /// The absolute path of the file in whose place it stands.
    pub path: PathBuf,
    /// What is in it.
    pub text: String,
    /// The number that the one in force has to have, if any.
    pub if_generation: Option<u64>,
    /// For how long it is on trial, if it is.
    pub trial: Option<Duration>,
}

impl Reload {
    /// The reloading of what runs, as it was read from `source`, with what was in force before.
    #[must_use]
    pub fn new(
        running: Arc<Running>,
        readiness: Arc<Readiness>,
        source: Source,
        history: History,
    ) -> (Arc<Self>, Orders) {
        let (plan, number) = running.plan();
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
            probation: Probation::default(),
        };
        if history.get(number).is_none() {
            history.add(generation(&plan.origin, number, Cause::Start, String::new()));
        }
        let reload = Self {
            running,
            readiness,
            source,
            history,
            orders,
            state: Mutex::new(state),
            attempted: Notify::new(),
        };
        (Arc::new(reload), Orders(inbox))
    }

    /// Reads the configuration again and has it in force, or says why not. Goes on when the caller stops
    /// waiting, as all the others do.
    pub async fn reload(&self, cause: Cause) -> Outcome {
        self.ask(Wish::Read(cause)).await
    }

    /// As [`Self::reload`], for those who do not wait.
    pub fn request(&self, cause: Cause) {
        // Those that wait already will read what is there now.
        let _ = self.orders.try_send(Order { wish: Wish::Read(cause), reply: None });
    }

    /// Has a configuration in force that was sent, on trial if so wanted.
    pub async fn apply(&self, application: Application) -> Outcome {
        self.ask(Wish::Apply(application)).await
    }

    /// Has a configuration in force again that was once: the one with this number, or the one before the
    /// one in force.
    pub async fn go_back(&self, to: Option<u64>) -> Outcome {
        let (_, number) = self.running.plan();
        let to = to.or_else(|| self.history.before(number).map(|before| before.number));
        match to {
            Some(to) => self.ask(Wish::GoBack(to, Cause::Rollback)).await,
            None => {
                Outcome::Refused(Refused::new("there is no configuration to go back to", "this is the first"))
            }
        }
    }

    /// The configurations that were in force.
    #[must_use]
    pub fn history(&self) -> &History {
        &self.history
    }

    /// What the one with this number means, if it is known and still means something: files that it names,
    /// such as certificates, are as they are now.
    #[must_use]
    pub fn read_generation(&self, number: u64) -> Option<Arc<Plan>> {
        let (plan, now) = self.running.plan();
        if now == number {
            return Some(plan);
        }
        let known = self.history.get(number)?;
        config::read_kept(&known.texts, &self.source.env).plan.map(Arc::new)
    }

    async fn ask(&self, wish: Wish) -> Outcome {
        let (reply, answer) = oneshot::channel();
        let sent = self.orders.send(Order { wish, reply: Some(reply) }).await;
        match (sent, answer.await) {
            (Ok(()), Ok(outcome)) => outcome,
            _ => Outcome::Refused(Refused::ending()),
        }
    }

    /// Does what is asked for, one after the other, and watches what is on trial; does not end.
    pub async fn run(self: &Arc<Self>, orders: &mut Orders) {
        loop {
            tokio::select! {
                order = orders.0.recv() => {
                    let Some(Order { wish, reply }) = order else { return };
                    let outcome = self.carry_out(wish).await;
                    if let Some(reply) = reply {
                        // Who asked may have left.
                        let _ = reply.send(outcome);
                    }
                }
                () = sleep(self.state().probation.pause()) => {}
            }
            if let Some(TakenBack { generation, before, why }) = self.look_at_trial() {
                let reload = Arc::clone(self);
                // It is brought to the disk. What goes wrong with that is no reason not to go back.
                let noted = spawn_blocking(move || reload.history.take_back(generation, &why)).await;
                drop(noted);
                let outcome = self.carry_out(Wish::GoBack(before, Cause::AutoRollback)).await;
                self.state().probation.went_back(outcome.is_good());
            }
        }
    }

    async fn carry_out(self: &Arc<Self>, wish: Wish) -> Outcome {
        let (reload, cause) = (Arc::clone(self), wish.cause());
        let (tell, told) = oneshot::channel();
        let attempt = move || {
            give_way();
            let _ = tell.send(catching(Place::Control, || reload.attempt(&wish)));
        };
        let begun = thread::Builder::new().name("reload".to_owned()).spawn(attempt);
        let outcome = match (begun, told.await) {
            (Ok(_), Ok(Ok(outcome))) => outcome,
            (Ok(_), Ok(Err(panic))) => self.fell(cause, format!("a panic ended the reload: {panic}")),
            (Err(error), _) => self.fell(cause, format!("no thread could be started: {error}")),
            (Ok(_), Err(_)) => Outcome::Refused(Refused::ending()),
        };
        self.attempted.notify_one();
        outcome
    }

    /// Has a reload begin whenever the files have changed; does not end.
    pub async fn watch(self: &Arc<Self>) {
        watch::run(self).await;
    }

    fn attempt(&self, wish: &Wish) -> Outcome {
        let (began, cause) = (ambient::now(), wish.cause());
        let outcome = match self.refused().map_or_else(|| self.read_for(wish), Err) {
            Err(refused) => Outcome::Refused(refused),
            Ok(reading) => self.put(reading, wish),
        };
        let took = ambient::now().saturating_duration_since(began);
        self.note(Attempt { at: ambient::wall(), cause, took, outcome: outcome.clone() });
        outcome
    }

    fn read_for(&self, wish: &Wish) -> Result<Reading, Refused> {
        match wish {
            Wish::Read(_) => {
                let reading = self.read().ok_or_else(Refused::no_file)?;
                self.state().saw(&reading);
                Ok(reading)
            }
            Wish::Apply(Application { path, text, if_generation, .. }) => {
                let (_, number) = self.running.plan();
                match if_generation.filter(|wanted| *wanted != number) {
                    Some(wanted) => {
                        let error = format!("generation {number} is in force, not {wanted}");
                        Err(Refused::new(error, "`forebay config diff` shows what was changed meanwhile"))
                    }
                    None => Ok(self.read_as(path, text)),
                }
            }
            Wish::GoBack(to, _) => match self.history.get(*to) {
                Some(known) => Ok(config::read_kept(&known.texts, &self.source.env)),
                None => {
                    let error = format!("generation {to} is not known");
                    Err(Refused::new(error, "`forebay config history` lists those that are"))
                }
            },
        }
    }

    /// What keeps everything from being replaced now.
    fn refused(&self) -> Option<Refused> {
        (self.readiness.phase() == Phase::Draining).then_some(Refused::ending())
    }

    /// What the configuration's file says now; `None` when there is none.
    fn read(&self) -> Option<Reading> {
        self.source.file.as_deref().map(|file| config::read(file, &self.source.env))
    }

    fn read_as(&self, path: &Path, text: &str) -> Reading {
        config::read_as(path, text, &self.source.env)
    }

    fn put(&self, reading: Reading, wish: &Wish) -> Outcome {
        let Reading { plan, report, .. } = reading;
        let Some(plan) = plan else { return Outcome::Failed(report.to_string()) };
        let warnings = if report.is_empty() { String::new() } else { report.to_string() };
        let (before, number) = self.running.plan();
        if plan.origin.fingerprint == before.origin.fingerprint {
            return Outcome::Unchanged { generation: number };
        }
        let changes = diff(&before, &plan, ambient::now()).to_string();
        let counted = self.counted();
        let running::Replaced { generation: now, restart } = match self.running.replace(plan) {
            Ok(replaced) => replaced,
            Err(error) => return Outcome::Failed(outcome::explain(&error)),
        };
        let (plan, _) = self.running.plan();
        if plan.log.level != before.log.level
            && let Err(error) = log::set_usual(&plan.log.level)
        {
            tracing::error!(%error, "the log level stays as it was");
        }
        self.history.add(generation(&plan.origin, now, wish.cause(), changes.clone()));
        let mut state = self.state();
        (state.loaded_at, state.cause) = (ambient::wall(), wish.cause());
        let lasts = match wish {
            Wish::Apply(application) => application.trial,
            Wish::Read(_) | Wish::GoBack(..) => None,
        };
        if wish.cause() != Cause::AutoRollback {
            state.probation.replaced((number, now), lasts, counted);
        }
        let restart = restart.into_iter().map(outcome::after_restart).collect();
        Outcome::Replaced(Replaced { generation: now, changes, restart, warnings })
    }

    /// Keeps, counts and logs what became of an attempt.
    fn note(&self, attempt: Attempt) {
        let attempt = Arc::new(attempt);
        let (plan, generation) = self.running.plan();
        let metrics = self.running.registry().config();
        let hash = plan.origin.fingerprint.to_string();
        let result = match &attempt.outcome {
            Outcome::Replaced(_) => Some(ReloadResult::Replaced),
            Outcome::Unchanged { .. } => Some(ReloadResult::Unchanged),
            Outcome::Failed(_) => Some(ReloadResult::Failed),
            Outcome::Refused(_) => None,
        };
        // Who sends something bad is told so; what runs is what is configured all the same.
        let sent = matches!(attempt.cause, Cause::Apply | Cause::Rollback);
        let result = result.filter(|_| !sent || attempt.outcome.is_good());
        if let Some(result) = result {
            metrics.ended(result, attempt.took);
            if result != ReloadResult::Failed {
                metrics.succeeded(&hash, attempt.at);
            }
            // Before it is logged: who sees that and asks is to be told.
            self.state().last = Some(Arc::clone(&attempt));
        }
        outcome::log(&attempt, generation);
    }

    /// Takes note of an attempt that did not come to its end.
    fn fell(&self, cause: Cause, why: String) -> Outcome {
        let outcome = Outcome::Failed(format!("error: {why}\n"));
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

impl Wish {
    fn cause(&self) -> Cause {
        match self {
            Self::Read(cause) | Self::GoBack(_, cause) => *cause,
            Self::Apply(_) => Cause::Apply,
        }
    }
}

fn generation(origin: &Origin, number: u64, cause: Cause, changes: String) -> Generation {
    Generation {
        number,
        hash: origin.fingerprint.to_string(),
        at: ambient::wall(),
        cause: cause.name().to_owned(),
        changes,
        taken_back: None,
        texts: history::texts(origin),
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
