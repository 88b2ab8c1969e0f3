//! More than the origins can do: all of them slow, or twice as many requests as they have capacity.

use std::time::Duration;

use crate::load::{Ask, Load, Shots};
use crate::moody::{Ability, Mood};
use crate::{RATE, SECOND, Scene, alone, percent};

/// All origins become slow; the load at them, and the wait of those for whom there is no room, stay
/// within the limits.
#[track_caller]
fn all_slow(waiting: u32, wait: Duration) {
    let _alone = alone();
    let pool =
        format!("[pool.app.limits]\nin_flight = 20\nwaiting = {waiting}\nwait = \"{}ms\"", wait.as_millis());
    // 20 at once for 5 ms each are enough for 4000 a second, for 100 ms each they are for 200.
    let scene = Scene::of(4, Ability::default(), "", &pool);
    let load = scene.load();
    load.run(SECOND);
    scene.origins.iter().for_each(|origin| origin.set(Mood::Slow));
    load.run(SECOND);
    let mut queued = 0.0_f64;
    for _ in 0..20 {
        load.run(SECOND / 10);
        queued = queued.max(scene.proxy.metrics().sum("forebay_pool_waiting", &[("pool", "app")]));
    }
    let shots = load.stop();
    let most = scene.most_at_once();
    let late = shots.within(2 * SECOND, 4 * SECOND);
    let (good, rejected) =
        (late.that(|shot| shot.failure.is_none()), late.that(|shot| shot.status == Some(503)));
    let longest = rejected.permille(999);
    eprintln!(
        "all slow, {waiting} may wait for {wait:?}: at most {most} at the origins and {queued} waiting; of {} \
         requests {} were answered, and {} got 503, 999 of 1000 after {longest:?} at most",
        late.0.len(),
        good.0.len(),
        rejected.0.len()
    );
    assert!(most <= 20, "{most} at once for a limit of 20");
    assert!(queued <= f64::from(waiting), "{queued} waited");
    assert_eq!(good.0.len() + rejected.0.len(), late.0.len(), "{:?}", late.failed());
    assert!(rejected.0.len() > late.0.len() / 4 && good.0.len() > late.0.len() / 4);
    assert!(longest <= wait + MARGIN, "{longest:?} for a wait of {wait:?}");
}

#[test]
fn a_short_queue_refuses_what_slow_origins_cannot_take() {
    all_slow(20, SECOND);
}

#[test]
fn a_long_queue_refuses_within_its_time() {
    all_slow(1000, Duration::from_millis(200));
}

#[test]
fn twice_the_capacity_leaves_the_goodput() {
    overload(15 * SECOND);
}

#[test]
#[ignore = "takes a minute"]
fn twice_the_capacity_leaves_the_goodput_for_a_minute() {
    overload(60 * SECOND);
}

/// Origins that do 250 requests a second get 500, of which a tenth comes first.
#[track_caller]
fn overload(time: Duration) {
    let _alone = alone();
    let ability = Ability { service: Duration::from_millis(80), slots: 5 };
    let capacity = 4.0 * 5.0 / 0.08;
    let route = "priority = { header = \"x-priority\", default = \"normal\" }";
    let pool = "[pool.app.limits]\nadaptive = \"enforce\"";
    let scene = Scene::of(4, ability, route, pool);
    let ask = |number| match number % 10 {
        0 => Ask { fields: "X-Priority: high\r\n", ..Ask::default() },
        _ => Ask::default(),
    };
    let healthy = Load::asking(scene.proxy.address("web"), RATE * 2 / 5, ask);
    healthy.run(SETTLING);
    let p99 = healthy.stop().permille(990);
    let load = Load::asking(scene.proxy.address("web"), RATE, ask);
    load.run(SETTLING + time);
    let shots = load.stop().within(SETTLING, SETTLING + time);
    let good = shots.that(|shot| shot.failure.is_none() && shot.took < SECOND);
    let goodput = good.0.len() as f64 / time.as_secs_f64();
    let share = goodput * 100.0 / capacity;
    let high = |shots: &Shots| shots.that(|shot| !shot.ask.fields.is_empty());
    let (asked, well) = (high(&shots).0.len(), high(&good).0.len());
    let served = percent(well, asked);
    eprintln!(
        "twice the capacity for {time:?}: {goodput:.0} good answers a second, {share:.1} % of the capacity, p99 \
         {:?} ({p99:?} at 80 % of the capacity); {served:.2} % of those of high priority",
        good.permille(990)
    );
    assert!(share >= 90.0, "{share:.1} % of the capacity");
    assert!(served >= 99.0, "{served:.2} % of {asked} of high priority");
}

/// How long adaptive limits may take to learn what is normal, and to find their place.
const SETTLING: Duration = Duration::from_secs(3);
/// What a busy machine may add.
const MARGIN: Duration = Duration::from_millis(150);
