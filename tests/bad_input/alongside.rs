//! Bad clients and bad answers alongside good ones, on one worker and one pool: the good get
//! exactly their own, and the bad get nothing of the good's.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use fastrand::Rng;

use crate::mutation::{REQUESTS, RESPONSES, mutate};
use crate::seeds;
use crate::support::*;

/// Echoes, besides what it answers to `/bad/SEED`, which is a damaged response.
fn echoes_or_damages() -> Origin {
    Origin::run(|conn| {
        while let Some(request) = conn.request() {
            let seed = request.target().strip_prefix("/bad/").and_then(|seed| seed.parse().ok());
            let Some(seed) = seed else {
                let head = format!(
                    "HTTP/1.1 200 OK\r\nX-Target: {}\r\nContent-Length: {}\r\n\r\n",
                    request.target(),
                    request.body.len()
                );
                let body = if request.method() == "HEAD" { &[][..] } else { &request.body };
                if !conn.send([head.as_bytes(), body].concat()) {
                    return;
                }
                continue;
            };
            let mut rng = Rng::with_seed(seed);
            let response = rng.choice(RESPONSES).expect("there are responses").as_bytes();
            conn.send(mutate(&mut rng, response));
            match rng.u8(0..4) {
                0 => return,
                1 => return conn.reset(),
                _ => {}
            }
        }
    })
}

/// Two listeners: `web` for the bad, with short time limits, and `good`.
fn start(endpoint: std::net::SocketAddr) -> Proxy {
    Proxy::start(&format!(
        "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n\
         [listener.timeouts]\nheader = \"150ms\"\nidle = \"150ms\"\nkeep_alive = \"150ms\"\n\
         [[listener]]\nname = \"good\"\nbind = \"127.0.0.1:0\"\n\
         [[route]]\npool = \"app\"\n\
         [[route]]\npath_prefix = \"/bad\"\npool = \"app\"\n[route.timeouts]\nidle = \"150ms\"\n\
         [pool.app]\nendpoints = [\"{endpoint}\"]\n"
    ))
}

/// Sends requests of its own, kept and not, until told to stop; every answer is the right one.
fn good_client(proxy: &Proxy, name: usize, stop: &Arc<AtomicBool>) -> JoinHandle<usize> {
    let address = proxy.address("good");
    let stop = Arc::clone(stop);
    thread::spawn(move || {
        let mut rng = Rng::with_seed(name as u64);
        let mut client = Link::to(address);
        let mut answered = 0;
        while !stop.load(Ordering::Relaxed) || answered < 20 {
            let target = format!("/good-{name}-{answered}");
            let mut body = format!("good-{name}-{answered} ").repeat(rng.usize(0..200));
            let once = rng.u8(..) >= 64;
            if !once {
                body.clear();
                client.send(format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n"));
            } else if rng.bool() {
                client.send(format!(
                    "POST {target} HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                ));
            } else {
                client
                    .send(format!("POST {target} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"));
                if !body.is_empty() {
                    client.send(format!("{:x}\r\n{body}\r\n", body.len()));
                }
                client.send("0\r\n\r\n");
            }
            let response = client.response();
            // The origin closes kept connections after damage, without a word: a request that must not be
            // sent twice can meet that, and no proxy could tell whether it was processed (RFC 9110 §9.2.2).
            if once && response.status() == 502 && response.text().contains("closed the connection before") {
                client.seen.clear();
                continue;
            }
            assert_eq!(response.status(), 200, "{target}: {response:?}");
            assert_eq!(response.field("x-target"), Some(target.as_str()));
            assert!(response.text() == body, "{target} got {:?}", response.text());
            client.seen.clear();
            if rng.u8(..) < 16 {
                client = Link::to(address);
            }
            answered += 1;
        }
        answered
    })
}

/// Runs good clients while `bad` runs on several threads, each with seeds of its own.
fn alongside(proxy: &Proxy, count: u64, bad: impl Fn(u64) + Sync) {
    let stop = Arc::new(AtomicBool::new(false));
    let good: Vec<_> = (0..3).map(|name| good_client(proxy, name, &stop)).collect();
    let bad = &bad;
    thread::scope(|scope| {
        for lane in 0..LANES {
            scope.spawn(move || seeds(count).filter(|seed| seed % LANES == lane).for_each(bad));
        }
    });
    use_all_that_is_kept(proxy);
    stop.store(true, Ordering::Relaxed);
    for client in good {
        assert!(client.join().expect("good clients get what they asked for") >= 20);
    }
    eventually("nothing is left behind", || {
        let metrics = proxy.metrics();
        metrics.sum("forebay_endpoint_requests_in_flight", &[]) == 0.0
            && metrics.sum("forebay_connections_active", &[("listener", "web")]) == 0.0
    });
}

/// Asks for so much at once that every connection to the origin that was kept is used again, those
/// as well that carried damage: all of them have to carry the right answers.
fn use_all_that_is_kept(proxy: &Proxy) {
    let mut clients: Vec<_> = (0..150).map(|_| Link::to(proxy.address("good"))).collect();
    for (name, client) in clients.iter_mut().enumerate() {
        client.send(format!("GET /last-{name} HTTP/1.1\r\nHost: h\r\n\r\n"));
    }
    for (name, client) in clients.iter_mut().enumerate() {
        let response = client.response();
        assert_eq!(response.field("x-target"), Some(format!("/last-{name}").as_str()), "{response:?}");
    }
}

const LANES: u64 = 6;

#[test]
fn damaged_requests_harm_nobody_else() {
    let origin = echoes_or_damages();
    let proxy = start(origin.address());
    let address = proxy.address("web");
    alongside(&proxy, 600, |seed| {
        let mut rng = Rng::with_seed(seed);
        let request =
            rng.choice(REQUESTS).expect("there are requests").replace("{id}", &format!("bad-{seed}"));
        let damaged = mutate(&mut rng, request.as_bytes());
        let mut client = Link::to(address);
        for piece in damaged.chunks(if rng.bool() { damaged.len().max(1) } else { rng.usize(1..50) }) {
            if client.try_send(piece).is_err() {
                break;
            }
        }
        match rng.u8(0..10) {
            0 => return client.reset(),
            1 => {}
            _ => client.finish(),
        }
        let (came, _) = client.rest();
        let text = String::from_utf8_lossy(&came);
        let said = || format!("FOREBAY_SEED={seed}: {:?} got {text:?}", String::from_utf8_lossy(&damaged));
        assert!(!text.contains("good-"), "{}", said());
        assert!(
            text.is_empty() || text.starts_with("HTTP/1.1 ") || damaged.starts_with(b"PRI"),
            "{}",
            said()
        );
    });
}

#[test]
fn damaged_responses_harm_nobody_else() {
    let origin = echoes_or_damages();
    let proxy = start(origin.address());
    let address = proxy.address("web");
    alongside(&proxy, 400, |seed| {
        let mut client = Link::to(address);
        client.send(format!("GET /bad/{seed} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"));
        let (came, _) = client.rest();
        let text = String::from_utf8_lossy(&came);
        assert!(!text.contains("good-"), "FOREBAY_SEED={seed}: {text:?}");
        assert!(text.starts_with("HTTP/1.1 "), "FOREBAY_SEED={seed}: {text:?}");
        // Probably over the connection to the origin that carried the damage, if it was kept.
        let mut client = Link::to(address);
        client.send(format!("GET /own-{seed} HTTP/1.1\r\nHost: h\r\n\r\n"));
        let own = client.response();
        assert_eq!(
            own.field("x-target"),
            Some(format!("/own-{seed}").as_str()),
            "FOREBAY_SEED={seed}: {own:?}"
        );
    });
}
