//! Consistent hashing on a ring (D. Karger et al. 1997; many points for each endpoint as in
//! ketama): a key goes to the next point clockwise, so an endpoint that comes or goes moves only the
//! keys next to its points.
//!
//! For caches and sessions where endpoints come and go often. Shares are uneven by some 4 % (one
//! standard deviation; more in large pools, where points are fewer); where they must be even, or
//! choices quick, take `maglev`.
//!
//! The ring takes 8 bytes a point on each worker, up to 2 MiB.

use twox_hash::XxHash3_64;

use super::Kind;
use super::hashed::{Entry, Hashed, Table};
use super::lots::mix;

pub(super) const KIND: Kind = Kind {
    name: "ring_hash",
    summary: "by the hash of a key, on a ring: the fewest keys move when endpoints come and go",
    hashes: true,
    build: |setup| Box::new(Hashed::<Ring>::new(setup)),
};

/// Points in order, each its place in the upper half and its endpoint in the lower.
struct Ring(Vec<u64>);

impl Table for Ring {
    fn new(entries: &[Entry]) -> Self {
        let each = points_of(entries);
        let mut points = Vec::with_capacity(entries.iter().map(|entry| each(entry) as usize).sum());
        for entry in entries {
            for number in 0..each(entry) {
                let place = XxHash3_64::oneshot_with_seed(entry.identity, &number.to_le_bytes());
                points.push((place & !LOWER) | u64::from(entry.index));
            }
        }
        points.sort_unstable();
        Self(points)
    }

    fn find(&self, key: u64, mut holds: impl FnMut(u32, u64) -> bool) -> Option<u32> {
        let start = self.0.partition_point(|point| *point < key & !LOWER);
        let (before, after) = self.0.split_at_checked(start)?;
        let mut walk = after.iter().chain(before).take(MOST_STEPS);
        let point = walk.find(|point| holds(index_of(**point), mix(key ^ (**point & !LOWER))))?;
        Some(index_of(*point))
    }
}

/// How many points each endpoint has: in proportion to its weight, and independent of the others as
/// far as possible, because a change of the proportion moves everyone's keys.
fn points_of(entries: &[Entry]) -> impl Fn(&Entry) -> u64 {
    let unit = entries.iter().fold(0, |unit, entry| gcd(entry.weight, unit)).max(1);
    let units: u64 = entries.iter().map(|entry| u64::from(entry.weight / unit)).sum();
    let mut halvings = 0;
    while (units * POINTS) >> halvings > MOST_POINTS {
        halvings += 1;
    }
    move |entry| ((u64::from(entry.weight / unit) * POINTS) >> halvings).max(1)
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn index_of(point: u64) -> u32 {
    (point & LOWER) as u32
}

const LOWER: u64 = u32::MAX as u64;
/// The points of an endpoint of the least weight.
const POINTS: u64 = 512;
/// The points of all together; where they would be more, each endpoint has half as many, and so on.
const MOST_POINTS: u64 = 1 << 18;
/// How far a key walks. With half of the endpoints usable, one in 10^19 does not meet any.
const MOST_STEPS: usize = 64;
