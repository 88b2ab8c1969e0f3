//! Sends finished spans to a collector by OTLP, on a thread of its own that gives way to workers. It begins
//! with the first configuration that names a collector; what holds for it can be replaced at any time. Knows
//! nothing of how spans come about.

mod answer;
mod export;
mod line;
mod read;
mod write;

use std::future::pending;
use std::io;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::sync::watch;
use tokio::time::sleep;

use super::priority::give_way;
use super::running::Running;
use crate::ambient;
use crate::observe::panics::{Place, again};
use export::{End, Export};

/// The thread that sends spans, once there is one.
#[derive(Debug)]
pub struct Exporter {
    running: Arc<Running>,
    end: watch::Sender<End>,
    /// Ends with the thread.
    thread: Mutex<Option<Receiver<()>>>,
}

impl Exporter {
    /// Of the spans that are finished by what `running` runs. Nothing begins yet.
    #[must_use]
    pub fn new(running: Arc<Running>) -> Self {
        Self { running, end: watch::channel(None).0, thread: Mutex::default() }
    }

    /// Begins once there is a collector. Never ends.
    pub(super) async fn attend(&self) {
        let mut changes = self.running.changes();
        while self.running.plan().0.tracing.as_ref().is_none_or(|tracing| tracing.otlp.is_none()) {
            // Its sender lives as long as what runs.
            let _ = changes.changed().await;
        }
        // What there is not enough of now there may be later.
        while let Err(error) = self.start() {
            tracing::error!(%error, "no thread can be started for spans, which are lost meanwhile");
            sleep(START_PAUSE).await;
        }
        pending().await
    }

    fn start(&self) -> io::Result<()> {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.is_some() {
            return Ok(());
        }
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (running, end) = (Arc::clone(&self.running), self.end.subscribe());
        let (ended, ends): (SyncSender<()>, _) = mpsc::sync_channel(0);
        thread::Builder::new().name("spans".to_owned()).spawn(move || {
            give_way();
            let export = async || Export::new(&running, end.clone()).run().await;
            runtime.block_on(again(Place::Control, "the export of spans", export));
            // Looking up a name may take longer than anybody waits.
            runtime.shutdown_background();
            drop(ended);
        })?;
        *thread = Some(ends);
        Ok(())
    }

    /// Sends what is left, for as long as `within` at most, and ends. To be called when no worker is left to
    /// finish spans.
    pub fn close(&self, within: Duration) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(thread) = thread else { return };
        self.end.send_replace(Some(ambient::now() + within));
        // Whether it has ended or not, nobody waits for longer.
        let _ = thread.recv_timeout(within + GRACE);
    }
}

/// Before it is tried again to start the thread.
const START_PAUSE: Duration = Duration::from_secs(10);

/// What the thread may take to end after its last try was cut short.
const GRACE: Duration = Duration::from_millis(250);
