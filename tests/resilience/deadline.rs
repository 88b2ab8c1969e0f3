//! Clients that wait for 200 ms and say so, before a pool at which requests queue.

use std::time::Duration;

use crate::load::{Ask, Load};
use crate::moody::Ability;
use crate::{RATE, SECOND, Scene, alone};

const DEADLINE: Duration = Duration::from_millis(200);
/// What may lie between a request's way out of Forebay and its record at the origin, and between the
/// client's resolve and Forebay's reading, on a machine that is busy.
const MARGIN: Duration = Duration::from_millis(100);

#[test]
fn no_work_begins_after_the_deadline_of_a_client() {
    let _alone = alone();
    // 20 at once for 100 ms each: 200 of 500 a second, so that all others wait for more than a second.
    let ability = Ability { service: Duration::from_millis(100), ..Ability::default() };
    let pool = "[pool.app.limits]\nin_flight = 20\nwaiting = 1000\nwait = \"3s\"";
    let scene = Scene::of(4, ability, "deadline_header = \"x-timeout\"", pool);
    let ask = |number| Ask { fields: "X-Timeout: 200ms\r\n", ..crate::mixed(number) };
    let load = Load::asking(scene.proxy.address("web"), RATE, ask);
    load.run(4 * SECOND);
    let began = load.began();
    let shots = load.stop();
    let taken: Vec<_> = scene.origins.iter().flat_map(crate::Moody::taken).collect();
    let delay = |taken: &crate::moody::Taken| {
        let shot = shots.0.get(usize::try_from(taken.number).unwrap()).expect("numbers are indices");
        (taken.at - began).saturating_sub(shot.sent)
    };
    let longest = taken.iter().map(delay).max().unwrap_or_default();
    let late: Vec<_> = taken.iter().filter(|taken| delay(taken) > DEADLINE + MARGIN).collect();
    let dropped = shots.that(|shot| shot.status == Some(504));
    eprintln!(
        "deadline of 200 ms: of {} requests {} began upstream, the last {longest:?} after it was sent; {} got 504",
        shots.0.len(),
        taken.len(),
        dropped.0.len()
    );
    assert!(late.is_empty(), "{late:?}");
    assert!(dropped.0.len() * 4 > shots.0.len(), "{} of {}", dropped.0.len(), shots.0.len());
    let longest = dropped.permille(999);
    assert!(longest < DEADLINE + MARGIN, "a client heard of it after {longest:?}");
}
