use std::sync::Arc;

use super::super::{Sample, Times};
use super::*;
use crate::ambient;
use crate::observe::metrics::{Finished, Registry, RouteMetrics, Shard};

/// A book, and the time by which it goes.
struct Story {
    book: Book,
    registry: Arc<Registry>,
    routes: Vec<(RouteLabels, Arc<RouteMetrics>)>,
    now: Instant,
    last: ProcessSample,
    look: Look,
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn labels(route: &str) -> RouteLabels {
    RouteLabels { listener: name("web"), route: name(route), pool: Some(name("app")) }
}

impl Story {
    fn new() -> Self {
        let (now, registry) = (ambient::now(), Registry::new(1));
        let look = Look { in_flight: 0, capacity: 100, available: 2, total: 3, ..Look::default() };
        let last = ProcessSample::default();
        Self { book: Book::new(now), registry, routes: Vec::new(), now, last, look }
    }

    /// So many requests take so long and end with `status`.
    fn finish(&mut self, route: &str, (count, status, ms): (u64, u16, u64)) {
        let labels = labels(route);
        let metrics = match self.routes.iter().find(|(known, _)| *known == labels) {
            Some((_, metrics)) => Arc::clone(metrics),
            None => self.add(route),
        };
        let duration = Duration::from_millis(ms);
        let request = Finished { status, first_byte: None, duration };
        (0..count).for_each(|_| metrics.finish(Shard::worker(0), &request));
    }

    fn add(&mut self, route: &str) -> Arc<RouteMetrics> {
        let metrics = self.registry.route(&labels(route));
        self.routes.push((labels(route), Arc::clone(&metrics)));
        metrics
    }

    /// So many seconds pass, with a look after each.
    fn pass(&mut self, seconds: u64) {
        (0..seconds).for_each(|_| self.jump(Duration::from_secs(1)));
    }

    fn jump(&mut self, time: Duration) {
        self.now += time;
        if self.book.begin(self.now) {
            self.book.on_pool(&name("app"), &self.look);
            self.registry.each_route(|labels, reading| {
                let [.., errors] = reading.requests;
                let times = Times::new(&reading.durations);
                let counted = Traffic { requests: reading.requests.iter().sum(), errors, times };
                self.book.on_route(labels, counted, reading.is_held);
            });
            self.last = self.book.end(7, Some(0.5));
        }
    }

    fn window(&self, seconds: u64) -> Window {
        self.book.window(Duration::from_secs(seconds), self.now, WALL)
    }
}

const WALL: SystemTime = SystemTime::UNIX_EPOCH;

fn requests<S: Sample>(series: &Series<S>) -> Vec<u64> {
    series.samples.iter().map(|sample| sample.traffic().requests).collect()
}

#[test]
fn each_second_has_what_came_in_it() {
    let mut story = Story::new();
    story.finish("a", (3, 200, 1));
    story.pass(1);
    assert_eq!((story.last.traffic.requests, story.last.traffic.errors), (3, 0));
    story.finish("a", (5, 503, 80));
    story.finish("b", (2, 499, 1));
    story.pass(1);
    let Traffic { requests: count, errors, times } = &story.last.traffic;
    assert_eq!((*count, *errors, times.count()), (7, 5, 7));
    assert!(times.quantile(0.99).is_some_and(|p99| p99 > Duration::from_millis(50)), "{times:?}");
    story.pass(1);
    assert_eq!((story.last.traffic.requests, story.last.traffic.times.quantile(0.5)), (0, None));
    assert_eq!(requests(&story.window(60).process), [3, 7, 0]);
    assert_eq!(requests(&story.window(2).process), [7, 0]);
    assert_eq!((story.last.connections, story.last.busy_ratio), (7.0, Some(0.5)));
}

#[test]
fn ten_seconds_of_routes_and_pools_add_up_to_those_of_the_process() {
    let mut story = Story::new();
    for second in 0..25 {
        story.finish("a", (second, 200, 2));
        story.finish("b", (1, 500, 30));
        story.pass(1);
    }
    let window = story.window(60);
    let (of, a) = &window.routes[0];
    assert_eq!((of, requests(a)), (&Some(labels("a")), vec![45, 145]));
    assert_eq!(a.open.requests, (20..25).sum::<u64>());
    let (_, b) = &window.routes[1];
    assert_eq!((requests(b), b.samples[0].errors, b.open.requests), (vec![10, 10], 10, 5));
    let (of, app) = &window.pools[0];
    assert_eq!((of, requests(app)), (&Some(name("app")), vec![55, 155]));
    assert_eq!(app.traffic().requests, window.process.traffic().requests);
    assert_eq!(app.traffic().times, window.process.traffic().times);
    assert_eq!((app.samples[0].available, app.samples[0].total), (2, 3));
}

#[test]
fn a_pools_use_is_the_mean_of_its_step() {
    let mut story = Story::new();
    for in_flight in [10, 20, 30, 40, 50, 60, 70, 80, 90, 100] {
        story.look.in_flight = in_flight;
        story.pass(1);
    }
    let window = story.window(60);
    let sample = &window.pools[0].1.samples[0];
    assert!(
        (sample.in_flight - 55.0).abs() < 1e-9 && (sample.utilisation() - 0.55).abs() < 1e-9,
        "{sample:?}"
    );
    assert_eq!(PoolSample::default().utilisation(), 0.0);
}

#[test]
fn workers_are_as_busy_as_the_part_of_their_time_that_they_were() {
    let mut book = Story::new().book;
    let (start, ms) = (ambient::now(), Duration::from_millis);
    assert_eq!(book.on_workers(&[ms(700), ms(100)], start), None, "there is nothing to compare it with");
    assert_eq!(book.on_workers(&[ms(1200), ms(100)], start + ms(1000)), Some(0.25));
    assert_eq!(book.on_workers(&[ms(1200), ms(100)], start + ms(1000)), None);
    assert_eq!(book.on_workers(&[ms(9000), ms(9000)], start + ms(2000)), Some(1.0));
}

#[test]
fn times_of_steps_are_told_by_the_time_of_day() {
    let mut story = Story::new();
    story.pass(34);
    let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
    let window = story.book.window(Duration::from_secs(20), story.now + Duration::from_millis(500), wall);
    let at = |seconds: f64| SystemTime::UNIX_EPOCH + Duration::from_secs_f64(seconds);
    assert_eq!(window.process.from, at(979.5), "34.5 s in, 20 s ago, at a whole second");
    assert_eq!(window.process.samples.len(), 20);
    assert_eq!(window.pools[0].1.from, at(975.5), "the ten seconds in which 20 s ago was");
    assert_eq!(window.pools[0].1.samples.len(), 2);
}

#[test]
fn a_second_is_looked_at_once_and_those_missed_are_empty() {
    let mut story = Story::new();
    story.finish("a", (1, 200, 1));
    story.jump(Duration::from_millis(1020));
    story.finish("a", (1, 200, 1));
    story.jump(Duration::from_millis(100));
    assert_eq!(requests(&story.window(60).process), [1]);
    story.jump(Duration::from_millis(12_900));
    assert_eq!(requests(&story.window(60).process)[..], [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    assert_eq!(requests(&story.window(60).routes[0].1), [2]);
}

#[test]
fn an_hour_is_kept_and_no_more() {
    let mut story = Story::new();
    for _ in 0..4000 {
        story.finish("a", (1, 200, 1));
        story.pass(1);
    }
    let (short, long) = (story.window(600), story.window(3600));
    assert_eq!((short.process.step, short.process.samples.len()), (STEP, 600));
    assert_eq!((long.process.step, long.process.samples.len()), (LONG_STEP, 360));
    assert_eq!(requests(&long.process), vec![10; 360]);
    assert_eq!(requests(&long.routes[0].1), vec![10; 360]);
    assert_eq!(long.process.samples[0].busy_ratio, Some(0.5));
}

#[test]
fn what_is_past_the_most_is_shown_together_and_the_busy_have_their_own() {
    let mut story = Story::new();
    (0..MOST_ROUTES + 6).for_each(|route| drop(story.add(&format!("r{route:03}"))));
    story.pass(10);
    assert_eq!(story.window(60).routes.len(), MOST_ROUTES, "nothing is folded that has no requests");
    // All that have a series have had requests, so that they keep it.
    (0..MOST_ROUTES).for_each(|route| story.finish(&format!("r{route:03}"), (1, 200, 1)));
    story.pass(10);
    (MOST_ROUTES..MOST_ROUTES + 6).for_each(|route| story.finish(&format!("r{route:03}"), (2, 500, 1)));
    story.pass(9);
    let window = story.window(60);
    let (of, other) = window.routes.last().unwrap();
    assert_eq!((of, other.open.requests, other.open.errors), (&None, 12, 12));
    story.pass(1);
    let window = story.window(60);
    let (of, other) = window.routes.last().unwrap();
    assert_eq!((of, requests(other), other.open.requests), (&None, vec![0, 0, 12], 0));
    let all: u64 = window.routes.iter().map(|(_, series)| series.traffic().requests).sum();
    assert_eq!(all, window.process.traffic().requests);
    // An hour later their requests are forgotten, and so they make room.
    story.pass(3700);
    story.finish("r069", (4, 200, 1));
    story.pass(10);
    let window = story.window(20);
    let own = window.routes.iter().find(|(of, _)| *of == Some(labels("r069"))).expect("a series");
    assert_eq!(requests(&own.1).last(), Some(&4));
}

#[test]
fn a_route_that_is_gone_is_shown_for_as_long_as_its_requests() {
    let mut story = Story::new();
    story.finish("a", (4, 200, 1));
    story.finish("b", (1, 200, 1));
    story.pass(10);
    story.routes.retain(|(labels, _)| labels.route.as_str() == "b");
    story.pass(100);
    assert_eq!(story.window(200).routes.len(), 2);
    assert_eq!(story.window(60).routes.len(), 1, "no requests of it in this time");
    // Forgotten by the registry, and there again: it counts from nothing.
    story.routes.clear();
    story.finish("b", (8, 200, 1));
    story.pass(1);
    story.routes.clear();
    (0..3).for_each(|_| drop(story.registry.render()));
    story.pass(4);
    assert_eq!(story.window(10).process.traffic().requests, 8);
    assert_eq!(story.window(10).pools[0].1.traffic().requests, 8);
    story.finish("b", (1, 200, 1));
    story.finish("a", (3, 200, 1));
    story.pass(5);
    let window = story.window(200);
    assert_eq!(window.routes[0].1.traffic().requests, 7);
    story.pass(4000);
    story.routes.clear();
    story.pass(10);
    assert_eq!(story.window(3600).routes.len(), 0);
}
