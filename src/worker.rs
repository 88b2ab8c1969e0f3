//! One worker: a thread with a runtime of its own, its listening sockets, and the order in which it
//! ends.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::watch;
use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};

use crate::ambient;
use crate::net::listen::{BoundSocket, Listener};
use crate::observe::metrics::Shard;
use crate::proxy::{self, Worker};
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
    /// The worker's number, from 0.
    pub index: usize,
    /// What it serves.
    pub published: Arc<ArcSwap<Snapshot>>,
    /// Its sockets, each with the index of its listener in the snapshot.
    pub sockets: Vec<(usize, BoundSocket)>,
    /// How far the end has come.
    pub phase: watch::Receiver<Phase>,
}

/// Starts the thread. It ends after the drain.
///
/// # Errors
/// When the system has no thread to give.
pub fn start(assignment: Assignment) -> io::Result<JoinHandle<io::Result<()>>> {
    thread::Builder::new().name(format!("worker-{}", assignment.index)).spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
        let ended = runtime.block_on(run(assignment));
        runtime.shutdown_background();
        ended
    })
}

async fn run(assignment: Assignment) -> io::Result<()> {
    let Assignment { index, published, sockets, mut phase } = assignment;
    let worker = Worker::new(Shard::worker(index), published);
    let mut accepting = Vec::with_capacity(sockets.len());
    for (listener, socket) in sockets {
        let socket = socket.listen()?;
        accepting.push(spawn_local(accept(Rc::clone(&worker), listener, socket, phase.clone())));
    }
    let sweeping = spawn_local(sweep(Rc::clone(&worker)));
    // The sender lives as long as the server; when it is gone, so is the reason to go on.
    let _ = phase.wait_for(|phase| *phase >= Phase::Draining).await;
    for task in accepting {
        // A panic while accepting was reported by the panic hook.
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
        () = accept_all(&worker, listener, &socket) => {}
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
    loop {
        sleep(SWEEP_INTERVAL).await;
        worker.local().sweep(ambient::now());
        worker.attend_pressure();
    }
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
/// How often idle connections to endpoints are looked through.
const SWEEP_INTERVAL: Duration = Duration::from_millis(250);
