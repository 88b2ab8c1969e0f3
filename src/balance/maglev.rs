//! Consistent hashing by a table of 65,537 slots that endpoints fill in turns, each by a permutation
//! of its own (D. E. Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer",
//! NSDI 2016, section 3.4). Shares are even to within a slot per turn, and a choice takes the same
//! time at any size of pool.
//!
//! For caches and sessions in front of many keys. When an endpoint is added or removed by the
//! configuration, a few more keys move than on a ring; when its state changes, none but its own.
//! Not for pools of more than some thousands of endpoints, which then have few slots each.
//!
//! The table takes 256 KiB on each worker. It is made at the first choice, in some milliseconds.

use twox_hash::XxHash3_64;

use super::Kind;
use super::hashed::{Entry, Hashed, Table};
use super::lots::{mix, scaled};

pub(super) const KIND: Kind = Kind {
    name: "maglev",
    summary: "by the hash of a key, in a table: even shares, and few keys move",
    hashes: true,
    build: |setup| Box::new(Hashed::<Slots>::new(setup)),
};

/// The endpoint of each slot.
struct Slots(Vec<u32>);

impl Table for Slots {
    fn new(entries: &[Entry]) -> Self {
        let mut rows: Vec<Row> = entries.iter().map(Row::new).collect();
        // So that the order of the configuration does not matter.
        rows.sort_unstable_by_key(|row| row.identity);
        let heaviest = entries.iter().map(|entry| u64::from(entry.weight)).max().unwrap_or(1).max(1);
        let mut slots = vec![FREE; SLOTS as usize];
        let mut free = slots.len();
        for turn in 0.. {
            for row in &mut rows {
                if free == 0 {
                    return Self(slots);
                }
                // The heaviest has a slot each turn, the others as often as their weight says, the
                // first in the first turn.
                if row.taken * heaviest <= turn * row.weight {
                    row.take(&mut slots);
                    free -= 1;
                }
            }
            if rows.is_empty() {
                break;
            }
        }
        Self(slots)
    }

    /// A key that meets an endpoint that is not to be had goes on to another slot of the table, by a
    /// hash of its own: the keys of a lost endpoint are dealt to all others.
    fn find(&self, key: u64, mut holds: impl FnMut(u32, u64) -> bool) -> Option<u32> {
        let mut lot = key;
        for _ in 0..MOST_STEPS {
            let index = *self.0.get(scaled(lot, SLOTS) as usize)?;
            // The slot takes the upper bits of the lot.
            if holds(index, lot.rotate_left(32)) {
                return Some(index);
            }
            lot = mix(lot);
        }
        None
    }
}

/// An endpoint while the table is filled.
struct Row {
    identity: u64,
    index: u32,
    weight: u64,
    /// How many slots it has.
    taken: u64,
    /// The slot it asks for next.
    next: u64,
    skip: u64,
}

impl Row {
    fn new(entry: &Entry) -> Self {
        let hash = |seed| XxHash3_64::oneshot_with_seed(seed, &entry.identity.to_le_bytes());
        Self {
            identity: entry.identity,
            index: entry.index,
            weight: u64::from(entry.weight),
            taken: 0,
            next: hash(0) % SLOTS,
            skip: hash(1) % (SLOTS - 1) + 1,
        }
    }

    /// Takes the next slot of its permutation that is free; there must be one.
    fn take(&mut self, slots: &mut [u32]) {
        for _ in 0..SLOTS {
            let slot = slots.get_mut(self.next as usize);
            self.next += self.skip;
            if self.next >= SLOTS {
                self.next -= SLOTS;
            }
            if let Some(slot) = slot
                && *slot == FREE
            {
                *slot = self.index;
                self.taken += 1;
                return;
            }
        }
    }
}

/// A prime, so that every skip visits all slots.
const SLOTS: u64 = 65_537;
const FREE: u32 = u32::MAX;
/// How many slots a key tries. With half of the endpoints usable, one in 4 billion finds none.
const MOST_STEPS: usize = 32;
