//! A pool that is configured otherwise, or has other endpoints, while it runs: what was known of the
//! endpoints that stay is known on, and those that are new find their place beside them. Does not
//! know who is the same: it is told.

use std::mem;
use std::time::Instant;

use super::endpoint::Endpoint;
use super::level::Level;
use super::{HealthSettings, Judge, OPEN_AFTER, Opening, PoolHealth, places};
use crate::health::detector::{Chosen, Mode};
use crate::health::journal::{Event, What};

/// The endpoints of a pool that has changed.
#[derive(Clone, Copy, Debug)]
pub struct Members<'a> {
    /// The failover level of each.
    pub levels: &'a [u32],
    /// The index that each had before; `None` for those that are new. None is named twice.
    pub from: &'a [Option<usize>],
}

impl PoolHealth {
    /// Takes leave of the endpoints that are not among those of `from`, the indexes of those that stay.
    /// To be called before [`Self::adopt`]: events have the indexes of before.
    pub fn part(&mut self, from: &[Option<usize>], log: &mut Vec<Event>) {
        self.announce(log);
        let mut stays = vec![false; self.endpoints.len()];
        for index in from.iter().flatten() {
            if let Some(stays) = stays.get_mut(*index) {
                *stays = true;
            }
        }
        let gone = (0..).zip(stays).filter(|(_, stays)| !stays);
        log.extend(gone.map(|(index, _)| Event { endpoint: Some(index), what: What::Left, state: None }));
    }

    /// Goes on with these endpoints, judged by these settings, from `now` on. Those that stay are what
    /// they were: ejected, drained, on their way to their whole weight. Those that are new start slowly
    /// beside them, after their first check where there are checks; where nobody stays, they begin as
    /// at the start of the process.
    pub fn adopt(
        &mut self,
        settings: HealthSettings,
        members: Members<'_>,
        now: Instant,
        log: &mut Vec<Event>,
    ) {
        let (numbers, place) = places(members.levels);
        let is_new = !members.from.iter().any(Option::is_some);
        self.open_anew(&settings, is_new, now);
        self.adopt_judges(&settings, members.from);
        let mut before: Vec<_> = mem::take(&mut self.endpoints).into_iter().map(Some).collect();
        for (index, (number, from)) in members.levels.iter().zip(members.from).enumerate() {
            let kept = from.and_then(|from| before.get_mut(from)).and_then(Option::take);
            self.endpoints.push(match kept {
                Some(endpoint) => endpoint.moved(index, place(*number)),
                None => Endpoint::new(index, place(*number), settings.checks.is_some(), now),
            });
            if let Some(endpoint) = self.endpoints.last_mut() {
                match from {
                    Some(_) => endpoint.go_on(&self.settings, &settings, now, log),
                    None if is_new => {}
                    None => endpoint.join(&settings, now),
                }
                if from.is_none() && self.is_announced {
                    log.push(endpoint.event(What::Joined));
                }
            }
        }
        let known = mem::take(&mut self.levels);
        let level = |number| Level {
            together: known.iter().find(|level| level.number == number).and_then(|level| level.together),
            ..Level::new(number)
        };
        self.levels = numbers.into_iter().map(level).collect();
        self.settings = settings;
        self.stand_anew(now, log);
    }

    /// A pool of which nobody stays is opened as at the start.
    fn open_anew(&mut self, settings: &HealthSettings, is_new: bool, now: Instant) {
        self.opening = match (&settings.checks, self.opening) {
            (Some(_), _) if is_new => Opening::At(now + OPEN_AFTER),
            (Some(_), opening) if self.settings.checks.is_some() => opening,
            _ => Opening::Over,
        };
    }

    /// Detectors that are set as before remember what they saw; others begin anew.
    fn adopt_judges(&mut self, settings: &HealthSettings, from: &[Option<usize>]) {
        let mut before: Vec<_> = mem::take(&mut self.judges).into_iter().map(Some).collect();
        let mut origins = Vec::new();
        for chosen in settings.detectors.iter().filter(|chosen| chosen.mode != Mode::Off) {
            let origin = before.iter().position(|b| b.as_ref().is_some_and(|b| b.name == chosen.kind.name));
            let is_same = self.settings.detectors.iter().any(|known| same(known, chosen));
            let kept = origin.filter(|_| is_same).and_then(|at| before.get_mut(at)).and_then(Option::take);
            self.judges.push(match kept {
                Some(mut judge) => {
                    judge.detector.renumber(from);
                    Judge { mode: chosen.mode, ..judge }
                }
                None => Judge::of(chosen),
            });
            origins.push(origin);
        }
        let names: Vec<_> = self.judges.iter().map(|judge| judge.name).collect();
        self.findings.adopt(&names, &origins, from);
    }

    /// Finds every standing anew.
    fn stand_anew(&mut self, now: Instant, log: &mut Vec<Event>) {
        let count = self.endpoints.len();
        (self.awake, self.is_awake, self.available) = ((0..count).collect(), vec![true; count], 0);
        let slow_start = self.settings.slow_start;
        self.standings = self.endpoints.iter().map(|e| e.standing(false, slow_start, now)).collect();
        self.version += 1;
        self.settle(now, log);
    }
}

/// Whether two detectors are the same, but for what is done about their findings.
fn same(one: &Chosen, other: &Chosen) -> bool {
    one.kind.name == other.kind.name && format!("{:?}", one.make) == format!("{:?}", other.make)
}
