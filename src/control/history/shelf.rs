//! Series of many objects of one kind, at most so many of them: what has none of its own is shown
//! together. An object gets one when it is first seen, as long as there are some left; then those that have
//! requests get them from those that had none for as long as a series is. Pure.

use std::collections::BTreeMap;

use super::sample::Sample;
use super::series::Ring;

/// The series of one kind of object.
#[derive(Debug)]
pub(super) struct Shelf<K, S> {
    rows: BTreeMap<K, Row<S>>,
    other: Ring<S>,
    /// How many objects have a series.
    most: usize,
    /// Samples in a series.
    length: usize,
    /// Counts rounds, from 1.
    round: u64,
}

/// One object.
#[derive(Debug)]
pub(super) struct Row<S> {
    /// What had been counted when the open step began.
    pub(super) before: S,
    /// What was counted since.
    pub(super) open: S,
    /// Whether there is such an object still. What was counted of it may be known for longer.
    pub(super) is_there: bool,
    ring: Option<Ring<S>>,
    /// The last step with requests.
    busy: Option<u64>,
    /// The last round in which it was looked at.
    round: u64,
}

/// What is known of an object: the samples of its series, with the step of the first of them, and the open
/// step. Without a key, of all that have no series of their own.
pub(super) type Shown<K, S> = (Option<K>, u64, Vec<S>, S);

impl<K: Ord + Clone, S: Sample> Shelf<K, S> {
    /// At most `most` series, each of at most `length` samples, and one more.
    pub(super) fn new(most: usize, length: usize) -> Self {
        Self { rows: BTreeMap::new(), other: Ring::new(length), most, length, round: 0 }
    }

    /// Begins to look at everything once more.
    pub(super) fn begin(&mut self) {
        self.round += 1;
    }

    /// The row of an object that is looked at.
    pub(super) fn row(&mut self, key: &K) -> Option<&mut Row<S>> {
        if !self.rows.contains_key(key) {
            let ring = (self.rows.len() < self.most).then(|| Ring::new(self.length));
            self.rows.insert(key.clone(), Row::new(ring, self.round));
        }
        let row = self.rows.get_mut(key)?;
        // Not there last time: whatever counts for it now has begun from nothing.
        if row.round + 1 < self.round {
            row.before = S::default();
        }
        row.round = self.round;
        Some(row)
    }

    /// The row of an object, if it was looked at before.
    pub(super) fn known(&mut self, key: &K) -> Option<&mut Row<S>> {
        self.rows.get_mut(key)
    }

    /// The rows of objects that were not looked at in this round.
    pub(super) fn missed(&self) -> impl Iterator<Item = (&K, &Row<S>)> {
        self.rows.iter().filter(|(_, row)| row.round < self.round)
    }

    /// Every row.
    pub(super) fn rows(&mut self) -> impl Iterator<Item = &mut Row<S>> {
        self.rows.values_mut()
    }

    /// Ends the open step, which is `step`. What is no more is forgotten with the last of its requests.
    pub(super) fn close(&mut self, step: u64) {
        let (length, round) = (self.length as u64, self.round);
        let is_idle = |row: &Row<S>| row.busy.is_none_or(|busy| busy + length < step);
        for row in self.rows.values_mut().filter(|row| row.open.traffic().requests > 0) {
            row.busy = Some(step);
        }
        for row in self.rows.values_mut() {
            row.is_there &= row.round == round;
            row.ring = row.ring.take().filter(|_| row.is_there || !is_idle(row));
        }
        self.rows.retain(|_, row| row.round == round || row.ring.is_some());
        let with_ring = self.rows.iter().filter(|(_, row)| row.ring.is_some());
        let mut room = self.most.saturating_sub(with_ring.clone().count());
        let mut idle: Vec<K> =
            with_ring.filter(|(_, row)| is_idle(row)).map(|(key, _)| key.clone()).collect();
        let mut given_up = Vec::new();
        let mut folded = S::default();
        for row in self.rows.values_mut() {
            let open = std::mem::take(&mut row.open);
            if row.ring.is_none() && (row.is_there || row.busy == Some(step)) {
                if room > 0 {
                    room -= 1;
                    row.ring = Some(Ring::new(self.length));
                } else if row.busy == Some(step)
                    && let Some(key) = idle.pop()
                {
                    given_up.push(key);
                    row.ring = Some(Ring::new(self.length));
                }
            }
            match &mut row.ring {
                Some(ring) => ring.put(step, open),
                None => folded.add(&open),
            }
        }
        self.other.put(step, folded);
        for key in given_up {
            if let Some(row) = self.rows.get_mut(&key) {
                row.ring = None;
            }
        }
    }

    /// What is known of each object since the step `first`, at most `most` samples. Objects that are no more
    /// and had no requests since then are left out.
    pub(super) fn shown(&self, most: usize, first: u64) -> Vec<Shown<K, S>> {
        let mut shown = Vec::new();
        let mut others = S::default();
        let mut is_folded = false;
        for (key, row) in &self.rows {
            let Some(ring) = &row.ring else {
                is_folded |= row.busy.is_some_and(|busy| busy >= first);
                others.add(&row.open);
                continue;
            };
            if row.is_there || row.busy.is_some_and(|busy| busy >= first) {
                let (first, samples) = ring.newest(most, first);
                shown.push((Some(key.clone()), first, samples.cloned().collect(), row.open.clone()));
            }
        }
        let (first, samples) = self.other.newest(most, first);
        let samples: Vec<_> = samples.cloned().collect();
        if is_folded || samples.iter().chain([&others]).any(|sample| sample.traffic().requests > 0) {
            shown.push((None, first, samples, others));
        }
        shown
    }
}

impl<S: Sample> Row<S> {
    fn new(ring: Option<Ring<S>>, round: u64) -> Self {
        Self { before: S::default(), open: S::default(), is_there: true, ring, busy: None, round }
    }
}
