//! The control plane: what runs beside the data plane, on a thread of its own, and never in the way
//! of a request. It meets the data plane in values only; it does not know how requests are moved.

pub mod admin;
pub mod assemble;
pub mod client;
pub mod discovery;
pub mod health;
pub mod healthcheck;
pub mod history;
pub mod observed;
pub mod otlp;
pub mod pressure;
mod priority;
pub mod prober;
pub mod reload;
pub mod report;
pub mod running;
pub mod scaling;
pub mod series;
mod whole_file;

use std::future::{Future, pending};
use std::sync::Arc;

use admin::{Admin, AdminState};
use health::Health;
use otlp::Exporter;
use reload::{Orders, Reload};
use running::Running;
use tokio::sync::watch;

use crate::observe::panics::{Place, again};

/// Everything that runs on the control thread.
#[derive(Debug)]
pub struct Control {
    /// The admin listener, if there is one.
    pub admin: Option<Admin>,
    /// Whether it answers.
    pub answering: watch::Receiver<Answering>,
    /// What it tells about.
    pub state: Arc<AdminState>,
    /// The health of all pools.
    pub health: Arc<Health>,
    /// What runs.
    pub running: Arc<Running>,
    /// Replaces the configuration.
    pub reload: Arc<Reload>,
    /// What it is asked for.
    pub orders: Orders,
    /// Sends spans away.
    pub exporter: Arc<Exporter>,
}

/// Whether the admin listener answers, when another process has its socket, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Answering {
    /// The other one does, until this one is ready.
    NotYet,
    /// This one does.
    Now,
    /// The other one does, which has taken this one's place.
    NoMore,
}

impl Control {
    /// Runs until `shutdown` completes. What panics is begun again, and takes nothing else along; nor does an
    /// admin listener that cannot be served.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) {
        let (published, running) = (self.running.published(), &self.running);
        // The same in every snapshot.
        let load = Arc::clone(&published.load().pressure);
        let watching = self.answering.clone();
        let state = Arc::clone(&self.state);
        let serving = async {
            if let Some(admin) = self.admin {
                serve(admin, self.state, self.answering).await;
            }
            shutdown.await;
        };
        tokio::select! {
            () = serving => {}
            () = again(Place::Control, "health", async || Arc::clone(&self.health).run().await) => {}
            () = again(Place::Control, "checks", async || prober::run(Arc::clone(&self.health)).await) => {}
            () = again(Place::Control, "reload", async || self.reload.run(&mut self.orders).await) => {}
            () = again(Place::Control, "watched files", async || while_serving(&watching, self.reload.watch()).await) => {}
            () = again(Place::Control, "observed routes", async || observed::run(Arc::clone(published), running.changes()).await) => {}
            () = again(Place::Control, "discovery", async || discovery::run(Arc::clone(running)).await) => {}
            () = again(Place::Control, "admin state", async || state.run().await) => {}
            () = again(Place::Control, "pressure", async || pressure::run(Arc::clone(&load)).await) => {}
            () = again(Place::Control, "spans", async || self.exporter.attend().await) => {}
            () = again(Place::Control, "history", async || history::run(Arc::clone(running)).await) => {}
            () = again(Place::Control, "what is replaced", async || running.bury().await) => {}
        }
    }
}

/// Serves the admin listener for as long as it is this process that answers.
async fn serve(admin: Admin, state: Arc<AdminState>, mut answering: watch::Receiver<Answering>) {
    let mut ends = answering.clone();
    let over = async {
        let _ = ends.wait_for(|answering| *answering == Answering::NoMore).await;
    };
    // Its sender lives for as long as there is somebody to answer for.
    let _ = answering.wait_for(|answering| *answering >= Answering::Now).await;
    if let Err(error) = admin.serve(state, over).await {
        tracing::error!(%error, "the admin listener cannot be served, all the rest goes on");
    }
}

/// Does what is for the process that serves only: nothing more once another one does. Does not end then, for
/// everything else would end with it.
async fn while_serving(answering: &watch::Receiver<Answering>, work: impl Future<Output = ()>) {
    let mut answering = answering.clone();
    let over = async {
        // What it gives is a lock, which is not to be held.
        let _ = answering.wait_for(|answering| *answering == Answering::NoMore).await;
    };
    tokio::select! {
        () = work => {}
        () = over => pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    #[test]
    fn nothing_is_done_for_a_process_that_another_one_has_taken_the_place_of() {
        let (answering, watching) = watch::channel(Answering::Now);
        let kept = Arc::new(());
        let own = Arc::clone(&kept);
        let mut serving = pin!(while_serving(&watching, async move {
            pending::<()>().await;
            drop(own);
        }));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(serving.as_mut().poll(&mut cx).is_pending());
        assert_eq!(Arc::strong_count(&kept), 2);
        answering.send_replace(Answering::NoMore);
        assert!(serving.as_mut().poll(&mut cx).is_pending(), "nobody is to end with it");
        assert_eq!(Arc::strong_count(&kept), 1);
    }
}
