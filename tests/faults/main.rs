//! What clients notice when one of four endpoints misbehaves under a steady load: how long requests
//! fail, how slow they become, and for how long. The clock is real; the bounds are those that Forebay
//! promises, several times what it needs.

#![expect(clippy::indexing_slicing, reason = "a test that indexes wrongly fails, as it should")]
#![expect(clippy::print_stdout, reason = "figures for whoever runs it with --nocapture")]

#[path = "../support/mod.rs"]
mod support;

#[expect(dead_code, reason = "each test binary uses a part of this")]
#[path = "../support/load.rs"]
mod load;
#[expect(dead_code, reason = "each test binary uses a part of this")]
#[path = "../support/moody.rs"]
mod moody;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use load::{Load, Shots};
use moody::{Mood, Moody, SERVICE};
use support::*;

/// What client-visible failures may last at most.
const STOPPED: Duration = Duration::from_secs(2);
const SECOND: Duration = Duration::from_secs(1);

/// One after another: each has the machine to itself, as far as that goes.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn origins(count: usize) -> Vec<Moody> {
    (0..count).map(|_| Moody::new()).collect()
}

fn proxy_to(origins: &[Moody], pool: &str) -> Proxy {
    let addresses: Vec<_> = origins.iter().map(Moody::address).collect();
    Plain { pool, ..Plain::default() }.to(&addresses)
}

/// One of four changes its mood after a second; the load goes on for `after`.
#[track_caller]
fn one_of_four(mood: Mood, pool: &str, rate: u32, after: Duration) -> (Shots, Vec<Moody>) {
    let origins = origins(4);
    let proxy = proxy_to(&origins, pool);
    let load = Load::start(proxy.address("web"), rate);
    load.run(SECOND);
    origins[1].set(mood);
    load.run(after);
    (load.stop(), origins)
}

/// Checks that failures began, were few, and stopped soon.
#[track_caller]
fn stops_failing(mood: Mood, pool: &str) {
    let _alone = alone();
    for rate in [100, 400] {
        let (shots, _) = one_of_four(mood, pool, rate, 3 * SECOND);
        let failed = shots.failed();
        println!(
            "{mood:?} at {rate}/s, {pool:?}: {} of {} failed, for {:?}",
            failed.len(),
            shots.0.len(),
            shots.failing_for()
        );
        assert!(shots.failing_for() <= STOPPED, "at {rate}/s: {failed:?}");
    }
}

const ROUND_ROBIN: &str = "policy = \"round_robin\"";

#[test]
fn truncated_bodies_stop_within_two_seconds() {
    stops_failing(Mood::Truncates, ROUND_ROBIN);
}

#[test]
fn reset_bodies_stop_within_two_seconds() {
    stops_failing(Mood::Resets, ROUND_ROBIN);
}

#[test]
fn garbage_stops_within_two_seconds() {
    stops_failing(Mood::Garbage, ROUND_ROBIN);
}

#[test]
fn errors_of_a_third_stop_within_two_seconds() {
    stops_failing(Mood::Fails(30), ROUND_ROBIN);
}

#[test]
fn errors_behind_a_passing_check_stop_within_two_seconds() {
    stops_failing(
        Mood::Refuses(100),
        "policy = \"round_robin\"\n[pool.app.health]\nkind = \"http\"\npath = \"/healthz\"\ninterval = \"200ms\"",
    );
}

/// It asks an endpoint that fails less and less before detectors have seen enough of it, so what it
/// costs is counted rather than timed.
#[test]
fn the_default_policy_costs_fewer_failures_than_detection_takes() {
    let _alone = alone();
    for mood in [Mood::Truncates, Mood::Garbage, Mood::Fails(30)] {
        let (shots, _) = one_of_four(mood, "", 200, 4 * SECOND);
        let failed = shots.failed();
        println!("{mood:?} at 200/s, default policy: {} of {} failed", failed.len(), shots.0.len());
        assert!(failed.len() <= 8, "{failed:?}");
    }
}

#[test]
fn a_stalled_body_is_a_failure_of_its_endpoint() {
    let _alone = alone();
    let pool = "policy = \"round_robin\"\n[pool.app.timeouts]\nidle = \"500ms\"";
    let (shots, _) = one_of_four(Mood::Stalls, pool, 200, 4 * SECOND);
    assert!(shots.failing_for() <= STOPPED, "{:?}", shots.failed());
}

#[test]
fn traffic_to_a_hung_endpoint_stops_within_two_seconds() {
    let _alone = alone();
    for pool in [ROUND_ROBIN, ""] {
        let origins = origins(4);
        let proxy = proxy_to(&origins, pool);
        let load = Load::start(proxy.address("web"), 200);
        load.run(SECOND);
        origins[1].set(Mood::Hangs(100));
        load.run(2 * SECOND);
        let after_two = origins[1].requests();
        load.run(2 * SECOND);
        let later = origins[1].requests() - after_two;
        drop(proxy);
        load.stop();
        assert!(later <= 1, "{later} requests after two seconds, {pool:?}");
    }
}

#[test]
fn a_slow_endpoint_does_not_set_the_p99() {
    let _alone = alone();
    for pool in [ROUND_ROBIN, ""] {
        let (shots, _) = one_of_four(Mood::Slow, pool, 200, 12 * SECOND);
        let healthy = shots.p99(SECOND / 5, SECOND);
        let after = shots.p99(11 * SECOND, 13 * SECOND);
        println!("{pool:?}: healthy p99 {healthy:?}, ten seconds after {after:?}");
        // The origin's own time is a bound that a busy machine does not move.
        let bound = (healthy * 2).max(SERVICE * 4);
        assert!(after <= bound, "{healthy:?} before, {after:?} after");
        assert!(shots.failed().is_empty(), "{:?}", shots.failed());
    }
}

#[test]
fn a_killed_endpoint_costs_no_get() {
    let _alone = alone();
    for pool in [ROUND_ROBIN, ""] {
        let origins = origins(4);
        let proxy = proxy_to(&origins, pool);
        let load = Load::start(proxy.address("web"), 500);
        load.run(SECOND);
        origins[2].kill();
        load.run(2 * SECOND);
        let shots = load.stop();
        assert!(shots.failed().is_empty(), "{:?}", shots.failed());
    }
}

#[test]
fn nothing_outlives_a_total_outage() {
    let _alone = alone();
    let mut origins = origins(4);
    let proxy = proxy_to(&origins, ROUND_ROBIN);
    let load = Load::start(proxy.address("web"), 100);
    load.run(SECOND);
    origins.iter().for_each(Moody::kill);
    load.run(6 * SECOND);
    origins.iter_mut().for_each(Moody::revive);
    let back = load.elapsed();
    load.run(2 * SECOND);
    let shots = load.stop();
    let late: Vec<_> = shots.failed().into_iter().filter(|shot| shot.at > back).collect();
    assert!(late.is_empty(), "back at {back:?}: {late:?}");
}

#[test]
fn ejection_does_not_make_a_common_failure_worse() {
    let _alone = alone();
    let origins = origins(4);
    let proxy = proxy_to(&origins, ROUND_ROBIN);
    let load = Load::start(proxy.address("web"), 200);
    load.run(SECOND);
    origins.iter().for_each(|origin| origin.set(Mood::Fails(50)));
    let from = load.elapsed();
    load.run(5 * SECOND);
    let to = load.elapsed();
    let asked: u64 = origins.iter().map(Moody::requests).sum();
    let shots = load.stop();
    let during = shots.0.iter().filter(|shot| (from..to).contains(&shot.at));
    let (all, failed) =
        during.fold((0, 0), |(all, failed), shot| (all + 1, failed + usize::from(shot.failure.is_some())));
    println!("{failed} of {all} failed; the origins saw {asked} requests");
    assert!(failed * 100 <= all * 53, "{failed} of {all}");
}

#[test]
fn an_endpoint_that_still_fails_costs_one_live_request_to_try() {
    let _alone = alone();
    let origins = origins(4);
    let pool = "policy = \"round_robin\"\n[pool.app.outlier]\nbase_ejection = \"1s\"\njitter = \"0%\"";
    let proxy = proxy_to(&origins, pool);
    let load = Load::start(proxy.address("web"), 200);
    load.run(SECOND);
    origins[0].set(Mood::Refuses(100));
    load.run(SECOND);
    let (before, at) = (origins[0].requests(), load.elapsed());
    // Ejected for 1, 2 and 3 seconds: tried twice at least, three times at most.
    load.run(6 * SECOND);
    let tried = origins[0].requests() - before;
    let shots = load.stop();
    let late: Vec<_> = shots.failed().into_iter().filter(|shot| shot.at > at).collect();
    assert!((2..=3).contains(&tried), "{tried} trial requests");
    assert!(late.is_empty(), "trials are retried: {late:?}");
}
