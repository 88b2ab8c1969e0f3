//! What all workers share of the process's own load: how hard it is pressed, which the control
//! thread writes, and how many connections of clients there are, which workers count as they come
//! and go.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use arc_swap::ArcSwap;

use crate::limit::Refusal;
use crate::limit::pressure::{Level, Resource, Verdict};
use crate::model::settings::Overload;
use crate::observe::metrics::OverloadMetrics;

/// The process's own load.
#[derive(Debug)]
pub struct Pressure {
    /// When it is too much.
    pub settings: ArcSwap<Overload>,
    /// What is shown of it.
    pub metrics: Arc<OverloadMetrics>,
    /// One of [`CALM`] to [`NO_MEMORY`].
    state: AtomicU8,
    max_connections: AtomicU64,
    connections: AtomicU64,
    max_parting: u64,
    parting: AtomicU64,
}

impl Pressure {
    /// Calm, with as many connections as there may be and as many that may be told at once that they
    /// are refused.
    #[must_use]
    pub fn new(
        settings: Overload,
        (max_connections, max_parting): (u64, u64),
        metrics: Arc<OverloadMetrics>,
    ) -> Self {
        metrics.set_max_connections(max_connections);
        Self {
            settings: ArcSwap::from_pointee(settings),
            metrics,
            state: AtomicU8::new(CALM),
            max_connections: AtomicU64::new(max_connections),
            connections: AtomicU64::new(0),
            max_parting,
            parting: AtomicU64::new(0),
        }
    }

    /// Takes other settings, and as many connections as there may be. Those that are past it stay.
    pub fn adjust(&self, settings: Overload, max_connections: u64) {
        self.metrics.set_max_connections(max_connections);
        self.max_connections.store(max_connections, Ordering::Relaxed);
        self.settings.store(Arc::new(settings));
    }

    /// Puts into force what was found.
    pub fn set(&self, verdict: &Verdict) {
        let memory = verdict.cause.is_some_and(|cause| cause.resource == Resource::Memory);
        let state = match verdict.level {
            Level::Calm => CALM,
            Level::Soft => SOFT,
            Level::Hard if memory => NO_MEMORY,
            Level::Hard => NO_DESCRIPTORS,
        };
        self.state.store(state, Ordering::Relaxed);
        self.metrics.set_level(verdict.level);
    }

    /// Whether idle connections are to go and new ones to be paced.
    #[inline]
    #[must_use]
    pub fn is_pressed(&self) -> bool {
        self.state.load(Ordering::Relaxed) != CALM
    }

    /// Connections of clients, and how many there may be.
    #[must_use]
    pub fn connections(&self) -> (u64, u64) {
        (self.connections.load(Ordering::Relaxed), self.max_connections.load(Ordering::Relaxed))
    }

    /// Counts a connection of a client, unless there are too many or too little is left for it.
    ///
    /// # Errors
    /// When it is not to be served. It is not counted then.
    pub fn enter(&self) -> Result<(), Refusal> {
        match self.state.load(Ordering::Relaxed) {
            NO_DESCRIPTORS => return Err(Refusal::Descriptors),
            NO_MEMORY => return Err(Refusal::Memory),
            _ => {}
        }
        take_one(&self.connections, self.max_connections.load(Ordering::Relaxed))
            .then_some(())
            .ok_or(Refusal::Connections)
    }

    /// A counted connection is gone.
    pub fn leave(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether one more client may be told that its connection is refused. It is counted then.
    #[must_use]
    pub fn begin_parting(&self) -> bool {
        take_one(&self.parting, self.max_parting)
    }

    /// It was told.
    pub fn end_parting(&self) {
        self.parting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Adds one, unless there are `most`; whether it did.
pub(super) fn take_one(count: &AtomicU64, most: u64) -> bool {
    let taken = count.fetch_add(1, Ordering::Relaxed) < most;
    if !taken {
        count.fetch_sub(1, Ordering::Relaxed);
    }
    taken
}

const CALM: u8 = 0;
const SOFT: u8 = 1;
const NO_DESCRIPTORS: u8 = 2;
const NO_MEMORY: u8 = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::pressure::Reading;
    use crate::observe::metrics::Registry;

    fn pressure() -> Pressure {
        Pressure::new(Overload::default(), (2, 1), Arc::clone(Registry::new(1).overload()))
    }

    #[test]
    fn a_connection_that_leaves_makes_room() {
        let pressure = pressure();
        assert_eq!([pressure.enter(), pressure.enter()], [Ok(()), Ok(())]);
        assert_eq!([pressure.enter(), pressure.enter()], [Err(Refusal::Connections); 2]);
        assert_eq!(pressure.connections(), (2, 2));
        pressure.leave();
        assert_eq!(pressure.enter(), Ok(()));
        assert!(pressure.begin_parting() && !pressure.begin_parting());
        pressure.end_parting();
        assert!(pressure.begin_parting());
    }

    #[test]
    fn at_the_hard_level_nobody_enters() {
        let pressure = pressure();
        for (resource, refusal) in
            [(Resource::Descriptors, Refusal::Descriptors), (Resource::Memory, Refusal::Memory)]
        {
            let cause = Some(Reading { resource, used: 1, limit: 1 });
            pressure.set(&Verdict { level: Level::Hard, cause });
            assert_eq!((pressure.enter(), pressure.is_pressed()), (Err(refusal), true));
            pressure.set(&Verdict { level: Level::Soft, cause });
            assert!(pressure.is_pressed() && pressure.enter().is_ok());
            pressure.leave();
        }
        pressure.set(&Verdict::default());
        assert!(!pressure.is_pressed());
    }
}
