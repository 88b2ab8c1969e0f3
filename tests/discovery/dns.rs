//! Pools whose endpoints DNS knows: what is asked when, and what becomes of every kind of answer.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use forebay::ambient;

use crate::nameserver::{Answer, NameServer};
use crate::support::*;

const TTL: u32 = 0;

/// One pool `app` with these lines, behind the listener `web`. No detector takes an endpoint out.
fn proxy(pool: &str) -> Proxy {
    Proxy::start(&config(pool))
}

fn config(pool: &str) -> String {
    format!(
        "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n[[route]]\npool = \"app\"\n\
         [pool.app]\noutlier = \"off\"\npolicy = \"round_robin\"\n{pool}\n"
    )
}

/// `app.test` at this server, asked for again as soon as that may be.
fn asks(server: &NameServer, lines: &str) -> String {
    let (address, times) = (server.address(), "min_ttl = \"100ms\"\ntimeout = \"500ms\"");
    format!("[pool.app.dns]\nname = \"app.test\"\nservers = \"{address}\"\n{times}\n{lines}")
}

/// The addresses of the pool's endpoints at present, in order.
fn endpoints(proxy: &Proxy) -> Vec<String> {
    proxy.server().endpoints().into_iter().map(|reading| reading.endpoint).collect()
}

#[track_caller]
fn expect_endpoints(proxy: &Proxy, expected: &[&str]) {
    let what = format!("the endpoints are {expected:?}");
    eventually(&what, || endpoints(proxy) == expected);
}

fn resolutions(proxy: &Proxy, result: &str) -> f64 {
    proxy.metrics().sum("forebay_discovery_resolutions_total", &[("pool", "app"), ("result", result)])
}

/// Origins on one port of 127.0.0.2, 127.0.0.3 and so on, each answering with the last number of its
/// address.
fn neighbours<const N: usize>() -> ([Origin; N], u16) {
    for _ in 0..100 {
        let Ok(first) = TcpListener::bind("127.0.0.2:0") else { continue };
        let port = first.local_addr().unwrap().port();
        let others = (1..N).map(|n| TcpListener::bind((format!("127.0.0.{}", n + 2), port)));
        let Ok(others) = others.collect::<Result<Vec<_>, _>>() else { continue };
        let mut numbered = std::iter::once(first).chain(others).zip(2..);
        let origins = std::array::from_fn(|_| {
            let (listener, number) = numbered.next().unwrap();
            Origin::on(listener, move |conn| {
                while conn.request().is_some() {
                    conn.send(ok(&number.to_string()));
                }
            })
        });
        return (origins, port);
    }
    panic!("no port is free on all addresses");
}

/// Who answers, over as many requests.
fn answering(proxy: &Proxy, requests: usize) -> Vec<String> {
    let mut seen: Vec<_> = (0..requests).map(|_| proxy.get("/").text()).collect();
    seen.sort();
    seen.dedup();
    seen
}

#[test]
fn a_pool_grows_and_shrinks_with_the_answers() {
    let server = NameServer::start();
    let (_origins, port) = neighbours::<3>();
    server.addresses("app.test", &["127.0.0.2"], TTL);
    let proxy = proxy(&asks(&server, &format!("port = {port}")));
    let at = |number: u8| format!("127.0.0.{number}:{port}");
    assert_eq!(endpoints(&proxy), [at(2)]);
    assert_eq!(answering(&proxy, 3), ["2"]);
    server.addresses("app.test", &["127.0.0.4", "127.0.0.2", "127.0.0.3"], TTL);
    expect_endpoints(&proxy, &[&at(2), &at(3), &at(4)]);
    assert_eq!(answering(&proxy, 9), ["2", "3", "4"]);
    server.addresses("app.test", &["127.0.0.3"], TTL);
    expect_endpoints(&proxy, &[&at(3)]);
    assert_eq!(answering(&proxy, 3), ["3"]);
    let metrics = proxy.metrics();
    assert_eq!(metrics.sum("forebay_discovery_endpoints", &[("pool", "app"), ("source", "dns")]), 1.0);
    assert!(metrics.sum("forebay_discovery_last_success_timestamp_seconds", &[("pool", "app")]) > 1.0e9);
}

#[test]
fn what_is_known_outlives_failures_of_every_kind() {
    let server = NameServer::start();
    let (_origins, port) = neighbours::<2>();
    server.addresses("app.test", &["127.0.0.2"], TTL);
    let proxy = proxy(&asks(&server, &format!("port = {port}")));
    for (answer, result) in [
        (Answer::Fails, "failed"),
        (Answer::Silence, "failed"),
        (Answer::NoName, "empty"),
        (Answer::Nothing, "empty"),
    ] {
        let before = resolutions(&proxy, result);
        server.answer("app.test", answer.clone());
        eventually("it went wrong", || resolutions(&proxy, result) > before);
        assert_eq!(proxy.get("/").text(), "2", "{answer:?}");
        let sources = proxy.server().running().discovery().sources("app").unwrap();
        assert!(sources[0].error.is_some() && sources[0].endpoints == 1, "{sources:?}");
        server.addresses("app.test", &["127.0.0.2"], TTL);
        let before = resolutions(&proxy, "answered");
        eventually("it went well again", || resolutions(&proxy, "answered") > before);
    }
    server.addresses("app.test", &["127.0.0.3"], TTL);
    expect_endpoints(&proxy, &[&format!("127.0.0.3:{port}")]);
}

#[test]
fn a_pool_may_give_up_what_is_answered_with_nothing() {
    let server = NameServer::start();
    let (_origins, port) = neighbours::<1>();
    server.addresses("app.test", &["127.0.0.2"], TTL);
    let proxy = proxy(&asks(&server, &format!("port = {port}\nempty = \"drop\"")));
    assert_eq!(proxy.get("/").status(), 200);
    server.answer("app.test", Answer::NoName);
    expect_endpoints(&proxy, &[]);
    assert_eq!(proxy.get("/").status(), 503);
    server.addresses("app.test", &["127.0.0.2"], TTL);
    expect_endpoints(&proxy, &[&format!("127.0.0.2:{port}")]);
    assert_eq!(proxy.get("/").status(), 200);
}

#[test]
fn answers_that_live_for_no_time_are_not_asked_for_without_pause() {
    let server = NameServer::start();
    server.addresses("app.test", &["127.0.0.2"], 0);
    server.addresses("long.test", &["127.0.0.2"], 3600);
    let long =
        format!("[[pool.app.dns]]\nname = \"long.test\"\nport = 1\nservers = \"{}\"\n", server.address());
    let short = asks(&server, "port = 2").replace("[pool.app.dns]", "[[pool.app.dns]]");
    let began = ambient::now();
    let proxy = proxy(&format!("{long}{short}"));
    eventually("it is asked for again", || server.asked("app.test") >= 8);
    // Two questions each time, for A and AAAA, and three times a pause.
    assert!(ambient::now() - began >= Duration::from_millis(300));
    assert_eq!(server.asked("long.test"), 2);
    assert_eq!(endpoints(&proxy), ["127.0.0.2:1", "127.0.0.2:2"]);
}

#[test]
fn srv_records_are_levels_weights_and_ports() {
    let server = NameServer::start();
    let origins = ["first", "second", "backup"].map(answers);
    let [first, second, backup] = origins.each_ref().map(|origin| origin.address().port());
    for target in ["a.test", "b.test", "c.test"] {
        server.addresses(target, &["127.0.0.1"], 60);
    }
    let services = |second_weight| {
        let list =
            vec![(20, 7, backup, "c.test"), (10, second_weight, second, "b.test"), (10, 0, first, "a.test")];
        Answer::Services(list, TTL)
    };
    server.answer("app.test", services(3));
    let proxy = proxy(&asks(&server, "record = \"srv\""));
    let shown = || {
        let snapshot = proxy.server().running().published().load_full();
        let weight = |port: u16| {
            let mut endpoints = snapshot.pools[0].endpoints.iter();
            endpoints.find(|one| one.name.ends_with(&format!(":{port}"))).map(|one| one.gauge.base_weight())
        };
        [first, second, backup].map(weight)
    };
    assert_eq!(shown(), [Some(1), Some(3), Some(7)]);
    let mut counts = [0; 2];
    for _ in 0..40 {
        match proxy.get("/").text().as_str() {
            "first" => counts[0] += 1,
            "second" => counts[1] += 1,
            other => panic!("level 1 was used: {other:?}"),
        }
    }
    assert_eq!(counts, [10, 30]);
    server.answer("app.test", services(1));
    eventually("weights change", || shown() == [Some(1), Some(1), Some(7)]);
    server.answer("app.test", Answer::Services(vec![(20, 7, backup, "c.test")], TTL));
    eventually("the others are gone", || shown() == [None, None, Some(7)]);
    assert_eq!(proxy.get("/").text(), "backup");
}

#[test]
fn a_target_that_fails_keeps_what_was_known_of_it() {
    let server = NameServer::start();
    server.addresses("a.test", &["127.0.0.2"], TTL);
    server.addresses("b.test", &["127.0.0.3"], TTL);
    server.answer("app.test", Answer::Services(vec![(0, 1, 80, "a.test"), (0, 1, 80, "b.test")], TTL));
    let proxy = proxy(&asks(&server, "record = \"srv\""));
    assert_eq!(endpoints(&proxy), ["127.0.0.2:80", "127.0.0.3:80"]);
    server.answer("b.test", Answer::Fails);
    server.addresses("a.test", &["127.0.0.4"], TTL);
    expect_endpoints(&proxy, &["127.0.0.3:80", "127.0.0.4:80"]);
    server.answer("b.test", Answer::NoName);
    expect_endpoints(&proxy, &["127.0.0.4:80"]);
}

#[test]
fn an_answer_that_is_too_big_for_a_datagram_comes_over_tcp() {
    let server = NameServer::start();
    let addresses: Vec<_> =
        (0..600).map(|n| IpAddr::from([10, 0, (n / 200) as u8, (n % 200) as u8])).collect();
    server.answer("app.test", Answer::Addresses(addresses, 60));
    let proxy = proxy(&asks(&server, "port = 80"));
    assert_eq!(endpoints(&proxy).len(), 600);
    assert!(server.asked_over_tcp("app.test") >= 1);
}

#[test]
fn a_start_does_without_dns() {
    let (_origins, port) = neighbours::<1>();
    // Nobody is there at first.
    let server = NameServer::start();
    let address = server.address();
    let pool = asks(&server, &format!("port = {port}"));
    drop(server);
    let began = ambient::now();
    let proxy = proxy(&pool);
    assert!(ambient::now() - began < Duration::from_secs(4));
    assert_eq!(proxy.get("/").status(), 503);
    let server = NameServer::start_at(address);
    server.addresses("app.test", &["127.0.0.2"], 60);
    eventually("the pool comes alive", || proxy.get("/").status() == 200);
    assert_eq!(endpoints(&proxy), [format!("127.0.0.2:{port}")]);
}

#[test]
fn names_that_nobody_answers_hold_a_start_up_for_two_seconds() {
    let server = NameServer::start();
    server.answer("app.test", Answer::Silence);
    let began = ambient::now();
    let proxy = proxy(&asks(&server, "port = 80\n").replace("500ms", "10s"));
    let took = ambient::now() - began;
    assert!((Duration::from_secs(2)..Duration::from_secs(5)).contains(&took), "{took:?}");
    assert_eq!(proxy.get("/").status(), 503);
}

#[test]
fn a_removed_endpoint_finishes_its_request() {
    let server = NameServer::start();
    let (removed, was_removed) = mpsc::channel();
    let was_removed = Mutex::new(was_removed);
    let origin = Origin::run(move |conn| {
        while conn.request().is_some() {
            conn.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234");
            let _ = was_removed.lock().unwrap().recv_timeout(DEADLINE);
            conn.send("56789");
        }
    });
    let SocketAddr::V4(address) = origin.address() else { panic!("it is on 127.0.0.1") };
    server.addresses("app.test", &["127.0.0.1"], TTL);
    let proxy = proxy(&asks(&server, &format!("port = {}\nempty = \"drop\"", address.port())));
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(client.head().expect("the answer begins").status(), 200);
    server.answer("app.test", Answer::NoName);
    expect_endpoints(&proxy, &[]);
    removed.send(()).unwrap();
    assert_eq!(client.take(10), b"0123456789");
}

#[test]
fn localhost_is_known_without_asking() {
    let origin = answers("here");
    let port = origin.address().port();
    let proxy = proxy(&format!("endpoints = [\"localhost:{port}\"]\nretry.tries = 2\n"));
    assert!(endpoints(&proxy).contains(&format!("127.0.0.1:{port}")));
    assert_eq!(proxy.get("/").status(), 200);
}
