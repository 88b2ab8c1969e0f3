//! Lines that wait to be written, per worker, and when the writer looks at them. A worker shares its
//! backlog with the writer only, which holds the lock for as long as it takes to swap two buffers.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::line::{Shape, Stamp};
use super::record::Record;
use crate::ambient;
use crate::observe::shard::{Shard, Sharded};

/// The backlogs of all workers, and what the writer is asked to do.
#[derive(Debug)]
pub(super) struct Backlogs {
    shards: Sharded<Mutex<Backlog>>,
    mood: AtomicU8,
    queue: usize,
    /// Set to have the file opened anew.
    pub(super) reopen: AtomicBool,
    /// Set to have the writer end.
    pub(super) stop: AtomicBool,
}

/// How soon the writer shall look, in ascending order of haste.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Mood {
    /// Not before somebody asks.
    Asleep,
    /// When [`GATHER`] is over.
    Gathering,
    /// Now.
    Urgent,
}

/// The lines of one worker.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    text: Vec<u8>,
    lines: usize,
    /// The writer will not come again.
    closed: bool,
    stamp: Stamp,
}

impl Backlogs {
    pub(super) fn new(workers: usize, queue: usize) -> Self {
        Self {
            shards: Sharded::new(workers),
            mood: AtomicU8::new(Mood::Asleep as u8),
            queue: queue.max(1),
            reopen: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        }
    }

    /// Adds a line to a worker's backlog. Returns how soon the writer shall look, or `None` when the
    /// line was not taken.
    pub(super) fn push(&self, shard: Shard, add: impl FnOnce(&mut Backlog)) -> Option<Mood> {
        let mut backlog = lock(self.shards.of(shard)?);
        let queue = self.queue;
        let reaches =
            |lines: usize| backlog.lines >= lines || backlog.text.len() >= lines.saturating_mul(LINE_BYTES);
        if backlog.closed || reaches(queue) {
            return None;
        }
        let mood = if reaches(queue / 2) { Mood::Urgent } else { Mood::Gathering };
        add(&mut backlog);
        Some(mood)
    }

    /// Whether the writer is less in a hurry than `mood` asks. One load, which spares the cache line
    /// that all workers share: most lines find the writer gathering already. What it says of a line
    /// that was pushed before is true, because the writer calms down before it takes any lock.
    pub(super) fn calmer_than(&self, mood: Mood) -> bool {
        self.mood.load(Ordering::Acquire) < mood as u8
    }

    /// Raises the writer's haste. Returns whether it has to be unparked for that.
    pub(super) fn rouse(&self, mood: Mood) -> bool {
        self.mood.fetch_max(mood as u8, Ordering::AcqRel) < mood as u8
    }

    /// Parks the writer until it has something to do, and a little longer, so that lines come in
    /// batches.
    pub(super) fn wait(&self) {
        while self.calmer_than(Mood::Gathering) {
            thread::park();
        }
        let deadline = ambient::now() + GATHER;
        while self.calmer_than(Mood::Urgent) {
            let left = deadline.saturating_duration_since(ambient::now());
            if left.is_zero() {
                break;
            }
            thread::park_timeout(left);
        }
        // A swap rather than a store, so that what was asked with the haste is seen from here on.
        self.mood.swap(Mood::Asleep as u8, Ordering::AcqRel);
    }

    /// Hands each worker's lines to `write(text, lines)`, by way of the buffer `spare`; `last` closes
    /// the backlogs.
    pub(super) fn drain(&self, last: bool, spare: &mut Vec<u8>, mut write: impl FnMut(&[u8], usize)) {
        for shard in self.shards.iter() {
            let mut backlog = lock(shard);
            backlog.closed = last;
            std::mem::swap(&mut backlog.text, spare);
            let lines = std::mem::take(&mut backlog.lines);
            drop(backlog);
            if lines > 0 {
                write(spare, lines);
            }
            spare.clear();
        }
    }
}

impl Backlog {
    /// Appends the line of `record`.
    pub(super) fn add(&mut self, shape: &Shape, record: &Record<'_>) {
        shape.line(record, &mut self.stamp, &mut self.text);
        self.lines += 1;
    }
}

fn lock(backlog: &Mutex<Backlog>) -> MutexGuard<'_, Backlog> {
    backlog.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long the writer lets lines gather after the first.
const GATHER: Duration = Duration::from_millis(20);

/// What a line is reckoned to take of a backlog's memory, in bytes.
const LINE_BYTES: usize = 1024;
