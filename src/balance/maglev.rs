//! The same endpoint for the same key, by a table that endpoints fill in turn, each in an order of its
//! own (Eisenbud and others, "Maglev", NSDI 2016). One look-up for a key, shares within a per cent of
//! the weights; when the membership changes a few more keys move than have to. For caches and sharded
//! state with many keys. The table takes 256 KiB for each worker, and some milliseconds to fill.

use std::sync::Arc;

use super::hashing::{Hashing, Table};
use super::lot::mixed;
use super::random::scaled;
use super::{Gauge, Kind, Pick, Policy};

pub(super) const KIND: Kind = Kind {
    name: "maglev",
    summary: "the same for the same key, by Maglev's table",
    hashes: true,
    build: |setup| Box::new(Maglev { hashing: Hashing::new(setup), table: Table::default() }),
};

struct Maglev {
    hashing: Hashing,
    table: Table<Vec<u32>>,
}

/// An endpoint while the table is filled.
struct Filling {
    index: u32,
    /// The slots in its order of preference are `offset + n × skip`, modulo [`SLOTS`].
    next: u64,
    skip: u64,
    /// What it may take for each turn of the heaviest, and what it has saved up, up to 1.
    share: f64,
    saved: f64,
}

impl Maglev {
    fn fill(&self, weights: &[u32]) -> Vec<u32> {
        let heaviest = f64::from(weights.iter().copied().max().unwrap_or(1));
        let mut filling: Vec<_> = (0..)
            .zip(weights)
            .map(|(index, weight)| {
                let identity = self.hashing.identity(index);
                Filling {
                    index,
                    next: mixed(identity) % SLOTS,
                    skip: mixed(identity ^ SKIP) % (SLOTS - 1) + 1,
                    share: f64::from(*weight) / heaviest,
                    saved: 0.0,
                }
            })
            .collect();
        let mut table = vec![EMPTY; SLOTS as usize];
        let mut left = if filling.is_empty() { 0 } else { table.len() };
        while left > 0 {
            for endpoint in &mut filling {
                endpoint.saved += endpoint.share;
                if endpoint.saved >= 1.0 && left > 0 {
                    endpoint.saved -= 1.0;
                    left -= endpoint.take(&mut table);
                }
            }
        }
        table
    }
}

impl Filling {
    /// Takes the next free slot in its order, of which there is one.
    fn take(&mut self, table: &mut [u32]) -> usize {
        for _ in 0..SLOTS {
            let slot = table.get_mut(self.next as usize);
            self.next = (self.next + self.skip) % SLOTS;
            if let Some(slot) = slot.filter(|slot| **slot == EMPTY) {
                *slot = self.index;
                return 1;
            }
        }
        0
    }
}

impl Policy for Maglev {
    fn pick(&self, gauges: &[Arc<Gauge>], pick: &Pick<'_>) -> Option<usize> {
        let table = self.table.get(gauges, pick.now, |weights| self.fill(weights))?;
        let slot = |attempt: u64| {
            // The key itself at first: it is a hash already.
            let hash = if attempt == 0 { pick.key } else { mixed(pick.key.wrapping_add(attempt)) };
            table.get(scaled(hash, SLOTS) as usize).copied()
        };
        self.hashing.settle((0..ATTEMPTS).filter_map(slot), gauges, pick)
    }
}

/// Prime, so that every skip meets every slot; the paper's small table.
const SLOTS: u64 = 65_537;
const EMPTY: u32 = u32::MAX;
/// Makes the skip another hash than the offset.
const SKIP: u64 = 0x9E37_79B9_7F4A_7C15;
/// Slots that are looked at for one key.
const ATTEMPTS: u64 = 32;
