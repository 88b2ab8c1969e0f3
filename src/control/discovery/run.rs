//! The one task that asks DNS when it is time, looks after lists, and has what comes of it used. Also asks
//! for the first answers, which a start or a reload waits for.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::Builder;
use tokio::task::{JoinError, JoinSet, spawn_blocking};
use tokio::time::{sleep_until, timeout_at};

use super::ask::{Heard, Resolvers};
use super::lists::List;
use super::{Discovery, FIRST_ANSWERS};
use crate::ambient;
use crate::control::running::{RunError, Running};
use crate::discover::Question;
use crate::model::Name;

/// Keeps the endpoints of all pools as sources say. Never ends. To be called on a tokio runtime with I/O
/// and time, once at a time.
pub async fn run(running: Arc<Running>) {
    let discovery = Arc::clone(running.discovery());
    let now = ambient::now();
    discovery.resume(now);
    let mut work = Work {
        resolvers: Resolvers::default(),
        asking: JoinSet::new(),
        lists_due: Some(now),
        publish: None,
        publishing: false,
    };
    loop {
        let now = ambient::now();
        work.begin(&discovery, now);
        work.publish_if_due(&running, now);
        let wake = work.wake(&discovery).unwrap_or(now + IDLE);
        tokio::select! {
            Some(joined) = work.asking.join_next() => work.on_joined(&discovery, joined),
            () = sleep_until(wake.into()) => {}
            () = discovery.woken.notified() => work.publish = Some(ambient::now()),
        }
    }
}

struct Work {
    resolvers: Resolvers,
    asking: JoinSet<Done>,
    /// When lists are to be read; nothing while they are, for one that hangs must not take ever more threads.
    lists_due: Option<Instant>,
    /// When what has changed is to be used.
    publish: Option<Instant>,
    /// Whether something is about to be, which waits for a reload under way.
    publishing: bool,
}

/// What was done beside the task.
enum Done {
    Asked(Arc<Question>, Heard),
    Read(Vec<(Name, PathBuf, Result<String, String>)>),
    Published(Result<(), RunError>),
}

impl Work {
    /// Begins with all that is due.
    fn begin(&mut self, discovery: &Discovery, now: Instant) {
        let room = MOST_AT_ONCE.saturating_sub(self.asking.len());
        for question in discovery.begin_due(now, room) {
            let resolver = self.resolvers.of(&question);
            self.asking.spawn(async move {
                let heard = resolver.ask(&question).await;
                Done::Asked(question, heard)
            });
        }
        if self.lists_due.take_if(|due| *due <= now).is_some() {
            let lists = discovery.lists();
            if lists.is_empty() {
                self.lists_due = Some(now + LISTS);
            } else {
                self.asking.spawn(read(lists));
            }
        }
    }

    fn on_joined(&mut self, discovery: &Discovery, joined: Result<Done, JoinError>) {
        match joined {
            Ok(Done::Asked(question, heard)) => discovery.on_heard(&question, heard),
            Ok(Done::Read(lists)) => {
                self.lists_due = Some(ambient::now() + LISTS);
                discovery.on_lists(lists);
            }
            Ok(Done::Published(done)) => {
                self.publishing = false;
                return told(done);
            }
            Err(error) => {
                tracing::error!(%error, "discovery was interrupted");
                let now = ambient::now();
                discovery.resume(now);
                self.lists_due.get_or_insert(now + LISTS);
                self.publishing = false;
            }
        }
        self.publish.get_or_insert(ambient::now() + GATHERING);
    }

    fn publish_if_due(&mut self, running: &Arc<Running>, now: Instant) {
        if !self.publishing
            && self.publish.take_if(|at| *at <= now).is_some()
            && running.discovery().has_changed()
        {
            self.publishing = true;
            let running = Arc::clone(running);
            self.asking.spawn_blocking(move || Done::Published(running.follow()));
        }
    }

    fn wake(&self, discovery: &Discovery) -> Option<Instant> {
        let due = discovery.next_due().filter(|_| self.asking.len() < MOST_AT_ONCE);
        let publish = self.publish.filter(|_| !self.publishing);
        [due, publish, self.lists_due].into_iter().flatten().min()
    }
}

fn told(done: Result<(), RunError>) {
    match done {
        Ok(()) | Err(RunError::Closed) => {}
        Err(error) => tracing::error!(%error, "endpoints that were found cannot be used"),
    }
}

async fn read(lists: Vec<(Name, PathBuf)>) -> Done {
    let read = spawn_blocking(|| {
        let read = lists.into_iter().map(|(pool, path)| {
            let text = List::read(&path);
            (pool, path, text)
        });
        read.collect()
    });
    Done::Read(read.await.unwrap_or_default())
}

/// What comes of asking these now, without those that take longer than a start may wait. Blocks; on a
/// thread of its own, so that it can be called from anywhere.
pub(super) fn first_answers(questions: Vec<Arc<Question>>) -> Vec<(Arc<Question>, Heard)> {
    if questions.is_empty() {
        return Vec::new();
    }
    let asking = thread::Builder::new().name("names".to_owned()).spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build();
        runtime.map(|runtime| runtime.block_on(ask_all(questions)))
    });
    match asking.map(thread::JoinHandle::join) {
        Ok(Ok(Ok(answers))) => answers,
        // The task will ask again.
        _ => Vec::new(),
    }
}

async fn ask_all(questions: Vec<Arc<Question>>) -> Vec<(Arc<Question>, Heard)> {
    let by = ambient::now() + FIRST_ANSWERS;
    let mut resolvers = Resolvers::default();
    let (mut asking, mut answers) = (JoinSet::new(), Vec::new());
    let mut left = questions.into_iter();
    loop {
        while asking.len() < MOST_AT_ONCE
            && let Some(question) = left.next()
        {
            let resolver = resolvers.of(&question);
            asking.spawn(async move {
                let heard = resolver.ask(&question).await;
                (question, heard)
            });
        }
        match timeout_at(by.into(), asking.join_next()).await {
            Ok(Some(joined)) => answers.extend(joined.ok()),
            Ok(None) | Err(_) => return answers,
        }
    }
}

/// How many questions are asked at once.
const MOST_AT_ONCE: usize = 64;
/// How often lists are read.
const LISTS: Duration = Duration::from_secs(1);
/// For how long answers are gathered before they are used together.
const GATHERING: Duration = Duration::from_millis(10);
/// How long it sleeps with nothing to do.
const IDLE: Duration = Duration::from_secs(60);
