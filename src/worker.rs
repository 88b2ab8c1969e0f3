//! One worker: a thread with a runtime of its own, and the order in which it ends. One that ends before
//! its time begins again on the same thread, with the same sockets.

mod accepting;

use std::future::pending;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_local;
use tokio::time::{sleep, sleep_until};

use self::accepting::{Accepting, Held};
use crate::ambient;
use crate::net::sockets::Sockets;
use crate::observe::connections::Question;
use crate::observe::metrics::{Registry, Shard};
use crate::observe::panics::{Place, again};
use crate::proxy::Worker;
use crate::server::supervisor::{Lives, supervise};
use crate::upstream::Snapshot;

/// How far the end has come. Only ever moves on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Connections are accepted.
    Serving,
    /// None are; those that are there end after the request under way.
    Draining,
    /// Whatever is left is dropped.
    Aborted,
}

/// What a worker thread is given.
#[derive(Debug)]
pub struct Assignment {
    /// Where it is counted when the worker begins again.
    pub registry: Arc<Registry>,
    /// The worker's number, from 0.
    pub index: usize,
    /// What it serves.
    pub published: Arc<ArcSwap<Snapshot>>,
    /// What it accepts from.
    pub sockets: watch::Receiver<Sockets>,
    /// Who asks for its connections.
    pub questions: mpsc::Receiver<Question>,
    /// How far the end has come.
    pub phase: watch::Receiver<Phase>,
}

/// Starts the thread. It ends after the drain.
///
/// # Errors
/// When the system has no thread to give.
pub fn start(mut assignment: Assignment) -> io::Result<JoinHandle<()>> {
    let index = assignment.index;
    // Here, so that who connects before the thread runs is served as was meant then, even if its listener is
    // gone by that time, or everything is to end.
    let snapshot = Some(assignment.published.load_full());
    let held = Arc::new(Held::new(&assignment.sockets.borrow_and_update(), index));
    let mut lives = Employed { assignment, held, snapshot };
    thread::Builder::new().name(format!("worker-{index}")).spawn(move || supervise(index, &mut lives))
}

/// A worker on its thread.
struct Employed {
    assignment: Assignment,
    /// Its sockets. Each life has duplicates of them.
    held: Arc<Held>,
    /// What the first life begins with.
    snapshot: Option<Arc<Snapshot>>,
}

impl Lives for Employed {
    fn live(&mut self) -> io::Result<()> {
        let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
        let registry = Arc::clone(&self.assignment.registry);
        let life = registry.worker(self.assignment.index).map(|worker| worker.begin(runtime.metrics()));
        let ended = runtime.block_on(run(self));
        drop(life);
        runtime.shutdown_background();
        ended
    }

    fn rest(&mut self, pause: Duration) -> bool {
        // Not by a runtime's clock: there may be no descriptors for one.
        let mut left = pause;
        while *self.assignment.phase.borrow() < Phase::Draining && !left.is_zero() {
            thread::sleep(left.min(REST_POLL));
            left = left.saturating_sub(REST_POLL);
        }
        let goes_on = *self.assignment.phase.borrow() < Phase::Draining;
        if goes_on {
            self.assignment.registry.restarted();
        }
        goes_on
    }

    fn now(&self) -> Instant {
        ambient::now()
    }
}

async fn run(employed: &mut Employed) -> io::Result<()> {
    let Employed { assignment, held, snapshot } = employed;
    let snapshot = snapshot.take().unwrap_or_else(|| assignment.published.load_full());
    let worker = Worker::new(Shard::worker(assignment.index), snapshot, Arc::clone(&assignment.published));
    let mut accepting = Accepting::begin(&worker, held, assignment.phase.clone())?;
    let sweeping = spawn_local(sweep(Rc::clone(&worker), Arc::clone(&assignment.registry)));
    let Assignment { index, sockets, questions, phase, .. } = assignment;
    // What came while there was no life, or has gone.
    sockets.mark_changed();
    let serving = async {
        let draining = phase.wait_for(|phase| *phase >= Phase::Draining);
        // The sender lives as long as the server; when it is gone, so is the reason to go on.
        first(draining, follow(sockets, &mut accepting, *index)).await;
        accepting.end().await;
        worker.drain();
        first(phase.wait_for(|phase| *phase >= Phase::Aborted), worker.ended()).await;
    };
    first(serving, answer(questions, &worker)).await;
    sweeping.abort();
    Ok(())
}

/// Completes with whichever does first.
async fn first(one: impl Future, other: impl Future) {
    tokio::select! {
        biased;
        _ = one => {}
        _ = other => {}
    }
}

/// Says which connections there are, to whoever asks, for ever.
async fn answer(questions: &mut mpsc::Receiver<Question>, worker: &Worker) {
    while let Some(question) = questions.recv().await {
        worker.answer(question);
    }
    pending().await
}

/// Accepts from what is wanted at the time, as long as somebody may want something.
async fn follow(sockets: &mut watch::Receiver<Sockets>, accepting: &mut Accepting, index: usize) {
    while sockets.changed().await.is_ok() {
        if sockets.borrow_and_update().is_end() {
            // How it ends, the phase says, which may come a moment later.
            return pending().await;
        }
        let reconciled = accepting.reconcile(&accepting::wanted(&sockets.borrow_and_update(), index));
        if let Err(error) = reconciled {
            tracing::error!(worker = index, %error, "a new socket cannot be used, waiting before the next try");
            sleep(RECONCILE_PAUSE).await;
            sockets.mark_changed();
        }
    }
}

async fn sweep(worker: Rc<Worker>, registry: Arc<Registry>) {
    let metrics = registry.worker(worker.shard.number());
    again(Place::Worker, "sweeping", async || {
        loop {
            let due = ambient::now() + SWEEP_INTERVAL;
            metrics.inspect(|metrics| metrics.due(due));
            sleep_until(due.into()).await;
            metrics.inspect(|metrics| metrics.woke(ambient::now()));
            worker.local().sweep(ambient::now());
            worker.attend_pressure();
            worker.count_bytes();
        }
    })
    .await;
}

/// Pause before sockets for which there were no descriptors are tried again.
const RECONCILE_PAUSE: Duration = Duration::from_millis(500);
/// How often a worker that is to begin again looks whether it still is.
const REST_POLL: Duration = Duration::from_millis(10);
/// How often idle connections to endpoints are looked through.
const SWEEP_INTERVAL: Duration = Duration::from_millis(250);
