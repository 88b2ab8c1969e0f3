//! What ran before and may still be in use: by requests under way, and by workers that have not looked
//! since. It is dropped here once nobody uses it, so that no worker frees ten thousand routes in the
//! middle of a request, or waits for the last lines of a log to be written.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::upstream::Snapshot;

/// Snapshots that were replaced.
#[derive(Debug, Default)]
pub(super) struct Retired {
    snapshots: Mutex<Vec<Arc<Snapshot>>>,
    notify: Notify,
}

impl Retired {
    /// Takes what was replaced.
    pub(super) fn take(&self, snapshot: Arc<Snapshot>) {
        self.with(|snapshots| snapshots.push(snapshot));
        self.notify.notify_one();
    }

    /// Drops what nobody uses any more, as soon as that is so. Never ends.
    pub(super) async fn run(&self) {
        loop {
            while self.drop_unused() > 0 {
                tokio::time::sleep(LOOK).await;
            }
            self.notify.notified().await;
        }
    }

    /// Drops what nobody uses; how many are left.
    pub(super) fn drop_unused(&self) -> usize {
        let (unused, left) = self.with(|snapshots| {
            let (used, unused): (Vec<_>, Vec<_>) =
                snapshots.drain(..).partition(|snapshot| Arc::strong_count(snapshot) > 1);
            *snapshots = used;
            (unused, snapshots.len())
        });
        unused.into_iter().filter_map(Arc::into_inner).for_each(bury);
        left
    }

    fn with<R>(&self, act: impl FnOnce(&mut Vec<Arc<Snapshot>>) -> R) -> R {
        act(&mut self.snapshots.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Ends the logs that no other snapshot has, and drops the rest.
fn bury(snapshot: Snapshot) {
    for listener in snapshot.listeners.into_iter().flatten().filter_map(Arc::into_inner) {
        if let Some(log) = listener.access_log.and_then(Arc::into_inner) {
            log.end();
        }
    }
}

/// How often it is looked whether something is in use still.
const LOOK: Duration = Duration::from_millis(250);
