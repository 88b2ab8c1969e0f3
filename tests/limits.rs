//! Limits over real sockets: how much is let through to a pool and to each endpoint, who waits and who
//! goes first, and what those are told that are turned away.

#![expect(clippy::unwrap_used, reason = "what is not as expected fails the test")]

mod support;

use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use forebay::ambient;
use support::*;

/// Holds requests at an origin until it is told to let them go, and counts them.
#[derive(Debug, Default)]
struct Hold {
    state: Mutex<Held>,
    changed: Condvar,
}

#[derive(Clone, Copy, Debug, Default)]
struct Held {
    /// Requests at the origin.
    now: usize,
    /// The most that there were at once.
    most: usize,
    /// How many may go.
    may_go: usize,
}

impl Hold {
    /// An origin that answers a request with its target, once it may go.
    fn origin(self: &Arc<Self>) -> Origin {
        let hold = Arc::clone(self);
        Origin::run(move |conn| {
            while let Some(request) = conn.request() {
                hold.pass();
                if !conn.send(ok(request.target())) {
                    return;
                }
            }
        })
    }

    fn pass(&self) {
        let mut held = self.lock();
        held.now += 1;
        held.most = held.most.max(held.now);
        self.changed.notify_all();
        let by = ambient::now() + DEADLINE;
        while held.may_go == 0 && ambient::now() < by {
            held = self.changed.wait_timeout(held, DEADLINE).unwrap_or_else(PoisonError::into_inner).0;
        }
        held.may_go = held.may_go.saturating_sub(1);
        held.now -= 1;
    }

    fn let_go(&self, n: usize) {
        let mut held = self.lock();
        held.may_go = held.may_go.saturating_add(n);
        self.changed.notify_all();
    }

    /// Waits until so many are held.
    #[track_caller]
    fn wait(&self, n: usize) {
        eventually("requests at the origin", || self.lock().now == n);
    }

    fn most(&self) -> usize {
        self.lock().most
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Held> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn pool(origins: &[&Origin], lines: &str) -> Proxy {
    pool_on(1, &origins.iter().map(|origin| origin.address()).collect::<Vec<_>>(), lines)
}

fn pool_on(workers: usize, endpoints: &[SocketAddr], lines: &str) -> Proxy {
    let endpoints: Vec<_> = endpoints.iter().map(|address| format!("\"{address}\"")).collect();
    Proxy::start(&format!(
        "workers = {workers}\n[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n\
         [[route]]\npool = \"app\"\npriority = {{ header = \"X-Priority\", default = \"normal\" }}\n\
         [[route]]\npool = \"app\"\nname = \"short\"\npath_prefix = \"/short\"\ntimeouts.request = \"150ms\"\n\
         [pool.app]\nendpoints = [{}]\n{lines}\n",
        endpoints.join(", ")
    ))
}

/// Sends a request on a connection of its own.
fn ask(proxy: &Proxy, target: &str, fields: &str) -> Link {
    let mut client = proxy.connect();
    client.send(format!("GET {target} HTTP/1.1\r\nHost: test\r\n{fields}\r\n"));
    client
}

/// Waits until so many requests wait.
#[track_caller]
fn wait_for_line(proxy: &Proxy, n: usize) {
    eventually("requests that wait", || {
        proxy.metrics().sum("forebay_pool_waiting", &[("pool", "app")]) == n as f64
    });
}

fn rejections(proxy: &Proxy, limit: &str) -> f64 {
    proxy.metrics().sum("forebay_rejections_total", &[("pool", "app"), ("limit", limit)])
}

/// Fails unless the answer is a 503 that names this limit.
#[track_caller]
fn expect_refused(answer: &Message, limit: &str) {
    let status = answer.field("proxy-status").unwrap_or_default();
    assert_eq!(answer.status(), 503, "{}", answer.head);
    assert!(status.contains(limit), "{limit} is not named in {status}");
    assert!(answer.field("retry-after").is_some_and(|wait| wait.parse::<u32>().unwrap() >= 1));
}

#[test]
fn the_load_never_exceeds_the_limit() {
    for workers in [1, 2] {
        let hold = Arc::new(Hold::default());
        let origin = hold.origin();
        let limits = "limits = { in_flight = 3, wait = \"30s\" }";
        let proxy = pool_on(workers, &[origin.address()], limits);
        thread::scope(|scope| {
            for _ in 0..12 {
                scope.spawn(|| {
                    let mut client = proxy.connect();
                    for _ in 0..20 {
                        client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
                        assert_eq!(client.response().status(), 200);
                    }
                });
            }
            hold.wait(3);
            wait_for_line(&proxy, 9);
            let metrics = proxy.metrics();
            assert_eq!(metrics.sum("forebay_pool_in_flight", &[]), 3.0);
            assert_eq!(metrics.sum("forebay_pool_in_flight_limit", &[]), 3.0);
            hold.let_go(1000);
        });
        assert_eq!(hold.most(), 3);
        eventually("nothing is under way", || proxy.metrics().sum("forebay_pool_in_flight", &[]) == 0.0);
        assert!(proxy.metrics().sum("forebay_queue_seconds_count", &[("pool", "app")]) >= 9.0);
    }
}

#[test]
fn the_queue_is_bounded_in_length_and_time() {
    let hold = Arc::new(Hold::default());
    let origin = hold.origin();
    let proxy = pool(&[&origin], "limits = { in_flight = 1, waiting = 1, wait = \"1s\" }");
    let mut served = ask(&proxy, "/", "");
    hold.wait(1);
    let asked = ambient::now();
    let mut waiting = ask(&proxy, "/", "");
    wait_for_line(&proxy, 1);
    expect_refused(&proxy.get("/"), "limits.waiting");
    expect_refused(&waiting.response(), "limits.wait");
    let took = ambient::now() - asked;
    assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(6), "{took:?}");
    hold.let_go(1);
    assert_eq!(served.response().status(), 200);
    assert_eq!((rejections(&proxy, "queue_full"), rejections(&proxy, "queue_timeout")), (1.0, 1.0));
    assert_eq!(proxy.metrics().sum("forebay_queue_seconds_count", &[]), 1.0);
}

#[test]
fn without_a_queue_nobody_waits() {
    let hold = Arc::new(Hold::default());
    let origin = hold.origin();
    let proxy = pool(&[&origin], "limits = { in_flight = 1, waiting = 0, wait = \"1h\" }");
    let mut served = ask(&proxy, "/", "");
    hold.wait(1);
    let refused = proxy.get("/");
    expect_refused(&refused, "limits.in_flight");
    assert_eq!(refused.field("retry-after"), Some("3600"));
    hold.let_go(2);
    assert_eq!(served.response().status(), 200);
    eventually("there is room again", || {
        proxy.get("/").status() == 200 || {
            hold.let_go(1);
            false
        }
    });
}

#[test]
fn a_request_does_not_wait_past_its_deadline() {
    let hold = Arc::new(Hold::default());
    let origin = hold.origin();
    let proxy = pool(&[&origin], "limits = { in_flight = 1, wait = \"1h\" }");
    let mut served = ask(&proxy, "/", "");
    hold.wait(1);
    let late = proxy.get("/short");
    assert_eq!((late.status(), rejections(&proxy, "deadline")), (504, 1.0));
    hold.let_go(1);
    assert_eq!(served.response().status(), 200);
    assert_eq!(origin.requests().len(), 1, "what is late is not sent");
}

#[test]
fn a_client_that_leaves_frees_its_place() {
    let hold = Arc::new(Hold::default());
    let origin = hold.origin();
    let proxy = pool(&[&origin], "limits = { in_flight = 1, waiting = 1, wait = \"1h\" }");
    let mut served = ask(&proxy, "/", "");
    hold.wait(1);
    let leaving = ask(&proxy, "/left", "");
    wait_for_line(&proxy, 1);
    drop(leaving);
    wait_for_line(&proxy, 0);
    let mut next = ask(&proxy, "/next", "");
    wait_for_line(&proxy, 1);
    hold.let_go(2);
    assert_eq!((served.response().status(), next.response().text().as_str()), (200, "/next"));
    assert!(origin.requests().iter().all(|request| request.target() != "/left"));
}

#[test]
fn high_goes_first_and_low_gives_way() {
    let hold = Arc::new(Hold::default());
    let origin = hold.origin();
    let proxy = pool(&[&origin], "limits = { in_flight = 1, waiting = 3, wait = \"1h\" }");
    let mut served = ask(&proxy, "/", "");
    hold.wait(1);
    let mut line = Vec::new();
    for (target, priority) in [("/low", "low"), ("/unknown", "urgent"), ("/high", "HIGH")] {
        line.push(ask(&proxy, target, &format!("X-Priority: {priority}\r\n")));
        wait_for_line(&proxy, line.len());
    }
    expect_refused(&ask(&proxy, "/", "X-Priority: low\r\n").response(), "limits.waiting");
    let mut displacing = ask(&proxy, "/displacing", "X-Priority: normal\r\n");
    let mut low = line.remove(0);
    expect_refused(&low.response(), "priority");
    assert_eq!((rejections(&proxy, "displaced"), rejections(&proxy, "queue_full")), (1.0, 1.0));
    hold.let_go(4);
    assert_eq!(served.response().status(), 200);
    line.iter_mut().chain([&mut displacing]).for_each(|client| assert_eq!(client.response().status(), 200));
    let order: Vec<_> = origin.requests().iter().map(|request| request.target().to_owned()).collect();
    assert_eq!(order.get(1).map(String::as_str), Some("/high"), "{order:?}");
}

#[test]
fn requests_spread_over_endpoints_that_have_room_and_wait_for_one() {
    for policy in ["round_robin", "peak_ewma", "first", "maglev"] {
        let holds = [Arc::new(Hold::default()), Arc::new(Hold::default())];
        let origins = [holds[0].origin(), holds[1].origin()];
        let lines = format!(
            "policy = \"{policy}\"\nlimits = {{ endpoint_in_flight = 2, waiting = 2, wait = \"1h\" }}"
        );
        let proxy = pool(&[&origins[0], &origins[1]], &lines);
        let mut clients: Vec<_> = (0..4).map(|_| ask(&proxy, "/", "")).collect();
        holds.iter().for_each(|hold| hold.wait(2));
        for n in 1..=2 {
            clients.push(ask(&proxy, "/", ""));
            wait_for_line(&proxy, n);
        }
        expect_refused(&proxy.get("/"), "limits.waiting");
        // Both that wait get the places of one endpoint.
        holds[1].let_go(2);
        wait_for_line(&proxy, 0);
        holds.iter().for_each(|hold| hold.wait(2));
        holds.iter().for_each(|hold| hold.let_go(100));
        clients.iter_mut().for_each(|client| assert_eq!(client.response().status(), 200));
        assert_eq!(holds.each_ref().map(|hold| hold.most()), [2, 2], "{policy}");
    }
}

#[test]
fn the_wait_for_an_endpoint_ends() {
    let hold = Arc::new(Hold::default());
    let origin = hold.origin();
    for (limit, named, lines) in [
        ("endpoints_full", "limits.endpoint_in_flight", "endpoint_in_flight = 1"),
        ("connections", "limits.endpoint_connections", "endpoint_connections = 1"),
        ("connections", "limits.connections", "connections = 1"),
    ] {
        let proxy = pool(&[&origin], &format!("limits = {{ {lines}, wait = \"100ms\" }}"));
        let mut served = ask(&proxy, "/", "");
        hold.wait(1);
        expect_refused(&proxy.get("/"), named);
        assert_eq!(rejections(&proxy, limit), 1.0);
        hold.let_go(1);
        assert_eq!(served.response().status(), 200);
    }
    assert_eq!(hold.most(), 1);
}

#[test]
fn connections_are_used_again_where_no_more_may_be_opened() {
    let (one, other) = (answers("a"), answers("b"));
    let proxy = pool(&[&one, &other], "policy = \"round_robin\"\nlimits = { connections = 1 }");
    for _ in 0..10 {
        assert_eq!(proxy.get("/").status(), 200);
    }
    assert_eq!(one.connections() + other.connections(), 1);
}

#[test]
fn no_worker_starves_another_of_connections() {
    for limits in ["endpoint_connections = 1", "connections = 1"] {
        let hold = Arc::new(Hold::default());
        hold.let_go(usize::MAX);
        let origin = hold.origin();
        let limits = format!("limits = {{ {limits}, wait = \"10s\" }}");
        let proxy = pool_on(2, &[origin.address()], &limits);
        // Connections of clients are dealt to workers by chance: with as many, each has some.
        let clients: Vec<_> = (0..24).map(|_| proxy.connect()).collect();
        thread::scope(|scope| {
            for mut client in clients {
                scope.spawn(move || {
                    for _ in 0..5 {
                        client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
                        let answer = client.response();
                        assert_eq!(answer.status(), 200, "{}", answer.head);
                    }
                });
            }
        });
        assert_eq!(hold.most(), 1);
    }
}

#[test]
fn streams_of_one_client_wait_each_for_itself() {
    let hold = Arc::new(Hold::default());
    let origin = hold.origin();
    let proxy = pool(&[&origin], "limits = { in_flight = 2, waiting = 2, wait = \"1h\" }");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let web = proxy.address("web");
    let (mut send, connection) = runtime.block_on(async {
        h2::client::handshake(tokio::net::TcpStream::connect(web).await.unwrap()).await.unwrap()
    });
    runtime.spawn(connection);
    let mut start = |path: &str| {
        let request = http::Request::builder().uri(format!("http://test{path}")).body(()).unwrap();
        runtime.block_on(async {
            send = send.clone().ready().await.unwrap();
            send.send_request(request, true).unwrap()
        })
    };
    let served = [start("/1"), start("/2")];
    hold.wait(2);
    let mut given_up = start("/3");
    wait_for_line(&proxy, 1);
    let last = start("/4");
    wait_for_line(&proxy, 2);
    let refused = runtime.block_on(start("/5").0).unwrap();
    assert_eq!(refused.status(), 503);
    given_up.1.send_reset(h2::Reason::CANCEL);
    wait_for_line(&proxy, 1);
    hold.let_go(3);
    for (response, _) in served.into_iter().chain([last]) {
        assert_eq!(runtime.block_on(response).unwrap().status(), 200);
    }
    assert_eq!((hold.most(), origin.requests().len()), (2, 3));
}

#[test]
fn streams_share_a_connection_where_no_more_may_be_opened() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let (asked, mut requests) = tokio::sync::mpsc::unbounded_channel();
    let accepted = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = Arc::clone(&accepted);
    runtime.spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        while let Ok((tcp, _)) = listener.accept().await {
            count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            let asked = asked.clone();
            connections.spawn(async move {
                let mut connection = h2::server::handshake(tcp).await.unwrap();
                while let Some(Ok((_, respond))) = connection.accept().await {
                    let _ = asked.send(respond);
                }
            });
        }
    });
    let lines = "protocol = \"http2\"\nmax_concurrent_streams = 2\nlimits = { endpoint_connections = 1 }";
    let proxy = pool_on(1, &[address], lines);
    let mut clients: Vec<_> = (0..6).map(|_| ask(&proxy, "/", "")).collect();
    let at_once: Vec<_> = runtime.block_on(async {
        let mut at_once = Vec::new();
        while at_once.len() < 6 {
            at_once.push(tokio::time::timeout(DEADLINE, requests.recv()).await.unwrap().unwrap());
        }
        at_once
    });
    for mut respond in at_once {
        respond.send_response(http::Response::new(()), true).unwrap();
    }
    clients.iter_mut().for_each(|client| assert_eq!(client.response().status(), 200));
    assert_eq!(accepted.load(std::sync::atomic::Ordering::SeqCst), 1);
}

#[test]
fn requests_that_wait_are_served_in_a_drain() {
    for limits in ["in_flight = 1", "endpoint_in_flight = 1"] {
        let hold = Arc::new(Hold::default());
        let origin = hold.origin();
        let proxy = pool(&[&origin], &format!("limits = {{ {limits}, wait = \"30s\" }}"));
        let mut clients = vec![ask(&proxy, "/", "")];
        hold.wait(1);
        clients.extend((0..3).map(|_| ask(&proxy, "/", "")));
        wait_for_line(&proxy, 3);
        proxy.server().drain();
        hold.let_go(4);
        clients.iter_mut().for_each(|client| assert_eq!(client.response().status(), 200));
        proxy.drain_and_wait();
    }
}
