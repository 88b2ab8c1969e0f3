//! What a pool is spared that fails, is slow or has too much to do: breakers, admission control and the
//! adaptive limit, as clients, operators and endpoints see them.

mod support;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use support::*;

/// An origin whose answers can be changed while it runs.
#[derive(Clone, Default)]
struct Mood {
    fails: Arc<AtomicBool>,
    /// Milliseconds before each answer.
    late: Arc<AtomicU64>,
}

impl Mood {
    fn origin(&self) -> Origin {
        let mood = self.clone();
        let failure = "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n";
        let answer = ok("well");
        Origin::run(move |conn| {
            while conn.request().is_some() {
                thread::sleep(Duration::from_millis(mood.late.load(Ordering::SeqCst)));
                if !conn.send(if mood.fails.load(Ordering::SeqCst) { failure } else { &answer }) {
                    return;
                }
            }
        })
    }

    fn fails(&self, fails: bool) {
        self.fails.store(fails, Ordering::SeqCst);
    }

    fn is_late(&self, millis: u64) {
        self.late.store(millis, Ordering::SeqCst);
    }
}

/// A proxy in front of these origins, with these lines for the pool `app`, which ejects nobody.
fn in_front_of(origins: &[&Origin], pool: &str) -> Proxy {
    let endpoints: Vec<_> = origins.iter().map(|origin| format!("\"{}\"", origin.address())).collect();
    Proxy::start(&format!(
        "workers = 1\n[admin]\nbind = \"127.0.0.1:0\"\n[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n\
         [[route]]\npool = \"app\"\n[pool.app]\npolicy = \"round_robin\"\noutlier = \"off\"\n\
         endpoints = [{}]\n{pool}\n",
        endpoints.join(", ")
    ))
}

fn is_refused(answer: &Message, by: &str) -> bool {
    let details = answer.field("proxy-status").unwrap_or_default();
    answer.status() == 503 && details.contains(by)
}

/// What the journal has, by name.
fn journal(proxy: &Proxy, event: &str) -> Vec<Value> {
    let journal = proxy.ask_admin("/journal").text();
    let entries = journal.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    entries.filter(|entry| entry["event"] == event).collect()
}

fn breaker_is(proxy: &Proxy, state: &str) -> bool {
    proxy.metrics().sum("forebay_breaker_state", &[("pool", "app"), ("state", state)]) == 1.0
}

#[test]
fn a_pool_that_fails_is_left_alone_and_tried_again() {
    let mood = Mood::default();
    let origin = mood.origin();
    let proxy = in_front_of(
        &[&origin],
        "[pool.app.breaker]\nrequests = 5\nwindow = \"5s\"\nopen = \"1s\"\nmax_open = \"1s\"\ntrials = 2\n",
    );
    assert_eq!(proxy.get("/").status(), 200);
    assert!(breaker_is(&proxy, "closed"));
    mood.fails(true);
    eventually("the breaker opens", || is_refused(&proxy.get("/"), "the breaker is open (breaker)"));

    let opened = journal(&proxy, "breaker_opened").into_iter().next().expect("it is in the journal");
    assert_eq!((&opened["cause"], &opened["times"]), (&"failures".into(), &1.into()), "{opened}");
    assert!(opened["share"].as_f64().is_some_and(|share| share >= 0.5), "{opened}");
    assert!(opened["words"].as_str().is_some_and(|words| words.contains("requests failed")), "{opened}");
    let rejections = [("pool", "app"), ("limit", "breaker")];
    assert!(proxy.metrics().sum("forebay_rejections_total", &rejections) >= 1.0);
    assert!(proxy.metrics().sum("forebay_breaker_opened_total", &[("pool", "app")]) >= 1.0);

    // A trial fails, and it opens again.
    eventually("a failed trial", || {
        let answer = proxy.get("/");
        assert!(answer.status() == 500 || answer.field("retry-after") == Some("1"), "{answer:?}");
        journal(&proxy, "breaker_opened").iter().any(|entry| entry["cause"] == "trial")
    });

    mood.fails(false);
    eventually("trials close it", || {
        proxy.get("/");
        breaker_is(&proxy, "closed")
    });
    assert_eq!(proxy.get("/").status(), 200);
    assert!(!journal(&proxy, "breaker_half_opened").is_empty());
    let closed = journal(&proxy, "breaker_closed");
    let trials = closed.first().and_then(|entry| entry["trials"].as_u64());
    assert!(trials.is_some_and(|trials| trials >= 2), "{closed:?}");
}

#[test]
fn nothing_reaches_an_open_breakers_pool() {
    let mood = Mood::default();
    mood.fails(true);
    let origin = mood.origin();
    let proxy =
        in_front_of(&[&origin], "[pool.app.breaker]\nrequests = 5\nopen = \"1h\"\nmax_open = \"1h\"\n");
    eventually("the breaker opens", || is_refused(&proxy.get("/"), "breaker"));
    let before = origin.requests().len();
    for _ in 0..50 {
        let answer = proxy.get("/");
        assert!(is_refused(&answer, "the breaker is open (breaker); pool app"), "{answer:?}");
        let wait: u32 = answer.field("retry-after").and_then(|wait| wait.parse().ok()).expect("seconds");
        assert!((3500..=3600).contains(&wait), "{wait}");
    }
    assert_eq!(origin.requests().len(), before);
}

#[test]
fn an_endpoint_that_fails_is_left_alone_while_others_serve() {
    let mood = Mood::default();
    mood.fails(true);
    let (bad, good) = (mood.origin(), answers("well"));
    let proxy = in_front_of(
        &[&bad, &good],
        "[pool.app.breaker]\nscope = \"endpoint\"\nrequests = 5\nopen = \"1s\"\nmax_open = \"1s\"\ntrials = 2\n",
    );
    let shown = bad.address().to_string();
    let state = |state: &str| {
        let labels = [("pool", "app"), ("endpoint", &*shown), ("state", state)];
        proxy.metrics().sum("forebay_breaker_state", &labels) == 1.0
    };
    eventually("its breaker opens", || {
        proxy.get("/");
        state("open")
    });
    let opened = journal(&proxy, "breaker_opened");
    assert_eq!(opened.first().map(|entry| &entry["endpoint"]), Some(&shown.as_str().into()));
    let served = good.requests().len();
    let failed = (0..20).filter(|_| proxy.get("/").status() != 200).count();
    assert!(failed <= 3, "{failed} of 20: one at most in every second");
    assert!(good.requests().len() >= served + 17);
    mood.fails(false);
    eventually("it takes part again", || {
        assert_ne!(proxy.get("/").status(), 503);
        state("closed")
    });
}

#[test]
fn a_pool_that_is_slow_is_left_alone() {
    let mood = Mood::default();
    mood.is_late(30);
    let origin = mood.origin();
    let proxy = in_front_of(
        &[&origin],
        "[pool.app.breaker]\nrequests = 5\nopen = \"1s\"\nmax_open = \"1s\"\ntrials = 1\n\
         latency = { quantile = \"50%\", over = \"10ms\" }\n",
    );
    eventually("the breaker opens", || is_refused(&proxy.get("/"), "breaker"));
    let opened = journal(&proxy, "breaker_opened").into_iter().next().expect("it is in the journal");
    assert_eq!(opened["cause"], "latency", "{opened}");
    // A slow trial opens it again.
    eventually("a failed trial", || {
        proxy.get("/");
        journal(&proxy, "breaker_opened").iter().any(|entry| entry["cause"] == "trial")
    });
    mood.is_late(0);
    eventually("a fast trial closes it", || {
        proxy.get("/");
        breaker_is(&proxy, "closed")
    });
}

/// A pool whose endpoint is overloaded, with this mode of admission control.
fn overloaded(mode: &str) -> (Origin, Proxy) {
    let origin = answers_raw("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n");
    let proxy = in_front_of(&[&origin], &format!("[pool.app.limits]\nadmission = \"{mode}\"\n"));
    (origin, proxy)
}

fn probability(proxy: &Proxy) -> f64 {
    proxy.metrics().sum("forebay_admission_probability", &[("pool", "app")])
}

#[test]
fn admission_control_turns_away_what_would_be_refused() {
    let (origin, proxy) = overloaded("enforce");
    eventually("most is turned away", || {
        proxy.get("/");
        probability(&proxy) > 0.8
    });
    let before = origin.requests().len();
    let answers: Vec<_> = (0..100).map(|_| proxy.get("/")).collect();
    let shed = answers.iter().filter(|answer| is_refused(answer, "limits.admission")).count();
    assert!((50..=100).contains(&shed), "{shed} of 100");
    assert_eq!(origin.requests().len() - before, 100 - shed);
    let rejections = [("pool", "app"), ("limit", "admission")];
    assert!(proxy.metrics().sum("forebay_rejections_total", &rejections) >= shed as f64);
}

#[test]
fn admission_control_that_observes_turns_nothing_away() {
    let (origin, proxy) = overloaded("observe");
    let mut sent = 0;
    eventually("it would turn most away", || {
        proxy.get("/");
        sent += 1;
        probability(&proxy) > 0.8
    });
    assert_eq!(origin.requests().len(), sent);
}

/// An origin that serves so many requests at once, each for ten milliseconds; others wait in line.
fn queues(slots: &Arc<(Mutex<usize>, Condvar)>) -> Origin {
    let slots = Arc::clone(slots);
    let answer = ok("well");
    Origin::run(move |conn| {
        while conn.request().is_some() {
            let (free, freed) = &*slots;
            let free_now = free.lock().expect("nobody panics");
            *freed.wait_while(free_now, |free| *free == 0).expect("nobody panics") -= 1;
            thread::sleep(Duration::from_millis(10));
            *free.lock().expect("nobody panics") += 1;
            freed.notify_one();
            if !conn.send(&answer) {
                return;
            }
        }
    })
}

/// Whether it is known what latency is when nothing queues.
fn learned(proxy: &Proxy) -> bool {
    proxy.metrics().sum("forebay_adaptive_limit_latency_seconds", &[("average", "long")]) > 0.0
}

fn limit(proxy: &Proxy) -> f64 {
    proxy.metrics().sum("forebay_adaptive_limit", &[("pool", "app")])
}

/// Has `clients` ask again and again while `during` runs.
fn under_load(proxy: &Proxy, clients: usize, during: impl FnOnce()) {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| {
                let mut client = proxy.connect();
                while !over.load(Ordering::SeqCst) {
                    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
                    if client.response().status() != 200 {
                        // As a client that is told to come back later would.
                        thread::sleep(Duration::from_millis(20));
                    }
                }
            });
        }
        // Also when it panics, for the scope waits for all.
        let _end = Ends(&over);
        during();
    });
}

struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn the_adaptive_limit_follows_what_the_origin_can_do() {
    let slots = Arc::new((Mutex::new(2), Condvar::new()));
    let origin = queues(&slots);
    let proxy = in_front_of(&[&origin], "[pool.app.limits]\nadaptive = { mode = \"enforce\", min = 2 }\n");
    under_load(&proxy, 2, || eventually("it learns what is normal", || learned(&proxy)));
    assert_eq!(limit(&proxy), 1024.0, "nothing calls for less");
    under_load(&proxy, 40, || {
        eventually("it lets the origin have less", || limit(&proxy) < 15.0);
        let (free, freed) = &*slots;
        *free.lock().expect("nobody panics") += 38;
        freed.notify_all();
        eventually("it lets the origin have more again", || limit(&proxy) > 20.0);
    });
}

#[test]
fn an_adaptive_limit_that_observes_limits_nothing() {
    let slots = Arc::new((Mutex::new(2), Condvar::new()));
    let origin = queues(&slots);
    let proxy = in_front_of(&[&origin], "[pool.app.limits]\nadaptive = \"observe\"\n");
    under_load(&proxy, 2, || eventually("it learns what is normal", || learned(&proxy)));
    under_load(&proxy, 40, || eventually("it would lower it", || limit(&proxy) < 100.0));
    assert_eq!(proxy.metrics().sum("forebay_rejections_total", &[("pool", "app")]), 0.0);
}
