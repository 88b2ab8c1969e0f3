//! One worker: a thread with a runtime of its own, and the order in which it ends. One that ends before
//! its time begins again on the same thread, with the same sockets.

mod accepting;

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::watch;
use tokio::task::spawn_local;
use tokio::time::sleep;

use self::accepting::{Accepting, Held};
use crate::ambient;
use crate::net::sockets::Sockets;
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
    /// How far the end has come.
    pub phase: watch::Receiver<Phase>,
}

/// Starts the thread. It ends after the drain.
///
/// # Errors
/// When the system has no thread to give.
pub fn start(mut assignment: Assignment) -> io::Result<JoinHandle<()>> {
    let index = assignment.index;
    let held = Arc::<Held>::default();
    // Here, so that who connects before the thread runs is served even if it is to end by then.
    held.take_up(&assignment.sockets.borrow_and_update(), index);
    let mut lives = Employed { assignment, held };
    thread::Builder::new().name(format!("worker-{index}")).spawn(move || supervise(index, &mut lives))
}

/// A worker on its thread.
struct Employed {
    assignment: Assignment,
    /// Its sockets. Each life has duplicates of them.
    held: Arc<Held>,
}

impl Lives for Employed {
    fn live(&mut self) -> io::Result<()> {
        let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
        let ended = runtime.block_on(run(&mut self.assignment, &self.held));
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

async fn run(assignment: &mut Assignment, held: &Arc<Held>) -> io::Result<()> {
    let Assignment { index, published, sockets, phase, .. } = assignment;
    let worker = Worker::new(Shard::worker(*index), Arc::clone(published));
    let mut accepting = Accepting::begin(&worker, held, phase.clone())?;
    let sweeping = spawn_local(sweep(Rc::clone(&worker)));
    // What came while there was no life, or has gone.
    sockets.mark_changed();
    tokio::select! {
        biased;
        // The sender lives as long as the server; when it is gone, so is the reason to go on.
        _ = phase.wait_for(|phase| *phase >= Phase::Draining) => {}
        () = follow(sockets, &mut accepting, *index) => {}
    }
    accepting.end().await;
    worker.drain();
    tokio::select! {
        () = worker.ended() => {}
        _ = phase.wait_for(|phase| *phase >= Phase::Aborted) => {}
    }
    sweeping.abort();
    Ok(())
}

/// Accepts from what is wanted at the time, as long as somebody may want something.
async fn follow(sockets: &mut watch::Receiver<Sockets>, accepting: &mut Accepting, index: usize) {
    while sockets.changed().await.is_ok() {
        let reconciled = accepting.reconcile(&accepting::wanted(&sockets.borrow_and_update(), index));
        if let Err(error) = reconciled {
            tracing::error!(worker = index, %error, "a new socket cannot be used, waiting before the next try");
            sleep(RECONCILE_PAUSE).await;
            sockets.mark_changed();
        }
    }
}

async fn sweep(worker: Rc<Worker>) {
    again(Place::Worker, "sweeping", async || {
        loop {
            sleep(SWEEP_INTERVAL).await;
            worker.local().sweep(ambient::now());
            worker.attend_pressure();
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
