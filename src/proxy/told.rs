//! Tells the access log and whoever follows of a connection or flow that is over. Does not count it.

use super::Worker;
use crate::ambient;
use crate::model::settings::Outline;
use crate::observe::access_log::Record;
use crate::observe::ended::Ended;
use crate::upstream::{Listener, Snapshot};

/// Logs what `listener` took, where it is wanted. Where it is not, it costs two loads.
pub(super) fn told(worker: &Worker, listener: &Listener, snapshot: &Snapshot, ended: &Ended<'_>) {
    let (log, tap) = (listener.access_log.as_ref(), &snapshot.tap);
    if log.is_none() && !tap.is_followed() {
        return;
    }
    // There is no status to go by.
    let outline = Outline { status: 0, duration: ended.duration, failed: ended.result.fault().is_some() };
    let kept = log.filter(|log| log.keeps(&outline, ambient::draw));
    if log.is_some() && kept.is_none() {
        listener.metrics.left_out_of_log(worker.shard);
    }
    if kept.is_none() && !tap.is_followed() {
        return;
    }
    let record = Record::from(ended);
    if let Some(log) = kept {
        log.write(worker.shard, &record);
    }
    if tap.is_followed() {
        tap.tell(worker.shard, &record);
    }
}
