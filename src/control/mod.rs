//! The control plane: what runs beside the data plane, on a thread of its own, and never in the way
//! of a request. It meets the data plane in values only; it does not know how requests are moved.

pub mod admin;
pub mod assemble;
pub mod client;
pub mod discovery;
pub mod health;
pub mod healthcheck;
pub mod observed;
pub mod pressure;
pub mod prober;
pub mod running;

use std::future::Future;
use std::io;
use std::sync::Arc;

use admin::{Admin, AdminState};
use health::Health;
use running::Running;

use crate::observe::panics::{Place, again};

/// Everything that runs on the control thread.
#[derive(Debug)]
pub struct Control {
    /// The admin listener, if there is one.
    pub admin: Option<Admin>,
    /// What it tells about.
    pub state: Arc<AdminState>,
    /// The health of all pools.
    pub health: Arc<Health>,
    /// What runs.
    pub running: Arc<Running>,
}

impl Control {
    /// Runs until `shutdown` completes. What panics is begun again, and takes nothing else along.
    ///
    /// # Errors
    /// When the runtime does not take the admin listener's socket.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> io::Result<()> {
        let state = Arc::clone(&self.state);
        let (published, running) = (self.running.published(), &self.running);
        // The same in every snapshot.
        let load = Arc::clone(&published.load().pressure);
        let serving = async {
            match self.admin {
                Some(admin) => admin.serve(self.state, shutdown).await,
                None => {
                    shutdown.await;
                    Ok(())
                }
            }
        };
        tokio::select! {
            served = serving => served,
            () = again(Place::Control, "health", async || Arc::clone(&self.health).run().await) => Ok(()),
            () = again(Place::Control, "checks", async || prober::run(Arc::clone(&self.health)).await) => Ok(()),
            () = again(Place::Control, "observed routes", async || observed::run(Arc::clone(published), running.changes()).await) => Ok(()),
            () = again(Place::Control, "discovery", async || discovery::run(Arc::clone(running)).await) => Ok(()),
            () = again(Place::Control, "admin state", async || state.run().await) => Ok(()),
            () = again(Place::Control, "pressure", async || pressure::run(Arc::clone(&load)).await) => Ok(()),
            () = again(Place::Control, "what is replaced", async || running.bury().await) => Ok(()),
        }
    }
}
