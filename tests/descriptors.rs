//! What happens when there are too few file descriptors, and then enough: workers that cannot begin, and
//! accepting that fails, go on by themselves, and nobody who waited meanwhile is lost.

mod support;

use std::io::Write as _;
use std::net::TcpListener;
use std::time::Duration;

use forebay::ambient;
use support::*;

#[test]
fn workers_without_descriptors_begin_again() {
    let origin = answers("here");
    // The start waits for the first check's answer: until then the process has what it needs.
    let gate = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let toml = format!(
        "workers = {WORKERS}\n[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n[[route]]\npool = \"app\"\n\
         [[route]]\npath = \"/gate\"\npool = \"gate\"\n[pool.app]\nendpoints = [\"{}\"]\n\
         [pool.gate]\nendpoints = [\"{}\"]\n[pool.gate.health]\nkind = \"http\"\npath = \"/\"\n",
        origin.address(),
        gate.local_addr().expect("which has an address"),
    );
    let begun = ambient::now();
    let mut process = Process::begin(&toml);
    let (mut check, _) = gate.accept().expect("a check");
    process.allow_descriptors(u64::from(4 * WORKERS));
    check.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").expect("which waits");
    process.wait_until_up();
    eventually("the end of a worker", || process.err().contains("a worker ended"));
    let mut clients: Vec<_> = (0..4 * WORKERS).map(|_| process.connect()).collect();
    eventually("a further life", || process.err().contains("a worker begins again"));
    process.allow_descriptors(1024);
    // As long as the process is still taken to be out of descriptors they may be refused, but nobody waits
    // in a backlog for ever.
    for client in &mut clients {
        let _ = client.try_send(REQUEST);
        client.rest();
    }
    let answer = || {
        let mut client = process.connect();
        client.try_send(REQUEST).is_ok() && client.rest().0.ends_with(b"here")
    };
    eventually("the end of the want", answer);
    assert!((0..4 * WORKERS).all(|_| answer()), "{}", process.err());
    let metrics = Metrics::parse(&process.ask_admin("/metrics").text());
    assert!(metrics.sum("forebay_worker_restarts_total", &[]) > 0.0);
    assert_eq!(metrics.sum("forebay_panics_total", &[]), 0.0);
    // Each worker tries to accept at most once in 50 ms, however often it could.
    let tries = process.err().matches("accepting failed").count() as u128;
    let most = u128::from(WORKERS) * (begun.elapsed().as_millis() / PAUSE.as_millis() + 1);
    assert!(tries <= most, "{tries} of {most}");
}

const REQUEST: &str = "GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";
const WORKERS: u32 = 16;
/// After a failed accept.
const PAUSE: Duration = Duration::from_millis(50);
