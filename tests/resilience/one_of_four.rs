//! One of four endpoints dies, hangs or fails.

use crate::load::{Load, Shots};
use crate::moody::Mood;
use crate::{RATE, SECOND, Scene, alone, percent};

const ROUND_ROBIN: &str = "policy = \"round_robin\"";

/// One endpoint changes its mood after three seconds; the load goes on for six.
#[track_caller]
fn one_turns(mood: Mood, pool: &str, route: &str) -> (Scene, Shots) {
    let scene = Scene::new(route, pool);
    let load = scene.load();
    load.run(3 * SECOND);
    scene.origins[1].set(mood);
    load.run(6 * SECOND);
    (scene, load.stop())
}

#[test]
fn a_killed_endpoint_costs_no_get_and_processes_no_post_twice() {
    let _alone = alone();
    for pool in ["", ROUND_ROBIN] {
        let scene = Scene::new("", pool);
        let load = scene.load();
        load.run(SECOND);
        scene.origins[2].kill();
        load.run(3 * SECOND);
        let shots = load.stop();
        let (gets, posts) = (shots.that(|shot| !shot.ask.post), shots.that(|shot| shot.ask.post));
        let duplicated = scene.duplicated(&shots);
        eprintln!(
            "killed, {pool:?}: {} of {} GETs failed, {} of {} POSTs; {} POSTs processed twice",
            gets.failed().len(),
            gets.0.len(),
            posts.failed().len(),
            posts.0.len(),
            duplicated.len()
        );
        assert!(gets.failed().is_empty(), "{:?}", gets.failed());
        assert!(duplicated.is_empty(), "{duplicated:?}");
        let killed = scene.origins[2].address().to_string();
        let elsewhere: Vec<_> =
            posts.failed().into_iter().filter(|shot| !shot.proxy_status.contains(&killed)).collect();
        assert!(elsewhere.is_empty(), "failed at another endpoint than {killed}: {elsewhere:?}");
    }
}

/// Checks what it is like two seconds after one began to hang.
#[track_caller]
fn hangs(pool: &str, route: &str) {
    let _alone = alone();
    let beside = Scene::new("", "");
    let quiet = Load::start(beside.proxy.address("web"), RATE / 5);
    let (scene, shots) = one_turns(Mood::Hangs(100), pool, route);
    let healthy = shots.steady_p99(SECOND / 2, 3 * SECOND);
    let after = shots.steady_p99(5 * SECOND, 9 * SECOND);
    // Whatever else the machine does at that time, healthy origins notice it as well.
    let meanwhile = quiet.stop().p99(5 * SECOND, 9 * SECOND);
    let victims = shots.within(3 * SECOND, 5 * SECOND);
    let waited = victims.0.iter().map(|shot| shot.took).max().unwrap_or_default();
    eprintln!(
        "hung, {pool:?}: p99 {healthy:?} healthy, {after:?} after two seconds ({meanwhile:?} beside it, where all \
         are healthy); in these, of {} requests {} failed, and one waited for {waited:?}",
        victims.0.len(),
        victims.failed().len(),
    );
    assert!(after <= healthy.max(meanwhile) * 2, "{healthy:?} before, {after:?} after, {meanwhile:?} beside");
    let late = shots.within(5 * SECOND, 9 * SECOND);
    assert!(percent(late.failed().len(), late.0.len()) < 1.0, "{:?}", late.failed());
    assert!(scene.duplicated(&shots).is_empty());
}

#[test]
fn a_hung_endpoint_does_not_set_the_p99_after_two_seconds() {
    hangs("", "");
}

#[test]
fn a_learned_timeout_shortens_the_wait_of_the_first_victims() {
    hangs(TRIES, LEARNED);
}

#[test]
fn an_endpoint_that_hangs_now_and_then_is_hardly_noticed() {
    let _alone = alone();
    for (pool, route) in [(TRIES, LEARNED), ("", "")] {
        let (scene, shots) = one_turns(Mood::Hangs(10), pool, route);
        let gets = shots.that(|shot| !shot.ask.post).within(5 * SECOND, 9 * SECOND);
        let (p99, p999) = (gets.permille(990), gets.permille(999));
        let failed = gets.failed().len();
        eprintln!(
            "hangs for 10 % of its requests, {route:?}: GETs p99 {p99:?}, p99.9 {p999:?}; {failed} of {} failed",
            gets.0.len()
        );
        assert!(scene.duplicated(&shots).is_empty());
        if !route.is_empty() {
            assert!(p999 < SECOND, "{p999:?}");
            assert!(failed == 0, "{:?}", gets.failed());
        }
    }
}

/// Checks how many requests fail from two seconds after one began to fail.
#[track_caller]
fn fails(mood: Mood, pool: &str) {
    let _alone = alone();
    let (scene, shots) = one_turns(mood, pool, "");
    let first = shots.within(3 * SECOND, 5 * SECOND);
    let late = shots.within(5 * SECOND, 9 * SECOND);
    let (before, after) =
        (percent(first.failed().len(), first.0.len()), percent(late.failed().len(), late.0.len()));
    eprintln!("{mood:?}, {pool:?}: {before:.2} % failed in the first two seconds, {after:.2} % later");
    assert!(after < 1.0, "{:?}", late.failed());
    assert!(scene.duplicated(&shots).is_empty());
}

#[test]
fn errors_of_a_half_are_below_one_percent_after_two_seconds() {
    fails(Mood::Refuses(50), "");
}

#[test]
fn resets_of_a_half_are_below_one_percent_after_two_seconds() {
    fails(Mood::Drops(50), "");
}

#[test]
fn errors_of_a_half_are_below_one_percent_with_retries_of_them() {
    fails(
        Mood::Refuses(50),
        "[pool.app.retry]\non = [\"connect\", \"refused\", \"reset\", \"gateway_error\"]",
    );
}

/// A try may take three times what requests of the route usually take.
const LEARNED: &str = "[route.timeouts]\ntry = { factor = 3, floor = \"50ms\" }";
const TRIES: &str = "[pool.app.retry]\non = [\"connect\", \"refused\", \"reset\", \"try_timeout\"]";
