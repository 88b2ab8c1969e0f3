//! Reads how much of the process's descriptors, memory and connections is in use, has it judged, and
//! tells workers, the log and metrics. Where the system does not say, what it would say is not watched.

mod memory;

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource as Limited, Rlimit, getrlimit, setrlimit};

use crate::limit::pressure::{Judge, Level, Reading, Resource, Thresholds, Verdict, connections_for};
use crate::model::settings::Overload;
use crate::observe::metrics::OverloadMetrics;
use crate::upstream::Pressure;

use memory::Memory;

/// The process's load at its start, with limits from `settings` or from the descriptors there are.
#[must_use]
pub fn at_start(settings: Overload, workers: usize, metrics: Arc<OverloadMetrics>) -> Pressure {
    let descriptors = raise_descriptors();
    let most = most_connections(&settings, descriptors, workers);
    // Those that are refused hold a descriptor for a moment, too.
    let parting = (descriptors / PARTING_SHARE).clamp(MIN_PARTING, MAX_PARTING);
    Pressure::new(settings, (most, parting), metrics)
}

/// Has other settings take effect.
pub fn adjust(pressure: &Pressure, settings: &Overload, workers: usize) {
    if **pressure.settings.load() != *settings {
        pressure.adjust(settings.clone(), most_connections(settings, max_descriptors(), workers));
    }
}

/// How many connections of clients there may be.
fn most_connections(settings: &Overload, descriptors: u64, workers: usize) -> u64 {
    let by_descriptors = connections_for(descriptors, open_descriptors().unwrap_or(0), workers as u64);
    let most = settings.max_connections.unwrap_or(by_descriptors);
    if most > by_descriptors {
        tracing::warn!(
            max_connections = most,
            descriptors,
            enough_for = by_descriptors,
            "more connections are allowed than there are descriptors for"
        );
    }
    most
}

/// Looks several times a second. Never ends.
pub(super) async fn run(pressure: Arc<Pressure>) {
    let mut settings = pressure.settings.load_full();
    let mut watch = Watch::new(&settings);
    loop {
        if !Arc::ptr_eq(&settings, &pressure.settings.load()) {
            settings = pressure.settings.load_full();
            watch = Watch { told: watch.told, ..Watch::new(&settings) };
        }
        watch.look(&pressure);
        tokio::time::sleep(TICK).await;
    }
}

/// Has as many descriptors as the system lets us have; how many that is. Less than what systems give
/// to everybody is taken for somebody's wish.
fn raise_descriptors() -> u64 {
    let limit = getrlimit(Limited::Nofile);
    let usual = limit.current.is_some_and(|current| current >= USUAL);
    if usual && limit.current != limit.maximum {
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        match setrlimit(Limited::Nofile, raised) {
            Ok(()) => {
                tracing::info!(from = ?limit.current, to = ?limit.maximum, "raised the limit of descriptors");
            }
            Err(error) => tracing::warn!(%error, "the limit of descriptors was not raised"),
        }
    }
    max_descriptors()
}

fn max_descriptors() -> u64 {
    getrlimit(Limited::Nofile).current.unwrap_or(u64::MAX)
}

/// Descriptors that are open. Since version 6.2 Linux says their number as the size of the folder;
/// before that they have to be counted.
fn open_descriptors() -> Option<u64> {
    let size = fs::metadata(DESCRIPTORS).ok()?.len();
    if size > 0 {
        return Some(size);
    }
    // The folder that is being read is open as well.
    fs::read_dir(DESCRIPTORS).ok().map(|open| (open.count() as u64).saturating_sub(1))
}

/// What is kept from one look to the next.
struct Watch {
    judge: Judge,
    memory: Memory,
    told: Level,
}

impl Watch {
    fn new(settings: &Overload) -> Self {
        let thresholds = Thresholds { soft: settings.soft, hard: settings.hard };
        Self { judge: Judge::new(thresholds), memory: Memory::new(settings.memory), told: Level::Calm }
    }

    fn look(&mut self, pressure: &Pressure) {
        let limit = max_descriptors();
        let (used, most) = pressure.load();
        let connections = Reading { resource: Resource::Connections, used, limit: most };
        let descriptors =
            open_descriptors().map(|used| Reading { resource: Resource::Descriptors, used, limit });
        let memory = self.memory.read();
        pressure.metrics.set_memory(memory.map_or(0, |m| m.used), memory.map_or(0, |m| m.limit));
        let memory = memory.map(|m| Reading { resource: Resource::Memory, used: m.used, limit: m.limit });
        let readings: Vec<_> = [descriptors, memory, Some(connections)].into_iter().flatten().collect();
        let verdict = self.judge.on_readings(&readings);
        pressure.set(&verdict);
        self.tell(&verdict);
    }

    fn tell(&mut self, verdict: &Verdict) {
        let before = std::mem::replace(&mut self.told, verdict.level);
        if before == verdict.level {
            return;
        }
        let level = verdict.level.name();
        match verdict.cause {
            Some(Reading { resource, used, limit }) => {
                tracing::warn!(level, before = before.name(), of = resource.name(), used, limit, "overload");
            }
            None => tracing::info!(level, before = before.name(), "overload is over"),
        }
    }
}

const DESCRIPTORS: &str = "/proc/self/fd";
/// The soft limit where nobody has set one: as many as select(2) can tell apart.
const USUAL: u64 = 1024;
/// How often is looked.
const TICK: Duration = Duration::from_millis(200);
/// The part of the descriptors that connections may have that are being refused, one in so many.
const PARTING_SHARE: u64 = 32;
const MIN_PARTING: u64 = 4;
const MAX_PARTING: u64 = 1024;
