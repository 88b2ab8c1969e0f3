//! What becomes of findings in the books: one record for each episode, however often a detector
//! repeats itself, and two counts for each detector. Decides no effect.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::health::journal::Effect;

/// What a detector did so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// The detector's name.
    pub detector: &'static str,
    /// Episodes in which it found an endpoint wanting.
    pub detected: u64,
    /// Those of them that had an effect: a weight that was cut, an ejection.
    pub enforced: u64,
}

/// Findings that go on, by endpoint and detector, and what all of them come to.
#[derive(Debug)]
pub(super) struct Findings {
    /// At most one entry for each endpoint and detector.
    episodes: HashMap<(usize, usize), Episode>,
    counts: Vec<Count>,
}

#[derive(Clone, Copy, Debug)]
struct Episode {
    /// The kinds of effect recorded so far, as bits.
    recorded: u8,
    enforced: bool,
    /// When it was last found.
    found: Instant,
}

impl Findings {
    /// None yet of the detectors of these names.
    pub(super) fn new(names: impl Iterator<Item = &'static str>) -> Self {
        let counts = names.map(|detector| Count { detector, detected: 0, enforced: 0 });
        Self { episodes: HashMap::new(), counts: counts.collect() }
    }

    /// Goes on for detectors of these names, each of which was at the place before that `origins` says,
    /// and with endpoints that come `from` these indexes.
    pub(super) fn adopt(
        &mut self,
        names: &[&'static str],
        origins: &[Option<usize>],
        from: &[Option<usize>],
    ) {
        let before = std::mem::take(&mut self.counts);
        let count = |(name, origin): (&&'static str, &Option<usize>)| {
            let known = origin.and_then(|origin| before.get(origin)).copied();
            known.unwrap_or(Count { detector: name, detected: 0, enforced: 0 })
        };
        self.counts = names.iter().zip(origins).map(count).collect();
        if !self.episodes.is_empty() {
            let [endpoints, detectors] = [from, origins].map(inverted);
            let episodes = std::mem::take(&mut self.episodes).into_iter();
            let known = episodes.filter_map(|((endpoint, detector), episode)| {
                Some(((*endpoints.get(&endpoint)?, *detectors.get(&detector)?), episode))
            });
            self.episodes = known.collect();
        }
    }

    /// Takes a finding and its effect. Whether it is to be recorded: each kind of effect once in an
    /// episode, ejections always.
    pub(super) fn take(
        &mut self,
        (endpoint, detector): (usize, usize),
        effect: &Effect,
        now: Instant,
    ) -> bool {
        let Some(count) = self.counts.get_mut(detector) else { return false };
        let episode = self.episodes.entry((endpoint, detector)).or_insert_with(|| {
            count.detected += 1;
            Episode { recorded: 0, enforced: false, found: now }
        });
        episode.found = now;
        let enforces = matches!(effect, Effect::Ejected { .. } | Effect::Degraded);
        if enforces && !std::mem::replace(&mut episode.enforced, true) {
            count.enforced += 1;
        }
        let bit = kind(effect);
        let is_new = episode.recorded & bit == 0;
        episode.recorded |= bit;
        is_new || matches!(effect, Effect::Ejected { .. })
    }

    /// Ends the episodes that are over at `now`.
    pub(super) fn pass(&mut self, now: Instant) {
        if !self.episodes.is_empty() {
            self.episodes.retain(|_, episode| now.saturating_duration_since(episode.found) < EPISODE_GAP);
        }
    }

    /// The counts, in the order of the detectors.
    pub(super) fn counts(&self) -> &[Count] {
        &self.counts
    }
}

/// The present place of each thing that has one, by its place before.
fn inverted(from: &[Option<usize>]) -> HashMap<usize, usize> {
    from.iter().enumerate().filter_map(|(at, from)| Some(((*from)?, at))).collect()
}

const fn kind(effect: &Effect) -> u8 {
    match effect {
        Effect::Ejected { .. } => 1,
        Effect::Degraded => 2,
        Effect::Observed => 4,
        Effect::Capped { .. } => 8,
        Effect::Correlated => 16,
    }
}

/// An episode is over when its endpoint was not found for this long.
pub(super) const EPISODE_GAP: Duration = Duration::from_secs(5);
