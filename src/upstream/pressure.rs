//! What all workers share of the process's own load: how hard it is pressed, which the control
//! thread writes, and how many connections and flows of clients there are, which workers count as they
//! come and go.

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
    flows: AtomicU64,
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
            flows: AtomicU64::new(0),
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

    /// Connections and flows of clients, and how many connections there may be.
    #[must_use]
    pub fn connections(&self) -> (u64, u64) {
        let open = self.connections.load(Ordering::Relaxed) + self.flows.load(Ordering::Relaxed);
        (open, self.max_connections.load(Ordering::Relaxed))
    }

    /// The same, with as many connections in place of flows as there could be instead.
    #[must_use]
    pub fn load(&self) -> (u64, u64) {
        let connections = self.connections.load(Ordering::Relaxed);
        (connections + self.flows_as_connections(), self.max_connections.load(Ordering::Relaxed))
    }

    /// Counts a connection of a client, unless there are too many or too little is left for it.
    ///
    /// # Errors
    /// When it is not to be served. It is not counted then.
    pub fn enter(&self) -> Result<(), Refusal> {
        self.bear()?;
        let most = self.max_connections.load(Ordering::Relaxed).saturating_sub(self.flows_as_connections());
        take_one(&self.connections, most).then_some(()).ok_or(Refusal::Connections)
    }

    /// As [`Self::enter`], for a flow of datagrams. It takes one descriptor, where a connection takes one
    /// on either side, and so counts as half a connection.
    ///
    /// # Errors
    /// When it is not to be served. It is not counted then.
    pub fn enter_flow(&self) -> Result<(), Refusal> {
        self.bear()?;
        let connections = self.connections.load(Ordering::Relaxed);
        let left = self.max_connections.load(Ordering::Relaxed).saturating_sub(connections);
        take_one(&self.flows, left.saturating_mul(2)).then_some(()).ok_or(Refusal::Connections)
    }

    /// A counted flow is over.
    pub fn leave_flow(&self) {
        self.flows.fetch_sub(1, Ordering::Relaxed);
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

    /// Whether there is enough left for anything new.
    fn bear(&self) -> Result<(), Refusal> {
        match self.state.load(Ordering::Relaxed) {
            NO_DESCRIPTORS => Err(Refusal::Descriptors),
            NO_MEMORY => Err(Refusal::Memory),
            _ => Ok(()),
        }
    }

    fn flows_as_connections(&self) -> u64 {
        self.flows.load(Ordering::Relaxed).div_ceil(2)
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
    fn a_flow_is_half_a_connection() {
        let pressure = pressure();
        assert_eq!([pressure.enter_flow(), pressure.enter()], [Ok(()), Ok(())]);
        assert_eq!((pressure.connections(), pressure.load()), ((2, 2), (2, 2)));
        assert_eq!([pressure.enter_flow(), pressure.enter_flow()], [Ok(()), Err(Refusal::Connections)]);
        assert_eq!(pressure.enter(), Err(Refusal::Connections));
        assert_eq!((pressure.connections(), pressure.load()), ((3, 2), (2, 2)));
        pressure.leave();
        pressure.leave_flow();
        assert_eq!([pressure.enter(), pressure.enter()], [Ok(()), Err(Refusal::Connections)]);
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
