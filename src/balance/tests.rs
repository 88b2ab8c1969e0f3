//! What every policy in [`KINDS`] must do, whatever its way of choosing, and the means by which
//! the policies' own tests choose often.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use super::*;

mod hashing;
pub(super) mod load;

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
        // A table takes long to make without optimisation.
        for seed in 0..if kind.hashes { 6 } else { 40 } {
            let mut lots = draws(seed);
            let mut lot = move |n: u64| lots.next().unwrap_or_default() % n;
            let gauges = at_rest(&vec![1; 1 + lot(9) as usize]);
            let factor = (seed % 2 == 0).then_some(1.0);
            let policy = (kind.build)(&Setup { balance_factor: factor, ..Setup::default() });
            let mut now = *START;
            for _ in 0..300 {
                let place = lot(gauges.len() as u64) as usize;
                match lot(if kind.hashes { 500 } else { 10 }) {
                    0 => gauges[place].set_weight(1 + lot(4) as u32),
                    1 => gauges[place].set_factor(lot(1001) as u32),
                    2 => estimate::observe(&gauges[place], MS * lot(1000) as u32, now),
                    3 => estimate::penalise(&gauges[place], now),
                    4 => estimate::succeed(&gauges[place]),
                    _ => gauges[place].begin(now),
                }
                now += MS * lot(20) as u32;
                let usable: Vec<u32> = (0..gauges.len() as u32).filter(|_| lot(3) > 0).collect();
                let chosen = policy.pick(&gauges, &Pick { now, ..at(&usable, lot(u64::MAX)) });
                let fits = chosen.map_or(usable.is_empty(), |i| usable.contains(&(i as u32)));
                assert!(fits, "{} chose {chosen:?} of {usable:?}, seed {seed}", kind.name);
            }
        }
    }
}

#[test]
fn shares_follow_weights() {
    for kind in KINDS.iter().filter(|kind| kind.name != "first") {
        for (weights, usable) in [
            (&[1, 1, 1, 1][..], &[0, 1, 2, 3][..]),
            (&[1, 1, 1, 1], &[1, 3]),
            (&[1, 4], &[0, 1]),
            (&[1, 2, 3, 4], &[0, 1, 2, 3]),
            (&[1, 2, 3, 4], &[0, 3]),
            (&[1000, 1, 1000], &[0, 2]),
            (&[5, 1, 1, 5, 1], &[1, 2, 4]),
        ] {
            let counts = shares(&*(kind.build)(&Setup::default()), &at_rest(weights), usable, 20_000);
            let whole: u32 = usable.iter().map(|i| weights[*i as usize]).sum();
            for index in usable {
                let due = 20_000 * weights[*index as usize] / whole;
                let off = counts[*index as usize].abs_diff(due);
                assert!(off <= tolerance(kind), "{} {weights:?} {usable:?}: {counts:?}", kind.name);
            }
        }
    }
}

#[test]
fn an_endpoint_that_warms_up_gets_its_part() {
    for kind in KINDS.iter().filter(|kind| kind.name != "first") {
        for weights in [[1, 1, 1, 1], [2, 1, 1, 4]] {
            let (policy, gauges) = ((kind.build)(&Setup::default()), at_rest(&weights));
            for (second, factor) in (0..).zip([FULL, 100, 500, FULL]) {
                gauges[3].set_factor(factor);
                let now = *START + second * 1000 * MS;
                let warming = draws(second.into()).take(20_000).filter(|draw| {
                    policy.pick(&gauges, &Pick { now, ..at(&[0, 1, 2, 3], *draw) }) == Some(3)
                });
                let (count, whole) =
                    (warming.count(), gauges.iter().map(|gauge| gauge.weight()).sum::<u32>());
                let off = count.abs_diff(20_000 * gauges[3].weight() as usize / whole as usize);
                assert!(off <= tolerance(kind) as usize, "{} {weights:?} {factor}: {count}", kind.name);
            }
        }
    }
}

#[test]
fn one_key_has_one_endpoint_on_every_worker() {
    for kind in KINDS.iter().filter(|kind| kind.hashes) {
        let gauges = at_rest(&[1, 3, 2, 1]);
        let workers = [(kind.build)(&Setup::default()), (kind.build)(&Setup::default())];
        for (key, draw) in draws(3).zip(draws(4)).take(200) {
            let [one, other] = [draw, !draw].map(|draw| Pick { key, ..at(&[0, 1, 2, 3], draw) });
            assert_eq!(workers[0].pick(&gauges, &one), workers[1].pick(&gauges, &other), "{}", kind.name);
        }
    }
}

/// By how many choices of 20,000 an endpoint may miss its share.
fn tolerance(kind: &Kind) -> u32 {
    // A ring's points are few enough for luck to show.
    if kind.name == "ring_hash" { 1500 } else { 300 }
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

pub(super) const MS: Duration = Duration::from_millis(1);

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
