//! Which endpoints share the traffic at present, and in which parts: priority levels that fail over,
//! zones that spill over, and what is left when too few are available. Knows nothing of why an
//! endpoint is not available.

use std::collections::BTreeMap;

/// What counts of an endpoint here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// The failover level, 0 first.
    pub level: u32,
    /// Whether it is in Forebay's own zone; true for all where zones do not matter.
    pub near: bool,
    /// Its weight by the configuration.
    pub weight: u32,
}

/// Whether an endpoint may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Availability {
    /// Yes.
    Available,
    /// No, but it may be tried when too few others are available.
    Unavailable,
    /// Never: it was taken out by hand.
    Excluded,
}

/// What to do when too few are available.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FailOpen {
    /// The share of a level's endpoints, 0 to 1, below which too few are available.
    pub below: f64,
    /// Whether all that are not excluded are tried then; otherwise none.
    pub try_all: bool,
}

impl Default for FailOpen {
    fn default() -> Self {
        Self { below: 0.5, try_all: true }
    }
}

/// Parts of the traffic, each with the endpoints that share it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bands {
    /// In the order of preference; none is without endpoints. A part may be nothing: its endpoints
    /// could be used, and are when all others have been tried, or for a session that stays there.
    pub list: Vec<Band>,
    /// Whether a level is in use as a whole, or not at all, because too few were available.
    pub failed_open: bool,
}

/// One part of the traffic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Band {
    /// This part and those before it, scaled so that all are 2^32.
    pub upto: u64,
    /// Indexes of its endpoints, ascending.
    pub usable: Vec<u32>,
}

impl Bands {
    /// One band of all endpoints.
    #[must_use]
    pub fn all(endpoints: u32) -> Self {
        Self::one((0..endpoints).collect(), false)
    }

    /// The bands of `members`, each with its availability.
    ///
    /// Levels share by the rule that Envoy documents for its priorities. What a level can take is
    /// min(1, 1.4 × its available weight / its whole weight), so that it hands on nothing until
    /// more than 28 % of it are gone. Level 0 gets what it can take, level 1 what it can take of
    /// the rest, and so on; when all of them together cannot take everything, they share in
    /// proportion to what they can. Excluded members count nowhere.
    ///
    /// Within a level, endpoints nearby get by the same rule what they can take of the level's part,
    /// and those far away the rest: a zone is expected to be made for what is asked for in it.
    ///
    /// Levels fail open when all of them together cannot take everything. Then a level that has
    /// a part, and fewer endpoints available than `fail_open.below`, uses them all, regardless of zones;
    /// or, unless it is to `try_all`, nothing is used if this is true of every level. When no endpoint
    /// is available, all of every level are tried at once.
    #[must_use]
    pub fn of(members: &[(Member, Availability)], fail_open: FailOpen) -> Self {
        let levels = levels(members);
        let capacity: f64 = levels.values().map(Level::capacity).sum();
        let too_few = |level: &Level| capacity < 1.0 && level.share() < fail_open.below;
        if capacity == 0.0 || (!fail_open.try_all && levels.values().all(too_few)) {
            let tried = if fail_open.try_all { tried(members) } else { Vec::new() };
            return Self::one(tried, !levels.is_empty());
        }
        let mut bands = Self::default();
        let mut given = 0.0;
        for level in levels.into_values() {
            let part = (level.capacity() / capacity.min(1.0)).min(1.0 - given).max(0.0);
            if part > 0.0 && fail_open.try_all && too_few(&level) {
                bands.failed_open = true;
                bands.push(level.all, given + part);
            } else {
                let near = part * level.near_part();
                bands.push(level.near.usable, given + near);
                bands.push(level.far.usable, given + part);
            }
            given += part;
        }
        bands.fill();
        bands
    }

    /// The place of the band for a uniformly distributed `draw`; `None` when nothing is usable.
    #[must_use]
    pub fn choose(&self, draw: u64) -> Option<usize> {
        match self.list.as_slice() {
            [] => None,
            [_] => Some(0),
            bands => {
                let point = draw >> 32;
                bands.iter().position(|band| point < band.upto)
            }
        }
    }

    /// Whether the endpoint at `index` is in any band.
    #[must_use]
    pub fn contains(&self, index: u32) -> bool {
        self.list.iter().any(|band| band.usable.binary_search(&index).is_ok())
    }

    fn one(usable: Vec<u32>, failed_open: bool) -> Self {
        let list = if usable.is_empty() { Vec::new() } else { vec![Band { upto: WHOLE, usable }] };
        Self { list, failed_open }
    }

    /// Adds a band that ends where `upto` of everything, 0 to 1, is given away.
    fn push(&mut self, usable: Vec<u32>, upto: f64) {
        if !usable.is_empty() {
            self.list.push(Band { upto: (upto * WHOLE as f64).round() as u64, usable });
        }
    }

    /// Makes the last part end where everything does, whatever was lost by rounding.
    fn fill(&mut self) {
        let last = self.list.last().map_or(0, |band| band.upto);
        self.list.iter_mut().filter(|band| band.upto == last).for_each(|band| band.upto = WHOLE);
    }
}

/// A failover level that is not excluded as a whole.
#[derive(Default)]
struct Level {
    near: Side,
    far: Side,
    /// Those that are not excluded.
    all: Vec<u32>,
}

/// The part of a level that is nearby, or that is not.
#[derive(Default)]
struct Side {
    usable: Vec<u32>,
    /// Of those usable.
    available: u64,
    /// Of those not excluded.
    weight: u64,
}

impl Level {
    /// What it can take of all traffic, 0 to 1.
    fn capacity(&self) -> f64 {
        capacity(self.near.available + self.far.available, self.near.weight + self.far.weight)
    }

    /// The part of its traffic that stays nearby.
    fn near_part(&self) -> f64 {
        let alone = if self.far.usable.is_empty() { 1.0 } else { 0.0 };
        capacity(self.near.available, self.near.weight).max(alone)
    }

    /// The share of its endpoints that is available.
    fn share(&self) -> f64 {
        (self.near.usable.len() + self.far.usable.len()) as f64 / self.all.len() as f64
    }
}

fn levels(members: &[(Member, Availability)]) -> BTreeMap<u32, Level> {
    let mut levels = BTreeMap::<u32, Level>::new();
    for (index, (member, availability)) in (0..).zip(members) {
        if *availability == Availability::Excluded {
            continue;
        }
        let level = levels.entry(member.level).or_default();
        level.all.push(index);
        let side = if member.near { &mut level.near } else { &mut level.far };
        side.weight += u64::from(member.weight);
        if *availability == Availability::Available {
            side.available += u64::from(member.weight);
            side.usable.push(index);
        }
    }
    levels
}

fn tried(members: &[(Member, Availability)]) -> Vec<u32> {
    let members = (0..).zip(members);
    members.filter(|(_, (_, a))| *a != Availability::Excluded).map(|(index, _)| index).collect()
}

fn capacity(available: u64, weight: u64) -> f64 {
    if available == 0 { 0.0 } else { (OVERPROVISIONING * available as f64 / weight as f64).min(1.0) }
}

/// How much more than its part each endpoint is taken to be good for; Envoy's default.
const OVERPROVISIONING: f64 = 1.4;
const WHOLE: u64 = 1 << 32;

#[cfg(test)]
mod tests;
