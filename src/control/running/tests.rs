use std::fs;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::*;
use crate::config;
use crate::control::discovery::Wish;
use crate::discover::Patch;
use crate::route::filter::FilterCx;
use crate::upstream::{Listener, Pool, Route};

/// Two pools that stand in for each other's lack, on one listener.
const TWO: &str = "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n\
    [[route]]\nname = \"a\"\npath = \"/a\"\npool = \"a\"\nhedge = {}\n\
    [[route]]\nname = \"b\"\npool = \"b\"\n\
    [pool.a]\nendpoints = [\"127.0.0.1:1\", \"127.0.0.1:2\"]\n\
    [pool.a.degradation]\nladder = [{ pool = \"b\" }, { stale = {} }]\n\
    [pool.b]\nendpoints = [\"127.0.0.1:3\"]\n";

fn plan(text: &str) -> Plan {
    config::from_str("test.toml", text, &|_| None, Path::new(".")).unwrap_or_else(|r| panic!("{r:?}\n{text}"))
}

fn start(text: &str) -> Running {
    Running::start(plan(text), Registry::new(1), 1).unwrap()
}

/// Replaces what runs; what ran before, and what runs now.
fn replace(running: &Running, text: &str) -> [Arc<Snapshot>; 2] {
    let before = running.published().load_full();
    running.replace(plan(text)).unwrap();
    [before, running.published().load_full()]
}

fn pool<'a>(snapshot: &'a Snapshot, name: &str) -> &'a Arc<Pool> {
    &snapshot.pools[snapshot.index_of(&Name::new(name).unwrap()).unwrap()]
}

fn web(snapshot: &Snapshot) -> &Arc<Listener> {
    snapshot.listener(0).unwrap()
}

fn route<'a>(snapshot: &'a Snapshot, name: &str) -> &'a Arc<Route> {
    web(snapshot).routes.targets().iter().find(|route| route.name.as_str() == name).unwrap()
}

#[test]
fn what_is_written_alike_is_the_very_same() {
    let running = start(TWO);
    let [before, after] = replace(&running, TWO);
    assert_eq!((before.generation, after.generation), (1, 2));
    assert!(before.pools.iter().zip(&after.pools).all(|(a, b)| Arc::ptr_eq(a, b)));
    assert!(Arc::ptr_eq(web(&before), web(&after)), "with its routes");
    assert!(Arc::ptr_eq(&before.observed[0].1, &after.observed[0].1));
}

#[test]
fn pools_in_another_order_are_the_same_and_are_found() {
    let running = start(TWO);
    let (head, pools) = TWO.split_at(TWO.find("[pool.a]").unwrap());
    let (a, b) = pools.split_at(pools.find("[pool.b]").unwrap());
    let [before, after] = replace(&running, &format!("{head}{b}{a}"));
    for name in ["a", "b"] {
        assert!(Arc::ptr_eq(pool(&before, name), pool(&after, name)), "{name}");
        let branch = &route(&after, name).branches[0];
        assert_eq!(after.pools[branch.pool].settings.name.as_str(), name);
        assert!(Arc::ptr_eq(&route(&before, name).filters, &route(&after, name).filters));
    }
    let metrics = |snapshot| Arc::clone(&route(snapshot, "a").branches[0].metrics);
    assert!(Arc::ptr_eq(&metrics(&before), &metrics(&after)));
}

#[test]
fn a_pool_that_changes_keeps_what_is_known_of_it() {
    let running = start(TWO);
    let changed = TWO
        .replace("[\"127.0.0.1:1\",", "[\"127.0.0.1:4\", { address = \"127.0.0.1:1\", weight = 7 },")
        .replace(
            "[pool.a.degradation]",
            "[pool.a.limits]\nin_flight = 5\nendpoint_in_flight = 2\n[pool.a.degradation]",
        )
        .replace("{ pool = \"b\" }, ", "");
    let [before, after] = replace(&running, &changed);
    let (own, now) = (pool(&before, "a"), pool(&after, "a"));
    assert!(!Arc::ptr_eq(own, now) && Arc::ptr_eq(&own.guard, &now.guard));
    assert!(Arc::ptr_eq(&own.alarm, &now.alarm) && now.guard.limit() == 5);
    let kept = [&own.endpoints[0], &own.endpoints[1]];
    assert!(Arc::ptr_eq(kept[0], &now.endpoints[1]) && Arc::ptr_eq(kept[1], &now.endpoints[2]));
    let weights: Vec<_> = now.gauges.iter().map(|gauge| gauge.base_weight()).collect();
    assert_eq!(weights, [1, 7, 1]);
    assert!(now.endpoints.iter().all(|endpoint| endpoint.places.in_flight() == Some(2)));
    let store = |pool: &Pool| Arc::clone(pool.settings.fallbacks.as_ref().unwrap().store().unwrap());
    assert!(Arc::ptr_eq(&store(own), &store(now)), "what is kept for bad times");
    assert!(Arc::ptr_eq(pool(&before, "b"), pool(&after, "b")));
    assert!(Arc::ptr_eq(&route(&before, "b").answered, &route(&after, "b").answered));
    let [_, again] = replace(&running, TWO);
    let now = pool(&again, "a");
    assert_eq!((now.guard.limit(), now.endpoints[0].places.in_flight()), (1024, None));
}

#[test]
fn rungs_are_called_by_what_they_are_now() {
    let running = start(TWO);
    let metrics =
        |snapshot: &Snapshot| Arc::clone(&pool(snapshot, "a").settings.fallbacks.as_ref().unwrap().metrics);
    let before = metrics(&running.published().load_full());
    before.answered(2);
    let [_, after] = replace(&running, &TWO.replace("{ pool = \"b\" }, ", ""));
    assert_eq!(metrics(&after).names().collect::<Vec<_>>(), ["stale"]);
    let text = String::from_utf8(running.registry().render()).unwrap();
    assert!(text.contains("forebay_degraded_total{pool=\"a\",rung=\"stale\"} 1"), "{text}");
    assert!(!text.contains("rung=\"pool=b\""), "{text}");
}

#[test]
fn a_zone_matters_to_pools_that_have_some() {
    let zoned = TWO.replace("[\"127.0.0.1:3\"]", "[{ address = \"127.0.0.1:3\", zone = \"x\" }]");
    let running = start(&zoned);
    let [before, after] = replace(&running, &format!("zone = \"y\"\n{zoned}"));
    assert!(Arc::ptr_eq(pool(&before, "a"), pool(&after, "a")));
    assert!(!Arc::ptr_eq(pool(&before, "b"), pool(&after, "b")));
    assert!(Arc::ptr_eq(&pool(&before, "b").endpoints[0], &pool(&after, "b").endpoints[0]));
}

#[test]
fn a_plan_that_cannot_run_changes_nothing() {
    let running = start(TWO);
    let bad = TWO
        .replace("bind = ", "access_log = { path = \"/nowhere/at/all.log\" }\nbind = ")
        .replace("\"127.0.0.1:1\"", "{ address = \"127.0.0.1:1\", weight = 9 }");
    let before = running.published().load_full();
    assert!(matches!(running.replace(plan(&bad)), Err(RunError::Assemble(AssembleError::AccessLog { .. }))));
    assert!(Arc::ptr_eq(&before, &running.published().load_full()) && running.plan().1 == 1);
    assert_eq!(pool(&before, "a").gauges[0].base_weight(), 1);
    running.close();
    assert!(matches!(running.replace(plan(TWO)), Err(RunError::Closed)));
}

#[test]
fn a_snapshot_that_takes_its_time_to_assemble_keeps_nobody_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let text = format!(
        "[[listener]]\nname = \"logged\"\nbind = \"127.0.0.1:0\"\naccess_log = {{ path = \"{}\" }}\n{TWO}\
         [[route]]\npath = \"/c\"\npool = \"c\"\n[pool.c]\nendpoints = [\"127.0.0.1:4\"]\n",
        log.display()
    );
    let running = Arc::new(start(TWO));
    let replacing = running.registry().while_pools_wait(|| {
        let own = Arc::clone(&running);
        let replacing = thread::spawn(move || own.replace(plan(&text)));
        let patience = Duration::from_secs(10);
        let began = crate::ambient::now();
        // Logs are opened before pools are made.
        while !fs::exists(&log).unwrap() {
            assert!(began.elapsed() < patience && !replacing.is_finished());
            thread::yield_now();
        }
        let (tell, told) = mpsc::channel();
        let own = Arc::clone(&running);
        thread::spawn(move || {
            tell.send(own.plan().1).unwrap();
            own.close();
            drop(tell);
        });
        assert_eq!(told.recv_timeout(patience), Ok(1));
        assert_eq!(told.recv_timeout(patience), Err(mpsc::RecvTimeoutError::Disconnected), "it is closed");
        replacing
    });
    assert!(matches!(replacing.join().unwrap(), Err(RunError::Closed)));
}

#[test]
fn a_pipe_that_nobody_reads_is_no_log_and_keeps_nobody_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let logged = format!("access_log = {{ path = \"{}\" }}\nbind = ", pipe.display());
    let running = start(TWO);
    let refused = running.replace(plan(&TWO.replace("bind = ", &logged)));
    let Err(RunError::Assemble(AssembleError::AccessLog { source, .. })) = refused else {
        panic!("{refused:?}")
    };
    assert!(source.to_string().contains("pipe"), "{source}");
    assert_eq!(running.plan().1, 1);
}

#[test]
fn endpoints_of_several_pools_move_at_once() {
    let running = start(TWO);
    let mut changes = running.changes();
    let change = |pool: &str, port: u16, wish: Wish| {
        let address = format!("127.0.0.1:{port}").parse().unwrap();
        running.discovery().change(pool, &address, wish).unwrap();
    };
    let before = running.published().load_full();
    change("a", 1, Wish::Remove);
    change("b", 1, Wish::Add(Patch::default()));
    running.follow().unwrap();
    let after = running.published().load_full();
    assert_eq!((after.generation, changes.has_changed().unwrap()), (1, true));
    changes.mark_unchanged();
    assert_eq!(["a", "b"].map(|name| pool(&after, name).endpoints.len()), [1, 2]);
    assert!(Arc::ptr_eq(&pool(&before, "a").endpoints[1], &pool(&after, "a").endpoints[0]));
    assert!(Arc::ptr_eq(&pool(&before, "a").guard, &pool(&after, "a").guard));
    assert!(Arc::ptr_eq(web(&before), web(&after)));
    running.follow().unwrap();
    assert!(!changes.has_changed().unwrap(), "the same again is nothing new");
    change("a", 2, Wish::Remove);
    running.follow().unwrap();
    assert!(pool(&running.published().load_full(), "a").endpoints.is_empty());
}

#[test]
fn endpoints_that_could_not_be_used_are_tried_again() {
    let running = start(TWO);
    let gone = running.located(&Name::new("a").unwrap()).unwrap()[0].address.clone();
    running.discovery().change("a", &gone, Wish::Remove).unwrap();
    running.close();
    assert!(matches!(running.follow(), Err(RunError::Closed)));
    let changed = running.discovery().changed();
    assert_eq!(changed.iter().map(|(index, located)| (*index, located.len())).collect::<Vec<_>>(), [(0, 1)]);
}

#[test]
fn what_waits_for_a_restart_is_named() {
    let running = start(TWO);
    let changed = format!("workers = 3\n{TWO}[log]\nlevel = \"debug\"\nformat = \"json\"\n");
    let restart = |text: &str| running.replace(plan(text)).unwrap().restart;
    assert_eq!(restart(&changed), ["workers", "log.format"]);
    assert_eq!(restart(&changed), ["workers", "log.format"], "as long as that is not what runs");
    assert!(restart(TWO).is_empty());
}

#[test]
fn the_process_takes_other_bounds_at_once() {
    let running = start(&format!("{TWO}[overload]\nmax_connections = 10\n"));
    let [before, after] =
        replace(&running, &format!("{TWO}[overload]\nmax_connections = 20\nsoft = \"50%\"\n"));
    assert!(Arc::ptr_eq(&before.pressure, &after.pressure));
    assert_eq!((after.pressure.connections().1, after.pressure.settings.load().soft), (20, 0.5));
}

#[test]
fn buckets_go_on_where_their_limit_does() {
    let limited = |first: &str, second: &str| {
        TWO.replace(
            "pool = \"b\"\n[pool.a]",
            &format!(
                "pool = \"b\"\nfilters = [{{ rate_limit = {{ {first}, by = \"route\" }} }}, \
                 {{ rate_limit = {{ {second}, by = \"client\" }} }}]\n[pool.a]"
            ),
        )
    };
    let (few, many) = ("rate = \"1/h\", burst = 1", "rate = \"1/h\", burst = 2");
    let running = start(&limited(few, few));
    let passes = |limit: usize| passes(route(&running.published().load_full(), "b"), limit);
    assert!(passes(0) && !passes(0) && passes(1) && !passes(1));
    replace(&running, &limited(few, few));
    assert!(!passes(0) && !passes(1), "nothing has changed");
    replace(&running, &limited(few, many));
    assert!(!passes(0), "its route has changed, but not the limit");
    assert!(passes(1), "this one has");
    replace(&running, &limited(&format!("{few}, mode = \"observe\""), many));
    assert!(passes(0), "those that come too often are counted only");
    replace(&running, &limited(few, many));
    assert!(!passes(0), "and counted they were");
}

/// Whether a filter lets a request pass that it knows nothing of.
fn passes(route: &Route, filter: usize) -> bool {
    let mut head = crate::model::RequestHead::default();
    let mut cx = FilterCx {
        now: crate::ambient::now(),
        client: None,
        scheme: "http",
        host: "test",
        body_length: None,
        max_body: None,
        added: crate::model::Fields::default(),
        notes_user: false,
        user: None,
    };
    let verdict = route.filters[filter].on_request(&mut head, &mut cx);
    matches!(verdict, crate::route::filter::Verdict::Continue)
}

#[test]
fn routes_without_a_name_are_not_taken_for_those_that_were_at_their_place() {
    let own = |path: &str| {
        format!(
            "[[route]]\npath = \"{path}\"\npool = \"b\"\nhedge = {{}}\n\
             filters = [{{ rate_limit = {{ rate = \"1/h\", burst = 1, by = \"route\" }} }}]\n"
        )
    };
    let with = |routes: &str| TWO.replace("[pool.a]", &format!("{routes}[pool.a]"));
    let running = start(&with(&own("/x")));
    let now = || running.published().load_full();
    let observed = |name: &str| Arc::clone(route(&now(), name).observed.as_ref().unwrap());
    let before = observed("route-3");
    assert!(passes(route(&now(), "route-3"), 0) && !passes(route(&now(), "route-3"), 0));
    replace(&running, &with(&(own("/new") + &own("/x"))));
    assert!(!passes(route(&now(), "route-4"), 0), "it was at the third place");
    assert!(Arc::ptr_eq(&before, &observed("route-4")));
    assert!(passes(route(&now(), "route-3"), 0), "it is new");
    assert!(!Arc::ptr_eq(&before, &observed("route-3")));
    replace(&running, &with(&own("/x")));
    assert!(!passes(route(&now(), "route-3"), 0) && Arc::ptr_eq(&before, &observed("route-3")));
}

#[test]
fn logs_go_on_and_end_with_the_last_request() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let logged = |name: &str| {
        let log = format!("access_log = {{ path = \"{}\" }}\nbind = ", path(name).display());
        TWO.replace("bind = ", &log)
    };
    let running = start(&logged("one"));
    let [before, after] = replace(&running, &logged("one").replace("hedge = {}", ""));
    assert!(!Arc::ptr_eq(web(&before), web(&after)));
    let log = |snapshot: &Arc<Snapshot>| Arc::clone(web(snapshot).access_log.as_ref().unwrap());
    assert!(Arc::ptr_eq(&log(&before), &log(&after)));
    assert!(Arc::ptr_eq(&web(&before).connections, &web(&after).connections));
    drop((before, after));
    let [before, after] = replace(&running, &logged("two"));
    assert!(!Arc::ptr_eq(&log(&before), &log(&after)));
    assert!(fs::exists(path("two")).unwrap());
    assert_eq!(running.retired.drop_unused(), 1, "as long as a request has it");
    drop((before, after));
    assert_eq!(running.retired.drop_unused(), 0);
}
