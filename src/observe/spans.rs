//! Finished spans on their way from the workers to whoever exports them. A worker adds to a backlog of its
//! own; one that is full loses spans and counts them: tracing never makes a request wait.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::shard::{Shard, Sharded};
use crate::trace::Span;

/// What became of a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// A collector has it.
    Exported,
    /// There was no room for it where spans wait.
    Dropped,
    /// A collector would not have it.
    Rejected,
    /// No collector could be reached in time.
    Failed,
}

impl Fate {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Exported, Self::Dropped, Self::Rejected, Self::Failed];

    /// Its name in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Exported => "exported",
            Self::Dropped => "dropped",
            Self::Rejected => "rejected",
            Self::Failed => "failed",
        }
    }
}

/// The spans of all workers that nobody has taken yet.
#[derive(Debug)]
pub struct Spans {
    shards: Sharded<Mutex<Vec<Span>>>,
    /// Spans of each worker that may wait.
    room: usize,
    /// By what became of them.
    ended: [AtomicU64; 4],
    failures: AtomicU64,
    /// Somebody was told that there are some, and has not looked yet.
    told: AtomicBool,
    waiting: Notify,
}

impl Spans {
    /// Room for so many spans of each of `workers` workers.
    #[must_use]
    pub fn new(workers: usize, room: usize) -> Self {
        Self {
            shards: Sharded::new(workers),
            room,
            ended: Default::default(),
            failures: AtomicU64::new(0),
            told: AtomicBool::new(false),
            waiting: Notify::new(),
        }
    }

    /// Adds the spans of one request, all of them or none. Never waits for longer than it takes to swap two
    /// lists.
    pub fn give(&self, shard: Shard, spans: Vec<Span>) {
        let Some(backlog) = self.shards.of(shard) else { return self.lose(spans.len()) };
        let mut backlog = lock(backlog);
        if backlog.len() + spans.len() > self.room {
            drop(backlog);
            return self.lose(spans.len());
        }
        backlog.extend(spans);
        drop(backlog);
        // Loaded first, which spares the cache line that all workers share. What it says is true of the spans
        // that were just added, because `take` clears it before it takes any lock.
        if !self.told.load(Ordering::Acquire) && !self.told.swap(true, Ordering::AcqRel) {
            self.waiting.notify_one();
        }
    }

    /// Takes all that there are.
    #[must_use]
    pub fn take(&self) -> Vec<Span> {
        // Before looking, so that who adds one meanwhile tells of it.
        self.told.store(false, Ordering::Release);
        let mut all = Vec::new();
        for shard in self.shards.iter() {
            let taken = std::mem::take(&mut *lock(shard));
            all.extend(taken);
        }
        all
    }

    /// Completes once there are some.
    pub async fn filled(&self) {
        self.waiting.notified().await;
    }

    /// Counts spans that nobody will have.
    pub fn lose(&self, spans: usize) {
        self.account(Fate::Dropped, spans);
    }

    /// Counts spans of which it is known what became of them.
    pub fn account(&self, fate: Fate, spans: usize) {
        if let Some(count) = self.ended.get(fate as usize) {
            count.fetch_add(spans as u64, Ordering::Relaxed);
        }
    }

    /// How many spans met with this.
    #[must_use]
    pub fn ended(&self, fate: Fate) -> u64 {
        self.ended.get(fate as usize).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// Counts a try to deliver spans that failed, which may be tried again.
    pub fn fail(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    /// How many tries failed.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Spans that nobody had.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.ended(Fate::Dropped)
    }
}

fn lock(backlog: &Mutex<Vec<Span>>) -> MutexGuard<'_, Vec<Span>> {
    backlog.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Spans of each worker that may wait to be exported.
pub const ROOM: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use std::num::{NonZeroU64, NonZeroU128};

    use super::*;
    use crate::trace::{Kind, SpanId, TraceId};

    fn spans(count: u64) -> Vec<Span> {
        let span = |id| Span {
            trace: TraceId(NonZeroU128::MIN),
            id: SpanId(NonZeroU64::MIN.saturating_add(id)),
            parent: None,
            state: None,
            kind: Kind::Server,
            name: "GET".into(),
            start: 1,
            end: 2,
            failed: None,
            attributes: Vec::new(),
            events: Vec::new(),
        };
        (0..count).map(span).collect()
    }

    #[test]
    fn what_does_not_fit_is_lost_whole_and_counted() {
        let buffer = Spans::new(2, 5);
        buffer.give(Shard::worker(0), spans(3));
        buffer.give(Shard::worker(0), spans(3));
        buffer.give(Shard::worker(1), spans(5));
        buffer.give(Shard::worker(2), spans(1));
        assert_eq!((buffer.take().len(), buffer.dropped()), (8, 4));
        buffer.give(Shard::worker(0), spans(5));
        assert_eq!((buffer.take().len(), buffer.dropped()), (5, 4));
    }

    #[tokio::test]
    async fn who_waits_is_told_once() {
        let buffer = Spans::new(1, 10);
        buffer.give(Shard::worker(0), spans(1));
        buffer.give(Shard::worker(0), spans(1));
        buffer.filled().await;
        assert_eq!(buffer.take().len(), 2);
        buffer.give(Shard::worker(0), spans(1));
        buffer.filled().await;
        assert_eq!(buffer.take().len(), 1);
    }
}
