//! What happened in the last minutes, in bounded memory: once a second what workers have counted is
//! looked at, away from the control thread, and what came in between is kept. Requests notice nothing of it.

mod book;
mod sample;
mod series;
mod shelf;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};
use tokio::sync::watch;

use super::running::Running;
use super::scaling::Look;
use crate::ambient;
use crate::observe::civil;
use crate::observe::metrics::RouteReading;
use crate::observe::panics::{Place, catching};

use book::Book;

pub use book::Window;
pub use sample::{PoolSample, ProcessSample, Sample, Times, Traffic};
pub use series::Series;

/// The longest time that is kept.
pub const LONGEST: Duration = Duration::from_secs(60 * 60);

/// The history of the process: of the whole in steps of a second for ten minutes, of it and of routes and pools
/// in steps of ten seconds for an hour.
#[derive(Debug)]
pub struct History {
    origin: Instant,
    /// Held for the time that a look at everything takes, so not to be taken by the control thread.
    book: Mutex<Book>,
    /// Held for moments.
    newest: Mutex<Option<Newest>>,
    /// Counts the samples of the process.
    changes: watch::Sender<u64>,
}

/// The newest sample of the process.
#[derive(Clone, Debug, PartialEq)]
pub struct Newest {
    /// When its second ended.
    pub at: SystemTime,
    /// What there was in it.
    pub sample: ProcessSample,
}

impl Newest {
    /// As it is told to those who watch.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let ProcessSample { traffic, in_flight, connections, busy_ratio } = &self.sample;
        json!({
            "at": civil::rfc3339(self.at),
            "requests": traffic.requests,
            "errors": traffic.errors,
            "p50_seconds": traffic.times.seconds(0.5),
            "p90_seconds": traffic.times.seconds(0.9),
            "p99_seconds": traffic.times.seconds(0.99),
            "in_flight": in_flight,
            "connections": connections,
            "busy_ratio": busy_ratio,
        })
    }
}

impl Default for History {
    fn default() -> Self {
        Self::new(ambient::now())
    }
}

impl History {
    /// An empty history that begins at `origin`, when nothing had been counted.
    #[must_use]
    pub fn new(origin: Instant) -> Self {
        Self {
            origin,
            book: Mutex::new(Book::new(origin)),
            newest: Mutex::default(),
            changes: watch::channel(0).0,
        }
    }

    /// The newest sample of the process, once there is one.
    #[must_use]
    pub fn newest(&self) -> Option<Newest> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes when there is another sample of the process: once a second.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// What is known of the time since `last` ago, [`LONGEST`] at most. Copies it; not for a thread that others
    /// wait for.
    #[must_use]
    pub fn window(&self, last: Duration) -> Window {
        self.book().window(last.min(LONGEST), ambient::now(), ambient::wall())
    }

    /// When the second that `now` is in is over.
    fn due(&self, now: Instant) -> Instant {
        self.origin + Duration::from_secs(now.saturating_duration_since(self.origin).as_secs() + 1)
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at everything, if a second is over.
    fn look(&self, running: &Running, now: Instant) {
        let mut book = self.book();
        if !book.begin(now) {
            return;
        }
        let registry = running.registry();
        let watched = running.health().watched();
        let watches: Vec<_> = watched.iter().map(|watched| (watched.watch(), watched.count())).collect();
        let looks = watches.iter().map(|(watch, counts)| (&**watch, Look::at(watch, *counts)));
        let looks: Vec<_> = looks.collect();
        looks.iter().for_each(|(watch, look)| book.on_pool(&watch.pool.settings.name, look));
        running.scaling().on_looks(looks.iter().map(|(watch, look)| (*watch, look)));
        registry.each_route(|labels, reading| {
            let is_there = reading.is_held;
            book.on_route(labels, traffic(reading), is_there);
        });
        book.on_unrouted(counted(registry.requests_without_route()));
        let (connections, _) = running.published().load().pressure.connections();
        let busy: Vec<_> = registry.workers_use().iter().map(|worker| worker.busy).collect();
        let busy = book.on_workers(&busy, now);
        let sample = book.end(connections, busy);
        drop(book);
        let newest = Newest { at: ambient::wall(), sample };
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = Some(newest);
        self.changes.send_modify(|changes| *changes += 1);
    }
}

/// Keeps the history of what is `running`. Never ends.
pub async fn run(running: Arc<Running>) {
    loop {
        let due = running.history().due(ambient::now());
        tokio::time::sleep_until(due.into()).await;
        let looked = {
            let running = Arc::clone(&running);
            // There may be thousands of routes: the control thread has endpoints to look after.
            tokio::task::spawn_blocking(move || {
                catching(Place::Control, || running.history().look(&running, ambient::now()))
            })
        };
        if let Ok(Err(panic)) = looked.await {
            tracing::error!(%panic, "a panic was contained: a second is missing from the history");
        }
    }
}

fn traffic(reading: RouteReading) -> Traffic {
    Traffic { times: Times::new(&reading.durations), ..counted(reading.requests) }
}

fn counted(by_class: [u64; 5]) -> Traffic {
    let [.., errors] = by_class;
    Traffic { requests: by_class.iter().sum(), errors, times: Times::default() }
}
