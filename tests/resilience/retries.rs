//! What retries cost the origins when all of them fail.

use std::time::Duration;

use crate::moody::{Ability, Mood};
use crate::{SECOND, Scene, alone};

const GATEWAY_ERRORS: &str =
    "[pool.app.retry]\non = [\"connect\", \"refused\", \"reset\", \"gateway_error\"]";

/// Checks how many more requests the origins see than clients send, while all fail.
#[track_caller]
fn amplifies(mood: Mood, service: Duration, pool: &str) {
    let _alone = alone();
    let scene = Scene::of(4, Ability { service, ..Ability::default() }, "", pool);
    let load = scene.load();
    load.run(SECOND);
    scene.origins.iter().for_each(|origin| origin.set(mood));
    load.run(4 * SECOND);
    let shots = load.stop();
    let times = scene.times_taken();
    // From the beginning: the budget is a share of what there was lately, which was well at first.
    let sent = shots.0.len();
    let seen: u32 = shots.0.iter().map(|shot| times.get(&shot.number).copied().unwrap_or(0)).sum();
    let failed = shots.failed().len();
    let factor = f64::from(seen) / sent as f64;
    eprintln!(
        "all at {mood:?} after {service:?}, {pool:?}: {sent} requests, {failed} failed, {seen} at the origins: \
         {factor:.3} times"
    );
    assert!(factor <= 1.2, "{seen} requests for {sent}");
    assert!(scene.duplicated(&shots).is_empty());
}

#[test]
fn resets_by_all_are_not_amplified() {
    amplifies(Mood::Drops(100), Duration::from_millis(5), "");
}

#[test]
fn slow_resets_by_all_are_not_amplified() {
    amplifies(Mood::Drops(100), Duration::from_millis(100), "");
}

#[test]
fn errors_of_all_are_not_amplified() {
    amplifies(Mood::Refuses(100), Duration::from_millis(5), GATEWAY_ERRORS);
}

#[test]
fn slow_errors_of_all_are_not_amplified() {
    amplifies(Mood::Refuses(100), Duration::from_millis(100), GATEWAY_ERRORS);
}
