//! How pools come by their endpoints while the program runs: names are asked for again when their answers
//! have aged, lists are read again when they have changed, and changes by hand are kept. Which endpoints
//! follow from that is decided in [`crate::discover`]; to have them used is [`Running`]'s.
//!
//! [`Running`]: super::running::Running

mod ask;
mod by_hand;
mod kept;
mod lists;
mod run;
mod sources;

pub use by_hand::{ChangeError, Wish};
pub use kept::patch;
pub use run::run;
pub use sources::SourceReading;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::Notify;

use ask::Heard;
use sources::Sources;

use super::assemble::Located;
use crate::ambient;
use crate::config::Plan;
use crate::discover::{Asked, Changes, Condition, Outcome, Question, roster};
use crate::model::Name;
use crate::observe::metrics::{Registry, Resolution};

/// What is known of where endpoints are.
#[derive(Debug)]
pub struct Discovery {
    registry: Arc<Registry>,
    state: Mutex<State>,
    /// Held by whoever changes something by hand, until it is kept.
    changing: Mutex<()>,
    /// There is something to be asked or read that was not before.
    woken: Notify,
}

#[derive(Debug, Default)]
struct State {
    known: Known,
    /// In the order of the plan.
    pools: Vec<Sources>,
    /// By pool, also of such that are gone: a configuration may come back.
    changes: BTreeMap<Name, Changes>,
    /// Where changes are kept.
    folder: Option<PathBuf>,
}

type Known = BTreeMap<Arc<Question>, Entry>;

/// What is known of a question, and who asks it.
#[derive(Clone, Debug)]
struct Entry {
    asked: Asked,
    /// What was wrong when it was last asked.
    error: Option<String>,
    last_success: Option<SystemTime>,
    /// The pools that ask, as indexes.
    pools: BTreeSet<usize>,
}

/// A plan's endpoints before the plan runs.
#[derive(Debug)]
pub struct Prepared {
    known: Known,
    pools: Vec<Sources>,
    /// Of pools of which nothing was changed in this process.
    kept: BTreeMap<Name, Changes>,
    folder: Option<PathBuf>,
}

impl Discovery {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(registry: Arc<Registry>) -> Arc<Self> {
        Arc::new(Self { registry, state: Mutex::default(), changing: Mutex::default(), woken: Notify::new() })
    }

    /// Finds out where the endpoints of `plan` are. Names that are known already are not asked for again;
    /// others are waited for, all at once and for [`FIRST_ANSWERS`] at most, on this thread. What is not known
    /// by then comes later, to a pool that has fewer endpoints until then, or none.
    #[must_use]
    pub fn prepare(&self, plan: &Plan) -> Prepared {
        let mut pools: Vec<_> = plan.pools.iter().map(|pool| Sources::of(pool, &self.registry)).collect();
        let state = self.state();
        let before: HashMap<_, _> = state.pools.iter().map(|before| (&before.name, before)).collect();
        for sources in &mut pools {
            if let Some(before) = before.get(&sources.name) {
                sources.follow(before);
            }
        }
        drop(before);
        drop(state);
        let folder = plan.state_dir.clone().filter(|_| pools.iter().any(|sources| sources.keeps_changes));
        let mut kept = folder.as_deref().map(read_kept).unwrap_or_default();
        kept.retain(|pool, _| pools.iter().any(|sources| sources.keeps_changes && sources.name == *pool));
        pools.iter_mut().for_each(Sources::read_list);
        let mut known = Known::new();
        let state = self.state();
        note_users(&pools, &mut known, |question| state.recall(question));
        drop(state);
        let unasked = known.iter().filter(|(_, entry)| entry.asked.condition() == Condition::Unasked);
        let unasked: Vec<_> = unasked.map(|(question, _)| Arc::clone(question)).collect();
        for (question, heard) in run::first_answers(unasked) {
            hear(&question, heard, &mut known, &mut pools);
        }
        Prepared { known, pools, kept, folder }
    }

    /// The endpoints of each pool of the plan by what is known now, in its order. Until the plan runs,
    /// nobody else may be told of changes.
    pub fn locate(&self, prepared: &mut Prepared) -> Vec<Arc<[Located]>> {
        let state = self.state();
        prepared.known = state.newest(prepared);
        let Prepared { known, pools, kept, .. } = prepared;
        for sources in pools.iter_mut() {
            let changes = state.changes.get(&sources.name).or_else(|| kept.get(&sources.name));
            sources.applied = sources.located(known, changes);
        }
        pools.iter().map(|sources| Arc::clone(&sources.applied)).collect()
    }

    /// The plan for which this was prepared runs now.
    pub fn commit(&self, prepared: Prepared) {
        let mut state = self.state();
        state.known = state.newest(&prepared);
        state.pools = prepared.pools;
        state.folder = prepared.folder;
        for (pool, changes) in prepared.kept {
            state.changes.entry(pool).or_insert(changes);
        }
        // Answers may have come between the two.
        state.pools.iter_mut().for_each(|sources| sources.is_stale = true);
        drop(state);
        self.woken.notify_one();
    }

    /// Where the endpoints of a pool come from; `None` when there is no such pool.
    #[must_use]
    pub fn sources(&self, pool: &str) -> Option<Vec<SourceReading>> {
        let state = self.state();
        let sources = state.pools.iter().find(|sources| sources.name.as_str() == pool)?;
        Some(sources.readings(&state.known, state.changes.get(&sources.name)))
    }

    /// The same of every pool, by its name, as it is at one moment.
    #[must_use]
    pub fn all_sources(&self) -> HashMap<Name, Vec<SourceReading>> {
        let state = self.state();
        let readings = |own: &Sources| own.readings(&state.known, state.changes.get(&own.name));
        state.pools.iter().map(|own| (own.name.clone(), readings(own))).collect()
    }

    /// Of each pool that has other endpoints now, the place in the plan and these. That they are used is to
    /// be told to [`Self::on_followed`] before another plan runs; until then they are still to be used.
    #[must_use]
    pub fn changed(&self) -> Vec<(usize, Arc<[Located]>)> {
        let mut state = self.state();
        let State { known, pools, changes, .. } = &mut *state;
        let mut changed = Vec::new();
        for (index, sources) in pools.iter_mut().enumerate().filter(|(_, sources)| sources.is_stale) {
            let located = sources.located(known, changes.get(&sources.name));
            sources.is_stale = *located != *sources.applied;
            if sources.is_stale {
                changed.push((index, located));
            }
        }
        changed
    }

    /// What had `changed` is used. More may have changed meanwhile: the next look will tell.
    pub fn on_followed(&self, changed: Vec<(usize, Arc<[Located]>)>) {
        let mut state = self.state();
        for (index, located) in changed {
            if let Some(sources) = state.pools.get_mut(index) {
                sources.applied = located;
            }
        }
    }

    /// Whether a pool may have other endpoints now.
    fn has_changed(&self) -> bool {
        self.state().pools.iter().any(|sources| sources.is_stale)
    }

    /// Marks the questions that are due as being asked, at most `room` of them.
    fn begin_due(&self, now: Instant, room: usize) -> Vec<Arc<Question>> {
        let mut state = self.state();
        let due = state.known.iter_mut().filter(|(_, entry)| entry.asked.due().is_some_and(|due| due <= now));
        let begin = |(question, entry): (&Arc<Question>, &mut Entry)| {
            entry.asked.begin();
            Arc::clone(question)
        };
        due.take(room).map(begin).collect()
    }

    /// When the next question is due.
    fn next_due(&self) -> Option<Instant> {
        self.state().known.values().filter_map(|entry| entry.asked.due()).min()
    }

    /// Nobody asks anything at present.
    fn resume(&self, now: Instant) {
        self.state().known.values_mut().for_each(|entry| entry.asked.resume(now));
    }

    fn on_heard(&self, question: &Question, heard: Heard) {
        let mut state = self.state();
        let State { known, pools, .. } = &mut *state;
        hear(question, heard, known, pools);
    }

    /// The lists of all pools, to be read.
    fn lists(&self) -> Vec<(Name, PathBuf)> {
        let state = self.state();
        let lists = state.pools.iter().filter_map(|sources| Some((&sources.name, sources.list.as_ref()?)));
        lists.map(|(pool, list)| (pool.clone(), list.path().to_owned())).collect()
    }

    fn on_lists(&self, lists: Vec<(Name, PathBuf, Result<String, String>)>) {
        let mut state = self.state();
        let mut changed = false;
        for (pool, path, read) in lists {
            let sources = state.pools.iter_mut().find(|sources| sources.name == pool);
            let Some(sources) = sources else { continue };
            if let Some(list) = sources.list.as_mut().filter(|list| list.path() == path)
                && list.on_read(read, &sources.name, sources.metrics.as_deref())
            {
                sources.is_stale = true;
                changed = true;
            }
        }
        if changed {
            state.renew();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Has questions be asked that are asked now, and no others.
    fn renew(&mut self) {
        let mut known = Known::new();
        note_users(&self.pools, &mut known, |question| self.recall(question));
        self.known = known;
    }

    /// What is known by now of the questions of a plan.
    fn newest(&self, prepared: &Prepared) -> Known {
        let mut known = Known::new();
        note_users(&prepared.pools, &mut known, |question| {
            let prepared = prepared.known.get(question).cloned();
            let asked = |entry: &Entry| entry.asked.condition() != Condition::Unasked;
            self.recall(question).filter(asked).or(prepared)
        });
        known
    }

    /// What is known of this question, or of one that means the same.
    fn recall(&self, question: &Question) -> Option<Entry> {
        if let Some(entry) = self.known.get(question) {
            return Some(entry.clone());
        }
        let same = self.known.iter().find(|(known, _)| known.means(question));
        same.map(|(_, entry)| {
            let mut entry = entry.clone();
            entry.asked.resume(ambient::now());
            entry
        })
    }
}

fn read_kept(folder: &Path) -> BTreeMap<Name, Changes> {
    kept::read(folder).unwrap_or_else(|error| {
        let folder = folder.display();
        tracing::error!(%folder, error, "changes of endpoints that were kept cannot be read and do not count");
        BTreeMap::new()
    })
}

/// Adds the questions of all pools, with what is known of them, and who asks.
fn note_users(pools: &[Sources], known: &mut Known, recall: impl Fn(&Question) -> Option<Entry>) {
    for (index, sources) in pools.iter().enumerate() {
        for question in sources.questions() {
            let new = || {
                let entry = recall(question).unwrap_or_else(Entry::new);
                Entry { pools: BTreeSet::new(), ..entry }
            };
            known.entry(Arc::clone(question)).or_insert_with(new).pools.insert(index);
        }
    }
}

impl Entry {
    fn new() -> Self {
        let asked = Asked::new(ambient::now());
        Self { asked, error: None, last_success: None, pools: BTreeSet::new() }
    }
}

/// Takes what came of a question, unless nobody asks it any more.
fn hear(question: &Question, heard: Heard, known: &mut Known, pools: &mut [Sources]) {
    let Some(entry) = known.get_mut(question) else { return };
    let Heard { outcome, error } = heard;
    let result = match &outcome {
        Outcome::Answered { .. } => Resolution::Answered,
        Outcome::Empty => Resolution::Empty,
        Outcome::Failed => Resolution::Failed,
    };
    let at = ambient::wall();
    if result == Resolution::Answered {
        entry.last_success = Some(at);
    }
    let first = entry.asked.condition() == Condition::Unasked;
    let news = entry.asked.on_outcome(outcome, question.ttl, ambient::now(), ambient::draw());
    entry.error = error;
    let mut asking = Vec::new();
    for index in &entry.pools {
        let Some(sources) = pools.get_mut(*index) else { continue };
        sources.is_stale |= news.changed;
        if let Some(metrics) = &sources.metrics {
            metrics.resolved(result, at);
        }
        asking.push(sources.name.to_string());
    }
    if news.turned && !(first && result == Resolution::Answered) {
        tell(&question.host, entry, &asking.join(", "));
    }
}

/// Says that it goes otherwise with a name than before.
fn tell(name: &str, entry: &Entry, pools: &str) {
    let error = entry.error.as_deref().unwrap_or_default();
    let known = entry.asked.seen().len();
    match entry.asked.condition() {
        Condition::Answered => tracing::info!(name, pools, addresses = known, "name was resolved again"),
        Condition::Empty => tracing::warn!(name, pools, error, known, "name was answered with nothing"),
        Condition::Failing => tracing::warn!(name, pools, error, known, "name was not resolved"),
        Condition::Unasked => {}
    }
}

/// How long a start or a reload waits for the first answers to names.
pub const FIRST_ANSWERS: Duration = Duration::from_secs(2);
