//! What a change of its pool means to an endpoint: to one that is new beside others, and to one that is
//! judged by other settings from then on. Does not know what changed it.

use std::time::Instant;

use super::{Checks, Endpoint};
use crate::health::journal::{Event, What};
use crate::health::pool::HealthSettings;

impl Endpoint {
    /// The same at another place: its index in the pool and that of its level.
    pub(in crate::health::pool) fn moved(self, index: usize, level: usize) -> Self {
        Self { index, level, counted: false, ..self }
    }

    /// It is new beside others, which may be busy: it starts slowly, and does not count before it was
    /// checked.
    pub(in crate::health::pool) fn join(&mut self, settings: &HealthSettings, now: Instant) {
        (self.starts_at_once, self.joining) = (false, self.checks.is_some());
        if self.checks.is_none() {
            self.begin_slowly(settings, now);
        }
    }

    /// It is judged by other settings from `now` on. Checks that are new do not take it out before they
    /// fail; what checks or detectors found that are no more ends.
    pub(in crate::health::pool) fn go_on(
        &mut self,
        before: &HealthSettings,
        settings: &HealthSettings,
        now: Instant,
        log: &mut Vec<Event>,
    ) {
        let was_gone = self.down_since().is_some() || self.absence.is_some();
        match (settings.checks.is_some(), self.checks) {
            (true, None) => {
                self.checks = Some(Checks::assumed(now));
                self.starts_at_once = true;
            }
            (false, Some(_)) => (self.checks, self.joining) = (None, false),
            _ => {}
        }
        if before.is_enforced() && !settings.is_enforced() {
            self.absence = None;
            (self.degraded_until, self.complained_at) = (None, None);
        }
        if was_gone && self.down_since().is_none() && self.absence.is_none() {
            self.come_back(now);
            self.begin_slowly(settings, now);
            log.push(self.event(What::Returned { slow_start: settings.slow_start }));
        }
        if settings.slow_start.is_zero() {
            self.warm_since = None;
        }
    }
}
