//! What is made of findings: an ejection, a smaller share, or nothing, because too many are gone
//! already or because all degrade together. Also decides which ejections the latter lifts.

use std::time::Instant;

use super::endpoint::Endpoint;
use super::level::{Census, STANDS_OUT, STAYS_OUT, Turn};
use super::{Moment, PoolHealth, mixed};
use crate::health::detector::{Finding, Mode, Severity};
use crate::health::journal::{Effect, Event, What};

impl PoolHealth {
    /// Finds out whether the endpoints of a level degrade together.
    pub(super) fn correlate(&mut self, now: Instant, log: &mut Vec<Event>) {
        self.levels.iter_mut().for_each(|level| level.suspects = 0);
        for endpoint in self.awake.iter().filter_map(|index| self.endpoints.get(*index)) {
            if let Some(level) = self.levels.get_mut(endpoint.level)
                && endpoint.is_suspect(now)
            {
                level.suspects += 1;
            }
        }
        for place in 0..self.levels.len() {
            match self.weigh(place, now, log) {
                Some(Turn::Over) => self.forget_level(place),
                _ => self.lift(place, now, log),
            }
        }
    }

    fn weigh(&mut self, place: usize, now: Instant, log: &mut Vec<Event>) -> Option<Turn> {
        let level = self.levels.get_mut(place)?;
        if level.suspects < 2 && level.together.is_none() {
            return None;
        }
        let siblings = self.endpoints.iter().filter(|endpoint| endpoint.level == place);
        let siblings: Vec<_> = siblings.filter(|endpoint| endpoint.may_fail_together(now)).collect();
        let turn = level.weigh(siblings.len(), &self.settings.ejection, now);
        if let Some(together) = &mut level.together {
            together.usual_share = usual_share(&siblings);
        }
        let what = match turn? {
            Turn::Together => What::CorrelatedFailure { suspects: level.suspects, of: siblings.len() },
            Turn::Over => What::CorrelationOver,
        };
        log.push(Event { endpoint: None, what, state: None });
        turn
    }

    /// Takes back the ejections that belong to a failure of all.
    fn lift(&mut self, place: usize, now: Instant, log: &mut Vec<Event>) {
        let Some(together) = self.levels.get(place).and_then(|level| level.together) else { return };
        for at in 0..self.awake.len() {
            let Some(index) = self.awake.get(at).copied() else { return };
            let Some(endpoint) = self.endpoints.get_mut(index) else { continue };
            let belongs = endpoint.absence.is_some_and(|absence| absence.since >= together.from);
            if endpoint.level == place
                && belongs
                && !exceeds(endpoint, together.usual_share + STAYS_OUT)
                && endpoint.lift(now, log)
            {
                self.forget(index);
            }
        }
    }

    /// What detectors gathered while all failed together says nothing about each.
    fn forget_level(&mut self, place: usize) {
        for index in 0..self.endpoints.len() {
            if self.endpoints.get(index).is_some_and(|endpoint| endpoint.level == place) {
                self.forget(index);
            }
        }
    }

    /// Acts on what detectors found.
    pub(super) fn act_on(&mut self, found: Vec<(usize, Finding)>, moment: Moment, log: &mut Vec<Event>) {
        if found.is_empty() {
            return;
        }
        let mut census = self.census();
        for (place, finding) in found {
            let Some(judge) = self.judges.get(place) else { continue };
            let (detector, mode) = (judge.name, judge.mode);
            let effect = match mode {
                Mode::Enforce => self.enforce(&finding, &mut census, moment),
                Mode::Observe | Mode::Off => Some(Effect::Observed),
            };
            let Some(effect) = effect else { continue };
            let is_ejected = matches!(effect, Effect::Ejected { .. });
            let is_new = self.findings.take((finding.endpoint, place), &effect, moment.now);
            if let Some(endpoint) = self.endpoints.get(finding.endpoint)
                && is_new
            {
                log.push(endpoint.event(What::Detected { detector, evidence: finding.evidence, effect }));
            }
            if is_ejected {
                self.forget(finding.endpoint);
            }
        }
    }

    /// Acts on one finding. `None` if another led to an ejection just now.
    fn enforce(&mut self, finding: &Finding, census: &mut [Census], moment: Moment) -> Option<Effect> {
        let endpoint = self.endpoints.get_mut(finding.endpoint)?;
        let together = self.levels.get(endpoint.level)?.together;
        if !endpoint.is_available() {
            return None;
        }
        if together.is_some_and(|together| !exceeds(endpoint, together.usual_share + STANDS_OUT)) {
            return Some(Effect::Correlated);
        }
        if finding.severity == Severity::Degrade {
            endpoint.degrade(moment.now);
            return Some(Effect::Degraded);
        }
        let census = census.get_mut(endpoint.level)?;
        let cap = self.settings.ejection.cap(census.members);
        if census.gone >= cap || census.available < 2 {
            return Some(Effect::Capped { ejected: census.gone, cap });
        }
        let times = endpoint.times_if_ejected();
        let lasts = self.settings.ejection.drawn(times, mixed(moment.draw, endpoint.index));
        endpoint.eject(lasts, moment.now);
        census.gone += 1;
        census.available -= 1;
        Some(Effect::Ejected { lasts, times })
    }

    /// What endpoints there are, by level.
    fn census(&self) -> Vec<Census> {
        let mut census = vec![Census::default(); self.levels.len()];
        for endpoint in self.endpoints.iter().filter(|endpoint| endpoint.takes_part()) {
            let Some(level) = census.get_mut(endpoint.level) else { continue };
            level.members += 1;
            level.gone += usize::from(!endpoint.is_available());
            level.available += usize::from(endpoint.is_available());
        }
        census
    }
}

/// The share of failures in the middle of those that had traffic; 1, which nothing exceeds, if
/// fewer than two had.
fn usual_share(endpoints: &[&Endpoint]) -> f64 {
    let telling = endpoints.iter().filter(|endpoint| endpoint.recent.is_telling());
    let mut shares: Vec<_> = telling.map(|endpoint| endpoint.recent.share()).collect();
    if shares.len() < 2 {
        return 1.0;
    }
    shares.sort_unstable_by(f64::total_cmp);
    // One less: whoever stands out is compared with the others.
    shares.get((shares.len() - 1) / 2).copied().unwrap_or(1.0)
}

/// Whether a share of failures is known of the endpoint, and is greater.
fn exceeds(endpoint: &Endpoint, share: f64) -> bool {
    endpoint.recent.is_telling() && endpoint.recent.share() >= share
}
