//! Stories in virtual time, of the default policy and of the one that looks at all endpoints.

use crate::balance::tests::MS;
use crate::balance::tests::load::{Answer, Endpoint, Pool, SECOND, after_ms, percent};

const GOOD: Endpoint = |_| after_ms(5);
const KINDS: [&str; 2] = ["peak_ewma", "least_time"];

#[test]
fn equals_get_equal_shares() {
    each(&[GOOD; 4], |pool, rate, told| {
        let shares = percent(&pool.run(SECOND * 40, rate));
        assert!(shares.iter().all(|share| (share - 25.0).abs() < 4.0), "{told}: {shares:.1?}");
    });
}

#[test]
fn an_endpoint_that_hangs_attracts_nobody_while_requests_wait_there() {
    let hangs: Endpoint = |at| if at < SECOND * 10 { after_ms(5) } else { after_ms(600_000) };
    each(&[GOOD, GOOD, GOOD, hangs], |pool, rate, told| {
        pool.run(SECOND * 10, rate);
        let first = pool.run(SECOND, rate)[3];
        let later = pool.run(SECOND * 30, rate)[3];
        assert!(f64::from(first) <= 2.0 + rate * 0.01 && later <= 1, "{told}: {first}, then {later}");
    });
}

#[test]
fn an_endpoint_that_fails_at_once_attracts_nobody() {
    let fails: Endpoint = |at| if at < SECOND * 10 { after_ms(5) } else { Answer::Fails(MS / 5) };
    each(&[GOOD, GOOD, GOOD, fails], |pool, rate, told| {
        pool.run(SECOND * 10, rate);
        let first = pool.run(SECOND, rate)[3];
        let later = percent(&pool.run(SECOND * 60, rate))[3];
        assert!(f64::from(first) <= 6.0 + rate * 0.02 && later < 0.3, "{told}: {first}, then {later:.2} %");
    });
}

#[test]
fn one_failure_in_a_thousand_costs_an_endpoint_nothing() {
    let rarely: Endpoint =
        |at| if at.subsec_nanos() % 1000 == 0 { Answer::Fails(5 * MS) } else { after_ms(5) };
    each(&[GOOD, rarely], |pool, rate, told| {
        let share = percent(&pool.run(SECOND * 60, rate))[1];
        assert!((46.0..=54.0).contains(&share), "{told}: {share:.1} %");
    });
}

#[test]
fn an_endpoint_twenty_times_slower_gets_little() {
    let slow: Endpoint = |_| after_ms(100);
    each(&[GOOD, GOOD, GOOD, slow], |pool, rate, told| {
        pool.run(SECOND, rate);
        let share = percent(&pool.run(SECOND * 60, rate))[3];
        assert!(share < 1.0, "{told}: {share:.2} %");
    });
}

#[test]
fn an_endpoint_that_was_slow_or_failing_has_its_share_again_within_half_a_minute() {
    let slow: Endpoint = |at| if at < SECOND * 30 { after_ms(100) } else { after_ms(5) };
    let fails: Endpoint = |at| if at < SECOND * 30 { Answer::Fails(MS) } else { after_ms(5) };
    for was in [slow, fails] {
        each(&[GOOD, GOOD, GOOD, was], |pool, rate, told| {
            pool.run(SECOND * 55, rate);
            let share = percent(&pool.run(SECOND * 10, rate))[3];
            assert!((20.0..=30.0).contains(&share), "{told}: {share:.1} %");
        });
        // With a single other endpoint, it loses every comparison until its estimate has faded.
        each(&[GOOD, was], |pool, rate, told| {
            pool.run(SECOND * 60, rate);
            let share = percent(&pool.run(SECOND * 10, rate))[1];
            assert!((40.0..=60.0).contains(&share), "{told}: {share:.1} %");
        });
    }
}

#[test]
fn a_new_endpoint_is_taken_for_a_typical_one() {
    let cold: Endpoint = |at| if at < SECOND * 11 { after_ms(400) } else { after_ms(5) };
    each(&[GOOD, GOOD, GOOD, GOOD, cold], |pool, rate, told| {
        pool.absent_from = 4;
        pool.run(SECOND * 10, rate);
        pool.absent_from = 5;
        let first = pool.run(100 * MS, rate)[4];
        assert!(f64::from(first) <= 3.0 + rate * 0.1 * 0.3, "{told}: {first}");
    });
}

#[test]
fn noise_does_not_decide() {
    let endpoints: [Endpoint; 4] =
        [|_| after_us(5000), |_| after_us(5200), |_| after_us(5500), |_| after_us(5800)];
    let quick: [Endpoint; 4] = [|_| after_us(50), |_| after_us(100), |_| after_us(150), |_| after_us(50)];
    for endpoints in [endpoints, quick] {
        each(&endpoints, |pool, rate, told| {
            let shares = percent(&pool.run(SECOND * 40, rate));
            assert!(shares.iter().all(|share| (share - 25.0).abs() < 5.0), "{told}: {shares:.1?}");
        });
    }
}

fn after_us(us: u32) -> Answer {
    Answer::After(MS * us / 1000)
}

/// Both policies, few and many requests a second, several seeds.
fn each(endpoints: &[Endpoint], story: impl Fn(&mut Pool, f64, &str)) {
    for kind in KINDS {
        for (rate, seeds) in [(50.0, 4), (500.0, 2)] {
            for seed in 0..seeds {
                let mut pool = Pool::new(kind, seed, &vec![1; endpoints.len()], endpoints);
                story(&mut pool, rate, &format!("{kind} at {rate}/s, seed {seed}"));
            }
        }
    }
}
