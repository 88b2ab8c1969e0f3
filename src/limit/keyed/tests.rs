//! Tables of buckets under few keys and under millions.

use super::*;
use crate::limit::bucket::tests::draws;

const SECOND: u64 = 1_000_000_000;

fn quota(rate: &str, burst: u32) -> Quota {
    Quota::new(rate.parse().unwrap(), burst)
}

#[test]
fn every_key_has_its_own_bucket() {
    let table = Keyed::new(100, 1);
    let quota = quota("1/s", 2);
    for key in 0..20_u32 {
        let passed = (0..5).filter(|_| table.take(&quota, &key.to_be_bytes(), 7).standing.allowed).count();
        assert_eq!(passed, 2, "{key}");
    }
    assert!(table.take(&quota, &0_u32.to_be_bytes(), 7 + SECOND).standing.allowed);
}

#[test]
fn no_window_sees_more_of_a_key_that_stays_than_the_burst_and_the_rate() {
    for seed in 0..20 {
        let mut draw = draws(seed);
        let table = Keyed::new(512, draw());
        let quota = quota("100/s", (draw() % 20 + 1) as u32);
        let burst = quota.depth() / quota.increment();
        let mut passed = vec![Vec::new(); 64];
        let mut now = 0;
        for _ in 0..20_000 {
            now += draw() % (quota.increment() / 32);
            let key = draw() % 64;
            let taken = table.take(&quota, &key.to_be_bytes(), now);
            assert!(!taken.forgot, "seed {seed}: an eighth of the room is used");
            if taken.standing.allowed {
                passed[key as usize].push(now);
            }
        }
        for times in &passed {
            for (first, start) in times.iter().enumerate() {
                for (last, end) in times.iter().enumerate().skip(first) {
                    let most = burst + (end - start) / quota.increment();
                    assert!((last - first + 1) as u64 <= most, "seed {seed}, {start} to {end}");
                }
            }
        }
    }
}

#[test]
fn millions_of_keys_take_no_more_room_and_do_not_push_a_busy_one_out() {
    let table = Keyed::new(100_000, 42);
    let bytes = table.bytes();
    assert_eq!(bytes, 100_000 * 16);
    let quota = quota("100/s", 200);
    let (mut passed, mut forgotten, mut now) = (0_u64, 0_u64, 0);
    // Half a million new keys a second, for ten seconds; one in a thousand requests is the busy
    // client's, which is five times its rate.
    for key in 0..5_000_000_u64 {
        now += 2_000;
        forgotten += u64::from(table.take(&quota, &key.to_be_bytes(), now).forgot);
        if key % 1000 == 0 {
            passed += u64::from(table.take(&quota, b"busy", now).standing.allowed);
        }
    }
    assert_eq!(table.bytes(), bytes);
    // What it may in the 9.998 s between its first request and its last, and not one more: its bucket was
    // never forgotten.
    assert_eq!(passed, 200 + 999);
    // Each bucket is full again after 10 ms, in which 5000 others come: sets are hardly ever full.
    assert!(forgotten < 50, "{forgotten}");
}

#[test]
fn what_is_forgotten_costs_a_burst_at_most() {
    // One set: eight busy keys and a ninth.
    let table = Keyed::new(8, 3);
    let quota = quota("1/s", 10);
    let mut passed = [0_u64; 9];
    let mut forgotten = 0;
    for step in 0..9_000_u64 {
        let key = step % 9;
        let taken = table.take(&quota, &key.to_be_bytes(), step * 1_000_000);
        forgotten += u64::from(taken.forgot);
        passed[key as usize] += u64::from(taken.standing.allowed);
    }
    let total: u64 = passed.iter().sum();
    assert!(forgotten > 0);
    assert!(total <= 9 * (10 + 9) + forgotten * 10, "{total} passed, {forgotten} forgotten");
}

#[test]
fn threads_share_the_table() {
    let table = Keyed::new(1000, 5);
    let quota = quota("1/h", 50);
    let take = || {
        let (table, quota) = (&table, &quota);
        let passed =
            |key: u32| (0..50).filter(move |_| table.take(quota, &key.to_be_bytes(), 1).standing.allowed);
        (0..40).map(|key| passed(key).count()).sum::<usize>()
    };
    let passed: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(take)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    // Each key's burst; and for each key a thread may have had one through a way of its own.
    assert!((40 * 50..=40 * 53).contains(&passed), "{passed}");
}

#[test]
fn the_seed_decides_which_keys_share_a_set() {
    let set_of = |seed, key: u32| {
        let table = Keyed::new(4096, seed);
        table.take(&quota("1/s", 1), &key.to_be_bytes(), 1);
        table.sets.iter().position(|set| set.0.iter().any(|way| way.bucket.full_at() > 0)).unwrap()
    };
    let together = |seed| (0..200).filter(|key| set_of(seed, *key) == set_of(seed, 0)).count();
    assert!((0..3).all(|seed| together(seed) < 8));
    assert_ne!(
        (0..9).map(|key| set_of(1, key)).collect::<Vec<_>>(),
        (0..9).map(|key| set_of(2, key)).collect::<Vec<_>>()
    );
}
