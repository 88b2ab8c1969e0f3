//! Active checks over datagrams, with real sockets: what passes, what is said of endpoints that fail,
//! and what becomes of them.

#![expect(clippy::unwrap_used, reason = "what is not as expected fails the test")]

mod support;

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use support::{Proxy, eventually};

/// So often that a test need not wait for it.
const OFTEN: &str =
    "interval = \"50ms\"\nfast_interval = \"50ms\"\ndown_interval = \"50ms\"\ntimeout = \"400ms\"";

/// Something that answers datagrams, or does not, until it is dropped.
struct Responder {
    address: SocketAddr,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Responder {
    /// At this address; what comes is answered by what `answer` makes of it.
    fn at(address: &str, answer: impl Fn(&[u8]) -> Option<Vec<u8>> + Send + 'static) -> Self {
        let socket = UdpSocket::bind(address).unwrap();
        let address = socket.local_addr().unwrap();
        let is_over = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&is_over);
        let thread = thread::spawn(move || {
            let mut bytes = [0; 2048];
            while let Ok((len, from)) = socket.recv_from(&mut bytes) {
                if seen.load(Ordering::Relaxed) {
                    return;
                }
                if let Some(answer) = answer(bytes.get(..len).unwrap()) {
                    // Who asked may be gone.
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        Self { address, is_over, thread: Some(thread) }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        let knock = UdpSocket::bind((self.address.ip(), 0)).unwrap();
        knock.send_to(b"", self.address).unwrap();
        self.thread.take().unwrap().join().unwrap();
    }
}

/// A port at which nobody listens, as far as that can be had.
fn nobody() -> SocketAddr {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[track_caller]
fn checking(endpoint: SocketAddr, health: &str) -> Proxy {
    Proxy::start(&format!(
        "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n[[route]]\npool = \"app\"\n\
         [pool.app]\nendpoints = [\"{endpoint}\"]\n[pool.app.health]\nkind = \"udp\"\n{OFTEN}\n{health}\n"
    ))
}

fn checks(proxy: &Proxy, result: &str) -> f64 {
    proxy.metrics().sum("forebay_endpoint_checks_total", &[("pool", "app"), ("result", result)])
}

#[track_caller]
fn passes(proxy: &Proxy) {
    eventually("a second pass", || checks(proxy, "pass") >= 2.0);
    assert!(checks(proxy, "fail") < 1.0, "checks failed");
}

#[track_caller]
fn fails_with(proxy: &Proxy, endpoint: SocketAddr, words: &str) {
    let page = format!("/endpoints/app/{endpoint}/journal");
    let mut said = String::new();
    let by = forebay::ambient::now() + support::DEADLINE;
    while !said.contains(words) {
        assert!(forebay::ambient::now() < by, "no {words:?} in {said}");
        said = proxy.ask_admin(&page).text().replace('\\', "");
    }
    assert!(checks(proxy, "pass") < 1.0, "a check passed");
}

#[test]
fn an_answer_that_is_expected_passes() {
    let dns = Responder::at("127.0.0.1:0", |asked| {
        (asked == [0x12, 0x34, 1]).then(|| vec![0x12, 0x34, 0x81, 0x80])
    });
    let health = "send = { hex = \"12 34 01\" }\nexpect = { hex = \"12 34 81\" }";
    passes(&checking(dns.address, health));
}

#[test]
fn an_answer_passes_whatever_it_is_where_nothing_is_expected() {
    let echo = Responder::at("[::1]:0", |_| Some(Vec::new()));
    passes(&checking(echo.address, "send = \"ping\""));
}

#[test]
fn another_answer_fails() {
    let echo = Responder::at("127.0.0.1:0", |asked| Some(asked.to_vec()));
    let proxy = checking(echo.address, "send = \"ping\"\nexpect = \"pong\"");
    fails_with(&proxy, echo.address, "the answer \"ping\" lacks \"pong\"");
}

#[test]
fn no_answer_fails_when_the_time_is_over() {
    let silent = Responder::at("127.0.0.1:0", |_| None);
    fails_with(&checking(silent.address, "send = \"ping\""), silent.address, "no answer within 400ms");
}

#[test]
fn silence_passes_where_it_is_meant_to() {
    let log = Responder::at("127.0.0.1:0", |_| None);
    passes(&checking(log.address, "send = \"hello\"\nsilence = \"pass\""));
}

#[test]
fn a_closed_port_fails_at_once() {
    let nobody = nobody();
    let proxy = checking(nobody, "send = \"hello\"\nsilence = \"pass\"");
    fails_with(&proxy, nobody, "connection refused: nobody listens on the port (ICMP)");
}

#[test]
fn an_endpoint_that_answers_again_is_up_again() {
    let answering = Arc::new(AtomicBool::new(true));
    let answers = Arc::clone(&answering);
    let moody =
        Responder::at("127.0.0.1:0", move |asked| answers.load(Ordering::Relaxed).then(|| asked.to_vec()));
    let proxy = checking(moody.address, "send = \"ping\"\nfall = 2\nrise = 2");
    let is_available =
        |it: bool| proxy.ask_admin("/endpoints").text().contains(&format!("\"available\":{it}"));
    eventually("up", || is_available(true));
    answering.store(false, Ordering::Relaxed);
    eventually("down", || is_available(false));
    answering.store(true, Ordering::Relaxed);
    eventually("up again", || is_available(true));
}
