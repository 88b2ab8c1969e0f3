//! Connections to endpoints over real sockets: kept, counted, bounded, given up; and what becomes
//! of a request that hits one which the endpoint has just closed.

mod support;

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use forebay::ambient;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use support::*;

/// A client's request number `id` on a kept connection, and the status of the response.
fn ask(client: &mut Link, method: &str, id: &str) -> u16 {
    let body = if method == "POST" { id } else { "" };
    client.send(format!(
        "{method} /{id} HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    client.response().status()
}

/// What came of many requests.
#[derive(Debug, Default)]
struct Tally {
    asked: usize,
    failed_gets: usize,
    failed_posts: usize,
    accepted_posts: Vec<String>,
}

impl Tally {
    fn note(&mut self, method: &str, id: String, status: u16) {
        self.asked += 1;
        match (method, status) {
            ("POST", 200) => self.accepted_posts.push(id),
            ("POST", _) => self.failed_posts += 1,
            (_, 200) => {}
            _ => self.failed_gets += 1,
        }
    }

    fn add(&mut self, other: Self) {
        self.asked += other.asked;
        self.failed_gets += other.failed_gets;
        self.failed_posts += other.failed_posts;
        self.accepted_posts.extend(other.accepted_posts);
    }
}

/// How often each POST arrived at any of the origins.
fn posts_at(origins: &[Origin]) -> HashMap<String, usize> {
    let mut seen = HashMap::new();
    for request in origins.iter().flat_map(Origin::requests).filter(|r| r.method() == "POST") {
        *seen.entry(request.text()).or_default() += 1;
    }
    seen
}

/// No GET failed, no POST arrived twice, and those that were answered arrived.
#[track_caller]
fn assert_nothing_lost(tally: &Tally, origins: &[Origin]) {
    let seen = posts_at(origins);
    assert_eq!(tally.failed_gets, 0, "failed GETs, of {} requests", tally.asked);
    let twice: Vec<_> = seen.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "POSTs that arrived more than once: {twice:?}");
    assert!(tally.accepted_posts.iter().all(|id| seen.contains_key(id)), "answered, but not arrived");
}

#[track_caller]
fn assert_nobody_blamed(proxy: &Proxy) {
    let failures: Vec<_> = proxy
        .metrics()
        .matching("forebay_endpoint_failures_total", &[])
        .filter(|(_, value)| *value > 0.0)
        .map(|(labels, value)| format!("{labels:?} {value}"))
        .collect();
    assert!(failures.is_empty(), "{failures:?}");
}

/// An origin that closes idle connections after a second, and the address of the way there, which
/// takes 10 ms in each direction. The way is a stand-in, unless `FOREBAY_FAR` names an IP address
/// and the network namespace that has it:
///
/// ```sh
/// ip netns add far && ip netns exec far ip link set lo up
/// ip link add near0 type veth peer far0 netns far
/// ip addr add 10.9.0.1/24 dev near0 && ip link set near0 up
/// ip netns exec far ip addr add 10.9.0.2/24 dev far0 && ip netns exec far ip link set far0 up
/// tc qdisc add dev near0 root netem delay 10ms
/// ip netns exec far tc qdisc add dev far0 root netem delay 10ms
/// FOREBAY_FAR="10.9.0.2 far" cargo test --test reuse bursts -- --nocapture
/// ```
fn far_origin() -> (Origin, SocketAddr) {
    let idle = Duration::from_secs(1);
    let Ok(far) = std::env::var("FOREBAY_FAR") else {
        let origin = closes_idle_after(idle, "hello");
        let way = network(origin.address(), Duration::from_millis(10));
        return (origin, way);
    };
    let (ip, namespace) = far.split_once(' ').expect("an address and a namespace");
    let (bind, namespace) = (format!("{ip}:0"), format!("/run/netns/{namespace}"));
    let listening = thread::spawn(move || {
        let namespace = std::fs::File::open(namespace).expect("the namespace is there");
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).expect("for root");
        TcpListener::bind(bind).expect("with the address")
    });
    let origin = closes_idle_on(listening.join().expect("no panic"), idle, "hello");
    let address = origin.address();
    (origin, address)
}

/// A stretch of network in front of `to` that takes `delay` each way, for bytes and for the end of
/// the stream alike.
fn network(to: SocketAddr, delay: Duration) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let address = listener.local_addr().expect("a bound socket has an address");
    thread::spawn(move || {
        for near in listener.incoming().map_while(Result::ok) {
            let Ok(far) = TcpStream::connect(to) else { continue };
            for socket in [&near, &far] {
                socket.set_nodelay(true).expect("a socket takes an option");
            }
            let (Ok(near_too), Ok(far_too)) = (near.try_clone(), far.try_clone()) else { continue };
            carry(near, far, delay);
            carry(far_too, near_too, delay);
        }
    });
    address
}

fn carry(mut from: TcpStream, to: TcpStream, delay: Duration) {
    let (sender, arriving) = channel::<(Instant, Vec<u8>)>();
    thread::spawn(move || deliver(&arriving, to));
    let mut buffer = [0; 16 * 1024];
    thread::spawn(move || {
        // What cannot be read any more has ended.
        while let Ok(n) = from.read(&mut buffer) {
            let piece = buffer.get(..n).unwrap_or_default().to_vec();
            if sender.send((ambient::now() + delay, piece)).is_err() || n == 0 {
                return;
            }
        }
    });
}

fn deliver(arriving: &Receiver<(Instant, Vec<u8>)>, mut to: TcpStream) {
    for (at, piece) in arriving {
        thread::sleep(at.saturating_duration_since(ambient::now()));
        if piece.is_empty() || to.write_all(&piece).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

/// Requests of one client in one burst, every third a POST.
fn burst(client: &mut Link, burst: u64, number: usize) -> Tally {
    let mut tally = Tally::default();
    for i in 0..2 {
        let id = format!("{burst}-{number}-{i}");
        let method = if (number + i).is_multiple_of(3) { "POST" } else { "GET" };
        let status = ask(client, method, &id);
        tally.note(method, id, status);
    }
    tally
}

#[test]
#[expect(clippy::print_stdout, reason = "the numbers are the point of the measurement")]
fn bursts_against_origins_that_close_after_a_second_lose_nothing() {
    let (origins, far): (Vec<_>, Vec<_>) = (0..4).map(|_| far_origin()).unzip();
    let proxy = Plain::default().to(&far);
    let mut clients: Vec<_> = (0..163).map(|_| proxy.connect()).collect();
    let mut tally = Tally::default();
    let mut due = ambient::now();
    for round in 0..6 {
        thread::sleep(due.saturating_duration_since(ambient::now()));
        // A little more each time, so that some burst meets the end of the origins' patience.
        due += Duration::from_millis(1000 + 20 * round);
        thread::scope(|scope| {
            let under_way: Vec<_> = clients
                .iter_mut()
                .enumerate()
                .map(|(number, client)| scope.spawn(move || burst(client, round, number)))
                .collect();
            for client in under_way {
                tally.add(client.join().expect("a client is answered"));
            }
        });
    }
    let metrics = proxy.metrics();
    println!(
        "{} requests: {} GETs failed, {} POSTs failed, {} POSTs arrived, {} sent again",
        tally.asked,
        tally.failed_gets,
        tally.failed_posts,
        posts_at(&origins).len(),
        metrics.sum("forebay_endpoint_resends_total", &[])
    );
    assert_eq!(tally.asked, 1956);
    assert_nothing_lost(&tally, &origins);
    assert_eq!(tally.failed_posts, 0);
    assert_nobody_blamed(&proxy);
}

#[test]
#[expect(clippy::print_stdout, reason = "the numbers are the point of the measurement")]
fn origins_that_close_after_every_answer_cost_no_get() {
    let origins: Vec<_> = (0..4).map(|_| closes_after_every_answer("hello")).collect();
    let addresses: Vec<_> = origins.iter().map(Origin::address).collect();
    let proxy = Plain::default().to(&addresses);
    let mut tally = Tally::default();
    thread::scope(|scope| {
        let clients: Vec<_> = (0..8)
            .map(|number| {
                let mut client = proxy.connect();
                scope.spawn(move || {
                    let mut tally = Tally::default();
                    for i in 0..132 {
                        let id = format!("{number}-{i}");
                        let status = ask(&mut client, "GET", &id);
                        tally.note("GET", id, status);
                        if i % 12 == 0 {
                            let id = format!("{number}-{i}-post");
                            let status = ask(&mut client, "POST", &id);
                            tally.note("POST", id, status);
                        }
                    }
                    tally
                })
            })
            .collect();
        for client in clients {
            tally.add(client.join().expect("a client is answered"));
        }
    });
    let posts = tally.accepted_posts.len() + tally.failed_posts;
    println!("{} requests, {posts} POSTs, of which {} failed", tally.asked, tally.failed_posts);
    assert_eq!(tally.asked - posts, 1056);
    assert_nothing_lost(&tally, &origins);
}

/// Closes at the second request of a connection, in place of an answer.
fn closes_at_the_second_request() -> Origin {
    Origin::run(|conn| {
        if conn.request().is_some() && conn.send(ok("hello")) {
            conn.request();
        }
    })
}

#[test]
fn a_get_that_hit_a_closed_connection_is_sent_again() {
    let origin = closes_at_the_second_request();
    let proxy = Proxy::to(origin.address());
    let mut client = proxy.connect();
    for id in 0..2 {
        assert_eq!(ask(&mut client, "GET", &id.to_string()), 200);
    }
    assert_eq!((origin.requests().len(), origin.connections()), (3, 2));
    let metrics = proxy.metrics();
    for (name, value) in [("requests", 3.0), ("resends", 1.0), ("responses", 2.0)] {
        assert_eq!(metrics.sum(&format!("forebay_endpoint_{name}_total"), &[]), value, "{name}");
    }
    assert_nobody_blamed(&proxy);
}

#[test]
fn a_post_that_hit_a_closed_connection_is_not_sent_again() {
    let origin = closes_at_the_second_request();
    let proxy = Proxy::to(origin.address());
    let mut client = proxy.connect();
    assert_eq!(ask(&mut client, "GET", "0"), 200);
    assert_eq!(ask(&mut client, "POST", "1"), 502);
    assert_eq!((origin.requests().len(), origin.connections()), (2, 1));
    assert_eq!(proxy.metrics().sum("forebay_endpoint_resends_total", &[]), 0.0);
}

#[test]
fn an_endpoint_that_closes_twice_is_not_asked_for_ever() {
    let origin = Origin::run(|conn| {
        if conn.number == 0 && conn.request().is_some() {
            conn.send(ok("hello"));
        }
        conn.request();
    });
    let proxy = Proxy::to(origin.address());
    let mut client = proxy.connect();
    assert_eq!(ask(&mut client, "GET", "0"), 200);
    assert_eq!(ask(&mut client, "GET", "1"), 502);
    // Sent again at once on a fresh connection, then tried again twice.
    assert_eq!((origin.requests().len(), origin.connections()), (5, 4));
    let reset = proxy.metrics().sum("forebay_endpoint_failures_total", &[("kind", "reset")]);
    assert_eq!(reset, 3.0, "the fresh connections' failures are the endpoint's");
}

#[test]
fn one_closed_connection_does_not_keep_posts_off_the_pool_for_good() {
    let origin =
        Origin::run(|conn| while conn.request().is_some() && conn.send(ok("hello")) && conn.number > 0 {});
    let proxy = Proxy::to(origin.address());
    let mut client = proxy.connect();
    assert_eq!(ask(&mut client, "GET", "first"), 200);
    let open = || proxy.metrics().sum("forebay_endpoint_connections_open", &[]);
    eventually("the closed connection is found", || open() == 0.0);
    let reused = || proxy.metrics().sum("forebay_endpoint_connections_reused_total", &[]);
    let mut posts = 0;
    eventually("a POST on a pooled connection", || {
        posts += 1;
        assert_eq!(ask(&mut client, "POST", &posts.to_string()), 200);
        reused() > 0.0
    });
    assert!(posts > 1, "trusted at once");
    assert_nobody_blamed(&proxy);
}

#[test]
fn connections_are_counted() {
    let origin = answers("hello");
    let proxy = Proxy::to(origin.address());
    let mut client = proxy.connect();
    for id in 0..5 {
        assert_eq!(ask(&mut client, "GET", &id.to_string()), 200);
    }
    let counted = |name: &str| proxy.metrics().sum(&format!("forebay_endpoint_connections_{name}"), &[]);
    assert_eq!(["opened_total", "reused_total", "closed_total", "open"].map(counted), [1.0, 4.0, 0.0, 1.0]);
    drop(origin);
    eventually("the closed connection is found", || counted("open") == 0.0);
    assert_eq!(["opened_total", "closed_total"].map(counted), [1.0, 1.0]);
    assert_nobody_blamed(&proxy);
}

#[test]
fn a_connection_carries_as_many_requests_as_it_may() {
    let origin = answers("hello");
    let proxy = Plain { pool: "max_requests = 2", ..Plain::default() }.to(&[origin.address()]);
    let mut client = proxy.connect();
    for id in 0..5 {
        assert_eq!(ask(&mut client, "GET", &id.to_string()), 200);
    }
    let carried: Vec<_> = origin.recorded().iter().map(|connection| connection.requests.len()).collect();
    assert_eq!(carried, [2, 2, 1]);
}

#[test]
fn no_more_connections_are_kept_than_may_be() {
    let origin = holds_until(3);
    let proxy = Plain { pool: "max_idle = 1", ..Plain::default() }.to(&[origin.address()]);
    let mut clients: Vec<_> = (0..3).map(|_| proxy.connect()).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    }
    for client in &mut clients {
        assert_eq!(client.response().status(), 200);
    }
    let open = || proxy.metrics().sum("forebay_endpoint_connections_open", &[]);
    eventually("two of three are closed", || open() == 1.0);
}

/// Answers nobody until `n` requests are there.
fn holds_until(n: usize) -> Origin {
    let barrier = std::sync::Barrier::new(n);
    Origin::run(move |conn| {
        while conn.request().is_some() {
            barrier.wait();
            conn.send(ok("hello"));
        }
    })
}

#[test]
fn an_unused_connection_is_closed_after_keep_alive() {
    let origin = answers("hello");
    let timeouts = "[pool.app.timeouts]\nkeep_alive = \"100ms\"";
    let proxy = Plain { pool: timeouts, ..Plain::default() }.to(&[origin.address()]);
    assert_eq!(proxy.get("/").status(), 200);
    assert_eq!(origin.wait_end(0), Ended::Closed);
    assert_nobody_blamed(&proxy);
}

#[test]
fn bytes_that_nobody_asked_for_spoil_a_connection() {
    let origin = Origin::run(|conn| {
        if conn.request().is_some() {
            conn.send(ok("hello"));
            conn.send(ok("stray"));
            conn.until_end();
        }
    });
    let proxy = Proxy::to(origin.address());
    assert_eq!(proxy.get("/").text(), "hello");
    origin.wait_end(0);
    assert_eq!(proxy.get("/").text(), "hello");
    assert_eq!(origin.connections(), 2);
}

#[test]
fn another_endpoint_is_asked_when_one_refuses() {
    let (one, two) = (refuses(), refuses());
    let origin = answers("hello");
    // In turn, so that both are asked.
    let proxy = Plain { pool: "policy = \"round_robin\"", ..Plain::default() };
    let proxy = proxy.to(&[one.address(), two.address(), origin.address()]);
    let mut client = proxy.connect();
    for id in 0..6 {
        assert_eq!(ask(&mut client, if id % 2 == 0 { "GET" } else { "POST" }, &id.to_string()), 200);
    }
    assert_eq!(origin.requests().len(), 6);
    let metrics = proxy.metrics();
    assert!(metrics.sum("forebay_endpoint_failures_total", &[("kind", "connect")]) >= 2.0);
    assert_eq!(metrics.sum("forebay_requests_total", &[("class", "2xx")]), 6.0);
    assert_eq!(metrics.sum("forebay_requests_total", &[("class", "5xx")]), 0.0);
}

#[test]
fn where_nobody_else_may_be_asked_the_client_is_told_what_happened() {
    let (closes, drained) = (closes_before_answer(), answers("hello"));
    let proxy = Plain::default().to(&[closes.address(), drained.address()]);
    let mut admin = Link::to(proxy.admin());
    let order = format!("/endpoints/app/{}/drain", drained.address());
    admin.send(format!("POST {order} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"));
    assert_eq!(admin.response_to("POST").status(), 200);
    let response = proxy.get("/");
    let status = response.field("proxy-status").expect("says what happened");
    assert_eq!(response.status(), 502, "{status}");
    assert!(status.contains("error=connection_terminated"), "{status}");
    let resets = proxy.metrics().sum("forebay_endpoint_failures_total", &[("kind", "reset")]);
    assert_eq!(resets, 3.0, "where there is nobody else, the same is asked again");
}

#[test]
fn when_all_refuse_the_answer_names_one() {
    let endpoints = [refuses(), refuses(), refuses(), refuses()];
    let addresses: Vec<_> = endpoints.iter().map(support::Refusing::address).collect();
    let proxy = Plain::default().to(&addresses);
    let response = proxy.get("/");
    let status = response.field("proxy-status").expect("says what happened");
    assert_eq!(response.status(), 502);
    assert!(status.contains("error=connection_refused") && status.contains("pool app"), "{status}");
    assert!(addresses.iter().any(|address| status.contains(&format!("next-hop=\"{address}\""))), "{status}");
    let failures = proxy.metrics().sum("forebay_endpoint_failures_total", &[("kind", "connect")]);
    assert_eq!(failures, 3.0, "one and two further tries");
}

#[test]
fn connecting_takes_no_longer_than_it_may() {
    let full = never_accepts();
    let pool = "retry.tries = 0\n[pool.app.timeouts]\nconnect = \"150ms\"";
    for (route, said) in [("", "150ms"), ("[route.timeouts]\nconnect = \"70ms\"", "70ms")] {
        let proxy = Plain { pool, route, ..Plain::default() }.to(&[full.address()]);
        let response = proxy.get("/");
        let status = response.field("proxy-status").expect("says what happened");
        assert_eq!(response.status(), 504, "{status}");
        assert!(status.contains("connection_timeout") && status.contains(said), "{status}");
        let kind = [("kind", "connect_timeout")];
        assert_eq!(proxy.metrics().sum("forebay_endpoint_failures_total", &kind), 1.0);
    }
}

#[test]
fn a_tls_handshake_takes_no_longer_than_it_may() {
    let origin = Origin::run(|conn| {
        conn.until_end();
    });
    let pool =
        "retry.tries = 0\n[pool.app.tls]\nverify = false\n[pool.app.timeouts]\ntls_handshake = \"100ms\"";
    let proxy = Plain { pool, ..Plain::default() }.to(&[origin.address()]);
    let response = proxy.get("/");
    let status = response.field("proxy-status").expect("says what happened");
    assert_eq!(response.status(), 504, "{status}");
    assert!(status.contains("TLS handshake") && status.contains("100ms"), "{status}");
    assert_eq!(proxy.metrics().sum("forebay_endpoint_failures_total", &[("kind", "tls")]), 1.0);
}

#[test]
fn the_routes_limits_override_the_pools() {
    let origin = never_answers();
    let pool = "[pool.app.timeouts]\nidle = \"10s\"";
    for (route, error) in [
        ("[route.timeouts]\nidle = \"80ms\"", "connection_read_timeout"),
        ("[route.timeouts]\nrequest = \"80ms\"", "http_response_timeout"),
    ] {
        let proxy = Plain { pool, route, ..Plain::default() }.to(&[origin.address()]);
        let response = proxy.get("/");
        let status = response.field("proxy-status").expect("says what happened");
        assert_eq!(response.status(), 504, "{status}");
        assert!(status.contains(error) && status.contains("80ms"), "{status}");
        assert_eq!(proxy.metrics().sum("forebay_endpoint_failures_total", &[("kind", "timeout")]), 1.0);
    }
}
