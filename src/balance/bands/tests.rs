//! Bands by example, and what is true of all of them.

use std::ops::Range;

use super::Availability::{Available, Excluded, Unavailable};
use super::*;
use crate::balance::tests::draws;

/// Endpoints of weight 1: level, whether near, how many available, how many not.
fn pool(groups: &[(u32, bool, usize, usize)]) -> Vec<(Member, Availability)> {
    let mut members = Vec::new();
    for (level, near, up, down) in groups {
        let member = Member { level: *level, near: *near, weight: 1 };
        members.extend(std::iter::repeat_n((member, Available), *up));
        members.extend(std::iter::repeat_n((member, Unavailable), *down));
    }
    members
}

/// Each band as its part in per cent and its endpoints.
fn shown(bands: &Bands) -> Vec<(f64, Vec<u32>)> {
    let mut before = 0;
    let parts = bands.list.iter().map(|band| {
        let part = (band.upto - before) as f64 / WHOLE as f64 * 100.0;
        before = band.upto;
        ((part * 10.0).round() / 10.0, band.usable.clone())
    });
    parts.collect()
}

fn list(range: Range<u32>) -> Vec<u32> {
    range.collect()
}

#[test]
fn levels_hand_on_what_they_cannot_take() {
    // The examples of Envoy's documentation: two levels, then three, of a hundred endpoints each.
    for (up, wanted) in [
        (&[100, 100][..], &[100.0, 0.0][..]),
        (&[72, 100], &[100.0, 0.0]),
        (&[71, 100], &[99.4, 0.6]),
        (&[50, 100], &[70.0, 30.0]),
        (&[25, 100], &[35.0, 65.0]),
        (&[0, 100], &[100.0]),
        (&[50, 50], &[70.0, 30.0]),
        (&[25, 50], &[35.0, 65.0]),
        (&[25, 25], &[50.0, 50.0]),
        (&[5, 65], &[7.1, 92.9]),
        (&[100, 100, 100], &[100.0, 0.0, 0.0]),
        (&[25, 0, 100], &[35.0, 65.0]),
        (&[25, 25, 100], &[35.0, 35.0, 30.0]),
        (&[0, 0, 100], &[100.0]),
    ] {
        let groups: Vec<_> = (0..).zip(up).map(|(level, up)| (level, true, *up, 100 - up)).collect();
        let bands = Bands::of(&pool(&groups), FailOpen { below: 0.0, try_all: true });
        let parts: Vec<_> = shown(&bands).into_iter().map(|(part, _)| part).collect();
        assert_eq!(parts, wanted, "{up:?}");
        assert!(!bands.failed_open);
    }
}

#[test]
fn backups_are_used_when_there_is_nothing_before_them_but_not_as_long_as_there_is_enough() {
    let bands = Bands::of(&pool(&[(0, true, 2, 0), (7, true, 1, 0)]), FailOpen::default());
    assert_eq!(shown(&bands), [(100.0, vec![0, 1]), (0.0, vec![2])]);
    assert!(bands.contains(2), "a session that is there may stay");
    assert_eq!(bands.choose(u64::MAX), Some(0));
    let bands = Bands::of(&pool(&[(0, true, 0, 2), (7, true, 1, 0)]), FailOpen::default());
    assert_eq!((shown(&bands), bands.failed_open), (vec![(100.0, vec![2])], false));
}

#[test]
fn zones_spill_over_when_they_cannot_take_all() {
    for (near, far, wanted) in [
        ((10, 0), (20, 0), vec![(100.0, list(0..10)), (0.0, list(10..30))]),
        ((8, 2), (20, 0), vec![(100.0, list(0..8)), (0.0, list(10..30))]),
        ((5, 5), (20, 0), vec![(70.0, list(0..5)), (30.0, list(10..30))]),
        ((0, 10), (20, 0), vec![(100.0, list(10..30))]),
        ((2, 1), (0, 1), vec![(100.0, list(0..2))]),
        ((0, 0), (2, 0), vec![(100.0, list(0..2))]),
    ] {
        let bands =
            Bands::of(&pool(&[(0, true, near.0, near.1), (0, false, far.0, far.1)]), FailOpen::default());
        assert_eq!((shown(&bands), bands.failed_open), (wanted, false), "{near:?} {far:?}");
    }
    // Each level for itself: half of it gone nearby, and a third of it in all.
    let bands = Bands::of(&pool(&[(0, true, 2, 2), (0, false, 2, 0), (1, true, 1, 0)]), FailOpen::default());
    assert_eq!(shown(&bands), [(65.3, vec![0, 1]), (28.0, vec![4, 5]), (6.7, vec![6])]);
}

#[test]
fn what_counts_is_weight() {
    let member = |weight, availability| (Member { level: 0, near: true, weight }, availability);
    let backup = (Member { level: 1, near: true, weight: 1 }, Available);
    let bands = Bands::of(&[member(3, Available), member(1, Unavailable), backup], FailOpen::default());
    assert_eq!(shown(&bands), [(100.0, vec![0]), (0.0, vec![2])]);
    let bands = Bands::of(&[member(1, Available), member(3, Unavailable), backup], FailOpen::default());
    assert_eq!(shown(&bands), [(35.0, vec![0]), (65.0, vec![2])]);
}

#[test]
fn a_level_with_too_few_is_tried_as_a_whole_unless_another_takes_over() {
    let half = FailOpen::default();
    for (groups, wanted, failed_open) in [
        // One of two is no emergency, one of three is.
        (pool(&[(0, true, 1, 1)]), vec![(100.0, vec![0])], false),
        (pool(&[(0, true, 1, 2)]), vec![(100.0, list(0..3))], true),
        (pool(&[(0, true, 1, 2), (1, true, 5, 0)]), vec![(46.7, vec![0]), (53.3, list(3..8))], false),
        // Whom it may reach nearby does not matter any more.
        (pool(&[(0, true, 0, 3), (0, false, 1, 0)]), vec![(100.0, list(0..4))], true),
        // The second level is too small, but not in need itself.
        (pool(&[(0, true, 1, 9), (1, true, 6, 4)]), vec![(14.3, list(0..10)), (85.7, list(10..16))], true),
        // Nobody is left: everybody is tried, backups too.
        (pool(&[(0, true, 0, 2), (3, true, 0, 1)]), vec![(100.0, list(0..3))], true),
        (pool(&[]), vec![], false),
    ] {
        let bands = Bands::of(&groups, half);
        assert_eq!((shown(&bands), bands.failed_open), (wanted, failed_open), "{groups:?}");
    }
    // Everybody is tried then, even if few would have been enough.
    let bands = Bands::of(&pool(&[(0, true, 0, 2)]), FailOpen { below: 0.0, try_all: true });
    assert_eq!((shown(&bands), bands.failed_open), (vec![(100.0, vec![0, 1])], true));
}

#[test]
fn a_pool_that_is_to_fail_gives_up_when_every_level_has_too_few() {
    let fail = FailOpen { below: 0.5, try_all: false };
    for (groups, wanted, failed_open) in [
        (pool(&[(0, true, 1, 1)]), vec![(100.0, vec![0])], false),
        (pool(&[(0, true, 1, 2)]), vec![], true),
        (pool(&[(0, true, 0, 2)]), vec![], true),
        (pool(&[(0, true, 1, 9), (1, true, 6, 4)]), vec![(14.3, vec![0]), (85.7, list(10..16))], false),
        (pool(&[(0, true, 1, 9), (1, true, 1, 9)]), vec![], true),
        (pool(&[]), vec![], false),
    ] {
        let bands = Bands::of(&groups, fail);
        assert_eq!((shown(&bands), bands.failed_open), (wanted, failed_open), "{groups:?}");
    }
}

#[test]
fn what_was_taken_out_is_never_used_and_nobody_waits_for_it() {
    let mut members = pool(&[(0, true, 2, 0), (1, true, 1, 0)]);
    members[0].1 = Excluded;
    let bands = Bands::of(&members, FailOpen::default());
    assert_eq!((shown(&bands), bands.failed_open), (vec![(100.0, vec![1]), (0.0, vec![2])], false));
    members[1].1 = Excluded;
    assert_eq!(shown(&Bands::of(&members, FailOpen::default())), [(100.0, vec![2])]);
    members[2].1 = Excluded;
    assert_eq!(Bands::of(&members, FailOpen::default()), Bands::default());
}

/// A pool of whatever kind.
fn any_pool(seed: u64) -> Vec<(Member, Availability)> {
    let mut lots = draws(seed);
    let mut lot = move |n: u64| (lots.next().unwrap_or_default() >> 8) % n;
    let (levels, health) = (1 + lot(4), 1 + lot(8));
    let member = |_| {
        let member = Member { level: lot(levels) as u32 * 3, near: lot(3) > 0, weight: 1 + lot(5) as u32 };
        let availability = match lot(health + 2) {
            0 => Excluded,
            1 => Unavailable,
            _ if health == 1 => Unavailable,
            _ => Available,
        };
        (member, availability)
    };
    (0..1 + seed % 24).map(member).collect()
}

fn part_of_level(bands: &Bands, members: &[(Member, Availability)], level: u32) -> u64 {
    let mut before = 0;
    let mut sum = 0;
    for band in &bands.list {
        let of_level = |index: &u32| members[*index as usize].0.level == level;
        let share = band.usable.iter().filter(|index| of_level(index)).count() as u64;
        sum += (band.upto - before) * share / band.usable.len() as u64;
        before = band.upto;
    }
    sum
}

#[test]
fn parts_are_whole_and_hold_whom_they_may() {
    for seed in 0..3000 {
        let members = any_pool(seed);
        for try_all in [true, false] {
            let bands = Bands::of(&members, FailOpen { try_all, ..FailOpen::default() });
            let some = |wanted| members.iter().any(|(_, availability)| *availability == wanted);
            if try_all {
                assert_eq!(bands.list.is_empty(), !some(Available) && !some(Unavailable), "seed {seed}");
            }
            if let Some(last) = bands.list.last() {
                assert_eq!(last.upto, WHOLE, "seed {seed}");
                assert!(bands.list[0].upto > 0, "seed {seed}");
            }
            assert!(bands.list.is_sorted_by_key(|band| band.upto), "seed {seed}");
            let mut seen = vec![false; members.len()];
            for band in &bands.list {
                assert!(!band.usable.is_empty() && band.usable.is_sorted(), "seed {seed}");
                for index in &band.usable {
                    let availability = members[*index as usize].1;
                    let fits =
                        availability == Available || (bands.failed_open && availability == Unavailable);
                    assert!(fits && !std::mem::replace(&mut seen[*index as usize], true), "seed {seed}");
                }
            }
            let all_in = members.iter().zip(&seen).all(|((_, a), seen)| *seen || *a != Available);
            assert!(all_in || bands.list.is_empty(), "seed {seed}: all who are available are in a band");
            for draw in draws(seed).take(20).chain([0, u64::MAX]) {
                assert_eq!(bands.choose(draw).is_some(), !bands.list.is_empty(), "seed {seed}");
            }
        }
    }
}

#[test]
fn an_endpoint_that_becomes_available_takes_nothing_from_its_level() {
    for seed in 0..3000 {
        let mut members = any_pool(seed);
        let Some(index) = members.iter().position(|(_, a)| *a == Unavailable) else { continue };
        let level = members[index].0.level;
        if !members.iter().any(|(_, a)| *a == Available) {
            continue;
        }
        for try_all in [true, false] {
            let fail_open = FailOpen { try_all, ..FailOpen::default() };
            let part = |members: &[_]| part_of_level(&Bands::of(members, fail_open), members, level);
            let before = part(&members);
            members[index].1 = Available;
            let after = part(&members);
            members[index].1 = Unavailable;
            assert!(after + 4 >= before, "seed {seed}: {before} became {after}");
        }
    }
}
