//! What happens when there are too few file descriptors, and then enough: workers that cannot begin, and
//! accepting that fails, go on by themselves, and nobody who waited meanwhile is lost.

mod support;

use std::time::Duration;

use forebay::ambient;
use support::*;

#[test]
fn workers_without_descriptors_begin_again() {
    let origin = answers("here");
    // The check holds the start until the control thread has what it needs.
    let toml = format!(
        "workers = {WORKERS}\n[overload]\nmax_connections = 1000\n[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n[[route]]\npool = \"app\"\n\
         [pool.app]\nendpoints = [\"{}\"]\n[pool.app.health]\nkind = \"tcp\"\n",
        origin.address()
    );
    let begun = ambient::now();
    let process = Process::run_short_of_descriptors(&toml, WORKERS * 4);
    eventually("the end of a worker", || process.err().contains("a worker ended"));
    let mut clients: Vec<_> = (0..4 * WORKERS).map(|_| process.connect()).collect();
    eventually("a further life", || process.err().contains("a worker begins again"));
    process.allow_descriptors(1024);
    let metrics = || Metrics::parse(&process.ask_admin("/metrics").text());
    eventually("there is room", || metrics().sum("forebay_overload_level", &[]) == 0.0);
    for client in &mut clients {
        // Those who were let in before there was room may have been refused.
        let _ = client.try_send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        let status = client.head().map(|head| head.status());
        assert!([None, Some(200), Some(503)].contains(&status), "{status:?}");
    }
    for _ in 0..4 * WORKERS {
        let mut client = process.connect();
        client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        assert_eq!(client.response().text(), "here");
    }
    let metrics = metrics();
    assert!(metrics.sum("forebay_worker_restarts_total", &[]) > 0.0);
    assert_eq!(metrics.sum("forebay_panics_total", &[]), 0.0);
    // Each worker tries to accept at most once in 50 ms, however often it could.
    let tries = process.err().matches("accepting failed").count() as u128;
    let most = u128::from(WORKERS) * (begun.elapsed().as_millis() / PAUSE.as_millis() + 1);
    assert!(tries <= most, "{tries} of {most}");
}

const WORKERS: u32 = 16;
/// After a failed accept.
const PAUSE: Duration = Duration::from_millis(50);
