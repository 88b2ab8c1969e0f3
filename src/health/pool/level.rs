//! One failover level as a whole: how many of its endpoints may be ejected, and whether so many
//! fail at once that the cause must be one that they share. Knows levels, not endpoints.

use std::time::{Duration, Instant};

use super::settings::Ejection;

/// A failover level.
#[derive(Debug)]
pub(super) struct Level {
    /// Its number in the configuration.
    pub(super) number: u32,
    /// Endpoints that look bad, as counted anew on each tick.
    pub(super) suspects: usize,
    /// Set while they degrade together.
    pub(super) together: Option<Together>,
}

/// A time in which a level's endpoints degrade together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Together {
    /// Ejections from then on belong to it.
    pub(super) from: Instant,
    /// Since when there have been too few suspects.
    calm_since: Option<Instant>,
    /// The share of failures of an endpoint in the middle of the level, 0 to 1.
    pub(super) usual_share: f64,
}

/// What a level's endpoints are at present.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Census {
    /// Those that take part: not taken out by command, and known to checks.
    pub(super) members: usize,
    /// Those of them that are ejected, on trial or down.
    pub(super) gone: usize,
    /// Those of them that may get traffic as a rule.
    pub(super) available: usize,
}

/// How the level changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// They degrade together from now on.
    Together,
    /// No longer.
    Over,
}

impl Level {
    pub(super) fn new(number: u32) -> Self {
        Self { number, suspects: 0, together: None }
    }

    /// Weighs the suspects against the `of` endpoints that may fail together.
    pub(super) fn weigh(&mut self, of: usize, ejection: &Ejection, now: Instant) -> Option<Turn> {
        let many = of >= 2 && self.suspects > bearable(of, ejection);
        let Some(together) = &mut self.together else {
            if many {
                let from = now.checked_sub(BEFORE).unwrap_or(now);
                self.together = Some(Together { from, calm_since: None, usual_share: 0.0 });
            }
            return many.then_some(Turn::Together);
        };
        if many {
            together.calm_since = None;
            return None;
        }
        let calm_since = *together.calm_since.get_or_insert(now);
        if now.saturating_duration_since(calm_since) < CALM {
            return None;
        }
        self.together = None;
        Some(Turn::Over)
    }
}

/// How many of `of` endpoints may look bad at once, each for reasons of its own: two thirds, or as
/// many as may be ejected if that is more; never all.
fn bearable(of: usize, ejection: &Ejection) -> usize {
    (of * 2 / 3).max(ejection.cap(of)).min(of.saturating_sub(1))
}

/// The first endpoints of an outage are ejected before the others are seen to fail: what began this
/// long before belongs to it. Also, what has been gone for longer says nothing of an outage.
pub(super) const BEFORE: Duration = Duration::from_secs(10);
/// For how long there must be few suspects before it is over.
const CALM: Duration = Duration::from_secs(3);
/// By how much its share of failures must exceed the usual one for an endpoint to be ejected while
/// all degrade together: it has a failure of its own besides.
pub(super) const STANDS_OUT: f64 = 0.5;
/// By how much for its ejection not to be lifted.
pub(super) const STAYS_OUT: f64 = 0.35;
