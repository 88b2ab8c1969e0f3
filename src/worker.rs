//! One worker: a thread with a runtime of its own, its listening sockets, and the order in which it
//! ends. One that ends before its time begins again on the same thread, with the same sockets.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::watch;
use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};

use crate::ambient;
use crate::net::listen::Listener;
use crate::net::sockets::Sockets;
use crate::observe::metrics::{Registry, Shard};
use crate::observe::panics::{Place, again};
use crate::proxy::{self, Worker};
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
    /// What it accepts from. Each life has duplicates of the sockets, so that clients that wait to be
    /// accepted are not lost between two.
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
    thread::Builder::new().name(format!("worker-{index}")).spawn(move || supervise(index, &mut assignment))
}

impl Lives for Assignment {
    fn live(&mut self) -> io::Result<()> {
        let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
        let ended = runtime.block_on(run(self));
        runtime.shutdown_background();
        ended
    }

    fn rest(&mut self, pause: Duration) -> bool {
        // Not by a runtime's clock: there may be no descriptors for one.
        let mut left = pause;
        while *self.phase.borrow() < Phase::Draining && !left.is_zero() {
            thread::sleep(left.min(REST_POLL));
            left = left.saturating_sub(REST_POLL);
        }
        let goes_on = *self.phase.borrow() < Phase::Draining;
        if goes_on {
            self.registry.restarted();
        }
        goes_on
    }

    fn now(&self) -> Instant {
        ambient::now()
    }
}

async fn run(assignment: &mut Assignment) -> io::Result<()> {
    let Assignment { index, published, sockets, phase, .. } = assignment;
    let worker = Worker::new(Shard::worker(*index), Arc::clone(published));
    let mut accepting = Vec::new();
    for opened in &sockets.borrow_and_update().0 {
        for socket in opened.of_worker(*index) {
            let socket = socket.try_clone()?.listen()?;
            accepting.push(spawn_local(accept(Rc::clone(&worker), opened.listener, socket, phase.clone())));
        }
    }
    let sweeping = spawn_local(sweep(Rc::clone(&worker)));
    // The sender lives as long as the server; when it is gone, so is the reason to go on.
    let _ = phase.wait_for(|phase| *phase >= Phase::Draining).await;
    for task in accepting {
        // What could panic in it is contained.
        let _ = task.await;
    }
    worker.drain();
    tokio::select! {
        () = worker.ended() => {}
        _ = phase.wait_for(|phase| *phase >= Phase::Aborted) => {}
    }
    sweeping.abort();
    Ok(())
}

async fn accept(worker: Rc<Worker>, listener: usize, socket: Listener, mut phase: watch::Receiver<Phase>) {
    tokio::select! {
        biased;
        () = again(Place::Worker, "accepting", async || accept_all(&worker, listener, &socket).await) => {}
        _ = phase.wait_for(|phase| *phase >= Phase::Draining) => {}
    }
    if *phase.borrow() >= Phase::Aborted {
        return;
    }
    // Closing the socket resets whoever is connected as far as the kernel goes, and may have sent a
    // request: nobody new is let in until all of those are here. Over a network of 20 ms, with 64
    // clients that connect for each request, a plain close cost 9 to 37 of them their answer.
    socket.refuse_new();
    let _ = timeout(HANDSHAKES, accept_all(&worker, listener, &socket)).await;
    for (stream, peer) in socket.close() {
        spawn_local(proxy::http::serve(Rc::clone(&worker), listener, stream, peer));
    }
}

async fn accept_all(worker: &Rc<Worker>, listener: usize, socket: &Listener) {
    let mut next_report = ambient::now();
    loop {
        match socket.accept().await {
            Ok((stream, peer)) => {
                spawn_local(proxy::http::serve(Rc::clone(worker), listener, stream, peer));
                if let Some(pause) = worker.pace() {
                    sleep(pause).await;
                }
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                worker.accept_failed(listener);
                // It may last, and fails many times a second as long as it does.
                if ambient::now() >= next_report {
                    next_report = ambient::now() + REPORT_INTERVAL;
                    tracing::warn!(%error, "accepting failed, waiting before the next try");
                }
                sleep(ACCEPT_PAUSE).await;
            }
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

/// Whether the error is a client's that left before it was accepted, rather than ours.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}

/// Pause after a failed accept, such as one for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// The least time between two reports of such failures.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// How long handshakes under way may take when accepting ends: a round trip to clients not too far.
const HANDSHAKES: Duration = Duration::from_millis(50);
/// How often a worker that is to begin again looks whether it still is.
const REST_POLL: Duration = Duration::from_millis(10);
/// How often idle connections to endpoints are looked through.
const SWEEP_INTERVAL: Duration = Duration::from_millis(250);
