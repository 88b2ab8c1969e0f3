//! Places for flows, in the order in which they were last used: taking one, giving it back and using it
//! again are a few writes each, whatever their number. Knows nothing of time.

/// Names a flow for as long as it lives. The name of one that ended never fits another: its place is
/// given on with another generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowId {
    index: u32,
    generation: u32,
}

/// The places. They grow to the most flows that there ever were at a time, and stay.
#[derive(Debug)]
pub(super) struct Slots<V> {
    slots: Vec<Slot<V>>,
    /// The first place of those that are free, which are linked by `newer`.
    free: u32,
    oldest: u32,
    newest: u32,
    len: u32,
}

#[derive(Debug)]
struct Slot<V> {
    generation: u32,
    older: u32,
    newer: u32,
    value: Option<V>,
}

impl<V> Slots<V> {
    pub(super) const fn new() -> Self {
        Self { slots: Vec::new(), free: NONE, oldest: NONE, newest: NONE, len: 0 }
    }

    pub(super) const fn len(&self) -> u32 {
        self.len
    }

    /// Takes a place for `value`, as the one that was used last.
    pub(super) fn insert(&mut self, value: V) -> FlowId {
        let index = self.free;
        let (index, generation) = if let Some(slot) = self.slot(index) {
            slot.value = Some(value);
            let (next, generation) = (slot.newer, slot.generation);
            self.free = next;
            (index, generation)
        } else {
            let index = u32::try_from(self.slots.len()).expect("there are fewer flows than numbers");
            self.slots.push(Slot { generation: 0, older: NONE, newer: NONE, value: Some(value) });
            (index, 0)
        };
        self.len += 1;
        self.append(index);
        FlowId { index, generation }
    }

    /// Gives the place back.
    pub(super) fn remove(&mut self, id: FlowId) -> Option<V> {
        self.get(id)?;
        self.unlink(id.index);
        let free = self.free;
        let slot = self.slot(id.index)?;
        slot.generation = slot.generation.wrapping_add(1);
        slot.newer = free;
        let value = slot.value.take();
        self.free = id.index;
        self.len -= 1;
        value
    }

    pub(super) fn get(&self, id: FlowId) -> Option<&V> {
        let slot = self.slots.get(id.index as usize)?;
        slot.value.as_ref().filter(|_| slot.generation == id.generation)
    }

    pub(super) fn get_mut(&mut self, id: FlowId) -> Option<&mut V> {
        let slot = self.slots.get_mut(id.index as usize)?;
        slot.value.as_mut().filter(|_| slot.generation == id.generation)
    }

    /// The same, which is thereby the one that was used last.
    pub(super) fn touch(&mut self, id: FlowId) -> Option<&mut V> {
        self.get(id)?;
        if self.newest != id.index {
            self.unlink(id.index);
            self.append(id.index);
        }
        self.get_mut(id)
    }

    /// Gives the place another name, by which alone it is found from now on.
    pub(super) fn rename(&mut self, id: FlowId) -> Option<FlowId> {
        self.get(id)?;
        let slot = self.slot(id.index)?;
        slot.generation = slot.generation.wrapping_add(1);
        Some(FlowId { index: id.index, generation: slot.generation })
    }

    /// The one that was not used for the longest time.
    pub(super) fn oldest(&self) -> Option<(FlowId, &V)> {
        self.at(self.oldest)
    }

    /// All, those that were not used for the longest time first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (FlowId, &V)> {
        let mut next = self.oldest;
        std::iter::from_fn(move || {
            let found = self.at(next)?;
            next = self.slots.get(next as usize)?.newer;
            Some(found)
        })
    }

    fn at(&self, index: u32) -> Option<(FlowId, &V)> {
        let slot = self.slots.get(index as usize)?;
        Some((FlowId { index, generation: slot.generation }, slot.value.as_ref()?))
    }

    fn slot(&mut self, index: u32) -> Option<&mut Slot<V>> {
        self.slots.get_mut(index as usize)
    }

    fn append(&mut self, index: u32) {
        let last = std::mem::replace(&mut self.newest, index);
        if let Some(slot) = self.slot(index) {
            (slot.older, slot.newer) = (last, NONE);
        }
        match self.slot(last) {
            Some(slot) => slot.newer = index,
            None => self.oldest = index,
        }
    }

    fn unlink(&mut self, index: u32) {
        let Some(&mut Slot { older, newer, .. }) = self.slot(index) else { return };
        match self.slot(older) {
            Some(slot) => slot.newer = newer,
            None => self.oldest = newer,
        }
        match self.slot(newer) {
            Some(slot) => slot.older = older,
            None => self.newest = older,
        }
    }
}

/// The index of no place.
const NONE: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    fn order(slots: &Slots<u32>) -> Vec<u32> {
        slots.iter().map(|(_, value)| *value).collect()
    }

    #[test]
    fn the_order_is_that_of_use() {
        let mut slots = Slots::new();
        let ids: Vec<_> = (0..4).map(|n| slots.insert(n)).collect();
        for (used, expected) in [(0, [1, 2, 3, 0]), (0, [1, 2, 3, 0]), (2, [1, 3, 0, 2]), (1, [3, 0, 2, 1])] {
            assert_eq!(slots.touch(ids[used]).copied(), u32::try_from(used).ok());
            assert_eq!(order(&slots), expected);
        }
        for (gone, rest) in [(0, &[3, 2, 1][..]), (3, &[2, 1]), (1, &[2]), (2, &[])] {
            assert_eq!(slots.remove(ids[gone]), u32::try_from(gone).ok());
            assert_eq!((order(&slots).as_slice(), slots.len() as usize), (rest, rest.len()));
        }
        assert!(slots.oldest().is_none());
    }

    #[test]
    fn a_place_is_used_again_under_another_name() {
        let mut slots = Slots::new();
        let first = slots.insert(1);
        assert_eq!(slots.remove(first), Some(1));
        let second = slots.insert(2);
        assert_eq!((slots.slots.len(), slots.get(first), slots.get(second)), (1, None, Some(&2)));
        assert_eq!(
            (slots.remove(first), slots.touch(first).is_some(), slots.rename(first)),
            (None, false, None)
        );
        let third = slots.rename(second).unwrap();
        assert_eq!((slots.get(second), slots.get(third), slots.len()), (None, Some(&2), 1));
    }
}
