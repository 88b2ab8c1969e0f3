//! Stories of one breaker in virtual time, and what holds whatever happens to it.

use super::*;
use crate::model::mix::{STEP, mix};

fn start() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "some time to count from; all else is relative to it")]
    Instant::now()
}

fn ended(ended: u64, failed: u64) -> Ended {
    Ended { ended, failed, answered: ended - failed, ..Ended::default() }
}

fn trials(trials_passed: u32, trials_failed: u32) -> Ended {
    Ended { trials_passed, trials_failed, ..Ended::default() }
}

#[test]
fn it_opens_at_its_share_of_enough_requests() {
    let (mut breaker, now) = (Breaker::new(BreakerSettings::default()), start());
    assert_eq!(breaker.on_tick(&ended(19, 19), now), None, "too few");
    let cause = Cause::Failures { share: 0.95, requests: 20 };
    let lasts = Duration::from_secs(5);
    assert_eq!(breaker.on_tick(&ended(1, 0), now), Some(Change::Opened { cause, lasts, times: 1 }));
    assert_eq!(breaker.on_tick(&ended(50, 50), now), None, "begun before it opened");
    assert_eq!(breaker.state(), State::Open(now + lasts));
    let mut healthy = Breaker::new(BreakerSettings::default());
    for tick in 0..1000 {
        assert_eq!(healthy.on_tick(&ended(10, 4), now + Duration::from_millis(200) * tick), None);
    }
}

#[test]
fn failures_of_long_ago_do_not_count() {
    let (mut breaker, now) = (Breaker::new(BreakerSettings::default()), start());
    assert_eq!(breaker.on_tick(&ended(15, 15), now), None);
    assert_eq!(breaker.on_tick(&ended(15, 5), now + Duration::from_secs(11)), None);
}

#[test]
fn it_opens_when_a_quantile_is_over_its_bound() {
    let slow = Slow { quantile: 0.9, over: Duration::from_secs(1) };
    let settings = BreakerSettings { latency: Some(slow), ..BreakerSettings::default() };
    let (mut breaker, now) = (Breaker::new(settings), start());
    let answered = |answered, slow| Ended { ended: answered, answered, slow, ..Ended::default() };
    assert_eq!(breaker.on_tick(&answered(100, 10), now), None, "the quantile is at its bound");
    let cause = Cause::Latency { slow, share: 0.11, requests: 200 };
    let change = breaker.on_tick(&answered(100, 12), now);
    assert!(matches!(change, Some(Change::Opened { cause: found, .. }) if found == cause), "{change:?}");
}

#[test]
fn trials_close_it_and_a_failed_one_opens_it_for_longer() {
    let (mut breaker, mut now) = (Breaker::new(BreakerSettings::default()), start());
    for (times, seconds) in [(1, 5), (2, 10), (3, 20), (4, 40), (5, 60), (6, 60)] {
        let event = if times == 1 { ended(20, 20) } else { trials(0, 1) };
        let change = breaker.on_tick(&event, now);
        let lasts = Duration::from_secs(seconds);
        let Some(Change::Opened { lasts: found, times: row, .. }) = change else { panic!("{change:?}") };
        assert_eq!((found, row), (lasts, times));
        now += lasts - Duration::from_millis(1);
        assert_eq!(breaker.on_tick(&trials(1, 0), now), None);
        now += Duration::from_millis(1);
        assert_eq!(breaker.on_tick(&ended(0, 0), now), Some(Change::HalfOpened));
    }
    assert_eq!(breaker.on_tick(&trials(2, 0), now), None);
    assert_eq!(breaker.on_tick(&ended(30, 30), now), None, "no trials");
    assert_eq!(breaker.on_tick(&trials(1, 0), now), Some(Change::Closed(3)));
    let again = breaker.on_tick(&ended(20, 20), now);
    assert!(matches!(again, Some(Change::Opened { times: 7, .. })), "in a row: {again:?}");
}

#[test]
fn a_time_of_health_ends_the_row() {
    let (mut breaker, mut now) = (Breaker::new(BreakerSettings::default()), start());
    for _ in 0..3 {
        let change = breaker.on_tick(&ended(20, 20), now);
        assert!(matches!(change, Some(Change::Opened { times: 1, .. })), "{change:?}");
        now += Duration::from_secs(5);
        assert_eq!(breaker.on_tick(&ended(0, 0), now), Some(Change::HalfOpened));
        assert_eq!(breaker.on_tick(&trials(3, 0), now), Some(Change::Closed(3)));
        assert_eq!(breaker.on_tick(&ended(20, 1), now), None);
        now += Duration::from_secs(11);
    }
}

#[test]
fn whatever_happens_it_goes_round_in_order_and_never_stays_open() {
    for seed in 0..500_u64 {
        let mut breaker = Breaker::new(BreakerSettings::default());
        let (mut now, mut draw) = (start(), seed);
        let mut number = |below: u64| {
            draw = mix(draw.wrapping_add(STEP));
            draw % below
        };
        for _ in 0..300 {
            let before = breaker.state();
            now += Duration::from_millis(number(2000));
            let all = number(30);
            let trials = trials(u32::try_from(number(3)).unwrap(), u32::from(number(8) == 0));
            let event = Ended { ended: all, failed: number(all + 1), ..trials };
            let change = breaker.on_tick(&event, now);
            match (before, change, breaker.state()) {
                (State::Closed, Some(Change::Opened { cause, lasts, .. }), State::Open(until)) => {
                    assert!(cause != Cause::Trial && until == now + lasts, "seed {seed}");
                    assert!(lasts >= Duration::from_secs(5) && lasts <= Duration::from_secs(60));
                }
                (State::HalfOpen(_), Some(Change::Opened { cause, .. }), State::Open(_)) => {
                    assert_eq!((cause, event.trials_failed), (Cause::Trial, 1), "seed {seed}");
                }
                (State::Open(until), Some(Change::HalfOpened), State::HalfOpen(0)) => assert!(now >= until),
                (State::Open(until), None, State::Open(_)) => assert!(now < until, "seed {seed}"),
                (State::HalfOpen(_), Some(Change::Closed(passed)), State::Closed) => assert!(passed >= 3),
                (State::Closed, None, State::Closed) => {}
                (State::HalfOpen(was), None, State::HalfOpen(is)) => assert!(was <= is && is < 3),
                other => panic!("seed {seed}: {other:?}"),
            }
        }
    }
}
