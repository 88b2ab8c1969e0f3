//! What every policy in [`KINDS`] must do, whatever its way of choosing, and the means by which
//! the policies' own tests choose often.

use std::sync::{Arc, LazyLock};
use std::time::Instant;

use super::*;

#[test]
fn names_are_unique_and_found() {
    for kind in KINDS {
        assert_eq!(KINDS.iter().filter(|other| other.name == kind.name).count(), 1, "{}", kind.name);
        assert_eq!(Choice::named(kind.name).map(Choice::name), Some(kind.name));
        assert!(!kind.summary.is_empty() && !kind.summary.ends_with('.'), "{}", kind.name);
    }
    assert_eq!(Choice::named("Round_Robin"), None);
    assert_eq!(Choice::default().name(), KINDS[0].name);
}

#[test]
fn nothing_usable_is_no_choice() {
    for kind in KINDS {
        for weights in [&[][..], &[1, 1], &[1, 2]] {
            let policy = (kind.build)(&Setup::default());
            assert_eq!(policy.pick(&at_rest(weights), &at(&[], 9)), None, "{}", kind.name);
        }
    }
}

#[test]
fn only_what_is_usable_is_chosen_while_lists_and_weights_change() {
    for kind in KINDS {
        for seed in 0..40 {
            let mut lots = draws(seed);
            let mut lot = move |n: u64| lots.next().unwrap_or_default() % n;
            let gauges = at_rest(&vec![1; 1 + lot(9) as usize]);
            let policy = (kind.build)(&Setup::default());
            for _ in 0..300 {
                if lot(10) == 0 {
                    let place = lot(gauges.len() as u64) as usize;
                    gauges[place].set_weight(1 + lot(4) as u32);
                }
                let usable: Vec<u32> = (0..gauges.len() as u32).filter(|_| lot(3) > 0).collect();
                let chosen = policy.pick(&gauges, &at(&usable, lot(u64::MAX)));
                let fits = chosen.map_or(usable.is_empty(), |i| usable.contains(&(i as u32)));
                assert!(fits, "{} chose {chosen:?} of {usable:?}, seed {seed}", kind.name);
            }
        }
    }
}

#[test]
fn shares_follow_weights() {
    for kind in spreading() {
        for (weights, usable) in [
            (&[1, 1, 1, 1][..], &[0, 1, 2, 3][..]),
            (&[1, 1, 1, 1], &[1, 3]),
            (&[1, 2, 3, 4], &[0, 1, 2, 3]),
            (&[1, 2, 3, 4], &[0, 3]),
            (&[1000, 1, 1000], &[0, 2]),
            (&[5, 1, 1, 5, 1], &[1, 2, 4]),
        ] {
            let counts = shares(&*instance(kind, weights.len(), None), &at_rest(weights), usable, 20_000);
            let whole: u32 = usable.iter().map(|i| weights[*i as usize]).sum();
            for index in usable {
                let due = 20_000 * weights[*index as usize] / whole;
                let off = counts[*index as usize].abs_diff(due);
                // A ring's shares vary with where its points happen to be.
                let allowed = if kind.name == "ring_hash" { due / 4 } else { 300 };
                assert!(off <= allowed, "{} {weights:?} {usable:?}: {counts:?}", kind.name);
            }
        }
    }
}

#[test]
fn who_starts_slowly_gets_a_part_of_its_share() {
    for kind in spreading() {
        for (factor, least, most) in [(100, 100, 400), (500, 1100, 1900)] {
            let gauges = at_rest(&[1; 8]);
            gauges[3].set_factor(factor);
            let policy = instance(kind, 8, None);
            let usable: Vec<u32> = (0..8).collect();
            // A whole share would be 2500 of 20,000.
            let share = shares(&*policy, &gauges, &usable, 20_000)[3];
            assert!((least..most).contains(&share), "{} {factor}: {share}", kind.name);
        }
    }
}

/// The share of 20,000 keys that have another endpoint in `after`.
fn moved(before: &[usize], after: &[usize]) -> f64 {
    let moved = before.iter().zip(after).filter(|(before, after)| before != after).count();
    moved as f64 / before.len() as f64
}

#[test]
#[expect(clippy::print_stdout, reason = "figures for whoever runs it with --nocapture")]
fn hashes_move_little_more_than_they_have_to() {
    for kind in KINDS.iter().filter(|kind| kind.hashes) {
        for n in [3_usize, 10, 100] {
            let usable: Vec<u32> = (0..n as u32).collect();
            let gauges = at_rest(&vec![1; n]);
            let before = picks(&*instance(kind, n, None), &gauges, &usable, 20_000);
            // Lost for a time: exactly its own keys move.
            let others: Vec<u32> = usable.iter().copied().filter(|index| *index != 1).collect();
            let without = picks(&*instance(kind, n, None), &gauges, &others, 20_000);
            let strayed = before.iter().zip(&without).filter(|(b, w)| **b != 1 && b != w).count();
            assert_eq!(strayed, 0, "{} of {n}", kind.name);
            // Removed for good: the last, so that the indexes of the others stay.
            let fewer = &usable[..n - 1];
            let smaller = picks(&*instance(kind, n - 1, None), &gauges[..n - 1], fewer, 20_000);
            let (lost, removed) = (moved(&before, &without), moved(&before, &smaller));
            let ideal = 1.0 / n as f64;
            println!(
                "{} of {n}: {lost:.4} move on loss, {removed:.4} on removal; ideal {ideal:.4}",
                kind.name
            );
            assert!(lost < ideal * 1.35 && removed < ideal * 1.35 + 0.03, "{} of {n}: {removed}", kind.name);
        }
    }
}

#[test]
fn one_key_has_one_endpoint() {
    for kind in KINDS.iter().filter(|kind| kind.hashes) {
        let gauges = at_rest(&[1, 3, 2, 1]);
        for key in draws(3).take(200) {
            let on = |worker: u64| {
                let pick = Pick { key, ..at(&[0, 1, 2, 3], worker) };
                instance(kind, 4, None).pick(&gauges, &pick)
            };
            assert_eq!(on(1), on(2), "{} depends on the draw", kind.name);
        }
    }
}

#[test]
fn bounded_load_holds_its_bound() {
    for kind in KINDS.iter().filter(|kind| kind.hashes) {
        for (factor, weights) in [(1.0, [1; 5]), (1.25, [1; 5]), (1.25, [1, 2, 3, 4, 5]), (2.0, [1; 5])] {
            let gauges = at_rest(&weights);
            let policy = instance(kind, 5, Some(factor));
            let whole: u32 = weights.iter().sum();
            for (n, _) in draws(11).take(500).enumerate() {
                // One key for all: the worst there is.
                let pick = Pick { key: 0x1234_5678_9ABC_DEF0, ..at(&[0, 1, 2, 3, 4], 0) };
                let chosen = policy.pick(&gauges, &pick).unwrap();
                gauges[chosen].begin(*START);
                let fair = (n + 1) as f64 * f64::from(weights[chosen]) / f64::from(whole);
                let bound = (factor * fair).ceil();
                assert!(f64::from(gauges[chosen].in_flight()) <= bound, "{} {factor} {n}", kind.name);
            }
        }
    }
}

/// Every kind that shares traffic by weight.
fn spreading() -> impl Iterator<Item = &'static Kind> {
    KINDS.iter().filter(|kind| kind.name != "first")
}

/// An instance for so many endpoints, each with an identity of its own.
fn instance(kind: &Kind, endpoints: usize, balance_factor: Option<f64>) -> Box<dyn Policy> {
    let identities: Vec<u64> = draws(99).take(endpoints).collect();
    (kind.build)(&Setup { identities: &identities, balance_factor })
}

#[test]
fn turns_are_smooth() {
    // In any run of `n` picks an endpoint is at most two picks away from its share: never several
    // in a row beyond what its weight asks for.
    for weights in [&[1, 1, 1][..], &[5, 1, 1], &[2, 3], &[1, 10], &[4, 3, 2, 1], &[7, 7, 1, 1, 1]] {
        let gauges = at_rest(weights);
        let usable: Vec<u32> = (0..weights.len() as u32).collect();
        let order =
            picks(&*Choice::named("round_robin").unwrap().build(&Setup::default()), &gauges, &usable, 200);
        let whole: f64 = weights.iter().copied().map(f64::from).sum();
        for (index, weight) in weights.iter().enumerate() {
            for n in 1..60 {
                for run in order.windows(n) {
                    let count = run.iter().filter(|i| **i == index).count() as f64;
                    let due = n as f64 * f64::from(*weight) / whole;
                    assert!((count - due).abs() < 2.0, "{weights:?}: {index} in {run:?}");
                }
            }
        }
    }
}

/// Idle endpoints of these weights.
pub(super) fn at_rest(weights: &[u32]) -> Vec<Arc<Gauge>> {
    weights.iter().map(|weight| Arc::new(Gauge::new(*weight, *START))).collect()
}

/// A choice to make with this draw.
pub(super) fn at(usable: &[u32], draw: u64) -> Pick<'_> {
    Pick { usable, key: draw, draw, now: *START }
}

/// When every test begins.
#[expect(clippy::disallowed_methods, reason = "a test has to begin at some time")]
pub(super) static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The first `n` choices; the first of them with a draw of 0.
pub(super) fn picks(policy: &dyn Policy, gauges: &[Arc<Gauge>], usable: &[u32], n: usize) -> Vec<usize> {
    let lots = std::iter::once(0).chain(draws(7));
    lots.take(n).map(|draw| policy.pick(gauges, &at(usable, draw)).expect("some are usable")).collect()
}

/// How often each endpoint is chosen in `n` choices.
pub(super) fn shares(policy: &dyn Policy, gauges: &[Arc<Gauge>], usable: &[u32], n: usize) -> Vec<u32> {
    let mut counts = vec![0; gauges.len()];
    for chosen in picks(policy, gauges, usable, n) {
        counts[chosen] += 1;
    }
    counts
}

/// Draws that are the same for the same seed (the SplitMix64 generator).
pub(super) fn draws(seed: u64) -> impl Iterator<Item = u64> {
    let mut state = seed;
    std::iter::from_fn(move || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        Some(z ^ (z >> 31))
    })
}
