//! Tells the access log and whoever follows of a connection or flow that is over. Does not count it.

use std::time::UNIX_EPOCH;

use super::{Live, Worker};
use crate::ambient;
use crate::model::settings::Outline;
use crate::observe::access_log::{Record, Tap};
use crate::observe::ended::{Ended, StreamResult};
use crate::observe::metrics::Shard;
use crate::upstream::{Listener, Service};

/// Logs what `listener` took, where it is wanted. Where it is not, it costs two loads.
pub(super) fn told(shard: Shard, listener: &Listener, tap: &Tap, ended: &Ended<'_>) {
    let log = listener.access_log.as_ref();
    if log.is_none() && !tap.is_followed() {
        return;
    }
    // There is no status to go by.
    let outline = Outline { status: 0, duration: ended.duration, failed: ended.result.fault().is_some() };
    let kept = log.filter(|log| log.keeps(&outline, ambient::draw));
    if log.is_some() && kept.is_none() {
        listener.metrics.left_out_of_log(shard);
    }
    if kept.is_none() && !tap.is_followed() {
        return;
    }
    let record = Record::from(ended);
    if let Some(log) = kept {
        log.write(shard, &record);
    }
    if tap.is_followed() {
        tap.tell(shard, &record);
    }
}

/// Logs a connection that came to nothing before it was for a pool, where a listener's connections are
/// what is logged. Where requests are, there was none.
pub(super) fn told_of_none(worker: &Worker, listener: &Listener, live: &Live, result: StreamResult) {
    if !matches!(listener.service, Service::Tcp(_) | Service::Tls(_)) {
        return;
    }
    let duration = ambient::now().saturating_duration_since(live.since);
    let ended = Ended {
        time: ambient::wall().checked_sub(duration).unwrap_or(UNIX_EPOCH),
        client: live.peer().map(|client| client.ip()),
        listener: listener.name.as_str(),
        pool: None,
        endpoint: None,
        result,
        received: 0,
        sent: 0,
        datagrams: None,
        duration,
        connect: None,
        tries: 0,
        sni: live.tls().and_then(|tls| tls.sni.as_deref()),
        tls_version: None,
    };
    told(worker.shard, listener, &live.listening.local(worker).snapshot.tap, &ended);
}
