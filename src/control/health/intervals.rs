//! What happened at endpoints in the recent past, interval by interval, as it was judged: kept so that
//! it can be judged again by other thresholds. Bounded; judges nothing itself.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::SystemTime;

use crate::health::{Latencies, Sample, Trial};
use crate::model::Name;

/// Intervals in which something happened, the oldest first. It holds [`CAPACITY`] of them over all
/// endpoints; the oldest go first.
#[derive(Clone, Debug)]
pub struct Intervals {
    pools: BTreeMap<u32, Members>,
    next: u32,
    /// Pools that are no more what they were, of which intervals may still tell. There are few more of
    /// them than of those.
    retired: Vec<u32>,
    kept: VecDeque<Interval>,
    capacity: usize,
}

/// The endpoints of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Members {
    /// The pool.
    pub pool: Name,
    /// Its endpoints, as they are shown, with their failover levels.
    pub endpoints: Vec<(String, u32)>,
}

/// What happened at one endpoint in one interval. A [`Sample`] with little room.
#[derive(Clone, Debug, PartialEq)]
pub struct Interval {
    /// When it ended.
    pub at: SystemTime,
    /// The pool, by the number under which it was introduced.
    pub pool: u32,
    /// The endpoint's index in the pool.
    pub endpoint: u32,
    successes: u32,
    failures: Option<Box<[u64]>>,
    streak: u32,
    connect_streak: u32,
    latencies: Box<[(u8, u32)]>,
    waiting: u32,
    waiting_millis: u32,
    trial: Option<Trial>,
}

impl Default for Intervals {
    fn default() -> Self {
        Self::new(CAPACITY)
    }
}

impl Intervals {
    /// Room for `capacity` intervals.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { pools: BTreeMap::new(), next: 0, retired: Vec::new(), kept: VecDeque::new(), capacity }
    }

    /// Makes a pool known, or one that has changed. Gives its number.
    pub fn introduce(&mut self, members: Members) -> u32 {
        let known = self.retired.iter().position(|number| self.pools.get(number) == Some(&members));
        if let Some(at) = known {
            return self.retired.swap_remove(at);
        }
        let number = self.next;
        // Wraps after a lifetime: then an old one may be taken for a new one.
        self.next = self.next.wrapping_add(1);
        self.pools.insert(number, members);
        number
    }

    /// There will be no more intervals of the pool with this number.
    pub fn retire(&mut self, number: u32) {
        self.retired.push(number);
        if self.retired.len() < MOST_RETIRED {
            return;
        }
        let needed: BTreeSet<_> = self.kept.iter().map(|interval| interval.pool).collect();
        let (retired, gone): (Vec<_>, Vec<_>) =
            self.retired.drain(..).partition(|number| needed.contains(number));
        gone.iter().for_each(|number| drop(self.pools.remove(number)));
        // What changes all the time is not worth what it takes to remember it.
        let surplus = retired.len().saturating_sub(MOST_RETIRED / 2);
        for number in retired.iter().take(surplus) {
            self.pools.remove(number);
        }
        self.retired = retired.into_iter().skip(surplus).collect();
        let pools = &self.pools;
        self.kept.retain(|interval| pools.contains_key(&interval.pool));
    }

    /// Keeps an interval, which is not older than those before.
    pub fn push(&mut self, interval: Interval) {
        if self.kept.len() >= self.capacity {
            self.kept.pop_front();
        }
        self.kept.push_back(interval);
    }

    /// The pools that are known, in the order in which they were introduced.
    pub fn pools(&self) -> impl Iterator<Item = (u32, &Members)> {
        self.pools.iter().map(|(number, members)| (*number, members))
    }

    /// The endpoints of the pool with this number.
    #[must_use]
    pub fn members(&self, number: u32) -> Option<&Members> {
        self.pools.get(&number)
    }

    /// The intervals, the oldest first.
    pub fn kept(&self) -> impl Iterator<Item = &Interval> {
        self.kept.iter()
    }
}

impl Interval {
    /// Takes `sample`, of an interval that ended at `at`.
    #[must_use]
    pub fn new(at: SystemTime, pool: u32, endpoint: u32, sample: &Sample) -> Self {
        let small = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        let latencies = sample.latencies.counts();
        Self {
            at,
            pool,
            endpoint,
            successes: small(sample.successes),
            failures: (sample.failed() > 0).then(|| sample.failures.into()),
            streak: sample.streak,
            connect_streak: sample.connect_streak,
            latencies: latencies
                .filter_map(|(bucket, count)| Some((u8::try_from(bucket).ok()?, count)))
                .collect(),
            waiting: sample.waiting,
            waiting_millis: small(u64::try_from(sample.waiting_age.as_millis()).unwrap_or(u64::MAX)),
            trial: sample.trial,
        }
    }

    /// The sample again. Its times are those of the buckets, to the millisecond.
    #[must_use]
    pub fn sample(&self) -> Sample {
        let mut latencies = Latencies::default();
        for (bucket, count) in &self.latencies {
            latencies.add(usize::from(*bucket), *count);
        }
        let mut failures = <[u64; _]>::default();
        for (kept, count) in failures.iter_mut().zip(self.failures.iter().flatten()) {
            *kept = *count;
        }
        Sample {
            successes: u64::from(self.successes),
            failures,
            streak: self.streak,
            connect_streak: self.connect_streak,
            latencies,
            waiting: self.waiting,
            waiting_age: std::time::Duration::from_millis(u64::from(self.waiting_millis)),
            trial: self.trial,
        }
    }
}

/// Pools as they once were that are remembered.
const MOST_RETIRED: usize = 32;
/// Intervals that are kept: the last half hour of three busy endpoints, the last minute of a hundred.
/// About 6 MB where the latencies of each fall into ten buckets.
pub const CAPACITY: usize = 32_768;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(second: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(second)
    }

    #[test]
    fn a_sample_comes_back_as_it_went() {
        let mut sample = Sample {
            successes: 7,
            failures: [0, 1, 2, 0, 0, 0, 3],
            streak: 4,
            connect_streak: 1,
            waiting: 2,
            waiting_age: Duration::from_millis(1500),
            trial: Some(Trial::Failed),
            ..Sample::default()
        };
        sample.latencies.record(Duration::from_millis(3));
        sample.latencies.record(Duration::from_secs(3));
        assert_eq!(Interval::new(at(0), 0, 0, &sample).sample(), sample);
        let idle = Sample::default();
        assert_eq!(Interval::new(at(0), 0, 0, &idle).sample(), idle);
    }

    #[test]
    fn the_oldest_goes_when_it_is_full() {
        let mut intervals = Intervals::new(2);
        let members = Members { pool: Name::new("app").unwrap(), endpoints: vec![("a:1".into(), 0)] };
        assert_eq!(intervals.introduce(members), 0);
        for second in 0..3 {
            intervals.push(Interval::new(at(second), 0, 0, &Sample::default()));
        }
        assert_eq!(intervals.kept().map(|kept| kept.at).collect::<Vec<_>>(), [at(1), at(2)]);
    }

    #[test]
    fn a_pool_that_changes_for_ever_takes_no_more_room() {
        let mut intervals = Intervals::new(10);
        let members = |n: u32| Members { pool: Name::new("app").unwrap(), endpoints: vec![("a".into(), n)] };
        let mut number = intervals.introduce(members(0));
        for change in 1..1000 {
            intervals.push(Interval::new(at(u64::from(change)), number, 0, &Sample::default()));
            intervals.retire(number);
            number = intervals.introduce(members(change));
            assert!(intervals.pools().count() <= MOST_RETIRED + 1);
            assert!(intervals.kept().all(|kept| intervals.members(kept.pool).is_some()));
        }
        assert_eq!((intervals.kept().count(), intervals.members(number)), (10, Some(&members(999))));
    }
}
