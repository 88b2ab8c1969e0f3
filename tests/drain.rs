//! The end of the program, as clients, load balancers in front and the shell see it: real signals
//! to a real process.

mod support;

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rustix::process::Signal;
use support::*;

const GET: &str = "GET / HTTP/1.1\r\nHost: test\r\n\r\n";

fn config(endpoint: SocketAddr, drain: &str) -> String {
    format!(
        "[drain]\n{drain}\n[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n\
         [[route]]\npool = \"app\"\n[pool.app]\nendpoints = [\"{endpoint}\"]\n"
    )
}

/// Whether connections to `address` are refused.
fn refuses_now(address: SocketAddr) -> bool {
    TcpStream::connect_timeout(&address, DEADLINE).is_err_and(|e| e.kind() == ErrorKind::ConnectionRefused)
}

#[test]
fn both_signals_drain_after_a_delay_in_which_requests_still_work() {
    let origin = answers("hello");
    for signal in [Signal::TERM, Signal::INT] {
        let mut process = Process::run(&config(origin.address(), "delay = \"700ms\""));
        let web = process.address("web");
        let ready = process.ask_admin("/readyz");
        assert_eq!((ready.status(), ready.text().as_str()), (200, "ready\n"));
        process.signal(signal);
        eventually("readiness fails", || process.ask_admin("/readyz").status() == 503);
        assert_eq!(process.ask_admin("/readyz").text(), "draining\n");
        assert_eq!(process.ask_admin("/livez").status(), 200);
        let mut client = Link::to(web);
        client.send(GET);
        let response = client.response();
        assert_eq!((response.status(), response.field("connection")), (200, None), "{response:?}");
        drop(client);
        assert!(process.wait().success(), "{}", process.err());
        assert!(refuses_now(web));
    }
}

#[test]
fn requests_in_flight_finish_and_connections_end() {
    let gate = Arc::new(Gate::default());
    let origin = answers_slow_requests_through(&gate, "hello");
    let mut process = Process::run(&config(origin.address(), "timeout = \"10s\""));
    let mut idle = process.connect();
    let mut soon = process.connect();
    let mut silent = process.connect();
    for client in [&mut idle, &mut soon] {
        client.send(GET);
        assert_eq!(client.response().status(), 200);
    }
    let mut slow = process.connect();
    slow.send("GET /slow HTTP/1.1\r\nHost: test\r\n\r\n");
    let head = slow.head().expect("the answer begins");
    assert_eq!((head.status(), head.field("connection")), (200, None));
    process.signal(Signal::TERM);
    eventually("connections are told to end", || {
        soon.send(GET);
        let response = soon.response();
        assert_eq!(response.status(), 200);
        response.lists("connection", "close")
    });
    for client in [&mut soon, &mut idle, &mut silent] {
        assert_eq!(client.expect_end(), Ended::Closed);
    }
    assert!(!process.has_ended());
    assert!(refuses_now(process.address("web")));
    assert_eq!(process.ask_admin("/readyz").status(), 503);
    assert_eq!(process.ask_admin("/metrics").status(), 200);
    gate.open();
    assert_eq!(slow.take(10), b"0123456789");
    assert_eq!(slow.expect_end(), Ended::Closed);
    assert!(process.wait().success(), "{}", process.err());
}

#[test]
fn it_ends_early_when_nothing_is_left() {
    let origin = answers("hello");
    let mut process = Process::run(&config(origin.address(), "timeout = \"1h\""));
    let mut client = process.connect();
    client.send(GET);
    assert_eq!(client.response().status(), 200);
    process.signal(Signal::TERM);
    assert!(process.wait().success());
    assert_eq!(client.expect_end(), Ended::Closed);
    assert!(process.err().contains("ended"), "{}", process.err());
}

#[test]
fn what_takes_longer_than_the_drain_may_is_cut() {
    let origin = never_answers();
    let mut process = Process::run(&config(origin.address(), "timeout = \"200ms\""));
    let mut client = process.connect();
    client.send(GET);
    origin.next_request();
    process.signal(Signal::TERM);
    assert!(process.wait().success());
    assert!(process.err().contains("drain timed out"), "{}", process.err());
    client.expect_end();
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let origin = never_answers();
    for drain in ["timeout = \"1h\"", "delay = \"1h\""] {
        let mut process = Process::run(&config(origin.address(), drain));
        let mut client = process.connect();
        client.send(GET);
        origin.next_request();
        process.signal(Signal::TERM);
        eventually("the drain begins", || process.err().contains("draining"));
        assert!(!process.has_ended());
        process.signal(Signal::INT);
        assert!(process.wait().success());
        assert!(process.err().contains("second signal"), "{}", process.err());
        client.expect_end();
    }
}

#[test]
fn http2_connections_are_told_to_go_away_and_their_streams_finish() {
    let gate = Arc::new(Gate::default());
    let origin = answers_slow_requests_through(&gate, "hello");
    let mut process = Process::run(&config(origin.address(), ""));
    let web = process.address("web");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("there are threads");
    let (send, connection) = runtime.block_on(async {
        let tcp = tokio::net::TcpStream::connect(web).await.expect("somebody listens");
        h2::client::handshake(tcp).await.expect("it speaks HTTP/2")
    });
    let ended = runtime.spawn(connection);
    let (mut send, slow) = runtime.block_on(async {
        let mut send = send.ready().await.expect("it takes a stream");
        let (slow, _) = send.send_request(request("/slow"), true).expect("and a request");
        let slow = slow.await.expect("of which the answer begins");
        (send, slow)
    });
    process.signal(Signal::TERM);
    eventually("new streams are refused", || {
        let ready = runtime.block_on(std::future::poll_fn(|cx| send.poll_ready(cx)));
        let Ok((response, _)) = ready.and_then(|()| send.send_request(request("/"), true)) else {
            return true;
        };
        runtime.block_on(response).is_err()
    });
    assert!(!process.has_ended());
    gate.open();
    let body = runtime.block_on(async {
        let mut body = slow.into_body();
        let mut bytes = Vec::new();
        while let Some(data) = body.data().await {
            bytes.extend_from_slice(&data.expect("the answer goes on"));
        }
        bytes
    });
    assert_eq!(body, b"0123456789");
    drop(send);
    let ended = runtime.block_on(ended).expect("no panic");
    assert!(ended.is_ok(), "{ended:?}");
    assert!(process.wait().success(), "{}", process.err());
}

fn request(path: &str) -> http::Request<()> {
    let request = http::Request::builder().uri(format!("http://test{path}"));
    request.body(()).expect("a request")
}

/// Sends requests one after the other, and connects anew when told to, until it is refused. Gives
/// the number of requests that were answered.
fn keeps_asking(web: SocketAddr, answered: &AtomicUsize) -> Result<(), String> {
    loop {
        let Ok(tcp) = TcpStream::connect_timeout(&web, DEADLINE) else { return Ok(()) };
        let mut client = Link::over(tcp);
        for n in 0.. {
            let lost = |what: &str| Err(format!("{what}, request {n} of its connection"));
            if client.try_send(GET).is_err() {
                return lost("not sent");
            }
            let Some(head) = client.head() else { return lost("not answered") };
            if head.status() != 200 || client.take(5) != b"hello" {
                return lost("answered badly");
            }
            answered.fetch_add(1, Ordering::Relaxed);
            // Some connect anew of their own accord, so that connections arrive all the time.
            if head.lists("connection", "close") || n == 20 {
                break;
            }
        }
    }
}

#[test]
fn a_drain_under_load_fails_no_request() {
    let origin = answers("hello");
    for workers in ["1", "2", "1", "2"] {
        let mut process = Process::run_with(&config(origin.address(), ""), &["--workers", workers]);
        let web = process.address("web");
        let answered = AtomicUsize::new(0);
        thread::scope(|scope| {
            let clients: Vec<_> = (0..8).map(|_| scope.spawn(|| keeps_asking(web, &answered))).collect();
            eventually("load", || answered.load(Ordering::Relaxed) > 500);
            process.signal(Signal::TERM);
            for client in clients {
                let outcome = client.join().expect("a client ends");
                assert_eq!(outcome, Ok(()), "{workers} workers");
            }
        });
        assert!(process.wait().success(), "{}", process.err());
    }
}

#[test]
fn a_drain_within_the_process_waits_for_connections_not_yet_served() {
    let origin = answers("hello");
    for _ in 0..3 {
        let proxy = Proxy::to(origin.address());
        let mut clients: Vec<_> = (0..10).map(|_| proxy.connect()).collect();
        clients.iter_mut().for_each(|client| client.send(GET));
        proxy.drain_and_wait();
        for client in &mut clients {
            assert_eq!(client.response().status(), 200);
        }
    }
}

#[test]
fn unix_sockets_leave_no_file() {
    let origin = answers("hello");
    let toml = format!(
        "[admin]\nbind = \"unix:admin.sock\"\n[[listener]]\nname = \"web\"\nbind = \"unix:web.sock\"\n\
         [[route]]\npool = \"app\"\n[pool.app]\nendpoints = [\"{}\"]\n",
        origin.address()
    );
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    std::fs::write(folder.path().join("f.toml"), toml).expect("and written to");
    let paths = ["web.sock", "admin.sock"].map(|name| folder.path().join(name));
    for (signal, remain) in [(Signal::TERM, false), (Signal::KILL, true), (Signal::INT, false)] {
        let mut process = Process::spawn(folder.path(), &["run", "-c", "f.toml", "--workers", "2"]);
        process.wait_until_up();
        assert!(paths.iter().all(|path| UnixStream::connect(path).is_ok()));
        process.signal(signal);
        process.wait();
        assert!(paths.iter().all(|path| path.exists() == remain), "after {signal:?}: {}", process.err());
    }
}

#[test]
fn a_file_that_is_no_socket_is_not_replaced() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let precious = folder.path().join("precious");
    std::fs::write(&precious, "do not lose").expect("and written to");
    for (admin, web) in [("unix:precious", "127.0.0.1:0"), ("127.0.0.1:0", "unix:precious")] {
        let toml = format!(
            "[admin]\nbind = \"{admin}\"\n[[listener]]\nname = \"web\"\nbind = \"{web}\"\n\
             [[route]]\nfilters = [{{ respond = {{ status = 200 }} }}]\n"
        );
        std::fs::write(folder.path().join("f.toml"), toml).expect("and written to");
        let mut process = Process::spawn(folder.path(), &["run", "-c", "f.toml"]);
        assert_eq!(process.wait().code(), Some(1), "{}", process.err());
        assert!(process.err().contains("precious"), "{}", process.err());
        assert_eq!(std::fs::read(&precious).ok().as_deref(), Some(&b"do not lose"[..]));
    }
}
