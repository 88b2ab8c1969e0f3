//! What active checks say of one endpoint: how many results in a row turn the verdict, and when to
//! check next. Knows nothing of live traffic.

use std::time::{Duration, Instant};

use super::settings::varied;
use crate::health::check::Rhythm;

/// What checks say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing yet: the endpoint is not used.
    Unproven,
    /// Nothing yet, but the pool was opened as it is.
    Assumed,
    /// It is well.
    Up,
    /// It is not.
    Down,
}

/// The checks of one endpoint.
#[derive(Clone, Copy, Debug)]
pub(super) struct Checks {
    pub(super) verdict: Verdict,
    /// Since when.
    pub(super) since: Instant,
    /// Results against the verdict in a row.
    row: u32,
}

/// What a result that does not just confirm the verdict does to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// Results of this kind in a row.
    pub(super) row: u32,
    /// How many turn the verdict.
    pub(super) needed: u32,
    /// The verdict that was turned, if this was the last that was needed.
    pub(super) turned: Option<Verdict>,
}

impl Checks {
    /// No result yet at `now`.
    pub(super) fn new(now: Instant) -> Self {
        Self { verdict: Verdict::Unproven, since: now, row: 0 }
    }

    /// The same of an endpoint that has been in use unchecked.
    pub(super) fn assumed(now: Instant) -> Self {
        Self { verdict: Verdict::Assumed, ..Self::new(now) }
    }

    /// Takes a result. `None` if it confirms the verdict.
    pub(super) fn take(&mut self, passed: bool, rhythm: &Rhythm, now: Instant) -> Option<Step> {
        let needed = match (self.verdict, passed) {
            (Verdict::Up, true) | (Verdict::Down, false) => {
                self.row = 0;
                return None;
            }
            (Verdict::Unproven | Verdict::Assumed, true) => 1,
            (Verdict::Down, true) => rhythm.rise.max(1),
            (_, false) => rhythm.fall.max(1),
        };
        let row = if needed == 1 { 1 } else { self.row + 1 };
        if row < needed {
            self.row = row;
            return Some(Step { row, needed, turned: None });
        }
        let verdict = if passed { Verdict::Up } else { Verdict::Down };
        let turned = std::mem::replace(&mut self.verdict, verdict);
        (self.row, self.since) = (0, now);
        Some(Step { row, needed, turned: Some(turned) })
    }

    /// Uses the endpoint if nothing is known of it yet. Whether that is so.
    pub(super) fn assume(&mut self) -> bool {
        let is_unproven = self.verdict == Verdict::Unproven;
        if is_unproven {
            self.verdict = Verdict::Assumed;
        }
        is_unproven
    }

    /// Whether the endpoint may be used.
    pub(super) fn is_usable(&self) -> bool {
        matches!(self.verdict, Verdict::Up | Verdict::Assumed)
    }

    /// How long to wait before the next check.
    pub(super) fn next(&self, rhythm: &Rhythm, draw: u64) -> Duration {
        let pause = match self.verdict {
            Verdict::Unproven | Verdict::Assumed => rhythm.fast_interval,
            _ if self.row > 0 => rhythm.fast_interval,
            Verdict::Up => rhythm.interval,
            Verdict::Down => rhythm.down_interval,
        };
        varied(pause, rhythm.jitter, draw)
    }
}
