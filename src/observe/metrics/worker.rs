//! What is measured of workers: how busy each is, how late it comes to what it is to do, and how many
//! connections it has. What is shown is worked out when somebody asks, so that a worker that is stuck
//! shows it at once. Does not know what keeps a worker busy.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::RuntimeMetrics;

use super::exposition::{Exposition, Title, labels};

/// What is measured of one worker. It alone writes it.
#[derive(Debug)]
pub struct WorkerMetrics {
    runtime: Mutex<Runtime>,
    lateness: Lateness,
}

/// How much a worker has to do, as read at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerUse {
    /// Its number, from 0.
    pub worker: usize,
    /// How long it was busy so far: the time in which its loop did not wait for events, as the clock has
    /// it, what it waited for a processor included. A burst of work counts once it is over.
    pub busy: Duration,
    /// How late its timer was at most in the last 15 to 30 s, or is now if that is more.
    pub lag: Duration,
    /// Connections of clients that it has.
    pub connections: u64,
}

/// The runtime of a worker, in this life and before.
#[derive(Debug, Default)]
struct Runtime {
    /// How long it was busy in lives before this one.
    before: Duration,
    now: Option<RuntimeMetrics>,
}

/// A worker's life, which ends when this is dropped.
#[derive(Debug)]
pub struct Life<'a>(&'a WorkerMetrics);

impl WorkerMetrics {
    /// Times are counted from `now` on.
    pub(super) fn new(now: Instant) -> Self {
        Self { runtime: Mutex::default(), lateness: Lateness::new(now) }
    }

    /// It lives, on this runtime.
    #[must_use]
    pub fn begin(&self, runtime: RuntimeMetrics) -> Life<'_> {
        self.runtime.lock().unwrap_or_else(PoisonError::into_inner).now = Some(runtime);
        Life(self)
    }

    /// It is to come back to its timer at `at`.
    pub fn due(&self, at: Instant) {
        self.lateness.due(at);
    }

    /// It came back.
    pub fn woke(&self, now: Instant) {
        self.lateness.woke(now);
    }

    /// What is known of the worker with this number, at `now`.
    pub(super) fn read(&self, worker: usize, connections: u64, now: Instant) -> WorkerUse {
        let busy = self.runtime.lock().unwrap_or_else(PoisonError::into_inner).busy();
        WorkerUse { worker, busy, lag: self.lateness.greatest(now), connections }
    }
}

impl Runtime {
    fn busy(&self) -> Duration {
        let now = self.now.as_ref().map(|runtime| runtime.worker_total_busy_duration(0));
        self.before + now.unwrap_or_default()
    }
}

impl Drop for Life<'_> {
    fn drop(&mut self) {
        let mut runtime = self.0.runtime.lock().unwrap_or_else(PoisonError::into_inner);
        runtime.before = runtime.busy();
        // It would keep the runtime's descriptors.
        runtime.now = None;
        self.0.lateness.rest();
    }
}

/// How late something was at most: in this stretch of time, and in the one before. Times are
/// nanoseconds since `born`.
#[derive(Debug)]
struct Lateness {
    born: Instant,
    /// 0 when nothing is due.
    due: AtomicU64,
    stretch: AtomicU64,
    greatest: AtomicU64,
    earlier: AtomicU64,
}

impl Lateness {
    fn new(born: Instant) -> Self {
        let [due, stretch, greatest, earlier] = [const { AtomicU64::new(0) }; 4];
        Self { born, due, stretch, greatest, earlier }
    }

    fn due(&self, at: Instant) {
        self.due.store(self.since(at).max(1), Ordering::Relaxed);
    }

    /// Nothing is due.
    fn rest(&self) {
        self.due.store(0, Ordering::Relaxed);
    }

    fn woke(&self, now: Instant) {
        let (now, due) = (self.since(now), self.due.swap(0, Ordering::Relaxed));
        let stretch = now.wrapping_div(STRETCH);
        let passed = stretch - self.stretch.swap(stretch, Ordering::Relaxed).min(stretch);
        if passed > 0 {
            let greatest = self.greatest.swap(0, Ordering::Relaxed);
            self.earlier.store(if passed == 1 { greatest } else { 0 }, Ordering::Relaxed);
        }
        if due > 0 {
            self.greatest.fetch_max(now.saturating_sub(due), Ordering::Relaxed);
        }
    }

    fn greatest(&self, now: Instant) -> Duration {
        let now = self.since(now);
        let overdue = match self.due.load(Ordering::Relaxed) {
            0 => 0,
            due => now.saturating_sub(due),
        };
        let known = self.greatest.load(Ordering::Relaxed).max(self.earlier.load(Ordering::Relaxed));
        Duration::from_nanos(known.max(overdue))
    }

    fn since(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.born).as_nanos()).unwrap_or(u64::MAX)
    }
}

/// Adds what is known of workers.
pub(super) fn expose(workers: &[WorkerUse], out: &mut Exposition) {
    let samples = |value: fn(&WorkerUse) -> f64| {
        let sample = move |of: &WorkerUse| (labels([("worker", &*of.worker.to_string())]), value(of));
        workers.iter().map(sample)
    };
    out.counter(BUSY, samples(|of| of.busy.as_secs_f64()));
    out.gauge(LAG, samples(|of| of.lag.as_secs_f64()));
    out.gauge(CONNECTIONS, samples(|of| of.connections as f64));
}

/// How long a lateness is shown for at least, and half of how long at most: longer than most pause
/// between two scrapes. In nanoseconds.
const STRETCH: u64 = 15_000_000_000;

const BUSY: Title =
    Title("forebay_worker_busy_seconds_total", "Time in which the worker did not wait for events.");

const LAG: Title = Title(
    "forebay_worker_loop_lag_seconds",
    "How late a timer of the worker was at most in the last 15 to 30 seconds, to a millisecond.",
);

const CONNECTIONS: Title =
    Title("forebay_worker_connections", "Connections from clients that the worker has.");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lateness_is_shown_for_a_while_and_then_forgotten() {
        let start = crate::ambient::now();
        let at = |millis| start + Duration::from_millis(millis);
        let lateness = Lateness::new(start);
        assert_eq!(lateness.greatest(at(99)), Duration::ZERO, "nothing was due");
        let wake = |due, woke| {
            lateness.due(at(due));
            lateness.woke(at(woke));
        };
        wake(250, 290);
        wake(540, 541);
        assert_eq!(lateness.greatest(at(541)), Duration::from_millis(40));
        wake(14_999, 15_001);
        assert_eq!(lateness.greatest(at(15_001)), Duration::from_millis(40), "of the stretch before");
        wake(30_000, 30_000);
        assert_eq!(lateness.greatest(at(30_000)), Duration::from_millis(2));
        wake(90_000, 90_000);
        assert_eq!(lateness.greatest(at(90_000)), Duration::ZERO);
    }

    #[test]
    fn who_is_stuck_is_late_before_it_comes_back() {
        let start = crate::ambient::now();
        let lateness = Lateness::new(start);
        lateness.due(start + Duration::from_millis(250));
        assert_eq!(lateness.greatest(start + Duration::from_secs(3)), Duration::from_millis(2750));
        lateness.rest();
        assert_eq!(lateness.greatest(start + Duration::from_secs(3)), Duration::ZERO);
    }

    #[test]
    fn lives_add_up() {
        let metrics = WorkerMetrics::new(crate::ambient::now());
        let mut before = Duration::ZERO;
        for _ in 0..3 {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let life = metrics.begin(runtime.metrics());
            runtime.block_on(async {
                for _ in 0..500 {
                    tokio::task::yield_now().await;
                }
            });
            drop(life);
            let busy = metrics.read(0, 0, crate::ambient::now()).busy;
            assert!(busy > before, "{busy:?} after {before:?}");
            before = busy;
        }
    }
}
