//! The proxy itself has too much to do: too many connections, too few descriptors, too little memory.
//! What is there goes on, what is new is told so, and the admin listener answers.

mod support;

use std::thread;
use std::time::Duration;

use support::*;

const REFUSED: &str = "forebay_connections_refused_total";

/// Two listeners, `web` with these lines and `other`, in front of `origin`, after these tables.
fn start(tables: &str, web: &str, origin: &Origin) -> Proxy {
    Proxy::start(&format!("{tables}\n{}", listeners(web, origin)))
}

fn listeners(web: &str, origin: &Origin) -> String {
    format!(
        "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n{web}\n\
         [[listener]]\nname = \"other\"\nbind = \"127.0.0.1:0\"\n\
         [[route]]\npool = \"app\"\n[pool.app]\nendpoints = [\"{}\"]\n",
        origin.address()
    )
}

#[track_caller]
fn ask(client: &mut Link) -> u16 {
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    client.response().status()
}

/// A connection to `web` on which a request was answered, once there is room for it.
#[track_caller]
fn get_in(proxy: &Proxy) -> Link {
    let mut inside = None;
    eventually("there is room", || {
        let mut client = proxy.connect();
        // It may be refused, and closed, before the request is written.
        let asked = client.try_send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").is_ok();
        let status = client.head().filter(|_| asked).map(|head| head.status());
        inside = (status == Some(200)).then_some(client);
        inside.is_some()
    });
    inside.expect("there was room")
}

/// What a connection to `web` is told that is not taken, whether or not it sends anything.
#[track_caller]
fn refused(proxy: &Proxy, sends: &str) -> Message {
    let mut client = proxy.connect();
    client.send(sends);
    let answer = client.response();
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.field("retry-after"), Some("1"));
    assert_eq!(answer.field("connection"), Some("close"));
    client.finish();
    assert_eq!(client.expect_end(), Ended::Closed);
    answer
}

#[test]
fn a_listener_takes_so_many_connections() {
    let origin = echoes();
    let proxy = start("workers = 2", "max_connections = 2", &origin);
    let (mut one, mut two) = (proxy.connect(), proxy.connect());
    assert_eq!((ask(&mut one), ask(&mut two)), (200, 200));
    for sends in ["", "GET / HTTP/1.1\r\nHost: test\r\n\r\n"] {
        let answer = refused(&proxy, sends);
        let status = answer.field("proxy-status").expect("it says why");
        assert!(status.starts_with("forebay; error=connection_limit_reached"), "{status}");
        assert!(status.contains("max_connections of the listener"), "{status}");
        assert!(answer.text().contains("max_connections of the listener"), "{}", answer.text());
    }
    // Those inside go on, and other listeners are not concerned.
    assert_eq!((ask(&mut one), ask(&mut two)), (200, 200));
    assert_eq!(ask(&mut Link::to(proxy.address("other"))), 200);
    let metrics = proxy.metrics();
    assert_eq!(metrics.sum(REFUSED, &[("listener", "web"), ("limit", "listener")]), 2.0);
    assert_eq!(metrics.sum(REFUSED, &[]), 2.0);
    assert_eq!(metrics.sum("forebay_connections_accepted_total", &[("listener", "web")]), 2.0);
    drop(one);
    let mut three = get_in(&proxy);
    assert_eq!((ask(&mut two), ask(&mut three)), (200, 200));
}

#[test]
fn the_process_takes_so_many_connections() {
    let origin = echoes();
    let proxy = start("[overload]\nmax_connections = 2", "", &origin);
    let (mut one, mut two) = (proxy.connect(), Link::to(proxy.address("other")));
    assert_eq!((ask(&mut one), ask(&mut two)), (200, 200));
    let answer = refused(&proxy, "GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    let status = answer.field("proxy-status").expect("it says why");
    assert!(status.contains("overload.max_connections"), "{status}");
    let metrics = proxy.metrics();
    assert_eq!(metrics.sum(REFUSED, &[("listener", "web"), ("limit", "connections")]), 1.0);
    assert_eq!(metrics.sum("forebay_client_connections_limit", &[]), 2.0);
    drop(two);
    get_in(&proxy);
}

/// A body that is under way when the connection is refused is no reason for a reset.
#[test]
fn a_refusal_can_be_read_by_one_who_sends_a_lot() {
    let origin = echoes();
    let proxy = start("", "max_connections = 1", &origin);
    let mut inside = proxy.connect();
    assert_eq!(ask(&mut inside), 200);
    let body = "x".repeat(50_000);
    refused(&proxy, &format!("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 50000\r\n\r\n{body}"));
}

#[test]
fn one_who_is_refused_and_stays_is_closed() {
    let origin = echoes();
    let proxy = start("", "max_connections = 1", &origin);
    let mut inside = proxy.connect();
    assert_eq!(ask(&mut inside), 200);
    let mut stays = proxy.connect();
    assert_eq!(stays.response().status(), 503);
    stays.expect_end();
    // Its own direction is still open; writing to it is answered by a reset before long.
    eventually("it is closed", || stays.try_send("x").is_err());
}

#[test]
fn tls_is_closed_before_the_handshake() {
    let pki = Pki::new();
    pki.issue("server", &["localhost"]);
    let text = "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\nprotocol = \"https\"\nmax_connections = 1\n\
                certificates = [{ cert = \"server.pem\", key = \"server.key\" }]\n\
                [[route]]\nfilters = [{ respond = { status = 200 } }]\n";
    let proxy = Proxy::start_in(pki.path(), text);
    let inside = proxy.connect();
    let accepted = || proxy.metrics().sum("forebay_connections_accepted_total", &[]);
    eventually("it is in", || accepted() == 1.0);
    assert_eq!(proxy.connect().expect_end(), Ended::Closed);
    assert_eq!(proxy.metrics().sum(REFUSED, &[("limit", "listener")]), 1.0);
    drop(inside);
}

#[test]
fn under_pressure_idle_connections_go() {
    let origin = echoes();
    let proxy = start("workers = 2\n[overload]\nmax_connections = 10", "", &origin);
    let level = || proxy.metrics().sum("forebay_overload_level", &[]);
    let mut one = Link::to(proxy.address("other"));
    let mut http2 = proxy.connect();
    http2.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    // SETTINGS without any, RFC 9113 §6.5.
    http2.send([0, 0, 0, 4, 0, 0, 0, 0, 0]);
    assert_eq!(ask(&mut one), 200);
    assert_eq!(level(), 0.0);
    let mut busy = busy(8, || proxy.connect());
    eventually("it is pressed", || level() == 1.0);
    // By default they would be kept for longer than a test may take.
    assert_eq!(one.expect_end(), Ended::Closed);
    let (frames, _) = http2.rest();
    assert!(kinds(&frames).contains(&GOAWAY), "{frames:?}");
    // A connection that comes now is served, and kept for a moment only.
    let mut late = get_in(&proxy);
    assert_eq!((late.expect_end(), level()), (Ended::Closed, 1.0));
    finish(&mut busy);
    drop(busy);
    eventually("it is calm", || level() == 0.0);
}

/// So many connections with a request under way.
fn busy(n: usize, connect: impl Fn() -> Link) -> Vec<Link> {
    let mut clients: Vec<_> = (0..n).map(|_| connect()).collect();
    for client in &mut clients {
        client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\n");
    }
    clients
}

/// Ends their requests, which are answered.
#[track_caller]
fn finish(busy: &mut [Link]) {
    for client in busy {
        client.send("hello");
        assert_eq!(client.response().text(), "hello");
    }
}

#[test]
fn without_memory_nobody_is_let_in() {
    let origin = echoes();
    // More than this any process takes.
    let proxy = start("[overload]\nmemory = \"1MiB\"", "", &origin);
    eventually("it is found", || proxy.metrics().sum("forebay_overload_level", &[]) == 2.0);
    let answer = refused(&proxy, "");
    let status = answer.field("proxy-status").expect("it says why");
    assert!(status.contains("memory") && status.contains("overload.hard"), "{status}");
    let metrics = proxy.metrics();
    assert_eq!(metrics.sum(REFUSED, &[("listener", "web"), ("limit", "memory")]), 1.0);
    assert_eq!(metrics.sum("forebay_overload_memory_limit_bytes", &[]), f64::from(1 << 20));
    assert!(metrics.sum("forebay_overload_memory_bytes", &[]) > f64::from(1 << 20));
    assert_eq!(proxy.ask_admin("/readyz").status(), 200);
}

/// Connects `n` clients and asks on each. What became of each: a status, or none for an end.
fn crowd(process: &Process, n: usize) -> Vec<(Link, Option<u16>)> {
    let mut clients: Vec<_> = (0..n).map(|_| process.connect()).collect();
    for client in &mut clients {
        // It may be closed already.
        let _ = client.try_send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    }
    let answer = |mut client: Link| {
        let status = client.head().map(|head| head.status());
        (client, status)
    };
    clients.into_iter().map(answer).collect()
}

#[test]
fn with_few_descriptors_those_inside_and_the_admin_are_served() {
    let origin = echoes();
    let process = Process::run_limited(&format!("workers = 2\n{}", listeners("", &origin)), 128);
    let mut inside = busy(8, || process.connect());
    let outside = crowd(&process, 150);
    let told = |wanted: Option<u16>| outside.iter().filter(|(_, status)| *status == wanted).count();
    assert_eq!(told(Some(200)) + told(Some(503)) + told(None), 150, "{outside:?}");
    assert!(told(Some(200)) > 0 && told(Some(200)) < 150 && told(Some(503)) > 0, "{outside:?}");
    assert_eq!(process.ask_admin("/readyz").status(), 200);
    let metrics = Metrics::parse(&process.ask_admin("/metrics").text());
    assert!(metrics.sum(REFUSED, &[]) > 0.0);
    assert!(metrics.sum("forebay_client_connections_limit", &[]) < 48.0);
    finish(&mut inside);
}

#[test]
fn without_descriptors_it_waits_and_does_not_spin() {
    let origin = echoes();
    let limits = "workers = 2\n[overload]\nmax_connections = 100000\n";
    let process = Process::run_limited(&format!("{limits}{}", listeners("", &origin)), 128);
    let clients: Vec<_> = (0..200).map(|_| process.connect()).collect();
    // What is measured is time that is not taken, for which there is no event.
    let before = process.cpu_seconds();
    thread::sleep(Duration::from_secs(1));
    let taken = process.cpu_seconds() - before;
    assert!(taken < 0.5, "{taken} s of processor time in 1 s");
    drop(clients);
    eventually("it is over", || {
        let (_, status) = crowd(&process, 1).remove(0);
        status == Some(200)
    });
    assert_eq!(process.ask_admin("/readyz").status(), 200);
}

/// The types of the frames in `bytes`, RFC 9113 §4.1.
fn kinds(mut bytes: &[u8]) -> Vec<u8> {
    let mut kinds = Vec::new();
    while let [a, b, c, kind, _, _, _, _, _, rest @ ..] = bytes {
        kinds.push(*kind);
        let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
        bytes = rest.get(length..).unwrap_or_default();
    }
    kinds
}

const GOAWAY: u8 = 7;
