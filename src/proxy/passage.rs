//! A connection that is passed on as bytes, as the worker knows it: where it goes, what moved so far,
//! and what became of it. Counted when it is dropped, and its bytes now and then before.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use super::Live;
use crate::ambient;
use crate::net::relay::Progress;
use crate::observe::connections::Passed;
use crate::observe::ended::{Ended, StreamResult};
use crate::observe::metrics::{Shard, StreamMetrics};
use crate::upstream::{Listener, LocalEndpoint, LocalPool};

/// What is known of one connection.
#[derive(Debug)]
pub(super) struct Passage {
    /// Bytes that moved so far.
    pub(super) progress: Progress,
    /// What became of it; that it was cut off, until it is known.
    pub(super) result: Cell<StreamResult>,
    shard: Shard,
    listener: Arc<Listener>,
    pool: Rc<LocalPool>,
    metrics: Arc<StreamMetrics>,
    endpoint: RefCell<Option<Rc<LocalEndpoint>>>,
    client: Option<SocketAddr>,
    begun: Instant,
    connect: Cell<Option<Duration>>,
    tries: Cell<u32>,
    /// What of `progress` is in the metrics.
    counted: Cell<(u64, u64)>,
}

/// Has a passage counted when it is over.
#[derive(Debug)]
pub(super) struct Passing {
    passage: Rc<Passage>,
    live: Rc<Live>,
}

impl Passing {
    /// A connection that `live` knows of goes to `pool`.
    pub(super) fn begin(live: &Rc<Live>, passage: Passage) -> Self {
        let passage = Rc::new(passage);
        passage.metrics.begin(passage.shard);
        live.pass(&passage);
        Self { passage, live: Rc::clone(live) }
    }
}

impl std::ops::Deref for Passing {
    type Target = Passage;

    fn deref(&self) -> &Passage {
        &self.passage
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        let took = ambient::now().saturating_duration_since(self.passage.begun);
        self.passage.count();
        let endpoint = self.passage.endpoint.borrow();
        let endpoint = endpoint.as_ref().map(|endpoint| endpoint.shared.name.as_str());
        let ended = self.passage.ended(&self.live, endpoint, took);
        self.passage.metrics.end(self.passage.shard, ended.result, ended.duration);
    }
}

impl Passage {
    /// A connection from `client` that `listener` took and that is for `pool`.
    pub(super) fn new(
        shard: Shard,
        listener: &Arc<Listener>,
        (pool, metrics): (&Rc<LocalPool>, &Arc<StreamMetrics>),
        (client, begun): (Option<SocketAddr>, Instant),
    ) -> Self {
        Self {
            progress: Progress::default(),
            result: Cell::new(StreamResult::Aborted),
            shard,
            listener: Arc::clone(listener),
            pool: Rc::clone(pool),
            metrics: Arc::clone(metrics),
            endpoint: RefCell::default(),
            client,
            begun,
            connect: Cell::default(),
            tries: Cell::new(0),
            counted: Cell::default(),
        }
    }

    /// It is about to be connected to this endpoint.
    pub(super) fn ask(&self, endpoint: &Rc<LocalEndpoint>) {
        self.tries.set(self.tries.get().saturating_add(1));
        self.endpoint.replace(Some(Rc::clone(endpoint)));
    }

    /// It is connected to an endpoint since `now`.
    pub(super) fn connected(&self, now: Instant) {
        let took = now.saturating_duration_since(self.begun);
        self.connect.set(Some(took));
        self.metrics.connected(self.shard, took);
    }

    /// Has what moved since the last time counted.
    pub(super) fn count(&self) {
        let now = (self.progress.up(), self.progress.down());
        let before = self.counted.replace(now);
        if now == before {
            return;
        }
        let (received, sent) = (now.0.saturating_sub(before.0), now.1.saturating_sub(before.1));
        self.metrics.moved(self.shard, received, sent);
        self.listener.metrics.received(self.shard, received);
        self.listener.metrics.sent(self.shard, sent);
        if let Some(endpoint) = &*self.endpoint.borrow() {
            endpoint.shared.metrics.sent(self.shard, received);
            endpoint.shared.metrics.received(self.shard, sent);
        }
    }

    /// What there is to show of it.
    pub(super) fn show(&self) -> Passed {
        Passed {
            pool: self.pool.shared.settings.name.clone(),
            endpoint: self.endpoint.borrow().as_ref().map(|endpoint| endpoint.shared.name.clone()),
            received: self.progress.up(),
            sent: self.progress.down(),
        }
    }

    /// All there is to say of it once it is over, which has lasted for `took`.
    fn ended<'a>(&'a self, live: &'a Live, endpoint: Option<&'a str>, took: Duration) -> Ended<'a> {
        let tls = live.tls();
        Ended {
            time: ambient::wall().checked_sub(took).unwrap_or(UNIX_EPOCH),
            client: self.client.map(|client| client.ip()),
            listener: self.listener.name.as_str(),
            pool: Some(self.pool.shared.settings.name.as_str()),
            endpoint,
            result: self.result.get(),
            received: self.progress.up(),
            sent: self.progress.down(),
            datagrams: None,
            duration: took,
            connect: self.connect.get(),
            tries: self.tries.get(),
            sni: tls.and_then(|tls| tls.sni.as_deref()),
            tls_version: tls.and_then(|tls| tls.version),
        }
    }
}
