//! What was changed by hand about a pool's endpoints while the program runs: some added, some weighed
//! otherwise, some taken out. Does not know which endpoints there are otherwise: it is told.

use std::collections::BTreeMap;

use thiserror::Error;

use super::Terms;
use crate::model::{Address, Name};

/// What is to be otherwise about an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Patch {
    /// Its weight, 1 to 1000.
    pub weight: Option<u32>,
    /// Its failover level, 0 to 100.
    pub level: Option<u32>,
    /// Its zone; `Some(None)` for none.
    pub zone: Option<Option<Name>>,
}

/// What was done about one endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is there, whatever other sources say.
    Added(Terms),
    /// It is otherwise, if another source names it.
    Adjusted(Patch),
    /// It is not there, whatever other sources say.
    Removed,
}

/// What was changed about the endpoints of one pool, by address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes(BTreeMap<Address, Change>);

/// Why a change was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refused {
    /// It is there already.
    #[error("the endpoint is there already")]
    Present,
    /// There is no such endpoint.
    #[error("there is no such endpoint")]
    Absent,
    /// There are [`MOST_CHANGES`] already.
    #[error("the pool has {MOST_CHANGES} changes already")]
    TooMany,
}

/// How many endpoints of a pool may be changed by hand.
pub const MOST_CHANGES: usize = 10_000;

impl Changes {
    /// Has an endpoint be there. One that was removed is put back; `named` says whether another source
    /// names it.
    ///
    /// # Errors
    /// When it is there already, or there are too many changes.
    pub fn add(&mut self, address: Address, patch: Patch, named: bool) -> Result<(), Refused> {
        match self.0.get(&address) {
            Some(Change::Removed) if named && patch == Patch::default() => {
                self.0.remove(&address);
                return Ok(());
            }
            Some(Change::Removed) if named => return self.put(address, Change::Adjusted(patch)),
            Some(Change::Added(_)) => return Err(Refused::Present),
            _ if named => return Err(Refused::Present),
            _ => {}
        }
        let mut terms = Terms::default();
        patch.apply(&mut terms);
        self.put(address, Change::Added(terms))
    }

    /// Has an endpoint that is there be otherwise; `named` as above.
    ///
    /// # Errors
    /// When it is not there, or there are too many changes.
    pub fn adjust(&mut self, address: &Address, patch: Patch, named: bool) -> Result<(), Refused> {
        match self.0.get_mut(address) {
            Some(Change::Added(terms)) => patch.apply(terms),
            Some(Change::Adjusted(own)) if named => own.over(patch),
            None if named => return self.put(address.clone(), Change::Adjusted(patch)),
            _ => return Err(Refused::Absent),
        }
        Ok(())
    }

    /// Has an endpoint be there no longer: until it is added again, if another source names it.
    ///
    /// # Errors
    /// When it is not there, or there are too many changes.
    pub fn remove(&mut self, address: &Address, named: bool) -> Result<(), Refused> {
        match self.0.get(address) {
            Some(Change::Removed) => Err(Refused::Absent),
            _ if named => self.put(address.clone(), Change::Removed),
            Some(Change::Added(_)) => {
                self.0.remove(address);
                Ok(())
            }
            _ => Err(Refused::Absent),
        }
    }

    /// What was done about an endpoint.
    #[must_use]
    pub fn get(&self, address: &Address) -> Option<&Change> {
        self.0.get(address)
    }

    /// Takes a change as it was kept.
    pub fn restore(&mut self, address: Address, change: Change) {
        // What was kept was allowed once.
        let _ = self.put(address, change);
    }

    /// Every change, in the order of addresses.
    pub fn iter(&self) -> impl Iterator<Item = (&Address, &Change)> {
        self.0.iter()
    }

    /// Whether nothing was changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn put(&mut self, address: Address, change: Change) -> Result<(), Refused> {
        if self.0.len() >= MOST_CHANGES && !self.0.contains_key(&address) {
            return Err(Refused::TooMany);
        }
        self.0.insert(address, change);
        Ok(())
    }
}

impl Patch {
    /// Changes `terms` accordingly.
    pub fn apply(&self, terms: &mut Terms) {
        terms.weight = self.weight.unwrap_or(terms.weight);
        terms.level = self.level.unwrap_or(terms.level);
        if let Some(zone) = &self.zone {
            terms.zone.clone_from(zone);
        }
    }

    /// Has `later` come after this one.
    fn over(&mut self, later: Self) {
        self.weight = later.weight.or(self.weight);
        self.level = later.level.or(self.level);
        self.zone = later.zone.or(self.zone.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> Address {
        format!("127.0.0.1:{port}").parse().unwrap()
    }

    fn weighs(weight: u32) -> Patch {
        Patch { weight: Some(weight), ..Patch::default() }
    }

    #[test]
    fn what_is_added_can_be_changed_and_removed_without_trace() {
        let mut changes = Changes::default();
        changes.add(at(1), weighs(5), false).unwrap();
        assert_eq!(changes.add(at(1), Patch::default(), false), Err(Refused::Present));
        changes.adjust(&at(1), Patch { level: Some(2), ..Patch::default() }, false).unwrap();
        let terms = Terms { weight: 5, level: 2, zone: None };
        assert_eq!(changes.get(&at(1)), Some(&Change::Added(terms)));
        changes.remove(&at(1), false).unwrap();
        assert!(changes.is_empty());
        assert_eq!(changes.remove(&at(1), false), Err(Refused::Absent));
        assert_eq!(changes.adjust(&at(1), weighs(1), false), Err(Refused::Absent));
    }

    #[test]
    fn what_another_source_names_is_hidden_until_it_is_put_back() {
        let mut changes = Changes::default();
        assert_eq!(changes.add(at(1), Patch::default(), true), Err(Refused::Present));
        changes.adjust(&at(1), weighs(7), true).unwrap();
        changes.remove(&at(1), true).unwrap();
        assert_eq!(changes.remove(&at(1), true), Err(Refused::Absent));
        assert_eq!(changes.adjust(&at(1), weighs(7), true), Err(Refused::Absent));
        changes.add(at(1), weighs(3), true).unwrap();
        assert_eq!(changes.get(&at(1)), Some(&Change::Adjusted(weighs(3))));
        changes.remove(&at(1), true).unwrap();
        changes.add(at(1), Patch::default(), true).unwrap();
        assert!(changes.is_empty());
    }

    #[test]
    fn what_was_removed_comes_back_when_nobody_names_it_any_more() {
        let mut changes = Changes::default();
        changes.remove(&at(1), true).unwrap();
        changes.add(at(1), Patch::default(), false).unwrap();
        assert_eq!(changes.get(&at(1)), Some(&Change::Added(Terms::default())));
    }

    #[test]
    fn their_number_is_bounded() {
        let mut changes = Changes::default();
        for n in 0..MOST_CHANGES {
            let port = u16::try_from(n).unwrap();
            changes.add(at(port), Patch::default(), false).unwrap();
        }
        assert_eq!(changes.add(at(60_000), Patch::default(), false), Err(Refused::TooMany));
        changes.adjust(&at(0), weighs(2), false).unwrap();
    }
}
